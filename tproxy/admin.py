"""Administration, metrics and health over our own HTTP server: looking is GET, changing is POST."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.parse import parse_qs

import msgspec

from tproxy.model.app_probe import AppProbe
from tproxy.model.http import (
    Body,
    Content,
    Field,
    Headers,
    HttpVersion,
    Request,
    Response,
    ResponseHead,
)
from tproxy.telemetry.metrics import Metrics

LOG_LEVELS = ("debug", "info", "warning", "error")
MOST_CANDIDATE_BYTES = 1048576
"""What a policy file may hold."""
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Reply:
    """What an endpoint answers."""

    status: int
    content: bytes
    kind: str = TEXT


@dataclass(frozen=True, slots=True)
class View:
    """What the endpoints may see and do."""

    ready: Callable[[], bool]
    policies: Callable[[], str]
    """Which are in force, in a word or two."""
    server_info: Callable[[], object]
    config: Callable[[], object]
    clusters: Callable[[], str]
    certificates: Callable[[], Mapping[str, object]]
    """Ours and those of others whom we trust, and no key."""
    metrics: Metrics
    refresh: Callable[[], None]
    """Bring gauges up to date before they are shown."""
    stop: Callable[[], None]
    reload: Callable[[], Awaitable[bool]]
    check: Callable[[bytes], Awaitable[tuple[bool, Sequence[str]]]]
    """Say whether a policy file would be taken, and what is to be said about it."""
    decisions: Callable[[Mapping[str, list[str]]], object | None]
    """Explain a decision that a query asks for; None when it asks for none."""
    cluster_facts: Callable[[], object] = dict
    """What `clusters` says, for programs."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an endpoint is asked."""

    query: Mapping[str, list[str]]
    accept: str
    body: Body


Endpoint = Callable[[View, Asked], Reply | Awaitable[Reply]]


def _ready(view: View, _asked: Asked) -> Reply:
    if not view.ready():
        return Reply(503, b"NOT READY\n")
    return Reply(200, f"LIVE\npolicies {view.policies()}\n".encode())


def _live(_view: View, _asked: Asked) -> Reply:
    """Answer: whoever can is alive, a drain included."""
    return Reply(200, b"LIVE\n")


