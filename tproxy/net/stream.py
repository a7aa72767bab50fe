"""What the proxy asks of every byte stream, so that HTTP runs over TCP, TLS and memory alike."""

from abc import abstractmethod

import trio


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
        """Send as much of `data` as is possible now, and say how many bytes that was; 0 when it would have to wait."""

    @abstractmethod
    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for bytes; `b""` at the end of the stream."""

    @abstractmethod
    def interrupt(self) -> None:
        """Wake whoever waits on the stream with trio.ClosedResourceError, although it stays open."""

    @abstractmethod
    def end(self) -> None:
        """End our direction; the peer may go on sending."""

    @abstractmethod
    def close(self) -> None:
        """Close at once; what was sent still arrives."""

    @abstractmethod
    def reset(self) -> None:
        """Close so that the peer sees a failure instead of an end (TCP: RST). What it has not received yet is lost."""
