"""HTTP/2 field blocks, put together from the frames that they come in (RFC 9113, 4.3)."""

from typing import NamedTuple

from h2.errors import ErrorCodes

from tproxy.codec.h2_frames import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    LAST_STREAM,
    Broken,
    Frame,
    unpadded,
)

CONTINUATIONS = 64
"""Frames that a block may go on in: empty ones would never reach its bound in bytes."""

_PRIORITIZED = 0x20
_PRIORITY_BYTES = 5


class Block(NamedTuple):
    """A whole field block, still compressed."""

    stream_id: int
    data: bytes
    ended: bool
    """Whether it ends its message."""
    self_dependent: bool
    """Whether it has its stream wait for itself, which breaks that stream (RFC 7540, 5.3.1)."""


class BlockReader:
    """Frames in, whole blocks out. What changes: the block that is not complete yet."""

    def __init__(self) -> None:
        self._begun: Block | None = None
        self._continuations = 0

    @property
    def begun(self) -> bool:
        """Whether a block is incomplete, so that only its continuation may follow."""
        return self._begun is not None

    def take(self, frame: Frame) -> Block | None:
        """Give the block that `frame` completes; raise `Broken` when it may not stand here."""
        block = _opened(frame) if self._begun is None else self._continued(self._begun, frame)
        if frame.flags & END_HEADERS:
            self._begun, self._continuations = None, 0
            return block
        self._begun = block
        return None

    def _continued(self, block: Block, frame: Frame) -> Block:
        if frame.kind != CONTINUATION or frame.stream != block.stream_id:
            raise Broken(
                ErrorCodes.PROTOCOL_ERROR, cause="no continuation of the field block before it"
            )
        self._continuations += 1
        if self._continuations > CONTINUATIONS:
            raise Broken(ErrorCodes.ENHANCE_YOUR_CALM, "http2.headers_too_large")
        return block._replace(data=block.data + frame.payload)


def _opened(frame: Frame) -> Block:
    if frame.kind != HEADERS:
        raise Broken(ErrorCodes.PROTOCOL_ERROR, cause="a continuation of nothing")
    if frame.stream == 0:
        raise Broken(ErrorCodes.PROTOCOL_ERROR, cause="a field block on no stream")
    data = unpadded(frame)
    self_dependent = False
    if frame.flags & _PRIORITIZED:
        if len(data) < _PRIORITY_BYTES:
            raise Broken(ErrorCodes.FRAME_SIZE_ERROR)
        self_dependent = _depends_on(data) == frame.stream
        data = data[_PRIORITY_BYTES:]
    return Block(frame.stream, data, bool(frame.flags & END_STREAM), self_dependent)


def priority_fault(frame: Frame) -> ErrorCodes | None:
    """Say what is wrong with a PRIORITY frame; what is right with it matters to nobody (RFC 9113, 5.3.2)."""
    if frame.stream == 0:
        return ErrorCodes.PROTOCOL_ERROR
    if len(frame.payload) != _PRIORITY_BYTES:
        return ErrorCodes.FRAME_SIZE_ERROR
    return ErrorCodes.PROTOCOL_ERROR if _depends_on(frame.payload) == frame.stream else None


def _depends_on(payload: bytes) -> int:
    return int.from_bytes(payload[:4]) & LAST_STREAM