def as_json(value: object) -> Reply:
    """Write a page of facts."""
    return Reply(200, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n", JSON)


def _server_info(view: View, _asked: Asked) -> Reply:
    return as_json(view.server_info())


def _config_dump(view: View, _asked: Asked) -> Reply:
    return as_json(view.config())


def _clusters(view: View, asked: Asked) -> Reply:
    """Tell how clusters are; `?format=json` for programs."""
    if asked.query.get("format") == ["json"]:
        return as_json(view.cluster_facts())
    return Reply(200, view.clusters().encode())


def _certs(view: View, _asked: Asked) -> Reply:
    return as_json(view.certificates())


def _decisions(view: View, asked: Asked) -> Reply:
    found = view.decisions(asked.query)
    if found is None:
        return Reply(400, b"which one? ?id=X-REQUEST-ID or ?last=denied\n")
    return as_json({"decisions": found})


def _prometheus(view: View, asked: Asked) -> Reply:
    view.refresh()
    content, kind = view.metrics.exposition(
        openmetrics="application/openmetrics-text" in asked.accept
    )
    return Reply(200, content, kind)


def _stats(view: View, asked: Asked) -> Reply:
    """The same samples without their comments; `?filter=` keeps the lines that contain it."""
    wanted = asked.query.get("filter", [""])[0]
    samples = _prometheus(view, replace(asked, accept="")).content.decode().splitlines()
    kept = (line for line in samples if not line.startswith("#") and wanted in line)
    return Reply(200, ("\n".join(kept) + "\n").encode())


def _log_level(_view: View, _asked: Asked) -> Reply:
    return Reply(200, f"{logging.getLevelName(logging.getLogger().level).lower()}\n".encode())


def _set_log_level(view: View, asked: Asked) -> Reply:
    level = asked.query.get("level", [""])[0]
    if level not in LOG_LEVELS:
        return Reply(400, f"level={level!r} is none of {', '.join(LOG_LEVELS)}\n".encode())
    logging.getLogger().setLevel(level.upper())
    return _log_level(view, asked)


async def _reload(view: View, _asked: Asked) -> Reply:
    """Read the policies again, and show what is in force and what was found."""
    taken = await view.reload()
    return replace(as_json(view.config()), status=200 if taken else 422)


async def _check(view: View, asked: Asked) -> Reply:
    """Say what is wrong with a policy file, and change nothing."""
    content = b""
    async for part in asked.body:
        content += part
        if len(content) > MOST_CANDIDATE_BYTES:
            return Reply(413, b"larger than a policy file may be\n")
    sound, findings = await view.check(content)
    return replace(as_json({"findings": findings}), status=200 if sound else 422)


def _quit(view: View, _asked: Asked) -> Reply:
    view.stop()
    return Reply(200, b"draining\n")


def _index(_view: View, _asked: Asked) -> Reply:
    lines = [f"{method:4} {path}" for path, methods in ADMIN.items() for method in methods]
    return Reply(200, ("\n".join(lines) + "\n").encode())


Table = Mapping[str, Mapping[str, Endpoint]]

METRICS: Table = {
    "/stats/prometheus": {"GET": _prometheus},
    "/metrics": {"GET": _prometheus},
}
HEALTH: Table = {"/healthz/ready": {"GET": _ready}, "/healthz/live": {"GET": _live}}
ADMIN: Table = {
    "/": {"GET": _index},
    "/ready": {"GET": _ready},
    "/server_info": {"GET": _server_info},
    "/config_dump": {"GET": _config_dump},
    "/clusters": {"GET": _clusters},
    "/certs": {"GET": _certs},
    "/decisions": {"GET": _decisions},
    "/stats": {"GET": _stats},
    "/stats/prometheus": {"GET": _prometheus},
    "/policy/reload": {"POST": _reload},
    "/policy/check": {"POST": _check},
    "/logging": {"GET": _log_level, "POST": _set_log_level},
    "/quitquitquit": {"POST": _quit},
}


class Health(Protocol):
    """How the application is."""

    @property
    def status(self) -> int:
        """Of the answer: 200 where it is well."""

    @property
    def said(self) -> bytes:
        """What it said itself, or why it did not."""


def probe_pages(
    probes: Mapping[str, AppProbe], ask: Callable[[AppProbe], Awaitable[Health]]
) -> Table:
    """Make a page of each probe: whoever asks there learns how the application is at this moment."""

    def page(probe: AppProbe) -> Endpoint:
        async def answer(_view: View, _asked: Asked) -> Reply:
            health = await ask(probe)
            return Reply(health.status, health.said)

        return answer

    return {path: {"GET": page(probe)} for path, probe in probes.items()}


@dataclass(frozen=True, slots=True)
class Desk:
    """Answers the requests that reach one of the proxy's own ports."""

    table: Table
    view: View

    async def answer(self, request: Request) -> Response:
        """Look the request up in the table; a HEAD is a GET whose content stays here."""
        reply, fields = await self.reply(request)
        return respond(reply, request, *fields)

    async def reply(self, request: Request) -> tuple[Reply, tuple[Field, ...]]:
        """Say what to answer, and with which fields besides the usual."""
        path, _, query = request.head.path.decode("latin-1").partition("?")
        method = request.head.method.decode("latin-1")
        methods = self.table.get(path)
        if methods is None:
            return Reply(404, b"no such page; / lists them\n"), ()
        endpoint = methods.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            allowed = ", ".join(methods)
            return Reply(405, f"{path} takes {allowed}\n".encode()), ((b"allow", allowed.encode()),)
        accept = (request.head.headers.get(b"accept") or b"").decode("latin-1")
        asked = Asked(parse_qs(query), accept, request.body)
        reply = endpoint(self.view, asked)
        return reply if isinstance(reply, Reply) else await reply, ()


def respond(reply: Reply, request: Request, *fields: Field) -> Response:
    """Make a response of a reply."""
    headers = Headers(
        (
            (b"content-type", reply.kind.encode()),
            (b"content-length", b"%d" % len(reply.content)),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            *fields,
        )
    )
    content = Content(b"" if request.head.method == b"HEAD" else reply.content)
    return Response(ResponseHead(reply.status, headers, HttpVersion.HTTP11), content)
