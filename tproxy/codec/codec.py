"""The one shape that all codecs have, so that the pipeline never asks which version it speaks."""

from typing import Protocol

from tproxy.codec.events import Event
from tproxy.model.http import Headers, RequestHead, ResponseHead
from tproxy.model.outcome import DownstreamError


class Codec(Protocol):
    """One connection's HTTP without its socket: bytes in, events out; messages in, bytes out.

    Streams are numbered by the codec. HTTP/1 uses a fresh number for each exchange and has one open at a time.
    """

    @property
    def reusable(self) -> bool:
        """Whether one more request may be opened now (client side) or awaited (server side), on this connection."""

    @property
    def multiplexed(self) -> bool:
        """Whether several streams may be open at once."""

    @property
    def reading_head(self) -> bool:
        """Whether the peer has begun what opens its next request, and not finished it (server side)."""

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the peer; `b""` is the end of its stream.

        Raise a ProxyError when the peer broke the protocol beyond this one stream: afterwards only `outbox` may be
        called, which then holds the parting words (GOAWAY, or HTTP/1's refusal). On end of stream every open stream
        is told `Ended` (close-delimited) or `Failed`.
        """

    def resume(self) -> list[Event]:
        """Tell what became due without new bytes: a pipelined request, once the exchange before it is done."""

    def send_head(self, stream: int, head: RequestHead | ResponseHead, *, ended: bool) -> None:
        """Begin the message on `stream`; `ended` when neither body nor trailers follow. 1xx heads leave it unbegun."""

    def send_data(self, stream: int, data: bytes) -> None:
        """Send a part of the body, at most `room(stream)` bytes."""

    def send_end(self, stream: int, trailers: Headers) -> None:
        """Complete the message on `stream`."""

    def send_reset(self, stream: int, *, refused: bool = False) -> None:
        """Give `stream` up, if it is still open: RST_STREAM, or the end of an HTTP/1 connection."""

    def next_stream(self) -> int:
        """Number the request that is about to be sent (client side)."""

    def room(self, stream: int) -> int:
        """Bytes of body that may be sent now; 0 means wait for `Room`."""

    def consumed(self, stream: int, credit: int) -> None:
        """Let the peer send `credit` more: a part was pulled or discarded."""

    def farewell(self) -> None:
        """Say that this side takes no further requests (GOAWAY, `Connection: close` on the next head)."""

    def expire(self) -> DownstreamError:
        """Give up waiting for the rest of a request's head, which leaves parting words as `receive` does (server side)."""

    def outbox(self) -> bytes:
        """Take what is to be written to the peer now; empty when nothing is."""

    @property
    def finished(self) -> bool:
        """Whether the connection has nothing left to do: close it once the outbox is written."""
