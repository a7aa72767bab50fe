"""The engine that is the reference: h2's state machines behind the same shape.

h2 is fed one frame at a time, and only those that their stream is ready for, because it answers every malformed
message with the end of the connection, where RFC 9113, 8.1.1 wants that of its stream. Of a field block it sees
nothing but whether it is an informational response's, and of DATA nothing but its end.
"""

import contextlib
from collections.abc import Iterable
from typing import ClassVar

from h2 import events as h2_events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError, StreamClosedError
from h2.frame_buffer import FrameBuffer
from h2.settings import SettingCodes, Settings

from tproxy.codec import h2_frames as frames
from tproxy.codec import h2_opening as opening
from tproxy.codec.h2_compression import FieldEncoder
from tproxy.codec.h2_engine import CLOSED_STREAMS, Answered, Reset, Signal, Widened
from tproxy.codec.h2_frames import Broken, Frame
from tproxy.codec.h2_window import DEFAULT_WINDOW
from tproxy.model.http import Field
from tproxy.model.limits import Limits

SWEEP_STREAMS = 64
"""Streams that are opened before those that are closed are looked for."""

_INFORMATIONAL = b"\x08\x03100"
"""A field block by which h2 knows an informational response."""


class _Connection(H2Connection):
    """h2 with a shorter memory of closed streams: only frames that crossed their closing ask for it.

    At each stream that is opened it would go through all that there are, to hold them against a bound that is ours to
    keep, and to sweep out the closed ones. What changes: how many were opened since it last did.
    """

    MAX_CLOSED_STREAMS = CLOSED_STREAMS
    _unswept = 0

    @property
    def open_inbound_streams(self) -> int:
        """Count what the peer opened (server side)."""
        return super().open_inbound_streams if self._sweeps() else 0

    @property
    def open_outbound_streams(self) -> int:
        """Count what we opened (client side)."""
        return super().open_outbound_streams if self._sweeps() else 0

    def _sweeps(self) -> bool:
        self._unswept = (self._unswept + 1) % SWEEP_STREAMS
        return not self._unswept


