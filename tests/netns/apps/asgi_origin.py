"""An ASGI origin: says what it was asked, and answers in the ways that HTTP has for it."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import Any

import trio

Headers = Iterable[tuple[bytes, bytes]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

DIFFERENT = frozenset((b"host", b"connection", b"x-forwarded-client-cert", b"x-request-id"))
"""Request headers that depend on how the origin was named, or belong to one connection, or that only sidecars add."""

WHOLE = b"whole"
"""The query that asks to be told of those, too."""

FRAMING = {b"content-length": 1, b"transfer-encoding": 2}
"""Request headers whose place among the others a sidecar may change, and where they are told."""

acknowledged: dict[str, trio.Event] = {}


async def read(receive: Receive) -> bytes:
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    return body


async def start(send: Send, headers: Headers, *, status: int = 200, trailers: bool = False) -> None:
    started = {"type": "http.response.start", "status": status, "headers": list(headers)}
    await send({**started, "trailers": trailers})


async def part(send: Send, body: bytes = b"", *, more: bool = False) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def echo(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    body = await read(receive)
    asked = {
        "method": scope["method"],
        "query": scope["query_string"].decode(),
        "headers": [
            (name.decode(), value.decode())
            for name, value in sorted(scope["headers"], key=lambda pair: FRAMING.get(pair[0], 0))
            if name not in DIFFERENT or scope["query_string"] == WHOLE
        ],
        "size": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    answer = json.dumps(asked).encode()
    # curl counts and leaves before hypercorn's frame that says it was all, which HTTP/2 takes for a cut.
    length = [] if scope["http_version"] == "2" else [(b"content-length", b"%d" % len(answer))]
    await start(send, [*length, (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2; Path=/")])
    await part(send, b"" if scope["method"] == "HEAD" else answer)


async def stream(_: dict[str, Any], receive: Receive, send: Send) -> None:
    await read(receive)
    await start(send, [(b"content-type", b"application/octet-stream")])
    for number in range(64):
        await part(send, bytes([number]) * 16384, more=True)
    await part(send)


async def empty(_: dict[str, Any], receive: Receive, send: Send) -> None:
    await read(receive)
    await start(send, [], status=204)
    await part(send)


async def redirect(_: dict[str, Any], receive: Receive, send: Send) -> None:
    await read(receive)
    await start(send, [(b"location", b"/echo?moved"), (b"content-length", b"0")], status=302)
    await part(send)


async def trailers(_: dict[str, Any], receive: Receive, send: Send) -> None:
    await read(receive)
    await start(send, [(b"trailer", b"x-checksum")], trailers=True)
    await part(send, b"body\n")
    checksum = [(b"x-checksum", b"0123"), (b"x-empty", b"")]
    await send({"type": "http.response.trailers", "headers": checksum, "more_trailers": False})


async def hints(_: dict[str, Any], receive: Receive, send: Send) -> None:
    await read(receive)
    await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
    # Of a length that it knows, curl would not wait for the end, which comes in a frame of its own.
    await start(send, [])
    await part(send, b"page\n")


async def events(_: dict[str, Any], receive: Receive, send: Send) -> None:
    """Send no event before the last has been acknowledged."""
    await read(receive)
    await start(send, [(b"content-type", b"text/event-stream")])
    for number in range(5):
        acknowledged[str(number)] = trio.Event()
        event = f"id: {number}\ndata: {monotonic()}\n\n"
        await part(send, event.encode(), more=True)
        await acknowledged[str(number)].wait()
    await part(send)


async def acknowledge(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    acknowledged[scope["query_string"].decode()].set()
    await empty(scope, receive, send)


PAGES = {
    "/echo": echo,
    "/stream": stream,
    "/empty": empty,
    "/redirect": redirect,
    "/trailers": trailers,
    "/hints": hints,
    "/events": events,
    "/acknowledge": acknowledge,
}


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    assert scope["type"] == "http", "as ASGI has it: an application without a lifespan raises"
    await PAGES[scope["path"]](scope, receive, send)
