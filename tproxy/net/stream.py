"""What the proxy asks of every byte stream, so that HTTP runs over TCP, TLS and memory alike."""

import operator
from abc import abstractmethod
from collections.abc import Awaitable
from mmap import MAP_PRIVATE, mmap

import trio

from tproxy.model.address import Address
from tproxy.model.identity import Peer
from tproxy.net.arrivals import Arrival


class EagerStream(trio.abc.HalfCloseableStream):
    """A stream that can be asked for what is possible now: waiting costs a turn of the scheduler, and mostly nothing is missing."""

    __slots__ = ()

    @abstractmethod
    def try_receive(self, max_bytes: int) -> bytes | None:
        """Take at most `max_bytes` that have arrived: `b""` at the end of the stream, None when it would have to wait.

        Raises trio.BrokenResourceError once the peer has reset the connection and everything it sent before is read.
        """

    @property
    @abstractmethod
    def expectant(self) -> bool:
        """Whether `try_receive` may find something; if not, it need not be tried."""

    @abstractmethod
    def expect(self) -> None:
        """Have the next `try_receive` look for itself."""

    @abstractmethod
    def try_send(self, data: bytes | memoryview) -> int:
        """Send as much of `data` as is possible now, and say how many bytes that was; 0 when it would have to wait.

        What was not sent is the next to be tried, with or without more behind it: some of it may be encrypted already.
        """

    @abstractmethod
    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for bytes; `b""` at the end of the stream."""

    @abstractmethod
    def interrupt(self) -> None:
        """Wake whoever waits on the stream with trio.ClosedResourceError, although it stays open."""

    @abstractmethod
    def end(self) -> bool:
        """End our direction; the peer may go on sending. False where `send_eof` has to wait until it can be told."""

    @abstractmethod
    def close(self) -> None:
        """Close at once; what was sent still arrives."""

    @abstractmethod
    def reset(self) -> None:
        """Close so that the peer sees a failure instead of an end (TCP: RST). What it has not received yet is lost."""


DEFAULT_RECEIVE_SIZE = 65536


def private_room(size: int) -> memoryview:
    """Make room for what arrives. It takes memory as it is written to, and a process that is forked has its own."""
    return memoryview(mmap(-1, size, flags=MAP_PRIVATE))


class SocketStream(EagerStream):
    """A stream between two addresses, whatever secures it. What changes: whether a task waits for bytes."""

    __slots__ = ("_receiving",)

    peer: Address

    def __init__(self) -> None:
        self._receiving = False

    def try_receive(self, max_bytes: int) -> bytes | None:
        """Take what has arrived, without waiting."""
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving from this stream")
        return self._take(max_bytes) if self.expectant else None

    def try_receive_into(self, room: memoryview) -> int | None:
        """Take what has arrived into `room`, as `try_receive` does, and say how many bytes that is: 0 at the end."""
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving from this stream")
        return self._take_into(room) if self.expectant else None

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for bytes, even where some have arrived: whoever is in a hurry has called `try_receive` before."""
        if max_bytes is None:
            max_bytes = DEFAULT_RECEIVE_SIZE
        if operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving from this stream")
        self.arrival()  # there is none of a stream that was closed
        self._receiving = True
        try:
            while True:
                await self._wait_for_bytes()
                data = self._take(max_bytes)
                if data is not None:
                    return data
        finally:
            self._receiving = False

    async def wait_for_bytes(self) -> None:
        """Wait until there may be something to receive, and leave it there."""
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving from this stream")
        self.arrival()  # there is none of a stream that was closed
        self._receiving = True
        try:
            await self._wait_for_bytes()
        finally:
            self._receiving = False

    @abstractmethod
    def _take(self, max_bytes: int) -> bytes | None:
        """Do what `try_receive` promises, whoever else receives."""

    @abstractmethod
    def _take_into(self, room: memoryview) -> int | None:
        """Do what `try_receive_into` promises, whoever else receives."""

    @abstractmethod
    def _wait_for_bytes(self) -> Awaitable[None]:
        """Wait until `_take` may find something."""

    @property
    @abstractmethod
    def local(self) -> Address:
        """Our end; to be asked for the first time while the stream is open."""

    @property
    @abstractmethod
    def identity(self) -> Peer | None:
        """Who the peer has proven to be; None on plaintext."""

    @property
    @abstractmethod
    def trouble(self) -> str:
        """What broke the stream, in the transport's words; empty while nothing has that it knows words for."""

    @property
    @abstractmethod
    def reset_by_peer(self) -> bool:
        """Whether the peer has reset the connection, though something that it said before may still be there to read."""

    @property
    @abstractmethod
    def wants_room(self) -> bool:
        """Whether nothing can be read until there is room to send: TLS has something to say by itself."""

    @abstractmethod
    def arrival(self) -> Arrival:
        """Return what is known of bytes that arrive; kept from the first time it is asked."""

    @abstractmethod
    def fileno(self) -> int:
        """Return the socket's descriptor; -1 when closed."""

    @abstractmethod
    def try_peek(self, max_bytes: int) -> bytes | None:
        """Look at what has arrived, as `try_receive` does, and leave it there."""

    @abstractmethod
    async def wait_readable(self) -> None:
        """Wait until there are bytes, an end or an error to take."""

    @abstractmethod
    def wake_receiver_at(self, size: int) -> None:
        """Wait in `wait_readable` until `size` bytes have arrived; an end or an error wakes it as well."""

    @abstractmethod
    async def wait_all_sent(self) -> None:
        """Wait until every byte is on the wire, as a reset would discard the rest.

        Afterwards the stream takes bytes only one segment at a time: call it last.
        """
