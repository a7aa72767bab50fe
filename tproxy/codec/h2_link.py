"""One HTTP/2 connection whichever side it is: what `Http2Server` and `Http2Client` have in common.

The rule that must not be broken: the engine and `streams` agree on which streams are open, and no stream's fault
reaches the engine. It is told only of what a stream is ready for; the fields, the length of body that they promise
and the windows of what we receive are kept here.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from h2.errors import ErrorCodes

from tproxy.codec import h2_fields as fields
from tproxy.codec import h2_frames as frames
from tproxy.codec.events import Data, Ended, Event
from tproxy.codec.h2_blocks import Block, BlockReader, priority_fault
from tproxy.codec.h2_compression import FieldDecoder, FieldList, list_size
from tproxy.codec.h2_engine import ClosedStreams, Engine, Kind, Reset, Section, Signal, idle
from tproxy.codec.h2_frames import Body, Broken, Frame, FrameReader
from tproxy.codec.h2_opening import connection_window, frame_bytes, opening_window
from tproxy.codec.h2_window import Allowance, Window
from tproxy.model.http import NO_HEADERS, Field, Headers
from tproxy.model.limits import Limits

DECODING_MARGIN = 2
"""A block this many times over `head_bytes` is not even decoded, which ends the connection; below, its stream only."""

UPDATES_PER_DATA = 10
"""WINDOW_UPDATE frames that a part of a body which we send may cause, and that are no flood: Envoy's default."""

UPDATES_DUE = 4096
"""What they may add up to: a peer may have as much of what we sent to grant again as the kernel holds."""

_OF_BLOCKS = frozenset((frames.HEADERS, frames.CONTINUATION))


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


