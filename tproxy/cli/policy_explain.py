"""`tproxy policy explain`: why a request is allowed or denied, from files or from a running sidecar."""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click
import msgspec

from tproxy.cli.account_text import account_text
from tproxy.cli.finding_text import printable
from tproxy.cli.label_options import pairs
from tproxy.cli.policy_check import pretty
from tproxy.cli.policy_options import DIRECTORY, insist, read, say, tell, workload_options
from tproxy.model.flow import Direction
from tproxy.model.ports import Ports
from tproxy.policy.account import Account, account
from tproxy.policy.check import check
from tproxy.policy.explain import Examiner
from tproxy.policy.facts import BadRequest, Facts, facts_of, filled
from tproxy.policy.findings import Finding
from tproxy.policy.nodes import SourceFile
from tproxy.policy.nodes import read as read_nodes
from tproxy.policy.schema import CaseProtocol, CaseRequest, CaseSource

ANSWER_SECONDS = 5.0
"""How long the sidecar may take: it is on this very machine, and may have to ask its other workers."""


class NotThere(click.ClickException):
    """Nothing to explain."""


@click.command(context_settings={"show_default": True})
@click.argument("directory", type=DIRECTORY, required=False)
@click.option("--format", "form", type=click.Choice(("human", "json")), default="human")
@click.option(
    "--request",
    type=click.File("rb"),
    help="The request as YAML or JSON, as in a PolicyTest; options win over it. - is standard input.",
)
@click.option("--path", help="As it is sent, with its query.")
@click.option("--host")
@click.option("--method")
@click.option(
    "--header",
    "headers",
    multiple=True,
    callback=pairs,
    metavar="NAME=VALUE",
    help="May be given several times; a header that is not named is absent.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="The workload's port.")
@click.option("--protocol", type=click.Choice([each.value for each in CaseProtocol]))
@click.option("--sni")
@click.option(
    "--direction",
    type=click.Choice([each.value for each in Direction]),
    default=Direction.INBOUND.value,
)
@click.option("--principal", help="Who proved to be it: cluster.local/ns/foo/sa/bar.")
@click.option("--plaintext", is_flag=True, help="Nobody proved who they are.")
@click.option("--source-namespace", help="Somebody of this namespace, instead of a principal.")
@click.option("--source-service-account")
@click.option("--source-ip")
@click.option("--destination-ip")
@click.option("--id", "request_id", help="Ask the sidecar about the request of this x-request-id.")
@click.option("--last-denied", is_flag=True, help="Ask the sidecar about what it denied last.")
@click.option(
    "--admin-port", type=click.IntRange(1, 65535), default=Ports().admin, help="Where to ask it."
)
@workload_options
def explain(directory: Path | None, form: str, **options: Any) -> None:  # noqa: ANN401
    """Explain what the policies in DIRECTORY make of a request, or what a running sidecar made of one."""
    live = bool(options["request_id"]) + options["last_denied"]
    if live + (directory is not None) != 1:
        raise click.UsageError("name one of DIRECTORY, --id and --last-denied")
    if directory is None:
        say(_live(form, options))
        return
    facts = _facts(options)
    gathered = insist(read(directory, options))
    assert gathered.snapshot is not None, "sound policies make one"
    say(_written(account(Examiner(gathered.snapshot).explain(facts)), form))


def _written(told: Account, form: str) -> str:
    return pretty(told) if form == "json" else account_text(told)


def _facts(options: dict[str, Any]) -> Facts:
    said = CaseRequest() if options["request"] is None else _from_file(options["request"])
    try:
        request = filled(_from_options(options), said)
        return facts_of(request, Direction(options["direction"]))
    except BadRequest as bad:
        raise click.UsageError(f"{'.'.join(bad.field)}: {bad}") from bad


def _from_file(file: Any) -> CaseRequest:  # noqa: ANN401 - what click opens
    source = SourceFile(getattr(file, "name", "<stdin>"), file.read())
    findings: list[Finding] = []
    nodes = list(read_nodes(source, findings))
    if len(nodes) == 1:
        findings.extend(check(source.name, nodes[0], CaseRequest))
    elif not findings:
        raise click.UsageError(f"{source.name} holds {len(nodes)} requests, and is to hold one")
    if findings:
        tell(findings, (source,), err=True)
        sys.exit(2)
    return msgspec.convert(nodes[0].plain(), CaseRequest)


def _from_options(options: dict[str, Any]) -> CaseRequest:
    if options["plaintext"] and options["principal"]:
        raise click.UsageError("--plaintext and --principal contradict each other")
    who = msgspec.UNSET if options["principal"] is None else options["principal"]
    source = CaseSource(
        principal=None if options["plaintext"] else who,
        namespace=options["source_namespace"],
        service_account=options["source_service_account"],
        ip=options["source_ip"],
    )
    path, method = options["path"], options["method"]
    if path is not None and not path.startswith("/"):
        raise click.UsageError("--path begins with a slash")
    if method is not None and method != method.upper():
        raise click.UsageError("--method is in upper case: the sidecar refuses any other")
    protocol = options["protocol"]
    return CaseRequest(
        path=path,
        host=options["host"],
        method=method,
        headers=options["headers"],
        source=source,
        port=options["port"],
        protocol=None if protocol is None else CaseProtocol(protocol),
        sni=options["sni"],
        destination_ip=options["destination_ip"],
    )


class Went(msgspec.Struct, frozen=True):
    """Which way a request went, and what came of it."""

    route: str
    cluster: str
    """Empty where the sidecar gave the answer."""
    attempts: int
    flags: str
    status: int
    """0 when nothing was answered."""


class Kept(msgspec.Struct, frozen=True):
    """What a sidecar remembers of one decision."""

    at: float
    request_id: str | None
    generation: int
    """Of the policies that decided."""
    explained_by: int
    """Of those that explain it now."""
    verdict: str
    """What was decided; why, and by which rule."""
    reason: str
    rule: str | None
    explanation: Account | None
    """None for a way that other policies chose than those in force."""
    went: Went | None = None
    """None where no traffic policy had a part in it."""


class _Answer(msgspec.Struct, frozen=True):
    decisions: tuple[Kept, ...] = ()
    workers: dict[str, "_Answer"] = {}


def _live(form: str, options: dict[str, Any]) -> str:
    asked = {"last": "denied"} if options["last_denied"] else {"id": options["request_id"]}
    kept = _kept(_ask(options["admin_port"], asked))
    if kept is None:
        raise NotThere("the sidecar remembers no such decision; it keeps the last ones only")
    if form == "json":
        return pretty(kept)
    why = () if kept.explanation is None else (account_text(kept.explanation),)
    return "\n".join((*map(printable, _told(kept)), *why))


def _kept(answer: _Answer) -> Kept | None:
    """Return the latest, whichever worker has it."""
    answers = (answer, *answer.workers.values())
    found = [kept for each in answers for kept in each.decisions]
    return max(found, key=lambda kept: kept.at, default=None)


def _told(kept: Kept) -> Iterator[str]:
    yield (
        f"request {kept.request_id or 'without id'}: {kept.verdict}, {kept.rule or kept.reason},"
        f" by generation {kept.generation} of the policies"
    )
    if kept.went is not None:
        yield _went(kept.went)
    if kept.explanation is None:
        yield f"not explained, as generation {kept.explained_by} is in force now"
    elif kept.generation != kept.explained_by:
        yield f"explained by generation {kept.explained_by}, which is in force now"


def _went(went: Went) -> str:
    tries = f", {went.attempts} attempt{'s' * (went.attempts > 1)}" if went.attempts else ""
    where = f"cluster {went.cluster}{tries}" if went.cluster else "answered by the sidecar"
    came = f"status {went.status}" if went.status else "no answer"
    flags = "" if went.flags == "-" else f", flags {went.flags}"
    return f"it went by route {went.route}, {where}: {came}{flags}"


def _ask(port: int, asked: dict[str, str]) -> _Answer:
    url = f"http://127.0.0.1:{port}/decisions?{urlencode(asked)}"
    try:
        # Straight there, whatever http_proxy says.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=ANSWER_SECONDS) as answer:
            return msgspec.json.decode(answer.read(), type=_Answer)
    except (urllib.error.URLError, OSError) as error:
        raise NotThere(f"{url} does not answer: {error}") from error
    except (msgspec.DecodeError, json.JSONDecodeError) as error:
        raise NotThere(f"{url} answers something else: {error}") from error
