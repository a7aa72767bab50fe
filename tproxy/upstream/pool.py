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


@dataclass(frozen=True, slots=True)
class Target:
    """What makes upstream connections interchangeable."""

    address: Address
    protocol: Protocol
    """HTTP1 or HTTP2: the version that the application chose is the version its peer gets."""
    source: Address | None = None
    """What our end is bound to before it dials."""


Dial = Callable[[Target], Awaitable[TcpStream]]


@dataclass(slots=True)
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
    """Every upstream HTTP connection. What changes: which there are; only `take`, `give_back` and `sweep` change it."""

    def __init__(self, dial: Dial, codec: Callable[[Protocol], Codec], limits: Limits) -> None:
        self._dial = dial
        self._codec = codec
        self._limits = limits
        self._shelves: dict[Target, _Shelf] = {}

    async def take(self, target: Target) -> Pooled:
        """Find or make a connection that can carry one more request; `give_back` is owed for it."""
        shelf = self._shelves.setdefault(target, _Shelf())
        pooled = self._available(shelf) or await self._connect(target, shelf)
        pooled.users += 1
        return pooled

    async def give_back(self, pooled: Pooled) -> None:
        """End one use of a connection: it is kept if it can be used again."""
        pooled.users -= 1
        pooled.fresh = False
        pooled.idle_since = trio.current_time()
        if not (pooled.users or pooled.connection.reusable):
            await self._close(pooled)

    async def sweep(self) -> None:
        """Close connections that have been idle for too long, or are too many, until cancelled."""
        while True:
            await trio.sleep(1)
            for target, shelf in list(self._shelves.items()):
                for pooled in [each for each in shelf.pooled if self._expired(each)]:
                    await self._close(pooled)
                if not (shelf.pooled or shelf.dialling.locked()):
                    del self._shelves[target]

    def counts(self) -> tuple[int, int]:
        """Count the connections that are in use, and those that are idle."""
        every = [pooled for shelf in self._shelves.values() for pooled in shelf.pooled]
        used = sum(1 for pooled in every if pooled.users)
        return used, len(every) - used

    def by_address(self) -> dict[Address, int]:
        """Count the connections to each address."""
        counts: dict[Address, int] = {}
        for target, shelf in self._shelves.items():
            counts[target.address] = counts.get(target.address, 0) + len(shelf.pooled)
        return counts

    def _available(self, shelf: _Shelf) -> Pooled | None:
        """Find a connection on the shelf; the most recently used first, so that the others can grow old."""
        for pooled in reversed(shelf.pooled):
            shareable = not pooled.users or pooled.connection.codec.multiplexed
            if shareable and pooled.connection.alive():
                return pooled
        return None

    async def _connect(self, target: Target, shelf: _Shelf) -> Pooled:
        if target.protocol is not Protocol.HTTP2:
            return await self._open(target, shelf)
        async with shelf.dialling:
            return self._available(shelf) or await self._open(target, shelf)

    async def _open(self, target: Target, shelf: _Shelf) -> Pooled:
        stream = await self._dial(target)
        pooled = Pooled(
            target, HttpConnection(stream, self._codec(target.protocol), self._limits), stream
        )
        shelf.pooled.append(pooled)
        return pooled

    async def _close(self, pooled: Pooled) -> None:
        self._shelves[pooled.target].pooled.remove(pooled)
        await pooled.connection.aclose()

    def _expired(self, pooled: Pooled) -> bool:
        if pooled.users:
            return False
        idle = trio.current_time() - pooled.idle_since
        return idle > self._limits.pool_idle_seconds or not pooled.connection.alive()