class Link:
    """What changes: the engine's state, the open streams, and what is to be written."""

    def __init__(self, limits: Limits, engine: type[Engine], *, client: bool) -> None:
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
        self._window = Window(connection_window(limits, client=client))
        self._opening_window = opening_window(limits, client=client)
        self._allowance = Allowance(limits.connection_window)
        self._decoder = FieldDecoder(limits.head_bytes * DECODING_MARGIN)
        self._given_up = ClosedStreams()
        """Streams that we have reset."""
        self._engine = engine(limits, client=client)
        self._blocks = BlockReader()
        self._frames = FrameReader(
            preface=b"" if client else frames.PREFACE,
            frame_bytes=frame_bytes(limits),
            block_bytes=limits.head_bytes * DECODING_MARGIN,
        )

    # What the peer says

    def receive(self, data: bytes) -> Iterator[Signal]:
        """Give what each frame means, before the next one is looked at; raise `Broken` for the whole connection."""
        blocks = self._blocks
        for frame in self._frames.feed(data):
            kind = frame.kind
            if kind in _OF_BLOCKS or blocks.begun:
                if (block := blocks.take(frame)) is not None:
                    yield from self._block(block)
                continue
            self._police(frame)
            if kind == frames.DATA:
                yield from self._content(frames.read_data(frame))
            else:
                yield from self._control(frame)

    def _control(self, frame: Frame) -> list[Signal]:
        """Take a frame that is no part of a message."""
        match frame.kind:
            case frames.WINDOW_UPDATE if frames.grants_nothing(frame):
                return self._fault(frame.stream, ErrorCodes.PROTOCOL_ERROR)
            case frames.WINDOW_UPDATE | frames.PING | frames.RST_STREAM:
                return self._engine.control(frame)
            case frames.SETTINGS:
                signals = self._engine.control(frame)
                self.settled = True
                return signals
            case frames.GOAWAY:
                return [frames.read_goaway(frame)]
            case frames.PRIORITY:
                fault = priority_fault(frame)
                return [] if fault is None else self._fault(frame.stream, fault)
            case frames.PUSH_PROMISE:
                raise Broken(ErrorCodes.PROTOCOL_ERROR, cause="a push")
            case _:
                return []

    def _block(self, block: Block) -> Sequence[Signal]:
        """Take a field block where it is due; it is decoded wherever it is, or later ones could not be."""
        number, data, ended, self_dependent = block
        received = self._decoder.decode(data)
        stream = self.streams.get(number)
        if stream is None:
            if not self._opens(block):
                return ()
            return (Section(number, Kind.REQUEST, received, ended, self_dependent),)
        if not stream.receiving:
            return self._fail(number, ErrorCodes.STREAM_CLOSED)
        kind = self._kind(stream, received)
        if ended if kind is Kind.INFORMATIONAL else kind is Kind.TRAILERS and not ended:
            return self._fail(number, ErrorCodes.PROTOCOL_ERROR)
        informational = kind is Kind.INFORMATIONAL
        self._engine.continues(number, ended=ended, informational=informational)
        return (Section(number, kind, received, ended, self_dependent),)

    def _kind(self, stream: Stream, received: FieldList) -> Kind:
        if stream.begun or not self._client:
            return Kind.TRAILERS
        return Kind.INFORMATIONAL if _is_informational(received.fields) else Kind.RESPONSE

    def _opens(self, block: Block) -> bool:
        """Take a field block on no open stream: it opens one, or the engine knows how wrong it is."""
        if block.stream_id in self._given_up:
            self._count_control()
            return False
        return self._engine.opens(block.stream_id, ended=block.ended)

    def _content(self, body: Body) -> Sequence[Signal]:
        """Count content against the windows; the engine hears of it when it ends a stream, or should not be there."""
        number, _, credit, ended = body
        if not self._window.take(credit):
            raise Broken(ErrorCodes.FLOW_CONTROL_ERROR)
        stream = self.streams.get(number)
        if stream is None:
            self.consumed(0, credit)
            if number not in self._given_up:
                self._engine.strays(number)
            return ()
        if (fault := self._content_fault(stream, credit)) is not None:
            self.consumed(0, credit)
            return self._fail(number, fault)
        if ended:
            self._engine.ends(number)
        return (body,)

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
        if idle(number, self.newest):
            raise Broken(code)
        return []

    def _fail(self, number: int, code: ErrorCodes) -> list[Signal]:
        """Break a stream, and say so."""
        self._give_up(number, code)
        return [Reset(number, code, remote=False)]

    def _police(self, frame: Frame) -> None:
        if frame.kind == frames.DATA and frame.stream in self.streams:
            return
        if frame.kind == frames.DATA and frame.payload and frame.stream in self._given_up:
            return  # on its way when we reset the stream, and not answered
        if frame.kind == frames.WINDOW_UPDATE and self._updates_due:
            self._updates_due -= 1
            return
        if frame.kind == frames.RST_STREAM and idle(frame.stream, self.newest):
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
        return self._engine.newest

    def fields(self, section: Section) -> FieldList:
        """Return the fields of a head or trailers that are in bounds."""
        if section.self_dependent:
            raise fields.Malformed(fields.MESSAGING_RULE)
        fields.check_size(section.fields, self._limits)
        return section.fields

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

    def trailers(self, section: Section, events: list[Event]) -> None:
        """Tell the trailers, and with them the end."""
        number = section.stream_id
        stream = self.streams[number]
        if stream.owed or stream.tunnel:  # a tunnel carries DATA only (RFC 9113, 8.5)
            raise fields.Malformed(fields.MESSAGING_RULE)
        self._end(number, self.fields(section).read(fields.trailers), events)

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
        self._engine.send_fields(number, block, ended=ended)
        if ended:
            self._sent_all(number)

    def send_data(self, number: int, data: bytes) -> None:
        """Send a part of a body; nothing once the stream is over."""
        if self.sends(number):
            self._updates_due = min(self._updates_due + UPDATES_PER_DATA, UPDATES_DUE)
            self._engine.send_data(number, data)

    def send_end(self, number: int, trailers: Sequence[Field]) -> None:
        """Complete our message; nothing once the stream is over."""
        if not self.sends(number):
            return
        if trailers:
            self.send_fields(number, trailers, ended=True)
            return
        self._engine.send_end(number)
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
        self._given_up.add(number)
        self._engine.reset(number, code)

    def room(self, number: int) -> int:
        """Bytes that may be sent now."""
        if not self.sends(number):
            return 0
        return max(0, self._engine.room(number))

    def consumed(self, number: int, credit: int) -> None:
        """Return window for what was received, whether or not its stream is still open."""
        if increment := self._window.give(credit):
            self._engine.write(frames.window_update(0, increment))
        stream = self.streams.get(number)
        if stream is None or not stream.receiving:
            self._allowance.consumed(number, credit)
        elif increment := stream.window.give(credit):
            most = self._limits.stream_window
            increment += self._allowance.grow(number, stream.window, most, self.streams)
            self._engine.write(frames.window_update(number, increment))

    def ping(self, payload: bytes) -> None:
        """Ask for an answer that shows what the peer has read by then."""
        self._engine.write(frames.write(frames.PING, 0, 0, payload))

    def goaway(self, last: int, code: ErrorCodes) -> None:
        """Say that streams above `last` will not be looked at; for h2 that would be the end of those below as well."""
        self._engine.write(frames.goaway(last, code))

    def collapse(self, broken: Broken) -> None:
        """End the connection for what the peer did; the parting words stay in the outbox."""
        if not broken.announced:
            self.goaway(0 if self._client else self.newest, broken.code)
        self.abort()

    def abort(self) -> list[tuple[int, Stream]]:
        """End every stream, and say which ones that were."""
        lost = list(self.streams.items())
        self.streams.clear()
        self._engine.release()
        self.over = True
        return lost

    def outbox(self) -> bytes:
        """Take what is to be written."""
        self._controls = 0
        return self._engine.outbox()

    # What the peer allows

    @property
    def takes_upgrades(self) -> bool:
        """Whether the peer understands extended CONNECT."""
        return self._engine.takes_upgrades

    @property
    def worn(self) -> bool:
        """Whether we have reset so many streams, less those completed, that the peer may soon call it a flood."""
        return self._abandoned >= self._limits.resets

    def takes(self, block: Sequence[Field]) -> bool:
        """Whether the peer has not said that `block` is too large: it may end the connection, which others share."""
        most = self._engine.list_bytes
        return most is None or list_size(block) <= most

    @property
    def concurrency(self) -> int:
        """How many streams the peer lets us have open."""
        return self._engine.concurrency


def _is_informational(block: list[Field]) -> bool:
    return bool(block) and block[0][0] == b":status" and block[0][1].startswith(b"1")


def code_name(code: ErrorCodes | int) -> str:
    """Name an error code for the log, whether or not it is a registered one."""
    return code.name if isinstance(code, ErrorCodes) else hex(code)
