"""`tproxy policy diff`: what other policies would have made of the traffic that the access log tells of."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click

from tproxy.cli.account_text import styled
from tproxy.cli.finding_text import printable
from tproxy.cli.policy_check import pretty
from tproxy.cli.policy_options import DIRECTORY, insist, read, say, workload_options
from tproxy.policy.explain import Examiner
from tproxy.policy.replay import Change, Replay, Tally, Verdict, described

MAX_LINE = 65536
"""Bytes: no line of the access log is longer, its values are bounded."""


@click.command(context_settings={"show_default": True})
@click.option(
    "--candidate", type=DIRECTORY, required=True, help="Directory of the policies to try."
)
@click.option(
    "--current",
    type=DIRECTORY,
    help="Directory of the policies to compare with. [what the log says was decided]",
)
@click.option(
    "--log",
    type=click.File("rb"),
    required=True,
    help="Access log in JSON, a line each; - is standard input.",
)
@click.option(
    "--assume-plaintext",
    is_flag=True,
    help="For logs without source_principal: nobody proved who they are.",
)
@click.option("--format", "form", type=click.Choice(("human", "json")), default="human")
@workload_options
def diff(candidate: Path, current: Path | None, log: BinaryIO, form: str, **options: Any) -> None:  # noqa: ANN401
    """Tell which of the logged requests would fare otherwise, grouped."""
    replay = Replay(
        _examiner(candidate, options),
        None if current is None else _examiner(current, options),
        plaintext=options["assume_plaintext"],
    )
    for line in _lines(log, replay):
        replay.add(line)
    say(pretty(described(replay)) if form == "json" else "\n".join(_human(replay)))


def _examiner(directory: Path, options: dict[str, Any]) -> Examiner:
    gathered = insist(read(directory, options))
    assert gathered.snapshot is not None, "sound policies make one"
    return Examiner(gathered.snapshot)


def _lines(log: BinaryIO, replay: Replay) -> Iterator[bytes]:
    """Give line by line what may be one; what is longer is passed over, piece by piece."""
    while line := log.readline(MAX_LINE):
        if len(line) < MAX_LINE or line.endswith(b"\n"):
            if line.strip():
                yield line
            continue
        while line and not line.endswith(b"\n"):
            line = log.readline(MAX_LINE)
        replay.skip("is too long for one of the access log")


def _human(replay: Replay) -> Iterator[str]:
    for change, tally in replay.changes().items():
        yield from _change(change, tally)
    changes = replay.changes().items()
    open_still = sum(tally.count for change, tally in changes if change.after.missing)
    changed = sum(tally.count for _, tally in changes) - open_still
    yield (
        f"{replay.lines} lines: {replay.same} as before, {changed} changed,"
        f" {open_still} undetermined, {sum(replay.skipped.values())} skipped"
    )
    if replay.outbound:
        yield f"  {replay.outbound} of them outbound, which no policy judges: which way they go is not compared"
    for why, count in replay.skipped.items():
        yield f"  {count} skipped: {printable(why)}"
    if replay.ungrouped:
        yield f"  {replay.ungrouped} more changed or undetermined, of kinds that are not told apart"


def _change(change: Change, tally: Tally) -> Iterator[str]:
    before, after = change.before, change.after
    yield f"{tally.count} x {printable(change.what)}: {styled(before.verdict)} -> {styled(after.verdict)}"
    yield f"    was: {_why(before)}"
    yield f"    now: {_why(after)}"
    if tally.examples:
        yield f"    as {', '.join(map(printable, tally.examples))}"


def _why(verdict: Verdict) -> str:
    if verdict.missing:
        return f"depends on {', '.join(verdict.missing)}, which the log does not hold"
    return printable(verdict.rule or verdict.reason)
