"""Wake tasks for what arrives on their sockets, at a fraction of what trio's own waiting costs.

trio arms its epoll anew for every wait and again after it: two system calls, and a dozen Python frames. Here each socket
joins one more epoll once, edge-triggered, and trio watches that epoll as a whole. The rule that must not be broken:
**after an edge, whoever reads goes on until the kernel has no more**, since nobody is told twice.
"""

import contextlib
import select
from typing import Protocol

import trio

from tproxy.net.bell import Bell

JOINING = select.EPOLLIN | select.EPOLLPRI | select.EPOLLRDHUP | select.EPOLLET
APART = select.EPOLLPRI | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
"""Urgent data, an end or a failure: a read stops in front of it, and so says nothing by not being full."""

_OF_THIS_RUN: "trio.lowlevel.RunVar[Arrivals]" = trio.lowlevel.RunVar("arrivals")


class Hearer(Protocol):
    """Who is told what becomes of a socket; what it does about it is done before anybody else is told."""

    def ring(self) -> object:
        """Hear that something may have arrived. It waits for nothing, and raises nothing."""

    def fail(self, error: Exception) -> None:
        """Hear that nobody may wait for it any more."""


class Arrival:
    """What one socket's reader knows of it. What changes: whether something may have arrived, and who is told."""

    __slots__ = ("_apart", "_descriptor", "_joined", "bell", "hearer", "possible")

    def __init__(self, descriptor: int, joined: "dict[int, Arrival]") -> None:
        joined[descriptor] = self
        self._descriptor = descriptor
        self._joined = joined
        self.possible = True
        """Whether a read may find something; if not, it need not be tried."""
        self.bell = Bell()
        """For whoever waits."""
        self.hearer: Hearer = self.bell
        """Who is told when something arrives; whoever reads from several sockets takes the place of their bells."""
        self._apart = False

    def exhausted(self) -> None:
        """Take note that the kernel has no more for now."""
        self.possible = self._apart

    async def wait(self) -> None:
        """Wait until something may have arrived; trio.ClosedResourceError when interrupted."""
        if self.possible:
            await trio.lowlevel.checkpoint()
        else:
            await self.bell.rung()

    def tell(self, events: int) -> None:
        """Wake whoever waits."""
        self.possible = True
        if events & APART:
            self._apart = True
        self.hearer.ring()

    def leave(self) -> None:
        """Be told nothing any more; the kernel forgets a socket that is closed by itself."""
        del self._joined[self._descriptor]

    def interrupt(self) -> None:
        """Wake whoever waits with trio.ClosedResourceError."""
        self.hearer.fail(trio.ClosedResourceError("this stream was closed"))


class Arrivals(trio.abc.Instrument):
    """The sockets of one trio run. What changes: which they are.

    It is an instrument of the run, so that it looks as soon as trio's own wait is over: whoever has news is woken for the
    very next turn, and whoever needs no task acts on them at once.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._joined: dict[int, Arrival] = {}
        self._looked = False
        """Whether the instrument has, since trio was asked to tell when there is something."""

    @staticmethod
    def of_this_run() -> "Arrivals":
        """Return those of the trio run that calls."""
        try:
            return _OF_THIS_RUN.get()
        except LookupError:
            arrivals = Arrivals()
            _OF_THIS_RUN.set(arrivals)
            trio.lowlevel.spawn_system_task(arrivals._run)
            return arrivals

    def join(self, descriptor: int) -> Arrival:
        """Begin to tell what arrives on a socket, whose arrival leaves before it is closed."""
        arrival = Arrival(descriptor, self._joined)
        self._epoll.register(descriptor, JOINING)
        return arrival

    def after_io_wait(self, timeout: float) -> None:
        """Tell what has arrived."""
        del timeout
        self._looked = True
        for descriptor, events in self._epoll.poll(0):
            # What had happened before a socket was closed may be told after it.
            arrival = self._joined.get(descriptor)
            if arrival is not None:
                arrival.tell(events)

    async def _run(self) -> None:
        """Have trio's wait end when something arrives."""
        trio.lowlevel.add_instrument(self)
        try:
            while True:
                self._looked = False
                await trio.lowlevel.wait_readable(self._epoll)
                if (
                    not self._looked
                ):  # trio drops instruments that fail, and the sockets must not fall silent
                    self.after_io_wait(0)
        finally:
            with contextlib.suppress(KeyError):  # dropped
                trio.lowlevel.remove_instrument(self)
            self._epoll.close()
