"""HTTP/2's frame boundaries: what must be judged before h2 buffers it, decodes it or believes it.

A frame's announced length is checked before its bytes are waited for, and a header block's growing length before it
is decoded; h2 does either only when all of it is there. GOAWAY is told and read here because h2 takes it for the end
of the connection, while the streams that are open then still have their messages to finish (RFC 9113, 6.8).
"""

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from h2.errors import ErrorCodes

DATA = 0x0
HEADERS = 0x1
RST_STREAM = 0x3
SETTINGS = 0x4
PUSH_PROMISE = 0x5
GOAWAY = 0x7
CONTINUATION = 0x9

ACK = 0x1
END_HEADERS = 0x4

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LAST_STREAM = 2**31 - 1

_HEADER = Struct(">HBBBL")
_GOAWAY_FRAME = Struct(">HBBBLLL")
_GOAWAY_PAYLOAD = Struct(">LL")
_SETTING_BYTES = 6
_LAST_SETTING = 0x8
"""ENABLE_CONNECT_PROTOCOL: the highest setting that h2 knows."""


class Broken(Exception):
    """The peer broke the connection, not one stream: every stream is lost."""

    def __init__(
        self, code: ErrorCodes, details: str, *, cause: str = "", announced: bool = False
    ) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.cause = cause
        self.announced = announced
        """Whether the GOAWAY that says so is already on its way."""


class Frame(NamedTuple):
    """One whole frame."""

    kind: int
    flags: int
    stream: int
    octets: bytes
    """With its header, as it came."""


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
        self._opened = False
        self._block = 0
        self.in_block = False
        """Whether a header block is incomplete, so that only its continuation may follow."""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Give the frames that `data` completes; raise `Broken` when no frame may look like this."""
        self._buffer += data
        if self._preface and not self._skip_preface():
            return
        while (frame := self._next()) is not None:
            yield frame

    def _skip_preface(self) -> bool:
        size = len(self._preface)
        if self._buffer[:size] != self._preface[: len(self._buffer)]:
            raise Broken(ErrorCodes.PROTOCOL_ERROR, "http2.bad_connection_preface")
        if len(self._buffer) < size:
            return False
        del self._buffer[:size]
        self._preface = b""
        return True

    def _next(self) -> Frame | None:
        buffer = self._buffer
        if len(buffer) < _HEADER.size:
            return None
        high, low, kind, flags, stream = _HEADER.unpack_from(buffer)
        length = high << 8 | low
        self._judge(length, kind, flags)
        end = _HEADER.size + length
        if len(buffer) < end:
            return None
        octets = bytes(buffer[:end])
        del buffer[:end]
        self._opened = True
        self._count_block(length, kind, flags)
        return Frame(kind, flags, stream & LAST_STREAM, octets)

    def _judge(self, length: int, kind: int, flags: int) -> None:
        if length > self._frame_bytes:
            raise Broken(ErrorCodes.FRAME_SIZE_ERROR, "http2.frame_size_error")
        if not self._opened and (kind != SETTINGS or flags & ACK):
            raise Broken(ErrorCodes.PROTOCOL_ERROR, "http2.bad_connection_preface")
        if kind == CONTINUATION and self._block + length > self._block_bytes:
            raise Broken(ErrorCodes.ENHANCE_YOUR_CALM, "http2.headers_too_large")

    def _count_block(self, length: int, kind: int, flags: int) -> None:
        if kind in (HEADERS, PUSH_PROMISE, CONTINUATION):
            self.in_block = not flags & END_HEADERS
            self._block = self._block + length if self.in_block else 0


def goaway(last: int, code: ErrorCodes) -> bytes:
    """Write a GOAWAY frame."""
    return _GOAWAY_FRAME.pack(0, _GOAWAY_PAYLOAD.size, GOAWAY, 0, 0, last, code)


def read_goaway(frame: Frame) -> GoAway:
    """Read what a GOAWAY frame says."""
    if frame.stream != 0:
        raise Broken(ErrorCodes.PROTOCOL_ERROR, "http2.protocol_error")
    if len(frame.octets) < _GOAWAY_FRAME.size:
        raise Broken(ErrorCodes.FRAME_SIZE_ERROR, "http2.frame_size_error")
    last, _ = _GOAWAY_PAYLOAD.unpack_from(frame.octets, _HEADER.size)
    return GoAway(last & LAST_STREAM)


def known_settings(frame: Frame) -> bytes:
    """Leave out settings that nobody here reads: h2 keeps a queue for each of the 65536 that there could be."""
    payload = frame.octets[_HEADER.size :]
    if len(payload) % _SETTING_BYTES:
        return frame.octets
    parts = (payload[at : at + _SETTING_BYTES] for at in range(0, len(payload), _SETTING_BYTES))
    known = b"".join(part for part in parts if part[0] == 0 and part[1] <= _LAST_SETTING)
    return _HEADER.pack(0, len(known), frame.kind, frame.flags, frame.stream) + known
