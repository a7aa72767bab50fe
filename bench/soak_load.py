"""A steady, mixed load on the soak's server, every answer checked: `soak_load.py HOST RATE SECONDS`.

Says once a second, as a line of JSON, how often each kind of work was done so far, and what was lost.
"""

import json
import random
import socket
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx
import trio

RESET = struct.pack("ii", 1, 0)
PATIENCE = 20.0
"""Seconds after which an answer counts as lost."""
IN_FLIGHT = 400
"""More are not begun: a machine that cannot keep up gets a lower rate, which is told."""
STATUSES = {
    "/gone": 503,
    "/garbage": 502,
    "/both-framings": 502,
    "/informational": 502,
    "/endless-head": 502,
}
CUT = ("/cut-counted", "/cut-chunked", "/cut-delimited")


class Wrong(Exception):
    """An answer was not what it had to be."""


@dataclass
class Load:
    """Who asks whom. What changes: what was done, and what was lost."""

    host: str
    http1: httpx.AsyncClient
    http2: httpx.AsyncClient
    done: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    late: int = 0
    """Not begun, because too much was in flight."""

    async def connected(self, port: int) -> trio.SocketStream:
        return await trio.open_tcp_stream(self.host, port)

    async def one(self, name: str, work: "Work", running: trio.CapacityLimiter) -> None:
        """Do one piece of work, whatever comes of it."""
        async with running:
            try:
                with trio.fail_after(PATIENCE):
                    await work(self)
                self.done[name] += 1
            except (
                OSError,
                trio.BrokenResourceError,
                trio.TooSlowError,
                httpx.HTTPError,
                Wrong,
            ) as error:
                self.lost.append(f"{name}: {error!r}")


Work = Callable[[Load], Awaitable[None]]


def check(claim: bool, what: object) -> None:  # noqa: FBT001
    """Hold an answer against what it had to be."""
    if not claim:
        raise Wrong(str(what)[:200])


async def _fetched(client: httpx.AsyncClient, url: str, size: int) -> None:
    answer = await client.get(url)
    check((answer.status_code, answer.content) == (200, bytes(size)), answer)


async def keep_alive(load: Load) -> None:
    """HTTP/1.1 over connections that are used again."""
    await _fetched(load.http1, f"http://{load.host}:8080/1k", 1024)


async def streams(load: Load) -> None:
    """HTTP/2 streams that share connections."""
    await _fetched(load.http2, f"http://{load.host}:8081/64k", 65536)


async def short(load: Load) -> None:
    """A connection for each request."""
    async with await load.connected(8080) as stream:
        await stream.send_all(b"GET /1k HTTP/1.0\r\nHost: server\r\n\r\n")
        said = b"".join([part async for part in stream])
        check(said.startswith(b"HTTP/1.1 200 ") and said.endswith(b"\r\n\r\n" + bytes(1024)), said)


async def opaque(load: Load) -> None:
    """Bytes that are no HTTP, and a half-close."""
    sent = b"\0" + random.randbytes(random.randint(1, 100_000))  # noqa: S311
    async with await load.connected(7000) as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            await stream.send_all(sent)
            await stream.send_eof()

        nursery.start_soon(send)
        check(b"".join([part async for part in stream]) == sent, "another echo")


async def upgraded(load: Load) -> None:
    """A tunnel by an upgrade, as WebSocket opens one."""
    async with await load.connected(8082) as stream:
        await stream.send_all(
            b"GET / HTTP/1.1\r\nHost: server\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
        )
        said = b""
        while not said.endswith(b"\r\n\r\n"):
            check(bool(part := await stream.receive_some()), said)
            said += part
        check(said.startswith(b"HTTP/1.1 101 "), said)
        await stream.send_all(b"ping")
        check(await stream.receive_some() == b"ping", "another echo")


async def slow_reader(load: Load) -> None:
    """A body that is read by and by."""
    async with await load.connected(8080) as stream:
        await stream.send_all(b"GET /1m HTTP/1.0\r\nHost: server\r\n\r\n")
        said = 0
        while part := await stream.receive_some(65536):
            said += len(part)
            await trio.sleep(0.02)
        check(said > 1 << 20, f"{said} bytes")


async def vanishing(load: Load) -> None:
    """A client that is gone amid the answer."""
    async with await load.connected(8080) as stream:
        await stream.send_all(b"GET /1m HTTP/1.1\r\nHost: server\r\n\r\n")
        await stream.receive_some(100)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


async def faulty(load: Load) -> None:
    """An upstream that answers with what is no answer."""
    path, expected = random.choice([*STATUSES.items()])  # noqa: S311
    answer = await load.http1.get(f"http://{load.host}:8090{path}")
    check(answer.status_code == expected, f"{path}: {answer}")


async def cut(load: Load) -> None:
    """An upstream that breaks off: its answer must never look whole."""
    path = random.choice(CUT)  # noqa: S311
    try:
        answer = await load.http1.get(f"http://{load.host}:8090{path}")
    except httpx.HTTPError:
        return
    check(answer.status_code >= 500, f"{path} looked whole")


async def absent(load: Load) -> None:
    """An upstream that is not there."""
    answer = await load.http1.get(f"http://{load.host}:9/")
    check(answer.status_code == 503, answer)


MIX: dict[Work, int] = {
    keep_alive: 40,
    streams: 25,
    short: 10,
    opaque: 10,
    upgraded: 4,
    slow_reader: 2,
    vanishing: 4,
    faulty: 2,
    cut: 2,
    absent: 1,
}


async def begin(load: Load, rate: float, seconds: float) -> None:
    """Begin work at a steady rate until the time is up; end with the last piece's end."""
    running = trio.CapacityLimiter(IN_FLIGHT)
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(int(rate * seconds)):
            await trio.sleep_until(started + number / rate)
            if running.available_tokens <= 0:
                load.late += 1
                continue
            (work,) = random.choices([*MIX], [*MIX.values()])  # noqa: S311
            nursery.start_soon(load.one, work.__name__, work, running)


async def tell(load: Load) -> None:
    """Say once a second how it goes."""
    while True:
        print(
            json.dumps(
                {
                    "done": load.done,
                    "late": load.late,
                    "lost": len(load.lost),
                    "why": load.lost[:20],
                }
            ),
            flush=True,
        )
        await trio.sleep(1)


async def main(host: str, rate: str, seconds: str) -> None:
    """Load, and say at the end what it came to."""
    wide = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=3)
    async with (
        httpx.AsyncClient(limits=wide, timeout=PATIENCE) as http1,
        httpx.AsyncClient(limits=wide, timeout=PATIENCE, http1=False, http2=True) as http2,
        trio.open_nursery() as nursery,
    ):
        load = Load(host, http1, http2)
        nursery.start_soon(tell, load)
        await begin(load, float(rate), float(seconds))
        nursery.cancel_scope.cancel()
    print(
        json.dumps(
            {"done": load.done, "late": load.late, "lost": len(load.lost), "why": load.lost[:20]}
        ),
        flush=True,
    )


trio.run(main, *sys.argv[1:])
