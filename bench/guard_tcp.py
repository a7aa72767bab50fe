"""Count what a TCP connection calls, from accept to the access-log line: a word each way, then the end.

In mutual TLS it passes two sidecars, its client's and its server's, and both are counted together. OpenSSL is as it comes:
with the tickets that no sidecar sends.

The sockets are real, on loopback, and only the redirect is played. Client and origin take their steps in the proxies' own
thread, so that what happens next never depends on a race; what they call is counted without a proxy, and taken off.
"""

import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import trio

from bench.counting import calls_of
from tproxy.model.address import Address
from tproxy.model.flow import Direction
from tproxy.net.listener import Listener, Slots
from tproxy.net.tcp_stream import TcpStream
from tproxy.proxy.connection import carry
from tproxy.proxy.runtime import Runtime

WORD = bytes(64)
FEW, MANY = 20, 220


@dataclass(frozen=True, slots=True)
class TcpCost:
    """What one more of something calls, and how much of that there may be."""

    name: str
    calls: float
    most_calls: int

    @property
    def held(self) -> bool:
        """Whether it keeps to its bound."""
        return self.calls <= self.most_calls

    def __str__(self) -> str:
        """One line of the table."""
        verdict = "ok " if self.held else "NOT"
        return f"{verdict} {self.name:34} {self.calls:6.1f} calls (<= {self.most_calls})"


@dataclass(frozen=True, slots=True)
class Sidecar:
    """One of those that a connection passes, and which way."""

    runtime: Runtime
    direction: Direction = Direction.INBOUND

    async def carry(self, asked: Address, stream: TcpStream) -> None:
        """Carry a connection as where TPROXY has brought it."""
        stream._local = asked  # noqa: SLF001
        with self.runtime.register.connection(self.direction):
            await carry(stream, self.direction, self.runtime)


Way = Sequence[Sidecar]
"""Those between a client and its origin."""


def costs(plain: Way, mutual: Way) -> Iterator[TcpCost]:
    """Count one more connection, and one more word each way on a connection: in plaintext, and in mutual TLS."""
    yield from _costs("TCP", plain, (690, 180))
    yield from _costs("mutual TLS", mutual, (2370, 415))


def carried(way: Way, talks: int, words: int = 1) -> None:
    """Carry so many connections, one after the other, with so many words each way."""
    trio.run(_carried, way, talks, words)


def _costs(name: str, way: Way, most: tuple[int, int]) -> Iterator[TcpCost]:
    carried(way, MANY)  # caches fill
    through, directly = partial(carried, way), partial(carried, ())
    talks = _more_talks(through) - _more_talks(directly)
    yield TcpCost(f"{name} connection", talks, most[0])
    yield TcpCost(
        f"{name} word, and its answer", _more_words(through) - _more_words(directly), most[1]
    )


def _more_talks(work: Callable[[int, int], None]) -> float:
    return (calls_of(partial(work, MANY, 1)) - calls_of(partial(work, FEW, 1))) / (MANY - FEW)


def _more_words(work: Callable[[int, int], None]) -> float:
    return (calls_of(partial(work, 1, MANY)) - calls_of(partial(work, 1, FEW))) / (MANY - FEW)


async def _carried(way: Way, talks: int, words: int) -> None:
    with _listening() as origin:
        async with trio.open_nursery() as nursery:
            front = origin
            for sidecar in reversed(way):
                asked, front = Address(*front.getsockname()), _listening()
                listener = Listener([front], partial(sidecar.carry, asked), slots=Slots(9))
                nursery.start_soon(listener.serve)
            await _talk(front, origin, talks, words)
            nursery.cancel_scope.cancel()


async def _talk(front: socket.socket, origin: socket.socket, talks: int, words: int) -> None:
    """Open connections, talk, and end them as both sides would."""
    for _ in range(talks):
        with socket.socket() as near:
            near.settimeout(0)
            near.connect_ex(front.getsockname())
            near.send(WORD)
            await trio.lowlevel.wait_readable(origin)
            far, _ = origin.accept()
            with far:
                for word in range(words):
                    if word:
                        near.send(WORD)
                    await _heard(far)
                    far.send(WORD)
                    await _heard(near)
                near.shutdown(socket.SHUT_WR)
                await _heard(far)
            await _heard(near)


def _listening() -> socket.socket:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0)
    return listening


async def _heard(peer: socket.socket) -> None:
    """Wait for a word, or the end."""
    await trio.lowlevel.wait_readable(peer)
    peer.recv(4096)
