"""One HTTP/2 connection whichever side it is: what `Http2Server` and `Http2Client` have in common.

The rule that must not be broken: h2 and `streams` agree on which streams are open, and no stream's fault reaches h2.
h2 answers every malformed message with the end of the connection, where RFC 9113, 8.1.1 wants that of its stream. So
it is fed one frame at a time, and only those that their stream is ready for; of a field block it sees nothing but
whether it is an informational response's, and of DATA nothing but its end. The fields, the length of body that they
promise and the windows of what we receive are kept here.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import Event as Signal
from h2.events import RemoteSettingsChanged, StreamReset, WindowUpdated
from h2.exceptions import ProtocolError, StreamClosedError
from h2.frame_buffer import FrameBuffer
from h2.settings import SettingCodes, Settings

from tproxy.codec import h2_fields as fields
from tproxy.codec import h2_frames as frames
from tproxy.codec.events import Data, Ended, Event, Room
from tproxy.codec.h2_blocks import Block, BlockReader, priority_fault
from tproxy.codec.h2_compression import FieldDecoder, FieldEncoder, list_size
from tproxy.codec.h2_frames import Body, Broken, Frame, FrameReader, GoAway
from tproxy.codec.h2_window import (
    DEFAULT_WINDOW,
    LARGEST_WINDOW,
    OPENING_WINDOW,
    Allowance,
    Window,
)
from tproxy.model.http import NO_HEADERS, Field, Headers
from tproxy.model.limits import Limits

MIN_FRAME_BYTES = 16384
"""What MAX_FRAME_SIZE may not be below (RFC 9113, 6.5.2)."""

DECODING_MARGIN = 2
"""A block this many times over `head_bytes` is not even decoded, which ends the connection; below, its stream only."""

UPDATES_PER_DATA = 10
"""WINDOW_UPDATE frames that a part of a body which we send may cause, and that are no flood: Envoy's default."""

UPDATES_DUE = 4096
"""What they may add up to: a peer may have as much of what we sent to grant again as the kernel holds."""

CLOSED_STREAMS = 4096
"""Streams that are remembered once they are closed: frames of theirs may still be on their way."""

SWEEP_STREAMS = 64
"""Streams that are opened before those that are closed are looked for."""

_INFORMATIONAL = b"\x08\x03100"
"""A field block by which h2 knows an informational response."""


@dataclass(slots=True)
class Stream:
    """An open stream. What changes: which sides still send, and how much body the peer still owes."""

    method: bytes
    window: Window
    receiving: bool = True
    sending: bool = True
    begun: bool = False
    """Whether the final response has begun."""
    informed: int = 0
    """Informational responses that came before it."""
    told: bool = False
    """Whether the response's end has been told with its head, though it may be still to come."""
    tunnel: bool = False
    """Whether the two directions end independently, as those of the TCP connection that they stand for."""
    upgrading: bool = False
    """Whether the other side of the proxy may call it a protocol upgrade, which HTTP/2 calls an extended CONNECT."""
    owed: int | None = None
    """Bytes of content-length that have not come yet; None when none was given."""


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


