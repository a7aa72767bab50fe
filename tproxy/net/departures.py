"""Learn that peers leave while nobody reads from them: a request is being answered, and its answer is of no use any more.

Waiting for that as trio does, with a task and two system calls for each exchange, would cost more than the exchange's
own waiting. So there is one more epoll, which each connection joins once and which trio watches as a whole.
"""

import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import trio

from tproxy.net.standstill import LOOK_SECONDS
from tproxy.net.stream import SocketStream

LEAVING = select.EPOLLRDHUP | select.EPOLLET
"""An end or a reset, told once: connections may stay long after it, and must not be told about all that time."""


class Tell(Protocol):
    """What to do about a peer that has ended or reset its stream."""

    def __call__(self, *, reset: bool) -> None: ...


class Departures:
    """Connections whose peers may leave unseen. What changes: which they are."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[SocketStream, Tell]] = {}
        self._unread: set[int] = set()
        """Those that have ended behind bytes that nobody has read yet: the end itself is not told again."""

    @contextmanager
    def watched(self, stream: SocketStream, tell: Tell) -> Iterator[None]:
        """Call `tell` when the peer resets `stream`, or ends it with nothing left to read, while the block lasts.

        The block may close the stream.
        """
        descriptor, entry = stream.fileno(), (stream, tell)
        self._watched[descriptor] = entry
        self._epoll.register(descriptor, LEAVING)
        try:
            yield
        finally:
            # Closed, it has left the epoll by itself, and its number may be another connection's already.
            if stream.fileno() != -1:
                self._epoll.unregister(descriptor)
            if self._watched.get(descriptor) is entry:
                del self._watched[descriptor]
                self._unread.discard(descriptor)

    async def run(self) -> None:
        """Tell of departures until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_again)
            while True:
                await trio.lowlevel.wait_readable(self._epoll)
                for descriptor, events in self._epoll.poll(0):
                    self._look(descriptor, broken=bool(events & select.EPOLLERR))

    async def _look_again(self) -> None:
        while True:
            await trio.sleep(LOOK_SECONDS)
            for descriptor in list(self._unread):
                self._look(descriptor)

    def _look(self, descriptor: int, *, broken: bool = False) -> None:
        stream, tell = self._watched[descriptor]
        self._unread.discard(descriptor)
        if broken:
            # Bytes that nobody has read may lie before it, and a look would find no more than those.
            tell(reset=True)
            return
        try:
            ended = stream.try_peek(1) == b""
        except trio.BrokenResourceError:
            tell(reset=True)
        except trio.ClosedResourceError:
            return
        else:
            if ended:
                tell(reset=False)
            else:
                self._unread.add(descriptor)
