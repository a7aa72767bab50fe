"""Administration, metrics and health over our own HTTP server: looking is GET, changing is POST."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs

import msgspec

from tproxy.model.http import (
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
    server_info: Callable[[], object]
    config: Callable[[], object]
    clusters: Callable[[], str]
    metrics: Metrics
    refresh: Callable[[], None]
    """Bring gauges up to date before they are shown."""
    stop: Callable[[], None]
    decisions: Callable[[Mapping[str, list[str]]], object | None]
    """Explain a decision that a query asks for; None when it asks for none."""


Endpoint = Callable[[View, Mapping[str, list[str]], str], Reply]
"""Answer for a query and an Accept header."""


def _ready(view: View, _query: Mapping[str, list[str]], _accept: str) -> Reply:
    return Reply(200, b"LIVE\n") if view.ready() else Reply(503, b"NOT READY\n")


def _live(_view: View, _query: Mapping[str, list[str]], _accept: str) -> Reply:
    """Answer: whoever can is alive, a drain included."""
    return Reply(200, b"LIVE\n")


def as_json(value: object) -> Reply:
    """Write a page of facts."""
    return Reply(200, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n", JSON)


def _server_info(view: View, _query: Mapping[str, list[str]], _accept: str) -> Reply:
    return as_json(view.server_info())


def _config_dump(view: View, _query: Mapping[str, list[str]], _accept: str) -> Reply:
    return as_json(view.config())


def _clusters(view: View, _query: Mapping[str, list[str]], _accept: str) -> Reply:
    return Reply(200, view.clusters().encode())


def _decisions(view: View, query: Mapping[str, list[str]], _accept: str) -> Reply:
    found = view.decisions(query)
    if found is None:
        return Reply(400, b"which one? ?id=X-REQUEST-ID or ?last=denied\n")
    return as_json({"decisions": found})


def _prometheus(view: View, _query: Mapping[str, list[str]], accept: str) -> Reply:
    view.refresh()
    content, kind = view.metrics.exposition(openmetrics="application/openmetrics-text" in accept)
    return Reply(200, content, kind)


def _stats(view: View, query: Mapping[str, list[str]], _accept: str) -> Reply:
    """The same samples without their comments; `?filter=` keeps the lines that contain it."""
    wanted = query.get("filter", [""])[0]
    samples = _prometheus(view, query, "").content.decode().splitlines()
    kept = (line for line in samples if not line.startswith("#") and wanted in line)
    return Reply(200, ("\n".join(kept) + "\n").encode())


def _log_level(_view: View, _query: Mapping[str, list[str]], _accept: str) -> Reply:
    return Reply(200, f"{logging.getLevelName(logging.getLogger().level).lower()}\n".encode())


def _set_log_level(view: View, query: Mapping[str, list[str]], accept: str) -> Reply:
    level = query.get("level", [""])[0]
    if level not in LOG_LEVELS:
        return Reply(400, f"level={level!r} is none of {', '.join(LOG_LEVELS)}\n".encode())
    logging.getLogger().setLevel(level.upper())
    return _log_level(view, query, accept)


def _quit(view: View, _query: Mapping[str, list[str]], _accept: str) -> Reply:
    view.stop()
    return Reply(200, b"draining\n")


def _index(_view: View, _query: Mapping[str, list[str]], _accept: str) -> Reply:
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
    "/decisions": {"GET": _decisions},
    "/stats": {"GET": _stats},
    "/stats/prometheus": {"GET": _prometheus},
    "/logging": {"GET": _log_level, "POST": _set_log_level},
    "/quitquitquit": {"POST": _quit},
}


@dataclass(frozen=True, slots=True)
class Desk:
    """Answers the requests that reach one of the proxy's own ports."""

    table: Table
    view: View

    @asynccontextmanager
    async def answer(self, request: Request) -> AsyncIterator[Response]:
        """Look the request up in the table; a HEAD is a GET whose content stays here."""
        reply, fields = self.reply(request)
        yield respond(reply, request, *fields)

    def reply(self, request: Request) -> tuple[Reply, tuple[Field, ...]]:
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
        return endpoint(self.view, parse_qs(query), accept), ()


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