class Link:
    """What changes: h2's state, the open streams, and what is to be written."""

    def __init__(self, limits: Limits, *, client: bool) -> None:
        self.streams: dict[int, Stream] = {}
        self.over = False
        """Whether nothing more can be received."""
        self.settled = False
        """Whether the peer's settings have come."""
        self._limits = limits
        self._client = client
        self._controls = 0
        self._updates_due = 0
        self._abandoned = 0
        self._written = b""
        self._window = Window(_connection_window(limits, client=client))
        self._opening_window = _opening_window(limits, client=client)
        self._allowance = Allowance(limits.connection_window)
        self._decoder = FieldDecoder(limits.head_bytes * DECODING_MARGIN)
        self._fields: list[Field] = []
        self._self_dependent = False
        self._most: int | None = None
        """How large a field block the peer takes, if it has said so."""
        self._given_up: dict[int, None] = {}
        """The last streams that we have reset, oldest first."""
        self._h2 = _opened(limits, client=client)
        self._blocks = BlockReader()
        self._frames = FrameReader(
            preface=b"" if client else frames.PREFACE,
            frame_bytes=self._h2.max_inbound_frame_size,
            block_bytes=limits.head_bytes * DECODING_MARGIN,
        )

    # What the peer says

    def receive(self, data: bytes) -> Iterator[Signal | Body | GoAway]:
        """Give what each frame means, before the next one is looked at; raise `Broken` for the whole connection."""
        for frame in self._frames.feed(data):
            if self._blocks.wants(frame):
                if (block := self._blocks.take(frame)) is not None:
                    yield from self._block(block)
                continue
            self._police(frame)
            match frame.kind:
                case frames.DATA:
                    yield from self._content(frames.read_data(frame))
                case frames.GOAWAY:
                    yield frames.read_goaway(frame)
                case _:
                    yield from self._control(frame)

    def _control(self, frame: Frame) -> list[Signal]:
        """Take a frame that is no part of a message."""
        match frame.kind:
            case frames.SETTINGS:
                signals = self._step(frames.known_settings(frame))
                self._most = self._h2.remote_settings.max_header_list_size
                self.settled = True
                return signals
            case frames.PRIORITY:
                fault = priority_fault(frame)
                return [] if fault is None else self._fault(frame.stream, fault)
            case frames.WINDOW_UPDATE if frames.grants_nothing(frame):
                return self._fault(frame.stream, ErrorCodes.PROTOCOL_ERROR)
            case frames.PUSH_PROMISE:
                raise Broken(ErrorCodes.PROTOCOL_ERROR, cause="a push")
            case kind if kind < frames.CONTINUATION:
                return self._step(frame.octets)
            case _:
                return []

    def _step(self, octets: bytes) -> list[Signal]:
        try:
            return self._h2.receive_data(octets)
        except ProtocolError as error:
            code = ErrorCodes(error.error_code)
            raise Broken(code, cause=str(error), announced=True) from error

    def _block(self, block: Block) -> list[Signal]:
        """Take a field block where it is due; it is decoded wherever it is, or later ones could not be."""
        number = block.stream_id
        self._fields = self._decoder.decode(block.data)
        self._self_dependent = block.self_dependent
        stream = self.streams.get(number)
        if stream is None:
            return self._block_elsewhere(block)
        if not stream.receiving:
            return self._fail(number, ErrorCodes.STREAM_CLOSED)
        trailing = stream.begun or not self._client
        informational = not trailing and _is_informational(self._fields)
        if block.ended if informational else trailing and not block.ended:
            return self._fail(number, ErrorCodes.PROTOCOL_ERROR)
        return self._step(_headers(block, _INFORMATIONAL if informational else b""))

    def _block_elsewhere(self, block: Block) -> list[Signal]:
        """Take a field block on no open stream: it opens one, or h2 knows how wrong it is."""
        if block.stream_id in self._given_up:
            self._count_control()
            return []
        return self._step(_headers(block, b""))

    def _content(self, body: Body) -> Iterator[Signal | Body]:
        """Count content against the windows; h2 hears of it when it ends a stream, or should not be there."""
        number = body.stream_id
        if not self._window.take(body.credit):
            raise Broken(ErrorCodes.FLOW_CONTROL_ERROR)
        stream = self.streams.get(number)
        fault = self._content_fault(stream, body.credit) if stream else None
        if stream is not None and fault is None:
            if body.ended:
                self._step(frames.write(frames.DATA, frames.END_STREAM, number))
            yield body
            return
        self.consumed(0, body.credit)
        if fault is not None:
            yield from self._fail(number, fault)
        elif number not in self._given_up:
            yield from self._step(frames.write(frames.DATA, 0, number))

    def _content_fault(self, stream: Stream, credit: int) -> ErrorCodes | None:
        if not stream.receiving:
            return ErrorCodes.STREAM_CLOSED
        if self._client and not stream.begun:
            return ErrorCodes.PROTOCOL_ERROR
        return None if stream.window.take(credit) else ErrorCodes.FLOW_CONTROL_ERROR

    def _fault(self, number: int, code: ErrorCodes) -> list[Signal]:
        """Judge a frame that no stream can bear: it breaks its own, or the connection where there never was one."""
        if number in self.streams:
            return self._fail(number, code)
        if self._idle(number):
            raise Broken(code)
        return []

    def _fail(self, number: int, code: ErrorCodes) -> list[Signal]:
        """Break a stream, and say so as h2 does."""
        self._give_up(number, code)
        return [StreamReset(stream_id=number, error_code=code, remote_reset=False)]

    def _idle(self, number: int) -> bool:
        """Whether a stream was never opened; those of the server's numbers never are."""
        return number % 2 == 0 or number > self.newest

    def _police(self, frame: Frame) -> None:
        if frame.kind == frames.DATA and frame.stream in self.streams:
            return
        if frame.kind == frames.DATA and frame.payload and frame.stream in self._given_up:
            return  # on its way when we reset the stream, and not answered
        if frame.kind == frames.WINDOW_UPDATE and self._updates_due:
            self._updates_due -= 1
            return
        if frame.kind == frames.RST_STREAM and self._idle(frame.stream):
            raise Broken(ErrorCodes.PROTOCOL_ERROR, cause="reset when idle")
        self._count_control()

    def _count_control(self) -> None:
        """Count what carries no message until the outbox is taken: each may have added an answer to it."""
        self._controls += 1
        if self._controls > self._limits.control_frames:
            raise Broken(ErrorCodes.ENHANCE_YOUR_CALM, "http2.control_frames_flood")

    @property
    def reading_head(self) -> bool:
        """Whether what has begun, and is not complete, can only be a new stream's head or the connection's opening."""
        return self._frames.in_block or not (self.streams or self._frames.between_frames)

    @property
    def newest(self) -> int:
        """The highest stream that was opened."""
        if self._client:
            return self._h2.highest_outbound_stream_id
        return self._h2.highest_inbound_stream_id

    @property
    def fields(self) -> list[Field]:
        """The field block of the signal at hand, in bounds."""
        if self._self_dependent:
            raise fields.Malformed(fields.MESSAGING_RULE)
        fields.check_size(self._fields, self._limits)
        return self._fields

    def open(self, number: int, method: bytes, *, upgrading: bool) -> Stream:
        """Note a stream as open."""
        stream = Stream(method, Window(self._opening_window), upgrading=upgrading)
        self.streams[number] = stream
        return stream

    def content(self, body: Body, events: list[Event]) -> None:
        """Tell a part of a body; parts that follow each other in one read are told as one."""
        number, data, credit, ended = body
        stream = self.streams[number]
        if stream.owed is not None:
            stream.owed -= len(data)
            if stream.owed < 0 or (ended and stream.owed):
                self.consumed(number, credit)
                raise fields.Malformed(fields.MESSAGING_RULE)
        if not data:
            self.consumed(number, credit)
            if not ended:
                self._count_control()
        elif events and isinstance(last := events[-1], Data) and last.stream == number:
            events[-1] = Data(number, last.data + data, last.credit + credit)
        else:
            events.append(Data(number, data, credit))
        if ended:
            self._end(number, NO_HEADERS, events)

    def trailers(self, number: int, events: list[Event]) -> None:
        """Tell the trailers, and with them the end."""
        stream = self.streams[number]
        if stream.owed or stream.tunnel:  # a tunnel carries DATA only (RFC 9113, 8.5)
            raise fields.Malformed(fields.MESSAGING_RULE)
        self._end(number, fields.trailers(self.fields), events)

    def _end(self, number: int, trailers: Headers, events: list[Event]) -> None:
        if not self.streams[number].told:
            events.append(Ended(number, trailers))
        self.received_all(number)

    def received_all(self, number: int) -> None:
        """Close the peer's direction of a stream."""
        stream = self.streams[number]
        stream.receiving = False
        if not stream.sending:
            self._complete(number)

    # What we say

    def send_fields(self, number: int, block: Iterable[Field], *, ended: bool) -> None:
        """Send a head or trailers."""
        self._h2.send_headers(number, block, end_stream=ended)
        self._h2.streams[number].request_method = None  # after HEAD, it would judge the body itself
        if ended:
            self._sent_all(number)

    def send_data(self, number: int, data: bytes) -> None:
        """Send a part of a body in frames that the peer takes; nothing once the stream is over."""
        if not self.sends(number):
            return
        size = self._h2.max_outbound_frame_size
        self._updates_due = min(self._updates_due + UPDATES_PER_DATA, UPDATES_DUE)
        if len(data) <= size:
            self._h2.send_data(number, data)
            return
        for start in range(0, len(data), size):
            self._h2.send_data(number, data[start : start + size])

    def send_end(self, number: int, trailers: Sequence[Field]) -> None:
        """Complete our message; nothing once the stream is over."""
        if not self.sends(number):
            return
        if trailers:
            self.send_fields(number, trailers, ended=True)
            return
        self._h2.end_stream(number)
        self._sent_all(number)

    def sends(self, number: int) -> bool:
        """Whether our direction of a stream is open: the peer may have reset it before its sender heard."""
        stream = self.streams.get(number)
        return stream is not None and stream.sending

    def _sent_all(self, number: int) -> None:
        stream = self.streams[number]
        stream.sending = False
        if not stream.receiving:
            self._complete(number)
        elif not self._client and not stream.tunnel:
            # The rest of the request is of no use to anybody (RFC 9113, 8.1).
            self.reset(number, ErrorCodes.NO_ERROR)
            self._answered()

    def _complete(self, number: int) -> None:
        del self.streams[number]
        self._answered()

    def _answered(self) -> None:
        self._abandoned = max(0, self._abandoned - 1)

    def abandoned(self) -> None:
        """Count a stream that cost its opener nothing: given up unanswered, or broken so that we had to."""
        self._abandoned += 1
        if self._abandoned > self._limits.resets:
            raise Broken(ErrorCodes.ENHANCE_YOUR_CALM, "http2.reset_flood")

    def reset(self, number: int, code: ErrorCodes) -> None:
        """End a stream with RST_STREAM."""
        self.streams.pop(number, None)
        self._give_up(number, code)

    def _give_up(self, number: int, code: ErrorCodes) -> None:
        """Reset a stream; what its peer says on it before it knows is not looked at (RFC 9113, 5.1)."""
        self._abandoned += self._client
        self._given_up[number] = None
        if len(self._given_up) > CLOSED_STREAMS:
            del self._given_up[next(iter(self._given_up))]
        with contextlib.suppress(StreamClosedError):  # both messages were complete
            self._h2.reset_stream(number, code)

    def room(self, number: int) -> int:
        """Bytes that both windows let us send; the peer may have made one of them negative."""
        if not self.sends(number):
            return 0
        return max(0, self._h2.local_flow_control_window(number))

    def consumed(self, number: int, credit: int) -> None:
        """Return window for what was received, whether or not its stream is still open."""
        if increment := self._window.give(credit):
            self._write(frames.window_update(0, increment))
        stream = self.streams.get(number)
        if stream is None or not stream.receiving:
            self._allowance.consumed(number, credit)
        elif increment := stream.window.give(credit):
            most = self._limits.stream_window
            increment += self._allowance.grow(number, stream.window, most, self.streams)
            self._write(frames.window_update(number, increment))

    def ping(self, payload: bytes) -> None:
        """Ask for an answer that shows what the peer has read by then."""
        self._h2.ping(payload)

    def goaway(self, last: int, code: ErrorCodes) -> None:
        """Say that streams above `last` will not be looked at; for h2 that would be the end of those below as well."""
        self._write(frames.goaway(last, code))

    def _write(self, octets: bytes) -> None:
        """Put a frame of ours behind those that h2 has written so far."""
        self._written += self._h2.data_to_send() + octets

    def collapse(self, broken: Broken) -> None:
        """End the connection for what the peer did; the parting words stay in the outbox."""
        if not broken.announced:
            self.goaway(0 if self._client else self.newest, broken.code)
        self.abort()

    def abort(self) -> list[tuple[int, Stream]]:
        """End every stream, and say which ones that were."""
        lost = list(self.streams.items())
        self.streams.clear()
        # h2 refers to itself in a circle: until that is collected, so would stay what it has buffered.
        self._h2.incoming_buffer = FrameBuffer(server=False)
        self.over = True
        return lost

    def outbox(self) -> bytes:
        """Take what is to be written."""
        self._controls = 0
        written, self._written = self._written, b""
        return written + self._h2.data_to_send()

    # What the peer allows

    @property
    def takes_upgrades(self) -> bool:
        """Whether the peer understands extended CONNECT."""
        return bool(self._h2.remote_settings.enable_connect_protocol)

    @property
    def worn(self) -> bool:
        """Whether we have reset so many streams, less those completed, that the peer may soon call it a flood."""
        return self._abandoned >= self._limits.resets

    def takes(self, block: Sequence[Field]) -> bool:
        """Whether the peer has not said that `block` is too large: it may end the connection, which others share."""
        return self._most is None or list_size(block) <= self._most

    @property
    def concurrency(self) -> int:
        """How many streams the peer lets us have open."""
        return self._h2.remote_settings.max_concurrent_streams


