"""The engine that carries most traffic: h2's rules for what `Link` lets through, without h2's cost per frame."""

from collections import deque
from collections.abc import Iterable
from typing import ClassVar

from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from tproxy.codec import h2_frames as frames
from tproxy.codec.h2_compression import FieldEncoder
from tproxy.codec.h2_engine import Answered, ClosedStreams, Reset, Signal, Widened, idle
from tproxy.codec.h2_frames import LAST_STREAM, Broken, Frame
from tproxy.codec.h2_opening import MIN_FRAME_BYTES, greeting
from tproxy.codec.h2_window import DEFAULT_WINDOW, LARGEST_WINDOW
from tproxy.model.http import Field
from tproxy.model.limits import Limits

LARGEST_FRAME = 2**24 - 1

PASSED_OVER = 64
"""Gaps between opened streams that are remembered: clients leave none."""

_PING_BYTES = 8
_WORD_BYTES = 4


class OwnEngine:
    """An `Engine`. What changes: windows, the peer's settings, how streams were closed, and what is not written yet."""

    name: ClassVar[str] = "own"

    def __init__(self, limits: Limits, *, client: bool) -> None:
        self.newest = 0
        self.concurrency = 2**32  # no bound until the peer names one
        self.takes_upgrades = False
        self.list_bytes: int | None = None
        self._client = client
        self._encoder = FieldEncoder()
        self._frame_bytes = MIN_FRAME_BYTES
        self._room = DEFAULT_WINDOW
        self._opening_room = DEFAULT_WINDOW
        self._rooms: dict[int, int] = {}
        """What each open stream may send."""
        self._half: set[int] = set()
        """Streams on which one message is complete."""
        self._given_up = ClosedStreams()
        """Streams that either side has reset."""
        self._passed_over: deque[range] = deque(maxlen=PASSED_OVER)
        """Streams that the peer never opened before others."""
        self._written = [greeting(limits, client=client)]
        self._tail = 0
        """The stream whose DATA frame stands last in what is written, as a header and a payload."""

    # What the peer says

    def control(self, frame: Frame) -> list[Signal]:
        """Take SETTINGS, PING, RST_STREAM or WINDOW_UPDATE."""
        match frame.kind:
            case frames.WINDOW_UPDATE:
                return self._widen(frame.stream, _word(frame))
            case frames.SETTINGS:
                return self._settings(frame)
            case frames.RST_STREAM:
                return self._reset_by_peer(frame.stream, _word(frame))
            case _:
                return self._ping(frame)

    def _widen(self, number: int, increment: int) -> list[Signal]:
        increment &= LAST_STREAM
        if number == 0:
            self._room += increment
            if self._room > LARGEST_WINDOW:
                raise Broken(ErrorCodes.FLOW_CONTROL_ERROR)
        elif number in self._rooms:
            self._rooms[number] += increment
            if self._rooms[number] > LARGEST_WINDOW:
                self.reset(number, ErrorCodes.FLOW_CONTROL_ERROR)
                return [Reset(number, ErrorCodes.FLOW_CONTROL_ERROR, remote=False)]
        elif idle(number, self.newest):
            raise Broken(ErrorCodes.PROTOCOL_ERROR, cause="room for a stream that is idle")
        else:
            return []
        return [Widened(number)]

    def _reset_by_peer(self, number: int, code: int) -> list[Signal]:
        if number not in self._rooms:
            return []
        self._close_by_reset(number)
        return [Reset(number, _known(code), remote=True)]

    def _ping(self, frame: Frame) -> list[Signal]:
        _refuse_stream(frame)
        if len(frame.payload) != _PING_BYTES:
            raise Broken(ErrorCodes.FRAME_SIZE_ERROR)
        if frame.flags & frames.ACK:
            return [Answered(frame.payload)]
        self.write(frames.write(frames.PING, frames.ACK, 0, frame.payload))
        return []

    def _settings(self, frame: Frame) -> list[Signal]:
        if frame.flags & frames.ACK:
            return _acknowledged(frame)
        _refuse_stream(frame)
        if len(frame.payload) % frames.SETTING.size:
            raise Broken(ErrorCodes.FRAME_SIZE_ERROR)
        signals: list[Signal] = []
        for code, value in frames.SETTING.iter_unpack(frame.payload):
            self._set(code, value)
            if code == SettingCodes.INITIAL_WINDOW_SIZE:
                signals = [Widened(0)]
        self.write(frames.write(frames.SETTINGS, frames.ACK, 0))
        return signals

    def _set(self, code: int, value: int) -> None:
        match code:
            case SettingCodes.HEADER_TABLE_SIZE:
                self._encoder.header_table_size = value
            case SettingCodes.ENABLE_PUSH:
                _refuse_outside(value, range(1 if self._client else 2))  # servers never ask for it
            case SettingCodes.MAX_CONCURRENT_STREAMS:
                self.concurrency = value
            case SettingCodes.INITIAL_WINDOW_SIZE:
                self._open_with(value)
            case SettingCodes.MAX_FRAME_SIZE:
                _refuse_outside(value, range(MIN_FRAME_BYTES, LARGEST_FRAME + 1))
                self._frame_bytes = value
            case SettingCodes.MAX_HEADER_LIST_SIZE:
                self.list_bytes = value
            case SettingCodes.ENABLE_CONNECT_PROTOCOL:
                _refuse_outside(value, range(2))
                self.takes_upgrades = bool(value)

    def _open_with(self, room: int) -> None:
        """Change what streams begin with, which those that are open began with too (RFC 9113, 6.9.2)."""
        more = room - self._opening_room
        self._opening_room = room
        for number in self._rooms:
            self._rooms[number] += more
        if max((room, *self._rooms.values())) > LARGEST_WINDOW:
            raise Broken(ErrorCodes.FLOW_CONTROL_ERROR)

    def opens(self, number: int, *, ended: bool) -> bool:
        """Whether a field block opens a stream."""
        if number <= self.newest and number % 2:
            self._answer_closed(number)
            return False
        if self._client or number % 2 == 0:
            raise Broken(ErrorCodes.PROTOCOL_ERROR, cause="a field block on an idle stream")
        if number > self.newest + 2:
            self._passed_over.append(range(self.newest + 1, number))
        self.newest = number
        self._rooms[number] = self._opening_room
        if ended:
            self._half.add(number)
        return True

    def continues(self, number: int, *, ended: bool, informational: bool) -> None:
        """Take a field block on an open stream."""
        assert not (ended and informational), "its stream would have been broken"
        if ended:
            self.ends(number)

    def ends(self, number: int) -> None:
        """Count a message on `number` as complete, whichever side's."""
        if number in self._half:
            self._close(number)
        else:
            self._half.add(number)

    def strays(self, number: int) -> None:
        """Answer DATA on a stream that is not open."""
        if idle(number, self.newest):
            raise Broken(ErrorCodes.PROTOCOL_ERROR, cause="content on an idle stream")
        self.write(frames.rst_stream(number, ErrorCodes.STREAM_CLOSED))

    def _answer_closed(self, number: int) -> None:
        """Answer a field block on a closed stream, by how it was closed (RFC 9113, 5.1)."""
        if number in self._given_up:
            self.write(frames.rst_stream(number, ErrorCodes.STREAM_CLOSED))
        elif any(number in passed for passed in self._passed_over):
            raise Broken(ErrorCodes.PROTOCOL_ERROR, cause="a stream that was passed over")
        else:
            raise Broken(ErrorCodes.STREAM_CLOSED)

    def _close(self, number: int) -> None:
        del self._rooms[number]
        self._half.discard(number)

    def _close_by_reset(self, number: int) -> None:
        self._close(number)
        self._given_up.add(number)

    # What we say

    def send_fields(self, number: int, fields: Iterable[Field], *, ended: bool) -> None:
        """Send a head or trailers."""
        if number > self.newest:
            self.newest = number
            self._rooms[number] = self._opening_room
        block = self._encoder.encode(fields)
        flags = frames.END_STREAM if ended else 0
        if len(block) <= self._frame_bytes:
            self.write(frames.write(frames.HEADERS, flags | frames.END_HEADERS, number, block))
        else:
            self._send_in_parts(number, flags, block)
        if ended:
            self.ends(number)

    def _send_in_parts(self, number: int, flags: int, block: bytes) -> None:
        kind, size = frames.HEADERS, self._frame_bytes
        for at in range(0, len(block), size):
            last = frames.END_HEADERS if at + size >= len(block) else 0
            self.write(frames.write(kind, flags | last, number, block[at : at + size]))
            kind, flags = frames.CONTINUATION, 0

    def send_data(self, number: int, data: bytes) -> None:
        """Send a part of a body in frames that the peer takes."""
        size, most = len(data), self._frame_bytes
        assert size <= self.room(number), "a sender asks for room first"
        self._room -= size
        self._rooms[number] -= size
        self._tail = number
        if size <= most:
            self._written += (frames.header(size, frames.DATA, 0, number), data)
            return
        for at in range(0, size, most):
            part = data[at : at + most]
            self._written += (frames.header(len(part), frames.DATA, 0, number), part)

    def send_end(self, number: int) -> None:
        """Complete our message: in its last DATA frame, if that still stands here."""
        if self._tail == number:
            size = len(self._written[-1])
            self._written[-2] = frames.header(size, frames.DATA, frames.END_STREAM, number)
        else:
            self.write(frames.header(0, frames.DATA, frames.END_STREAM, number))
        self.ends(number)

    def reset(self, number: int, code: ErrorCodes) -> None:
        """End a stream with RST_STREAM, unless both messages were complete."""
        if number in self._rooms:
            self._close_by_reset(number)
            self.write(frames.rst_stream(number, code))

    def room(self, number: int) -> int:
        """Bytes that both windows let us send."""
        return min(self._room, self._rooms[number])

    def write(self, octets: bytes) -> None:
        """Put a frame behind those that are written so far."""
        self._tail = 0
        self._written.append(octets)

    def outbox(self) -> bytes:
        """Take what is to be written."""
        if not self._written:
            return b""
        self._tail = 0
        written = b"".join(self._written)
        self._written.clear()
        return written

    def release(self) -> None:
        """Nothing is buffered."""


def _known(code: int) -> ErrorCodes | int:
    try:
        return ErrorCodes(code)
    except ValueError:
        return code


def _word(frame: Frame) -> int:
    if len(frame.payload) != _WORD_BYTES:
        raise Broken(ErrorCodes.FRAME_SIZE_ERROR)
    return int.from_bytes(frame.payload)


def _acknowledged(frame: Frame) -> list[Signal]:
    """Take what the peer says to our settings, which is nothing."""
    if frame.payload:
        raise Broken(ErrorCodes.FRAME_SIZE_ERROR)
    _refuse_stream(frame)
    return []


def _refuse_stream(frame: Frame) -> None:
    if frame.stream:
        raise Broken(ErrorCodes.PROTOCOL_ERROR, cause="a stream's number where none belongs")


def _refuse_outside(value: int, allowed: range) -> None:
    if value not in allowed:
        raise Broken(ErrorCodes.PROTOCOL_ERROR, cause="a setting's value")
