"""HTTP/2 towards whoever dialled us: requests come in, responses go out."""

from typing import assert_never

from h2.errors import ErrorCodes

from tproxy.codec import h2_fields as fields
from tproxy.codec.events import Event, Failed, Leaving, Refused, RequestStarted, Room
from tproxy.codec.h2_engine import Answered, Engine, Kind, Reset, Section, Signal, Widened
from tproxy.codec.h2_frames import LAST_STREAM, Body, Broken, GoAway
from tproxy.codec.h2_link import Link, code_name
from tproxy.codec.h2_own import OwnEngine
from tproxy.model.http import Headers, RequestHead, ResponseHead
from tproxy.model.limits import Limits
from tproxy.model.outcome import DownstreamError, ResponseFlag, downstream_gone, head_timeout

FAREWELL = b"farewell"
"""The PING after the first GOAWAY: once it is answered, the peer has read that, and opens nothing more."""


class Http2Server:
    """A `Codec`. What changes: the link's state, and how far we have taken our leave.

    Leaving takes two GOAWAYs (RFC 9113, 6.8): the first refuses nothing, since requests may be on their way; the
    second names the last one that we took.
    """

    multiplexed = True

    def __init__(self, limits: Limits, engine: type[Engine] = OwnEngine) -> None:
        self._limits = limits
        self._link = Link(limits, engine, client=False)
        self._leaving = False
        self._left = False

    @property
    def reusable(self) -> bool:
        return not (self._leaving or self._link.over)

    @property
    def finished(self) -> bool:
        return self._link.over or (self._left and not self._link.streams)

    @property
    def reading_head(self) -> bool:
        return not self._link.over and self._link.reading_head

    def receive(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        if not data:
            return [Failed(number, downstream_gone()) for number, _ in self._link.abort()]
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
            case Reset():
                self._reset(signal, events)
            case Answered(payload):
                self._answered(payload)
            case GoAway():
                events.append(Leaving())
                self.farewell()
            case _:
                assert_never(signal)

    def _message(self, signal: Section | Body, events: list[Event]) -> None:
        number = signal.stream_id
        try:
            if isinstance(signal, Body):
                self._link.content(signal, events)
            elif signal.kind is Kind.REQUEST:
                self._request(signal, events)
            else:
                self._link.trailers(signal, events)
        except fields.Malformed as malformed:
            error = _protocol_error(malformed.details)
            told = Failed if number in self._link.streams else Refused
            events.append(told(number, error))
            self._give_up(number, malformed.code)

    def _request(self, section: Section, events: list[Event]) -> None:
        number, ended = section.stream_id, section.ended
        if self._left or len(self._link.streams) >= self._limits.streams:
            if not self._left:
                events.append(Refused(number, _too_many_streams()))
            self._give_up(number, ErrorCodes.REFUSED_STREAM)
            return
        head = self._link.fields(section).read(fields.request_head)
        owed = fields.content_length(head.headers)
        # What follows a CONNECT is the tunnel's, and no body that HTTP/1 would wait for.
        connecting = head.method == b"CONNECT"
        if owed and (ended or connecting):
            raise fields.Malformed(fields.MESSAGING_RULE)
        stream = self._link.open(number, head.method, upgrading=bool(head.upgrade))
        stream.receiving, stream.owed = not ended, None if connecting else owed
        events.append(RequestStarted(number, head, ended))

    def _reset(self, signal: Reset, events: list[Event]) -> None:
        stream = self._link.streams.pop(signal.stream_id)
        cause = code_name(signal.code)
        error = (
            DownstreamError(ResponseFlag.DOWNSTREAM_RESET, "downstream_remote_reset", cause=cause)
            if signal.remote
            else _protocol_error(fields.MESSAGING_RULE, cause)
        )
        events.append(Failed(signal.stream_id, error))
        if not (stream.begun and signal.remote):
            self._link.abandoned()

    def _give_up(self, number: int, code: ErrorCodes) -> None:
        self._link.reset(number, code)
        self._link.abandoned()

    def send_head(self, stream: int, head: RequestHead | ResponseHead, *, ended: bool) -> None:
        assert isinstance(head, ResponseHead), "a server answers"
        if not self._link.sends(stream):
            return
        state = self._link.streams[stream]
        status = 200 if state.upgrading and head.status == 101 else head.status
        if status >= 200:
            state.begun = True
            state.tunnel = state.method == b"CONNECT" and status < 300
        self._link.send_fields(stream, fields.response_fields(status, head.headers), ended=ended)

    def send_data(self, stream: int, data: bytes) -> None:
        self._link.send_data(stream, data)

    def send_end(self, stream: int, trailers: Headers) -> None:
        self._link.send_end(stream, fields.regular_fields(trailers))

    def send_reset(self, stream: int, *, refused: bool = False) -> None:
        if stream in self._link.streams:
            code = ErrorCodes.REFUSED_STREAM if refused else ErrorCodes.INTERNAL_ERROR
            self._link.reset(stream, code)

    def next_stream(self) -> int:
        raise AssertionError("a server opens no streams")

    def room(self, stream: int) -> int:
        return self._link.room(stream)

    def consumed(self, stream: int, credit: int) -> None:
        self._link.consumed(stream, credit)

    def farewell(self) -> None:
        if not self._leaving:
            self._leaving = True
            self._link.goaway(LAST_STREAM, ErrorCodes.NO_ERROR)
            self._link.ping(FAREWELL)

    def _answered(self, payload: bytes) -> None:
        if payload == FAREWELL and self._leaving:
            self._leave()

    def _leave(self) -> None:
        if not self._left:
            self._left = True
            self._link.goaway(self._link.newest, ErrorCodes.NO_ERROR)

    def expire(self) -> DownstreamError:
        error = head_timeout()
        self._link.collapse(Broken(ErrorCodes.NO_ERROR, error.details))
        return error

    def outbox(self) -> bytes:
        return self._link.outbox()


def _too_many_streams() -> DownstreamError:
    return DownstreamError(ResponseFlag.OVERFLOW, "http2.max_concurrent_streams")


def _protocol_error(details: str, cause: str = "") -> DownstreamError:
    return DownstreamError(ResponseFlag.DOWNSTREAM_PROTOCOL, details, cause=cause)