def room_told(signal: Signal | Body) -> list[Event]:
    """Say which streams may send more after a signal about windows."""
    match signal:
        case WindowUpdated():
            return [Room(signal.stream_id)]
        case RemoteSettingsChanged() if SettingCodes.INITIAL_WINDOW_SIZE in signal.changed_settings:
            return [Room(0)]
        case _:
            return []


def _is_informational(block: list[Field]) -> bool:
    return bool(block) and block[0][0] == b":status" and block[0][1].startswith(b"1")


def _headers(block: Block, shown: bytes) -> bytes:
    """Write what h2 is to see of a field block."""
    flags = frames.END_HEADERS | (frames.END_STREAM if block.ended else 0)
    return frames.write(frames.HEADERS, flags, block.stream_id, shown)


def code_name(code: ErrorCodes | int) -> str:
    """Name an error code for the log, whether or not it is a registered one."""
    return code.name if isinstance(code, ErrorCodes) else hex(code)


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
        client=client, initial_values=_settings(limits, client=client)
    )
    connection.initiate_connection()
    if not client:
        connection.receive_data(frames.PREFACE)  # the real one is read by FrameReader
    # h2 would end the connection over one stream too many; refusing that stream is left to us.
    connection.local_settings.pop(SettingCodes.MAX_CONCURRENT_STREAMS, None)
    connection.max_inbound_frame_size = connection.local_settings.max_frame_size
    if (more := _connection_window(limits, client=client) - DEFAULT_WINDOW) > 0:
        connection.increment_flow_control_window(more)
    return connection


def _connection_window(limits: Limits, *, client: bool) -> int:
    """Say how much all streams together may send us.

    An upstream's connection is shared by downstreams that know nothing of each other: one whose reader is slow must not
    take the others' share. What all of them together can hold is bounded by what their windows open with and may grow.
    """
    shared = limits.streams * limits.stream_window if client else limits.connection_window
    return min(max(DEFAULT_WINDOW, shared), LARGEST_WINDOW)


def _opening_window(limits: Limits, *, client: bool) -> int:
    """Say how much a stream may send us to begin with."""
    return min(limits.stream_window, OPENING_WINDOW) if client else limits.stream_window


def _settings(limits: Limits, *, client: bool) -> dict[SettingCodes, int]:
    common = {
        SettingCodes.INITIAL_WINDOW_SIZE: _opening_window(limits, client=client),
        SettingCodes.MAX_FRAME_SIZE: max(MIN_FRAME_BYTES, limits.part_bytes),
        SettingCodes.MAX_HEADER_LIST_SIZE: limits.head_bytes,
    }
    if client:
        return common | {SettingCodes.ENABLE_PUSH: 0}
    return common | {
        SettingCodes.MAX_CONCURRENT_STREAMS: limits.streams,
        SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
    }
