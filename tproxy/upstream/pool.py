"""Upstream HTTP connections between exchanges: dialled when needed, kept while they may be of use."""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from tproxy.codec.codec import Codec
from tproxy.model.address import Address
from tproxy.model.flow import Protocol
from tproxy.model.limits import Limits
from tproxy.model.outcome import ResponseFlag, UpstreamError, stream_idle
from tproxy.net.http_connection import HttpConnection
from tproxy.net.http_stream import HttpStream
from tproxy.net.standstill import LOOK_SECONDS, Standstill
from tproxy.net.stream import SocketStream
from tproxy.stores.rooms import Room, Rooms, overflow
from tproxy.upstream.connector import Target

Dial = Callable[[Target], Awaitable[SocketStream]]


@dataclass(slots=True, eq=False)
class Pooled:
    """A connection of the pool's. What changes: who uses it, since when nobody does, and whether it may go to others."""

    target: Target
    shelf: "_Shelf"
    connection: HttpConnection
    stream: SocketStream
    users: int = 0
    idle_since: float = 0.0
    fresh: bool = True
    """It has not carried an exchange: a failure is no sign that the upstream merely closed an idle connection."""
    shareable: bool = True
    """Whether the upstream takes it for nobody's own."""
    room: Room | None = None
    """Where it is counted, if its cluster may have only so many."""
    taken: int = 0
    """How often, in all."""
    worn: bool = False
    """Whether it has carried as much as its cluster lets it."""


@dataclass(slots=True)
class _Shelf:
    """What the pool has for one target."""

    connections: int = 0
    """How many there are, free or not."""
    free: dict[Pooled, None] = field(default_factory=dict)
    """Connections that may take one more request, the one that became so last at the end."""
    dialling: trio.Lock = field(default_factory=trio.Lock)
    """One HTTP/2 dial at a time: those who wait share what it brings."""
    failure: UpstreamError | None = None
    """What the last of those brought, if it was no connection."""
    streams: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)
    """Those that wait for one more stream, because one more connection is one too many."""


