"""Which connections are open, so that a drain knows whom to tell and when it is over."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from tproxy.model.flow import Direction
from tproxy.proxy.http_server import HttpServer


class Register:
    """The live connections of a worker. What changes: all of it, as they come and go."""

    def __init__(self) -> None:
        self._open = 0
        self._servers: dict[HttpServer, Direction] = {}
        self._emptied = trio.Event()

    @contextmanager
    def connection(self) -> Iterator[None]:
        """Count a connection for as long as the block lasts."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self._emptied.set()
                self._emptied = trio.Event()

    @contextmanager
    def serving(self, server: HttpServer, direction: Direction) -> Iterator[None]:
        """Let a drain reach `server` for as long as the block lasts."""
        self._servers[server] = direction
        try:
            yield
        finally:
            del self._servers[server]

    def leave_inbound(self) -> None:
        """Tell inbound HTTP peers to go; the application may go on asking others until it has ended."""
        for server, direction in list(self._servers.items()):
            if direction is Direction.INBOUND:
                server.leave()

    async def emptied(self) -> None:
        """Wait until no connection is open."""
        while self._open:
            await self._emptied.wait()

    @property
    def open(self) -> int:
        """How many connections are open."""
        return self._open
