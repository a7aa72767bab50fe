"""`tproxy demo`: captured pods on this machine, real clients, and an account of what passed."""

import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import trio

from tproxy.lab import Lab, LabError, Pod
from tproxy.lab.demo import (
    OUTSIDER,
    STEPS,
    Line,
    Performance,
    Stage,
    account,
    check_tools,
    metrics,
    perform,
    set_up,
)
from tproxy.lab.demo_traffic import SCENES, Play, play
from tproxy.lab.sidecar import tail


@click.command()
@click.option(
    "--policies",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory of policy files that the sidecars begin with.",
)
def demo(policies: Path | None) -> None:
    """Run real servers and clients in captured pods; fails unless every step passed, captured."""
    try:
        check_tools()
        failed = trio.run(_demonstrate, Lab.of(os.environ).inner("demo"), policies)
    except LabError as error:
        raise click.ClickException(str(error)) from error
    sys.exit(1 if failed else 0)


async def _demonstrate(lab: Lab, policies: Path | None) -> int:
    """Play all steps; hands back how many did not pass."""
    began = trio.current_time()
    _title("Pods: each a network namespace, with the capture rules loaded and a sidecar beside it")
    async with set_up(lab, policies, _tell_pod) as stage:
        failed = 0
        for number, step in enumerate(STEPS, start=1):
            performance = await perform(stage, step)
            failed += bool(performance.problems)
            _tell_step(number, performance)
            _tell_why(stage, performance)
        for number, scene in enumerate(SCENES, start=len(STEPS) + 1):
            played = await play(stage, scene)
            failed += bool(played.problems)
            _tell_scene(number, played)
        await _tell_account(stage)
    steps = len(STEPS) + len(SCENES)
    passed = steps - failed
    colour = "red" if failed else "green"
    took = trio.current_time() - began
    click.secho(
        f"\n{passed} of {steps} steps passed, captured on both sides, in {took:.0f} s; "
        "nothing of the pods is left.",
        fg=colour,
        bold=True,
    )
    return failed


def _tell_pod(pod: Pod) -> None:
    where = pod.addresses
    what = f"{pod.name:<9}{where.v4:<12}{where.v6:<19}applications run as {pod.user.name}"
    click.echo(f"  {what}, {'the sidecar as uid 1337' if pod.sidecar else 'no sidecar'}")


def _tell_step(number: int, performance: Performance) -> None:
    step = performance.step
    _title(f"{number}. {step.title}")
    for line in step.policy.splitlines():
        click.secho(f"  | {line}", dim=True)
    click.echo(f"  $ {shlex.join(step.argv)}")
    click.echo(f"  {step.actor + ' saw':<16}{_gist(performance.output, step.answer)}")
    if step.actor != OUTSIDER:
        _tell_sidecar(step.actor, performance.outbound)
    _tell_sidecar(step.server, performance.inbound)
    if performance.identities:
        taken = " and ".join(map(str, performance.identities))
        click.echo(f"  the two sidecars took {taken} new identities meanwhile")


def _tell_scene(number: int, played: Play) -> None:
    scene = played.scene
    _title(f"{number}. {scene.title}")
    for line in scene.routes.splitlines():
        click.secho(f"  | {line}", dim=True)
    click.echo(f"  $ {shlex.join(scene.argv)}")
    click.echo(f"  {'client saw':<16}{_gist(played.output, scene.answer)}")
    shares = ", ".join(f"{pod} {count}" for pod, count in sorted(played.shares.items()))
    click.echo(f"  {'client sidecar':<16}answered by: {shares or 'nobody'}")
    if played.repeated:
        click.echo(f"  {'':<16}{played.repeated} of them were sent again, to another endpoint")
    for problem in played.problems:
        click.secho(f"  FAILED: {problem}", fg="red")


def _tell_sidecar(pod: str, lines: Sequence[Line]) -> None:
    click.echo(f"  {pod + ' sidecar':<16}{_logged(lines)}")
    if lines and (proven := _proven(lines[0])):
        click.echo(f"  {'':<16}{proven}")


def _proven(line: Line) -> str:
    """Who has proven to be whom by mutual TLS; empty where nobody has."""
    own = line["tproxy"]
    who = own["source_principal"] or own["destination_principal"]
    return f"the other end has proven to be {who}" if who else ""


def _tell_why(stage: Stage, performance: Performance) -> None:
    """What is wrong with a step, and what the sidecars it passed say about themselves."""
    for problem in performance.problems:
        click.secho(f"  FAILED: {problem}", fg="red")
    if performance.problems:
        step = performance.step
        for pod in (stage.pods[each] for each in (step.actor, step.server) if each in stage.pods):
            click.echo(f"  the {pod.name} sidecar's own log ends:{tail(pod.sidecar_log_path)}")


def _gist(output: str, answer: str) -> str:
    """The line of a client's output that matters."""
    lines = output.splitlines()
    telling = [line for line in lines if answer in line] or lines[-1:]
    return telling[0] if telling else "(nothing)"


def _logged(lines: Sequence[Line]) -> str:
    if not lines:
        return "logged nothing"
    line, own = lines[0], lines[0]["tproxy"]
    many = f"{len(lines)} times: " if len(lines) > 1 else ""
    request = f"{line['method']} {line['path']} -> " if line["method"] else ""
    details = (
        line["connection_termination_details"]
        or line["response_code_details"]
        or f"{line['bytes_received']} B in, {line['bytes_sent']} B out"
    )
    code = f"{line['response_code']} " if line["response_code"] else ""
    flag = "" if line["response_flags"] == "-" else f"{line['response_flags']} "
    return (
        f"{many}{own['direction']} {own['detected_protocol']} to {own['original_dst']}: "
        f"{request}{code}{flag}{details}"
    )


async def _tell_account(stage: Stage) -> None:
    _title("The account, from the sidecars' access logs")
    for log in stage.logs.values():
        log.more()
    rows = [
        (
            *(way.pod, way.direction, way.protocol, way.original_dst, way.upstream, way.outcome),
            *(str(total.count), str(total.received), str(total.sent)),
        )
        for way, total in account(stage.logs).items()
    ]
    head = (
        "POD",
        "DIRECTION",
        "DETECTED",
        "WENT TO",
        "SENT ON TO",
        "OUTCOME",
        "TIMES",
        "B IN",
        "B OUT",
    )
    _table([head, *rows])
    _title("From the sidecars' metrics")
    for pod in stage.pods.values():
        for line in await metrics(pod):
            click.echo(f"  {pod.name:<8}{line}")


def _table(rows: Iterable[Sequence[str]]) -> None:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(("  " + "  ".join(cells)).rstrip())


def _title(text: str) -> None:
    click.secho(f"\n{text}", bold=True)
