"""End what peers let stand still: looked at once a second, so that nothing that moves waits under a time-out of its own."""

from collections.abc import Iterator

import trio

from tproxy.model.limits import Limits
from tproxy.model.outcome import ProxyError, ResponseFlag, stream_idle
from tproxy.net.http_connection import HttpConnection
from tproxy.net.http_stream import HttpStream
from tproxy.net.standstill import LOOK_SECONDS, Standstill
from tproxy.proxy.http_server import HttpServer
from tproxy.proxy.register import Register, Relay

IDLE = ProxyError(ResponseFlag.IDLE_TIMEOUT, "tcp_session_idle_timeout")


class Sweeper:
    """The downstream side of a worker. What changes: how long everything has stood still.

    Exchanges that have not been answered yet are not looked at here but where they wait, at the upstream's side
    (`upstream.pool`): its failure becomes an answer.
    """

    def __init__(self, limits: Limits, register: Register) -> None:
        self._register = register
        self._heads = Standstill[HttpServer](limits.head_seconds)
        self._idle = Standstill[HttpServer](limits.idle_seconds)
        self._resting_for = Standstill[HttpServer](LOOK_SECONDS)
        self._writes = Standstill[HttpConnection](limits.stream_idle_seconds)
        self._answers = Standstill[HttpStream](limits.stream_idle_seconds)
        self._bytes = Standstill[Relay](limits.tcp_idle_seconds)

    async def run(self) -> None:
        """Look once a second until cancelled."""
        while True:
            await trio.sleep(LOOK_SECONDS)
            self._look(trio.current_time())

    def _look(self, now: float) -> None:
        for server in self._heads.look(self._reading(), now):
            server.expire()
        for server in self._resting_for.look(self._resting(), now):
            server.let_hands_go()
        for server in self._idle.look(self._resting(), now):
            server.dismiss()
        for connection in self._writes.look(self._blocked(), now):
            connection.abandon(stream_idle(request_whole=True))
        for stream in self._answers.look(self._answering(), now):
            stream.stall()
        for relay in self._bytes.look(self._register.relays, now):
            relay.end(IDLE)

    def _reading(self) -> Iterator[HttpServer]:
        return (server for server in self._register.servers if server.connection.codec.reading_head)

    def _resting(self) -> Iterator[HttpServer]:
        return (server for server in self._register.servers if server.idle)

    def _blocked(self) -> Iterator[HttpConnection]:
        return (server.connection for server in self._register.servers if server.connection.blocked)

    def _answering(self) -> Iterator[HttpStream]:
        for server in self._register.servers:
            for stream in server.connection.streams:
                if stream.begun and stream.failure is None:
                    yield stream
