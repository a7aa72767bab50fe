"""Which connections are open, so that a drain knows whom to tell, and the sweeper what to look at."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import trio

from tproxy.model.flow import Direction
from tproxy.proxy.http_server import HttpServer


class Register:
    """The live connections of a worker. What changes: all of it, as they come and go."""

    def __init__(self) -> None:
        self._open = dict.fromkeys(Direction, 0)
        self._servers: dict[HttpServer, Direction | None] = {}
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
    def servers(self) -> Collection[HttpServer]:
        """Those that serve HTTP."""
        return self._servers.keys()

    @property
    def open(self) -> int:
        """How many connections are open."""
        return sum(self._open.values())
