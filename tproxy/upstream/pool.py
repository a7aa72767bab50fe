"""Upstream HTTP connections between exchanges: dialled when needed, kept while they may be of use."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from tproxy.codec.codec import Codec
from tproxy.model.address import Address
from tproxy.model.flow import Protocol
from tproxy.model.limits import Limits
from tproxy.net.http_connection import HttpConnection
from tproxy.net.tcp_stream import TcpStream


SWEEP_SECONDS = 1.0
"""How late an idle connection's end may be noticed; each look costs one system call per connection."""


@dataclass(frozen=True, slots=True)
class Target:
    """What makes upstream connections interchangeable."""

    address: Address
    protocol: Protocol
    """HTTP1 or HTTP2: the version that the application chose is the version its peer gets."""
    source: Address | None = None
    """What our end is bound to before it dials."""


Dial = Callable[[Target], Awaitable[TcpStream]]


@dataclass(slots=True, eq=False)
class Pooled:
    """A connection of the pool's. What changes: who uses it, and since when nobody does."""

    target: Target
    connection: HttpConnection
    stream: TcpStream
    users: int = 0
    idle_since: float = 0.0
    fresh: bool = True
    """It has not carried an exchange: a failure is no sign that the upstream merely closed an idle connection."""


@dataclass(slots=True)
class _Shelf:
    """The pool's connections to one target, those that carried an exchange last at the end."""

    pooled: list[Pooled] = field(default_factory=list)
    dialling: trio.Lock = field(default_factory=trio.Lock)
    """One HTTP/2 dial at a time: those who wait share what it brings."""


class Pool:
    """Every upstream HTTP connection. What changes: which there are, and which of them nobody uses.

    A connection is closed only by whoever has just made it unavailable, without a turn between the two.
    """

    def __init__(self, dial: Dial, codec: Callable[[Protocol], Codec], limits: Limits) -> None:
        self._dial = dial
        self._codec = codec
        self._limits = limits
        self._shelves: dict[Target, _Shelf] = {}
        self._idle: dict[Pooled, None] = {}
        """Those that nobody uses, the longest idle first."""

    async def take(self, target: Target, *, distrusting: bool = False) -> Pooled:
        """Find or make a connection that can carry one more request; `give_back` is owed for it.

        `distrusting` passes over connections that have only been idle: the upstream may have closed them all.
        """
        pooled = None if distrusting else self._available(target)
        pooled = pooled or await self._connect(target)
        pooled.users += 1
        self._idle.pop(pooled, None)
        return pooled

    async def give_back(self, pooled: Pooled) -> None:
        """End one use of a connection: it is kept if it can be used again."""
        pooled.users -= 1
        pooled.fresh = False
        if pooled.users:
            return
        pooled.idle_since = trio.current_time()
        self._idle[pooled] = None
        if not pooled.connection.reusable:
            await self._close(pooled)
        elif len(self._idle) > self._limits.pool_connections:
            await self._close(next(iter(self._idle)))

    async def sweep(self) -> None:
        """Close connections that have been idle for too long, or whose upstream has left; when cancelled, all."""
        try:
            while True:
                await trio.sleep(SWEEP_SECONDS)
                await self._close_expired()
        finally:
            for shelf in self._shelves.values():
                for pooled in shelf.pooled:
                    pooled.stream.close()

    def counts(self) -> tuple[int, int]:
        """Count the connections that are in use, and those that are idle."""
        every = sum(len(shelf.pooled) for shelf in self._shelves.values())
        return every - len(self._idle), len(self._idle)

    def by_address(self) -> dict[Address, int]:
        """Count the connections to each address."""
        counts: dict[Address, int] = {}
        for target, shelf in self._shelves.items():
            counts[target.address] = counts.get(target.address, 0) + len(shelf.pooled)
        return counts

    def _available(self, target: Target) -> Pooled | None:
        """Find a connection on the shelf; the most recently used first, so that the others can grow old."""
        shelf = self._shelves.get(target)
        for pooled in reversed(shelf.pooled) if shelf else ():
            shareable = not pooled.users or pooled.connection.codec.multiplexed
            if shareable and pooled.connection.alive():
                return pooled
        return None

    async def _connect(self, target: Target) -> Pooled:
        if target.protocol is not Protocol.HTTP2:
            return await self._open(target)
        try:
            async with self._shelf(target).dialling:
                return self._available(target) or await self._open(target)
        finally:
            self._clear(target)

    def _shelf(self, target: Target) -> _Shelf:
        return self._shelves.setdefault(target, _Shelf())

    def _clear(self, target: Target) -> None:
        """Forget a shelf that is bare, unless somebody is about to put something on it."""
        shelf = self._shelves.get(target)
        if shelf and not (shelf.pooled or shelf.dialling.locked()):
            del self._shelves[target]

    async def _open(self, target: Target) -> Pooled:
        stream = await self._dial(target)
        pooled = Pooled(
            target, HttpConnection(stream, self._codec(target.protocol), self._limits), stream
        )
        self._shelf(target).pooled.append(pooled)
        return pooled

    async def _close(self, pooled: Pooled) -> None:
        del self._idle[pooled]
        self._shelves[pooled.target].pooled.remove(pooled)
        self._clear(pooled.target)
        await pooled.connection.aclose()

    async def _close_expired(self) -> None:
        for pooled in list(self._idle):
            if pooled in self._idle and self._expired(pooled):
                await self._close(pooled)

    def _expired(self, pooled: Pooled) -> bool:
        idle = trio.current_time() - pooled.idle_since
        return idle > self._limits.pool_idle_seconds or not pooled.connection.alive()
