"""Which connections are open, so that a drain knows whom to tell, and the sweeper what to look at."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from tproxy.model.flow import Direction, Flow
from tproxy.model.outcome import ProxyError
from tproxy.net.pump import Traffic
from tproxy.proxy.http_server import HttpServer


@dataclass(slots=True, eq=False)
class Relay:
    """A connection carried as bytes. What changes: why it is to end, once somebody ends it."""

    flow: Flow
    traffic: Traffic
    scope: trio.CancelScope
    ended_by: ProxyError | None = None

    @property
    def progress(self) -> int:
        """Bytes moved, either way."""
        return self.traffic.received.bytes + self.traffic.sent.bytes

    def end(self, error: ProxyError) -> None:
        """Have it end."""
        self.ended_by = error
        self.scope.cancel()


class Register:
    """The live connections of a worker. What changes: all of it, as they come and go."""

    def __init__(self) -> None:
        self._open = dict.fromkeys(Direction, 0)
        self._servers: dict[HttpServer, Direction | None] = {}
        self._relays: dict[Relay, None] = {}
        self._leaving: set[Direction] = set()
        self._fewer = trio.Event()

    @contextmanager
    def connection(self, direction: Direction) -> Iterator[None]:
        """Count a connection for as long as the block lasts."""
        self._open[direction] += 1
        try:
            yield
        finally:
            self._open[direction] -= 1
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

    @contextmanager
    def relaying(self, flow: Flow, traffic: Traffic) -> Iterator[Relay]:
        """Let others end a connection carried as bytes, which is to leave the block early then."""
        with trio.CancelScope() as scope:
            relay = Relay(flow, traffic, scope)
            self._relays[relay] = None
            try:
                yield relay
            finally:
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