class LibraryEngine:
    """An `Engine`. What changes: h2's state, and what is to be written."""

    name: ClassVar[str] = "h2"

    def __init__(self, limits: Limits, *, client: bool) -> None:
        self._client = client
        self._h2 = _opened(limits, client=client)
        self._written = b""

    @property
    def newest(self) -> int:
        """The highest stream that was opened."""
        if self._client:
            return self._h2.highest_outbound_stream_id
        return self._h2.highest_inbound_stream_id

    @property
    def concurrency(self) -> int:
        """How many streams the peer lets us have open."""
        return self._h2.remote_settings.max_concurrent_streams

    @property
    def takes_upgrades(self) -> bool:
        """Whether the peer understands extended CONNECT."""
        return bool(self._h2.remote_settings.enable_connect_protocol)

    @property
    def list_bytes(self) -> int | None:
        """How large a field block the peer takes."""
        return self._h2.remote_settings.max_header_list_size

    def control(self, frame: Frame) -> list[Signal]:
        """Take SETTINGS, PING, RST_STREAM or WINDOW_UPDATE."""
        settings = frame.kind == frames.SETTINGS
        heard = self._step(frames.known_settings(frame) if settings else frame.octets)
        return [signal for event in heard for signal in _signals(event)]

    def opens(self, number: int, *, ended: bool) -> bool:
        """Whether a field block opens a stream."""
        heard = self._step(_headers(number, ended=ended))
        opened = any(isinstance(event, h2_events.RequestReceived) for event in heard)
        if opened and self._client:
            raise Broken(ErrorCodes.PROTOCOL_ERROR, cause="a request")
        return opened

    def continues(self, number: int, *, ended: bool, informational: bool) -> None:
        """Take a field block on an open stream."""
        self._step(_headers(number, _INFORMATIONAL if informational else b"", ended=ended))

    def ends(self, number: int) -> None:
        """Take the end of the peer's message."""
        self._step(frames.write(frames.DATA, frames.END_STREAM, number))

    def strays(self, number: int) -> None:
        """Answer DATA on a stream that is not open."""
        self._step(frames.write(frames.DATA, 0, number))

    def _step(self, octets: bytes) -> list[h2_events.Event]:
        try:
            return self._h2.receive_data(octets)
        except ProtocolError as error:
            code = ErrorCodes(error.error_code)
            raise Broken(code, cause=str(error), announced=True) from error

    def send_fields(self, number: int, fields: Iterable[Field], *, ended: bool) -> None:
        """Send a head or trailers."""
        self._h2.send_headers(number, fields, end_stream=ended)
        self._h2.streams[number].request_method = None  # after HEAD, it would judge the body itself

    def send_data(self, number: int, data: bytes) -> None:
        """Send a part of a body in frames that the peer takes."""
        size = self._h2.max_outbound_frame_size
        for start in range(0, len(data), size) or (0,):
            self._h2.send_data(number, data[start : start + size])

    def send_end(self, number: int) -> None:
        """Complete our message without trailers."""
        self._h2.end_stream(number)

    def reset(self, number: int, code: ErrorCodes) -> None:
        """End a stream with RST_STREAM."""
        with contextlib.suppress(StreamClosedError):  # both messages were complete
            self._h2.reset_stream(number, code)

    def room(self, number: int) -> int:
        """Bytes that both windows let us send."""
        return self._h2.local_flow_control_window(number)

    def write(self, octets: bytes) -> None:
        """Put a frame behind those that h2 has written so far."""
        self._written += self._h2.data_to_send() + octets

    def outbox(self) -> bytes:
        """Take what is to be written."""
        written, self._written = self._written, b""
        return written + self._h2.data_to_send()

    def release(self) -> None:
        """h2 refers to itself in a circle: until that is collected, so would stay what it has buffered."""
        self._h2.incoming_buffer = FrameBuffer(server=False)


def _signals(event: h2_events.Event) -> list[Signal]:
    match event:
        case h2_events.StreamReset(stream_id=number, error_code=code, remote_reset=remote):
            return [Reset(number, code, remote)]
        case h2_events.WindowUpdated(stream_id=number):
            return [Widened(number)]
        case h2_events.RemoteSettingsChanged(changed_settings=changed):
            return [Widened(0)] if SettingCodes.INITIAL_WINDOW_SIZE in changed else []
        case h2_events.PingAckReceived(ping_data=payload):
            return [Answered(payload)]
        case _:
            return []


def _headers(number: int, shown: bytes = b"", *, ended: bool) -> bytes:
    """Write what h2 is to see of a field block."""
    flags = frames.END_HEADERS | (frames.END_STREAM if ended else 0)
    return frames.write(frames.HEADERS, flags, number, shown)


def _opened(limits: Limits, *, client: bool) -> H2Connection:
    """Build an h2 connection that has said what RFC 9113, 3.4 wants first, and how much it takes."""
    connection = _Connection(
        H2Configuration(
            client_side=client,
            header_encoding=None,
            validate_inbound_headers=False,
            normalize_inbound_headers=False,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
    )
    connection.encoder = FieldEncoder()  # type: ignore[assignment]  # h2 asks no more of one
    connection.local_settings = Settings(
        client=client, initial_values=opening.settings(limits, client=client)
    )
    connection.initiate_connection()
    if not client:
        connection.receive_data(frames.PREFACE)  # the real one is read by FrameReader
    # h2 would end the connection over one stream too many; refusing that stream is left to us.
    connection.local_settings.pop(SettingCodes.MAX_CONCURRENT_STREAMS, None)
    connection.max_inbound_frame_size = connection.local_settings.max_frame_size
    if (more := opening.connection_window(limits, client=client) - DEFAULT_WINDOW) > 0:
        connection.increment_flow_control_window(more)
    return connection
