"""HTTP/2's frame boundaries: what must be judged before a frame is buffered, decoded or believed.

A frame's announced length is checked before its bytes are waited for, and a header block's growing length before it
is decoded. GOAWAY is read here and by no engine: h2 takes it for the end of the connection, while the streams that are
open then still have their messages to finish (RFC 9113, 6.8). So is the content of DATA, which h2 would copy four times.
"""

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from h2.errors import ErrorCodes

DATA = 0x0
HEADERS = 0x1
PRIORITY = 0x2
RST_STREAM = 0x3
SETTINGS = 0x4
PUSH_PROMISE = 0x5
PING = 0x6
GOAWAY = 0x7
WINDOW_UPDATE = 0x8
CONTINUATION = 0x9

ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LAST_STREAM = 2**31 - 1

_HEADER = Struct(">HBBBL")
_GOAWAY = Struct(">LL")
_WORD = Struct(">L")
SETTING = Struct(">HL")
_LAST_SETTING = 0x8
"""ENABLE_CONNECT_PROTOCOL: the highest setting that h2 knows."""


class Broken(Exception):
    """The peer broke the connection, not one stream: every stream is lost."""

    def __init__(
        self, code: ErrorCodes, details: str = "", *, cause: str = "", announced: bool = False
    ) -> None:
        self.code = code
        self.details = details or f"http2.{code.name.lower()}"
        """For the log: without other words, those of the code."""
        super().__init__(self.details)
        self.cause = cause
        self.announced = announced
        """Whether the GOAWAY that says so is already on its way."""


class Frame(NamedTuple):
    """One whole frame."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def octets(self) -> bytes:
        """The frame as it came."""
        return write(self.kind, self.flags, self.stream, self.payload)


class Body(NamedTuple):
    """A part of a message's content."""

    stream_id: int
    data: bytes
    credit: int
    """Its length with padding, which is what the windows count."""
    ended: bool


class GoAway(NamedTuple):
    """The peer takes no further streams and has not looked at any above `last`."""

    last: int


class FrameReader:
    """Bytes in, whole frames out. What changes: the bytes of the frame that is not complete yet."""

    def __init__(self, *, preface: bytes, frame_bytes: int, block_bytes: int) -> None:
        self._preface = preface
        self._frame_bytes = frame_bytes
        self._block_bytes = block_bytes
        self._buffer = bytearray()
        self._wanted = _HEADER.size
        """How much there must be before it is worth looking at."""
        self._opened = False
        self._block = 0
        self.in_block = False
        """Whether a header block is incomplete, so that only its continuation may follow."""

    @property
    def between_frames(self) -> bool:
        """Whether nothing has begun that is not complete: neither a frame nor what opens the connection."""
        return not self._buffer and (self._opened or bool(self._preface))

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Give the frames that `data` completes; raise `Broken` when no frame may look like this."""
        octets = self._completed(data)
        at, end = 0, len(octets)
        while end - at >= _HEADER.size:
            high, low, kind, flags, stream = _HEADER.unpack_from(octets, at)
            length = high << 8 | low
            if length > self._frame_bytes or kind == CONTINUATION or not self._opened:
                self._judge(length, kind, flags)
            begin = at + _HEADER.size
            if end - begin < length:
                self._wanted = _HEADER.size + length
                break
            at = begin + length
            self._opened = True
            if kind in (HEADERS, CONTINUATION):
                self._count_block(length, flags)
            yield Frame(kind, flags, stream & LAST_STREAM, octets[begin:at])
        self._buffer += octets[at:]

    def _completed(self, data: bytes) -> bytes:
        """Join what came to what is left, once that makes a frame's header or all of it."""
        if self._preface or self._buffer:
            self._buffer += data
            if self._preface and not self._skip_preface():
                return b""
            if len(self._buffer) < self._wanted:
                return b""
            data = bytes(self._buffer)
            self._buffer.clear()
        self._wanted = _HEADER.size
        return data

    def _skip_preface(self) -> bool:
        size = len(self._preface)
        if self._buffer[:size] != self._preface[: len(self._buffer)]:
            raise Broken(ErrorCodes.PROTOCOL_ERROR, "http2.bad_connection_preface")
        if len(self._buffer) < size:
            return False
        del self._buffer[:size]
        self._preface = b""
        return True

    def _judge(self, length: int, kind: int, flags: int) -> None:
        if length > self._frame_bytes:
            raise Broken(ErrorCodes.FRAME_SIZE_ERROR)
        if not self._opened and (kind != SETTINGS or flags & ACK):
            raise Broken(ErrorCodes.PROTOCOL_ERROR, "http2.bad_connection_preface")
        if kind == CONTINUATION and self._block + length > self._block_bytes:
            raise Broken(ErrorCodes.ENHANCE_YOUR_CALM, "http2.headers_too_large")

    def _count_block(self, length: int, flags: int) -> None:
        self.in_block = not flags & END_HEADERS
        self._block = self._block + length if self.in_block else 0


