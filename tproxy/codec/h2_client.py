"""HTTP/2 towards whom we dialled: requests go out, responses come in."""

from typing import assert_never

from h2.errors import ErrorCodes
from msgspec.structs import replace

from tproxy.codec import h2_fields as fields
from tproxy.codec.events import Event, Failed, Informed, Leaving, ResponseStarted, Room
from tproxy.codec.h2_engine import Answered, Engine, Kind, Reset, Section, Signal, Widened
from tproxy.codec.h2_frames import LAST_STREAM, Body, Broken, GoAway
from tproxy.codec.h2_link import Link, Stream, code_name
from tproxy.codec.h2_own import OwnEngine
from tproxy.model.http import Headers, RequestHead, ResponseHead
from tproxy.model.limits import Limits
from tproxy.model.outcome import (
    DownstreamError,
    ResponseFlag,
    Unprocessed,
    UpstreamError,
    upstream_gone,
)

_WITHOUT_CONTENT = frozenset((204, 304))


class Http2Client:
    """A `Codec`. What changes: the link's state, and whether either side takes its leave."""

    multiplexed = True
    reading_head = False

    def __init__(self, limits: Limits, engine: type[Engine] = OwnEngine) -> None:
        self._limits = limits
        self._link = Link(limits, engine, client=True)
        self._leaving = False

    @property
    def reusable(self) -> bool:
        link = self._link
        return (
            link.settled  # until then, whatever is opened may be one too many, or an upgrade that is not known
            and not (self._leaving or link.over or link.worn)
            and len(link.streams) < min(link.concurrency, self._limits.streams)
            and link.newest < LAST_STREAM
        )

    @property
    def finished(self) -> bool:
        return self._link.over or (self._leaving and not self._link.streams)

    def receive(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        if not data:
            return [
                Failed(number, upstream_gone(response_begun=stream.begun))
                for number, stream in self._link.abort()
            ]
        try:
            for signal in self._link.receive(data):
                self._take(signal, events)
        except Broken as broken:
            self._link.collapse(broken)
            raise _protocol_error(broken.details, broken.cause) from broken
        return events

    def resume(self) -> list[Event]:
        return []

    def _take(self, signal: Signal, events: list[Event]) -> None:
        match signal:
            case Section() | Body():
                self._message(signal, events)
            case Widened(number):
                events.append(Room(number))
            case Reset(number):
                stream = self._link.streams.pop(number)
                events.append(Failed(number, _reset_error(stream, signal)))
            case GoAway(last):
                self._peer_leaves(last, events)
            case Answered():
                return  # to no question of ours
            case _:
                assert_never(signal)

    def _message(self, signal: Section | Body, events: list[Event]) -> None:
        number = signal.stream_id
        try:
            if isinstance(signal, Body):
                self._link.content(signal, events)
            elif signal.kind is Kind.RESPONSE:
                self._response(signal, events)
            elif signal.kind is Kind.INFORMATIONAL:
                self._inform(signal, events)
            else:
                self._link.trailers(signal, events)
        except fields.Malformed as malformed:
            self._link.reset(number, malformed.code)
            events.append(Failed(number, _protocol_error(malformed.details)))

    def _inform(self, section: Section, events: list[Event]) -> None:
        number = section.stream_id
        stream = self._link.streams[number]
        stream.informed += 1
        if stream.informed > self._limits.informational_heads:
            raise fields.Malformed(fields.MESSAGING_RULE, ErrorCodes.ENHANCE_YOUR_CALM)
        head = self._link.fields(section).read(fields.response_head)
        _refuse_content(head)
        events.append(Informed(number, head))

    def _response(self, section: Section, events: list[Event]) -> None:
        number, ended = section.stream_id, section.ended
        head = self._link.fields(section).read(fields.response_head)
        if head.status == 204:
            _refuse_content(head)
        stream = self._link.streams[number]
        stream.begun = True
        stream.tunnel = head.status < 300 and (stream.upgrading or stream.method == b"CONNECT")
        stream.owed = _owed(stream, head)
        if ended and stream.owed:
            raise fields.Malformed(fields.MESSAGING_RULE)
        if stream.upgrading and head.status < 300:
            head = replace(head, status=101)
        # Whoever asked may leave with the head of what has no content: it must not wait for an end in a frame of its own.
        stream.told = ended or _without_content(stream, head)
        events.append(ResponseStarted(number, head, ended=stream.told))
        if ended:
            self._link.received_all(number)

    def _peer_leaves(self, last: int, events: list[Event]) -> None:
        self._leaving = True
        events.append(Leaving())
        for number in [number for number in self._link.streams if number > last]:
            stream = self._link.streams[number]
            error = _reset(stream, ErrorCodes.REFUSED_STREAM)
            self._link.reset(number, ErrorCodes.CANCEL)
            events.append(Failed(number, error))

    def send_head(self, stream: int, head: RequestHead | ResponseHead, *, ended: bool) -> None:
        assert isinstance(head, RequestHead), "a client asks"
        if head.upgrade and not self._link.takes_upgrades:
            raise UpstreamError(ResponseFlag.UPSTREAM_PROTOCOL, "upgrade_failed")
        block = fields.request_fields(head)
        if not self._link.takes(block):
            raise UpstreamError(ResponseFlag.UPSTREAM_PROTOCOL, fields.TOO_LARGE, status=431)
        upgrading = bool(head.upgrade) and head.method != b"CONNECT"
        self._link.open(stream, head.method, upgrading=upgrading)
        self._link.send_fields(stream, block, ended=ended)

    def send_data(self, stream: int, data: bytes) -> None:
        self._link.send_data(stream, data)

    def send_end(self, stream: int, trailers: Headers) -> None:
        block = fields.regular_fields(trailers)
        # Trailers may be discarded (RFC 9110, 6.5.1).
        self._link.send_end(stream, block if self._link.takes(block) else [])

    def send_reset(self, stream: int, *, refused: bool = False) -> None:
        if stream in self._link.streams:
            code = ErrorCodes.REFUSED_STREAM if refused else ErrorCodes.CANCEL
            self._link.reset(stream, code)

    def next_stream(self) -> int:
        return self._link.newest + 2 if self._link.newest else 1

    def room(self, stream: int) -> int:
        return self._link.room(stream)

    def consumed(self, stream: int, credit: int) -> None:
        self._link.consumed(stream, credit)

    def farewell(self) -> None:
        if not self._leaving:
            self._leaving = True
            self._link.goaway(0, ErrorCodes.NO_ERROR)

    def expire(self) -> DownstreamError:
        raise AssertionError("a client waits for no request")

    def outbox(self) -> bytes:
        return self._link.outbox()


def _refuse_content(head: ResponseHead) -> None:
    """Refuse content where there can be none: HTTP/1 would read what follows as the next message (RFC 9110, 8.6)."""
    if fields.content_length(head.headers):
        raise fields.Malformed(fields.MESSAGING_RULE)


def _without_content(stream: Stream, head: ResponseHead) -> bool:
    return stream.method == b"HEAD" or head.status in _WITHOUT_CONTENT


def _owed(stream: Stream, head: ResponseHead) -> int | None:
    if _without_content(stream, head):
        return 0
    if stream.tunnel:
        return None
    return fields.content_length(head.headers)


def _reset_error(stream: Stream, signal: Reset) -> UpstreamError:
    if signal.remote:
        return _reset(stream, signal.code)
    return _protocol_error(fields.MESSAGING_RULE, code_name(signal.code))


def _reset(stream: Stream, code: ErrorCodes | int) -> UpstreamError:
    when = "after" if stream.begun else "before"
    details = f"upstream_reset_{when}_response_started{{remote_reset}}"
    # RFC 9113, 8.7: such a stream was not processed; a GOAWAY says it for all streams above its last.
    refused = code == ErrorCodes.REFUSED_STREAM and not stream.begun
    kind = Unprocessed if refused else UpstreamError
    return kind(ResponseFlag.UPSTREAM_RESET, details, cause=code_name(code))


def _protocol_error(details: str, cause: str = "") -> UpstreamError:
    return UpstreamError(ResponseFlag.UPSTREAM_PROTOCOL, details, cause=cause)
