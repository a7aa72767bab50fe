"""The shape of what keeps an HTTP/2 connection's account, so that a fast engine and h2 can be held against each other."""

from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum, auto
from typing import ClassVar, NamedTuple, Protocol

from h2.errors import ErrorCodes

from tproxy.codec.h2_compression import FieldList
from tproxy.codec.h2_frames import Body, Frame, GoAway
from tproxy.model.http import Field
from tproxy.model.limits import Limits

CLOSED_STREAMS = 4096
"""Streams that are remembered once they are closed: frames of theirs may still be on their way."""


class ClosedStreams:
    """The last streams that were closed in some way. What changes: the oldest are forgotten."""

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        self._numbers: OrderedDict[int, None] = OrderedDict()

    def add(self, number: int) -> None:
        """Remember one more."""
        self._numbers[number] = None
        if len(self._numbers) > CLOSED_STREAMS:
            self._numbers.popitem(last=False)

    def __contains__(self, number: int) -> bool:
        """Whether it is remembered."""
        return number in self._numbers


def idle(number: int, newest: int) -> bool:
    """Whether a stream was never opened; those of the server's numbers never are."""
    return number % 2 == 0 or number > newest


class Kind(Enum):
    """What a field block is to its stream."""

    REQUEST = auto()
    INFORMATIONAL = auto()
    RESPONSE = auto()
    TRAILERS = auto()


class Section(NamedTuple):
    """A head or trailers."""

    stream_id: int
    kind: Kind
    fields: FieldList
    ended: bool
    """Whether it ends its message."""
    self_dependent: bool
    """Whether it has its stream wait for itself, which breaks that stream (RFC 7540, 5.3.1)."""


class Reset(NamedTuple):
    """An open stream is over."""

    stream_id: int
    code: ErrorCodes | int
    remote: bool
    """Whether the peer ended it, and not we for what the peer did."""


class Widened(NamedTuple):
    """There may be room to send on a stream, or on all when it is 0."""

    stream_id: int


class Answered(NamedTuple):
    """The peer has read our PING, and all before it."""

    payload: bytes


Signal = Section | Body | GoAway | Reset | Widened | Answered


class Engine(Protocol):
    """What the peer allows us, and the frames that go out. What changes: both.

    It is told of what comes in only what its stream, if it is open, is ready for.
    """

    name: ClassVar[str]
    """As operators choose it."""

    def __init__(self, limits: Limits, *, client: bool) -> None:
        """Begin with what RFC 9113, 3.4 wants first in the outbox."""

    @property
    def newest(self) -> int:
        """The highest stream that was opened: by the peer, or by us where we are the client."""

    @property
    def concurrency(self) -> int:
        """How many streams the peer lets us have open."""

    @property
    def takes_upgrades(self) -> bool:
        """Whether the peer understands extended CONNECT."""

    @property
    def list_bytes(self) -> int | None:
        """How large a field block the peer takes, if it has said so."""

    def control(self, frame: Frame) -> list[Signal]:
        """Take SETTINGS, PING, RST_STREAM or WINDOW_UPDATE; raise `Broken` for the whole connection."""

    def opens(self, number: int, *, ended: bool) -> bool:
        """Whether a field block on a stream that is not open opens it; if not, it is answered, or raises `Broken`."""

    def continues(self, number: int, *, ended: bool, informational: bool) -> None:
        """Take a field block on an open stream."""

    def ends(self, number: int) -> None:
        """Take the end of the peer's message, without trailers."""

    def strays(self, number: int) -> None:
        """Answer DATA on a stream that is not open; raise `Broken` where it never was."""

    def send_fields(self, number: int, fields: Iterable[Field], *, ended: bool) -> None:
        """Send a head, which may open the stream, or trailers."""

    def send_data(self, number: int, data: bytes) -> None:
        """Send a part of a body, at most `room(number)` bytes, in frames that the peer takes."""

    def send_end(self, number: int) -> None:
        """Complete our message without trailers."""

    def reset(self, number: int, code: ErrorCodes) -> None:
        """End a stream with RST_STREAM, unless both messages are complete."""

    def room(self, number: int) -> int:
        """Bytes that both windows let us send; the peer may have made one of them negative."""

    def write(self, octets: bytes) -> None:
        """Put a frame behind those that are written so far."""

    def outbox(self) -> bytes:
        """Take what is to be written."""

    def release(self) -> None:
        """Let go of what is buffered: nothing more will be received."""
