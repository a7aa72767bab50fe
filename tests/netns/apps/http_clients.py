"""Ask the same things through one of Python's HTTP clients, and print what the application sees, a JSON object a line."""

import hashlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from time import monotonic
from typing import Any

import aiohttp
import httpx
import requests
import urllib3
from anyio.from_thread import start_blocking_portal
from yarl import URL

DIFFERENT = frozenset(("date", "connection", "x-envoy-upstream-service-time"))
"""Response headers that no two answers have in common, or that belong to one connection, or that only sidecars add."""

FRAMING = {"content-length": 1, "transfer-encoding": 2}
"""Headers whose place among the others a sidecar may change, and where they are printed."""

Content = bytes | Iterable[bytes] | None
Answer = tuple[int, Iterable[tuple[str, str]], bytes]
Ask = Callable[[str, str, Content], Answer]

PARTS = [bytes([number]) * 5000 for number in range(40)]
QUESTIONS: list[tuple[str, str, Content]] = [
    ("GET", "/echo?a=x%20y&b=%C3%A4&b=2", None),
    ("POST", "/echo", bytes(300_000)),
    ("PUT", "/echo", PARTS),
    ("GET", "/stream", None),
    ("HEAD", "/echo", None),
    ("DELETE", "/echo", None),
    ("GET", "/empty", None),
    ("GET", "/redirect", None),
]
EXTRA = {"X-Some-Header": "some value", "Accept": "*/*"}


@contextmanager
def urllib3_client(base: str) -> Iterator[Ask]:
    with urllib3.PoolManager(maxsize=1) as pool:

        def ask(method: str, path: str, content: Content) -> Answer:
            body = content if content is None or isinstance(content, bytes) else iter(content)
            answer = pool.request(method, base + path, body=body, headers=EXTRA, redirect=False)
            return answer.status, answer.headers.iteritems(), answer.data

        yield ask


@contextmanager
def requests_client(base: str) -> Iterator[Ask]:
    with requests.Session() as session:

        def ask(method: str, path: str, content: Content) -> Answer:
            body = content if content is None or isinstance(content, bytes) else iter(content)
            answer = session.request(
                method, base + path, data=body, headers=EXTRA, allow_redirects=False
            )
            return answer.status_code, answer.raw.headers.iteritems(), answer.content

        yield ask


@contextmanager
def httpx_client(base: str, *, http2: bool) -> Iterator[Ask]:
    with httpx.Client(http1=not http2, http2=http2, base_url=base, headers=EXTRA) as client:

        def ask(method: str, path: str, content: Content) -> Answer:
            answer = client.request(method, path, content=content)
            return answer.status_code, answer.headers.multi_items(), answer.content

        yield ask


@contextmanager
def aiohttp_client(base: str) -> Iterator[Ask]:
    async def new_session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(headers=EXTRA)

    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(portal.call(new_session)) as session,
    ):

        async def ask(method: str, path: str, content: Content) -> Answer:
            url = URL(base + path, encoded=True)
            body = content if content is None or isinstance(content, bytes) else _parts(content)
            async with session.request(method, url, data=body, allow_redirects=False) as answer:
                return answer.status, answer.headers.items(), await answer.read()

        yield partial(portal.call, ask)


async def _parts(content: Iterable[bytes]) -> AsyncIterator[bytes]:
    for each in content:
        yield each


CLIENTS: dict[str, Callable[[str], AbstractContextManager[Ask]]] = {
    "urllib3": urllib3_client,
    "requests": requests_client,
    "httpx": partial(httpx_client, http2=False),
    "httpx-h2": partial(httpx_client, http2=True),
    "aiohttp": aiohttp_client,
}


def seen(question: tuple[str, str, Content], answer: Answer) -> dict[str, Any]:
    method, path, content = question
    status, headers, body = answer
    return {
        "method": method,
        "path": path,
        "status": status,
        "headers": sorted(
            (pair for pair in headers if pair[0].lower() not in DIFFERENT),
            key=lambda pair: FRAMING.get(pair[0].lower(), 0),
        ),
        "uploaded": len(content if isinstance(content, bytes) else b"".join(content or ())),
        "size": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "text": body.decode() if len(body) < 2000 else "",
    }


def listen(base: str, *, http2: bool) -> None:
    """Acknowledge each Server-Sent Event, which lets the origin send the next; print how late it came."""
    with (
        httpx.Client(http1=not http2, http2=http2, base_url=base) as client,
        client.stream("GET", "/events") as answer,
    ):
        number = 0
        for line in answer.iter_lines():
            if line.startswith("data: "):
                print(monotonic() - float(line.removeprefix("data: ")))
                client.post(f"/acknowledge?{number}")
                number += 1


def main(name: str, base: str) -> None:
    if name in ("events", "events-h2"):
        listen(base, http2=name == "events-h2")
        return
    with CLIENTS[name](base) as ask:
        for question in QUESTIONS:
            print(json.dumps(seen(question, ask(*question))))


main(*sys.argv[1:])
