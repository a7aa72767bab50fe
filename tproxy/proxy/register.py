"""Which connections are open, so that a drain knows whom to tell, and the sweeper what to look at."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import trio

from tproxy.model.flow import Direction, Flow
from tproxy.model.outcome import ProxyError
from tproxy.net.pump import Conduit, Traffic
from tproxy.net.stream import SocketStream
from tproxy.proxy.http_server import HttpServer


class Relay:
    """A connection carried as bytes. What changes: what carries it, and why it is to end, once somebody ends it."""

    __slots__ = ("_conduit", "ended_by", "flow", "traffic")

    def __init__(self, flow: Flow, traffic: Traffic) -> None:
        self.flow = flow
        self.traffic = traffic
        self.ended_by: ProxyError | None = None
        self._conduit: Conduit | None = None

    @property
    def progress(self) -> int:
        """Bytes moved, either way."""
        return self.traffic.received.bytes + self.traffic.sent.bytes

    def between(self, downstream: SocketStream, upstream: SocketStream) -> Conduit:
        """Return what carries it, and what `end` halts."""
        self._conduit = Conduit(downstream, upstream, self.traffic)
        if self.ended_by is not None:
            self._conduit.halt()
        return self._conduit

    def end(self, error: ProxyError) -> None:
        """Have it end: at once, or before its first byte is carried if it is still being connected."""
        self.ended_by = error
        if self._conduit is not None:
            self._conduit.halt()


class Counted:
    """One connection in a register: a block of its own, as a generator's takes ten times the memory while it lasts."""

    __slots__ = ("_direction", "_register")

    def __init__(self, register: "Register", direction: Direction) -> None:
        self._register = register
        self._direction = direction

    def __enter__(self) -> None:
        self._register.count(self._direction, 1)

    def __exit__(self, *_: object) -> None:
        self._register.count(self._direction, -1)


class Register:
    """The live connections of a worker. What changes: all of it, as they come and go."""

    def __init__(self) -> None:
        self._open = dict.fromkeys(Direction, 0)
        self._servers: dict[HttpServer, Direction | None] = {}
        self._relays: dict[Relay, None] = {}
        self._leaving: set[Direction] = set()
        self._fewer = trio.Event()

    def connection(self, direction: Direction) -> "Counted":
        """Count a connection for as long as the block lasts."""
        return Counted(self, direction)

    def count(self, direction: Direction, more: int) -> None:
        """Count connections that are open now, or, negative, are no more."""
        self._open[direction] += more
        if not self._open[direction]:
            self._fewer.set()
            self._fewer = trio.Event()

    @contextmanager
    def serving(self, server: HttpServer, direction: Direction | None) -> Iterator[None]:
        """Let a drain and the sweeper reach `server` for as long as the block lasts; desks have no direction."""
        self._servers[server] = direction
        if direction in self._leaving:
            server.leave()
        try:
            yield
        finally:
            del self._servers[server]

    def relaying(self, flow: Flow, traffic: Traffic) -> Relay:
        """Let others find, and end, a connection carried as bytes, until it has `left`."""
        relay = Relay(flow, traffic)
        self._relays[relay] = None
        return relay

    def left(self, relay: Relay) -> None:
        """Let nobody find it any more."""
        del self._relays[relay]

    def leave(self, direction: Direction) -> None:
        """Tell HTTP peers of one direction to go, and those that still come as well."""
        self._leaving.add(direction)
        for server, its_direction in list(self._servers.items()):
            if its_direction is direction:
                server.leave()

    async def emptied(self, *directions: Direction) -> None:
        """Wait until no connection of these directions is open."""
        while any(self._open[each] for each in directions):
            await self._fewer.wait()

    @property
    def relays(self) -> Collection[Relay]:
        """Those that are carried as bytes."""
        return self._relays.keys()

    @property
    def servers(self) -> Collection[HttpServer]:
        """Those that serve HTTP."""
        return self._servers.keys()

    @property
    def open(self) -> int:
        """How many connections are open."""
        return sum(self._open.values())