def header(length: int, kind: int, flags: int, stream: int) -> bytes:
    """Write what stands before a frame's payload."""
    return _HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream)


def write(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Write a frame."""
    return header(len(payload), kind, flags, stream) + payload


def goaway(last: int, code: ErrorCodes) -> bytes:
    """Write a GOAWAY frame."""
    return write(GOAWAY, 0, 0, _GOAWAY.pack(last, code))


def rst_stream(stream: int, code: ErrorCodes) -> bytes:
    """Write a RST_STREAM frame."""
    return write(RST_STREAM, 0, stream, _WORD.pack(code))


def window_update(stream: int, increment: int) -> bytes:
    """Write a WINDOW_UPDATE frame."""
    return write(WINDOW_UPDATE, 0, stream, _WORD.pack(increment))


def read_goaway(frame: Frame) -> GoAway:
    """Read what a GOAWAY frame says."""
    if frame.stream != 0:
        raise Broken(ErrorCodes.PROTOCOL_ERROR)
    if len(frame.payload) < _GOAWAY.size:
        raise Broken(ErrorCodes.FRAME_SIZE_ERROR)
    last, _ = _GOAWAY.unpack_from(frame.payload)
    return GoAway(last & LAST_STREAM)


def read_data(frame: Frame) -> Body:
    """Take a DATA frame out of its padding."""
    if frame.stream == 0:
        raise Broken(ErrorCodes.PROTOCOL_ERROR)
    ended = bool(frame.flags & END_STREAM)
    return Body(frame.stream, unpadded(frame), len(frame.payload), ended)


def unpadded(frame: Frame) -> bytes:
    """Take what a frame says out of its padding, if it has any."""
    payload = frame.payload
    if not frame.flags & PADDED:
        return payload
    if not payload:
        raise Broken(ErrorCodes.FRAME_SIZE_ERROR)
    if payload[0] >= len(payload):
        raise Broken(ErrorCodes.PROTOCOL_ERROR)
    return payload[1 : len(payload) - payload[0]]


def grants_nothing(frame: Frame) -> bool:
    """Whether a WINDOW_UPDATE frame is one in vain."""
    return len(frame.payload) == _WORD.size and not int.from_bytes(frame.payload) & LAST_STREAM


def known_settings(frame: Frame) -> bytes:
    """Leave out settings that nobody here reads: h2 keeps a queue for each of the 65536 that there could be."""
    payload = frame.payload
    if payload and frame.flags & ACK:
        raise Broken(ErrorCodes.FRAME_SIZE_ERROR)
    if len(payload) % SETTING.size:
        return frame.octets
    settings = SETTING.iter_unpack(payload)
    known = b"".join(SETTING.pack(*each) for each in settings if each[0] <= _LAST_SETTING)
    return write(frame.kind, frame.flags, frame.stream, known)