class Pool:
    """Every upstream HTTP connection. What changes: which there are, and which of them nobody uses.

    A connection is closed only by whoever has just made it unavailable, without a turn between the two.
    """

    def __init__(
        self,
        dial: Dial,
        codec: Callable[[Protocol], Codec],
        limits: Limits,
        rooms: Rooms | None = None,
    ) -> None:
        self._rooms = rooms or Rooms()
        self._dial = dial
        self._codec = codec
        self._limits = limits
        self._shelves: dict[Target, _Shelf] = {}
        self._all: set[Pooled] = set()
        self._issue = 0
        """The least issue of an identity under which requests may still go."""
        self._idle: dict[Pooled, None] = {}
        """Those that nobody uses, the longest idle first."""
        self._writes = Standstill[HttpConnection](limits.stream_idle_seconds)
        self._exchanges = Standstill[HttpStream](limits.stream_idle_seconds)

    async def take(
        self, target: Target, *, distrusting: bool = False, careful: bool = False
    ) -> Pooled:
        """Find or make a connection that can carry one more request; `give_back` is owed for it.

        `distrusting` passes over connections that have only been idle: the upstream may have closed them all.
        `careful` looks whether it has this very moment, for what cannot be sent twice.
        """
        room = self._rooms.find(target.cluster, target.bounds) if target.cluster else None
        pooled = None if distrusting else self._available(target, careful=careful)
        pooled = pooled or await self._connect(target, room)
        pooled.users += 1
        pooled.taken += 1
        pooled.worn = 0 < target.bounds.requests_per_connection <= pooled.taken
        self._idle.pop(pooled, None)
        if pooled.worn or not pooled.connection.codec.multiplexed:
            del pooled.shelf.free[pooled]
        return pooled

    def give_back(self, pooled: Pooled) -> None:
        """End one use of a connection: it is kept if it can be used again."""
        pooled.users -= 1
        pooled.fresh = False
        if pooled.users:
            if pooled.shelf.streams and pooled in pooled.shelf.free and pooled.connection.reusable:
                pooled.shelf.streams.unpark()
            return
        pooled.idle_since = trio.current_time()
        self._idle[pooled] = None
        pooled.shelf.free[pooled] = None
        if pooled.worn or not (pooled.shareable and pooled.connection.reusable):
            self._close(pooled)
        elif pooled.room and pooled.shelf.streams:
            pooled.shelf.streams.unpark()
        elif len(self._idle) > self._limits.pool_connections:
            self._close(next(iter(self._idle)))

    async def sweep(self) -> None:
        """Close connections that nobody has used for too long, or whose upstream has left; when cancelled, all.

        Exchanges in which nothing moves are ended: their downstream gets an answer if it has none.
        """
        try:
            while True:
                await trio.sleep(LOOK_SECONDS)
                self._end_stalled(trio.current_time())
                self._close_expired()
        finally:
            for pooled in self._all:
                pooled.stream.close()

    def retire(self, issue: int) -> None:
        """Let no request go by connections under an identity that was shown before `issue`; what is open goes on."""
        self._issue = issue
        for pooled in [each for each in self._all if self._retired(each.target)]:
            pooled.shareable = False
            if pooled in self._idle:
                self._close(pooled)

    def drain(self, serves: Callable[[str, Address], bool]) -> None:
        """Close connections that nobody uses to endpoints that their clusters have no more."""
        for pooled in list(self._idle):
            cluster = pooled.target.cluster
            if cluster and not serves(cluster, pooled.target.address):
                self._close(pooled)

    def _retired(self, target: Target) -> bool:
        return 0 < target.issue < self._issue

    def counts(self) -> tuple[int, int]:
        """Count the connections that are in use, and those that are idle."""
        return len(self._all) - len(self._idle), len(self._idle)

    def by_endpoint(self) -> dict[tuple[str, Address], int]:
        """Count the connections to each endpoint of each cluster."""
        return Counter((each.target.cluster, each.target.address) for each in self._all)

    def _available(self, target: Target, *, careful: bool = False) -> Pooled | None:
        """Find a connection that is free; the most recently used first, so that the others can grow old."""
        shelf = self._shelves.get(target)
        for pooled in reversed(shelf.free) if shelf else ():
            if pooled.connection.alive(look=careful):
                return pooled
        return None

    async def _connect(self, target: Target, room: Room | None) -> Pooled:
        if target.protocol is not Protocol.HTTP2:
            return await self._open(target, room)
        while True:
            shelf = self._shelf(target)
            waits = shelf.dialling.locked()
            try:
                async with shelf.dialling:
                    pooled = self._available(target)
                    if pooled or room is None or not self._crowded(shelf, room):
                        return pooled or await self._dialled(target, shelf, room, waits=waits)
            finally:
                self._clear(target)
            await room.queue(shelf.streams)
            pooled = self._available(target)
            if pooled:
                return pooled

    async def _dialled(
        self, target: Target, shelf: _Shelf, room: Room | None, *, waits: bool
    ) -> Pooled:
        """Dial, unless somebody did meanwhile in vain: one after the other would each wait out the time-out."""
        failure = shelf.failure
        if waits and failure is not None:
            raise UpstreamError(failure.flag, failure.details, cause=failure.cause)
        shelf.failure = None
        try:
            return await self._open(target, room)
        except UpstreamError as error:
            shelf.failure = error
            raise

    def _shelf(self, target: Target) -> _Shelf:
        shelf = self._shelves.get(target)
        if shelf is None:
            shelf = self._shelves[target] = _Shelf()
        return shelf

    def _clear(self, target: Target) -> None:
        """Forget a shelf that is bare, unless somebody is about to put something on it."""
        shelf = self._shelves.get(target)
        if shelf and not (shelf.connections or shelf.dialling.locked()):
            del self._shelves[target]

    async def _open(self, target: Target, room: Room | None) -> Pooled:
        if room is None:
            return await self._opened(target)
        self._make_room(room)
        if room.full:
            raise overflow()
        room.connections += 1
        try:
            pooled = await self._opened(target)
        except BaseException:
            room.connections -= 1
            raise
        pooled.room = room
        return pooled

    def _make_room(self, room: Room) -> None:
        """Close what nobody uses, to whichever endpoint of the cluster, rather than refuse a connection."""
        for pooled in [each for each in self._idle if each.room is room]:
            if not room.full:
                return
            self._close(pooled)

    def _crowded(self, shelf: _Shelf, room: Room) -> bool:
        """Whether one more connection would be too many where there is one to share, if not just now."""
        self._make_room(room)
        return room.full and shelf.connections > 0

    async def _opened(self, target: Target) -> Pooled:
        stream = await self._dial(target)
        connection = HttpConnection(stream, self._codec(target.protocol), self._limits)
        try:
            await self._greet(connection, stream, target)
        except BaseException:
            stream.close()
            raise
        shelf = self._shelf(target)
        shelf.connections += 1
        pooled = Pooled(target, shelf, connection, stream, shareable=not self._retired(target))
        self._all.add(pooled)
        shelf.free[pooled] = None
        return pooled

    async def _greet(
        self, connection: HttpConnection, stream: SocketStream, target: Target
    ) -> None:
        seconds = target.bounds.connect_seconds or self._limits.connect_seconds
        with trio.move_on_after(seconds):
            try:
                await connection.greeted()
            except UpstreamError as error:
                error.cause = error.cause or stream.trouble
                raise
            return
        raise UpstreamError(
            ResponseFlag.UPSTREAM_CONNECT,
            "upstream_reset_before_response_started{connection_timeout}",
            cause=f"no HTTP/2 settings within {seconds:g} s",
        )

    def _close(self, pooled: Pooled) -> None:
        del self._idle[pooled]
        self._all.remove(pooled)
        del pooled.shelf.free[pooled]
        pooled.shelf.connections -= 1
        if pooled.room is not None:
            pooled.room.connections -= 1
        pooled.shelf.streams.unpark_all()
        self._clear(pooled.target)
        pooled.connection.close()

    def _end_stalled(self, now: float) -> None:
        busy = [pooled.connection for pooled in self._all if pooled.users]
        blocked = (connection for connection in busy if connection.blocked)
        for connection in self._writes.look(blocked, now):
            connection.abandon(stream_idle(request_whole=True))
        streams = (stream for connection in busy for stream in connection.streams)
        asked = (stream for stream in streams if stream.failure is None)
        for stream in self._exchanges.look(asked, now):
            stream.stall()

    def _close_expired(self) -> None:
        for pooled in list(self._idle):
            if pooled in self._idle and self._expired(pooled):
                self._close(pooled)

    def _expired(self, pooled: Pooled) -> bool:
        idle = trio.current_time() - pooled.idle_since
        patience = pooled.target.bounds.idle_seconds or self._limits.pool_idle_seconds
        return idle > patience or not pooled.connection.alive()
