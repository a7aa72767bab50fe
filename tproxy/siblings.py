"""Answer for all workers at once: ask each of them the same, and put together what they say."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import trio

from tproxy.admin import JSON, Desk, Reply, as_json, respond
from tproxy.codec.h1 import Http1Client
from tproxy.model.address import Address
from tproxy.model.http import Content, Headers, HttpVersion, Request, RequestHead, Response
from tproxy.model.limits import Limits
from tproxy.model.outcome import ProxyError
from tproxy.net.dial import dial
from tproxy.net.http_connection import HttpConnection
from tproxy.telemetry.exposition import labelled, merged

ANSWER_SECONDS = 1.0
"""How long a worker may take to answer another: one that has just crashed does not."""

ALL = frozenset(
    (
        "/server_info",
        "/config_dump",
        "/clusters",
        "/certs",
        "/decisions",
        "/stats",
        "/stats/prometheus",
        "/metrics",
        "/logging",
        "/policy/reload",
    )
)
"""The pages that are about every worker; for the others any one can speak."""


@dataclass(frozen=True, slots=True)
class Siblings:
    """The workers of one supervisor, and where each answers the others."""

    own: int
    """The number of this one."""
    ports: Mapping[int, int]
    """On loopback, by the worker's number."""
    limits: Limits

    async def ask(self, request: Request) -> dict[int, Reply]:
        """Put `request` to every other worker at once; the silent ones are left out."""
        replies: dict[int, Reply] = {}

        async def put(number: int, port: int) -> None:
            with trio.move_on_after(ANSWER_SECONDS), suppress(ProxyError):
                replies[number] = await self._asked(port, request)

        async with trio.open_nursery() as nursery:
            for number, port in self.ports.items():
                if number != self.own:
                    nursery.start_soon(put, number, port)
        return replies

    async def _asked(self, port: int, request: Request) -> Reply:
        head = RequestHead(
            b"GET" if request.head.method == b"HEAD" else request.head.method,
            b"http",
            b"localhost",
            request.head.path,
            Headers(((b"accept", request.head.headers.get(b"accept") or b"*/*"),)),
            HttpVersion.HTTP11,
        )
        transport = await dial(Address("127.0.0.1", port))
        connection = HttpConnection(transport, Http1Client(self.limits), self.limits)
        try:
            stream = connection.open()
            await stream.transmit(head, Content())
            answer = await stream.response(request.inform)
            content = b"".join([part async for part in stream])
        finally:
            transport.close()
        kind = (answer.headers.get(b"content-type") or b"").decode("latin-1")
        return Reply(answer.status, content, kind)


@dataclass(frozen=True, slots=True)
class SharedDesk:
    """A desk of all workers'. It answers as one worker's does, where any one can answer."""

    desk: Desk
    siblings: Siblings

    async def answer(self, request: Request) -> Response:
        """Answer for this worker and, on the pages that concern them, for the others."""
        path = request.head.path.decode("latin-1").partition("?")[0]
        reply, fields = await self.desk.reply(request)
        if path in ALL and reply.status in (200, 422):
            replies = await self.siblings.ask(request) | {self.siblings.own: reply}
            reply = _together(path, dict(sorted(replies.items())))
        return respond(reply, request, *fields)


def _together(path: str, replies: dict[int, Reply]) -> Reply:
    kind = next(iter(replies.values())).kind
    status = max(reply.status for reply in replies.values())
    texts = {number: reply.content.decode() for number, reply in replies.items()}
    match path:
        case "/stats/prometheus" | "/metrics":
            return Reply(status, merged(texts).encode(), kind)
        case "/stats":
            text = "".join(labelled(text, number) for number, text in texts.items())
            return Reply(status, text.encode(), kind)
        case _ if kind == JSON:
            facts = {str(each): json.loads(text) for each, text in texts.items()}
            return replace(as_json({"workers": facts}), status=status)
        case _:
            lines = (
                f"worker {each}: {line}\n"
                for each, text in texts.items()
                for line in text.splitlines()
            )
            return Reply(status, "".join(lines).encode(), kind)
