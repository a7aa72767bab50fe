"""Learn that peers leave while nobody reads from them: a request is being answered, and its answer is of no use any more.

Waiting for that as trio does, with a task and two system calls for each exchange, would cost more than the exchange's
own waiting. So there is one more epoll, which each connection joins once and which trio watches as a whole.
"""

import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from tproxy.net.tcp_stream import TcpStream

LEAVING = select.EPOLLRDHUP | select.EPOLLET
"""An end or a reset, told once: connections may stay long after it, and must not be told about all that time."""


class Departures:
    """Connections whose peers may leave unseen. What changes: which they are."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[], None]] = {}

    @contextmanager
    def watched(self, stream: TcpStream, tell: Callable[[], None]) -> Iterator[None]:
        """Call `tell` when the peer ends or resets `stream` in the course of the block, which may close it."""
        descriptor = stream.fileno()
        self._watched[descriptor] = tell
        self._epoll.register(descriptor, LEAVING)
        try:
            yield
        finally:
            # Closed, it has left the epoll by itself, and its number may be another connection's already.
            if stream.fileno() != -1:
                self._epoll.unregister(descriptor)
            if self._watched.get(descriptor) is tell:
                del self._watched[descriptor]

    async def run(self) -> None:
        """Tell of departures until cancelled."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll)
                for descriptor, _ in self._epoll.poll(0):
                    if tell := self._watched.get(descriptor):
                        tell()
        finally:
            self._epoll.close()
