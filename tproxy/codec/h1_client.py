"""HTTP/1 towards upstreams: requests are written, responses read.

A connection is used again only when both messages of the exchange before it were whole and nothing came after them:
a byte too many could be the answer to a question that nobody asked yet.
"""

from tproxy.codec.events import Data, Ended, Event, Failed, Informed, ResponseStarted, Room
from tproxy.codec.h1_block import BlockFinder, render
from tproxy.codec.h1_body import (
    BodyReader,
    BodyWriter,
    ChunkedReader,
    ChunkedWriter,
    CountedReader,
    CountedWriter,
    OpaqueReader,
    OpaqueWriter,
    SilentWriter,
)
from tproxy.codec.h1_h11 import H11
from tproxy.codec.h1_head import CHUNKED, ResponseOpening, parse_response
from tproxy.codec.h1_line import read_status_line
from tproxy.codec.h1_parser import HeadParser, Malformed
from tproxy.codec.h1_phase import BODY, DONE, HEAD, TUNNEL
from tproxy.codec.headers import content_length
from tproxy.model.http import NO_HEADERS, Field, Headers, RequestHead, ResponseHead
from tproxy.model.limits import Limits
from tproxy.model.outcome import DownstreamError, ResponseFlag, UpstreamError, upstream_gone

_EXPECT_CONTENT = frozenset({b"PATCH", b"POST", b"PUT"})
"""Methods whose empty body is told (RFC 9110, 8.6): some servers answer 411 otherwise."""


class Http1Client:
    """A connection to an upstream. What changes: the exchange that is open, and how far its two messages are."""

    multiplexed = False
    reading_head = False

    _asked: RequestHead
    """The request that is open, or was last."""

    def __init__(self, limits: Limits, parser: HeadParser = H11) -> None:
        self._limits = limits
        self._parser = parser
        self._finder = BlockFinder(limits, read_status_line)
        self._unread = b""
        self._out: list[bytes] = []
        self._stream = 0
        self._request = HEAD
        self._response = HEAD
        self._informed = 0
        self._reader: BodyReader = OpaqueReader()
        self._writer: BodyWriter = SilentWriter()
        self._tunnel = False
        self._persistent = True
        self._finished = False

    @property
    def reusable(self) -> bool:
        """Whether a request may be sent now."""
        return self._request is HEAD and self._persistent and not self._finished

    @property
    def finished(self) -> bool:
        """Whether nothing is left but to close."""
        return self._finished

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the upstream; an UpstreamError ends the connection."""
        events: list[Event] = []
        self._unread += data
        try:
            self._advance(events)
        except Malformed as error:
            self._finished = True
            raise UpstreamError(
                ResponseFlag.UPSTREAM_PROTOCOL, error.details, status=502
            ) from error
        if not data:
            self._read_end(events)
        return events

    @property
    def owed(self) -> int:
        """Bytes that can be nothing but content of the response, whatever they are; 0 where only reading tells."""
        reader = self._reader
        if self._response is BODY and not self._unread and isinstance(reader, CountedReader):
            return reader.owed
        return 0

    def skip_received(self, size: int) -> Ended | None:
        """Count content, at most what is owed, that was passed on without being received here; tell of its end."""
        assert isinstance(self._reader, CountedReader), "some is owed"
        self._reader.skip(size)
        if not self._reader.ended:
            return None
        self._end_response()
        return Ended(self._stream, NO_HEADERS)

    def resume(self) -> list[Event]:
        """Tell nothing: an upstream is never ahead of us."""
        return []

    def next_stream(self) -> int:
        """Number the next request."""
        return self._stream + 1

    def send_head(self, stream: int, head: RequestHead | ResponseHead, *, ended: bool) -> None:
        """Send a request; one that asks for a tunnel has no room for a body before the answer."""
        assert isinstance(head, RequestHead), "a client sends requests"
        assert self.reusable, "one request at a time"
        self._stream = stream
        self._asked = head
        self._informed = 0
        added = self._frame(head, ended=ended) + _options(head)
        self._out.append(render(_request_line(head), _with_host(head), added))
        if ended:
            self.send_end(stream, NO_HEADERS)

    def send_data(self, stream: int, data: bytes) -> None:
        """Send a part of the request's body."""
        if self._is_open(stream):
            self._out.append(self._writer.part(data))

    def send_end(self, stream: int, trailers: Headers) -> None:
        """Complete the request."""
        if self._is_open(stream):
            self._out.append(self._writer.end(trailers))
            self._request = DONE
            self._settle()

    @property
    def owing(self) -> int:
        """Bytes of content that the request's head has promised, with nothing to be written before them."""
        writer = self._writer
        if self._request is BODY and not (self._out or self._finished):
            return writer.owing if isinstance(writer, CountedWriter) else 0
        return 0

    def skip_sent(self, size: int) -> None:
        """Count content, at most what is owing, that does not leave by the outbox."""
        assert isinstance(self._writer, CountedWriter), "some is owing"
        self._writer.skip(size)

    def send_reset(self, stream: int, *, refused: bool = False) -> None:  # noqa: ARG002  (the interface's)
        """End the connection: HTTP/1 knows no other way to give a request up."""
        if self._is_open(stream):
            self._finished = True

    def room(self, stream: int) -> int:
        """Let one outbox full of body be sent, but nothing before a tunnel is open; a stream that is over drops it."""
        waits = self._request is TUNNEL and self._is_open(stream)
        return 0 if waits else self._limits.unsent_bytes

    def consumed(self, stream: int, credit: int) -> None:
        """Change nothing: whoever does not read holds an HTTP/1 peer back."""

    def farewell(self) -> None:
        """Send no request after the one that is open."""
        self._persistent = False
        if self._request is HEAD:
            self._finished = True

    def expire(self) -> DownstreamError:
        """Never: nobody sends requests here."""
        raise AssertionError("a client waits for no request")

    def outbox(self) -> bytes:
        """Take what is to be written."""
        if not self._out:
            return b""
        written = b"".join(self._out)
        self._out.clear()
        return written

    def _is_open(self, stream: int) -> bool:
        """Whether `stream` goes on; its sender may not know yet that it is over."""
        return stream == self._stream and self._request is not HEAD and not self._finished

    # Writing

    def _frame(self, head: RequestHead, *, ended: bool) -> tuple[Field, ...]:
        """Choose how the end of the body will be told, and return the field that says so (RFC 9112, 6.3)."""
        if head.asks_tunnel:
            self._request = TUNNEL
            self._writer = SilentWriter()
            return ()
        self._request = BODY
        length = content_length(head.headers)
        if length is not None or ended:
            self._writer = CountedWriter(length or 0)
            told = length is not None or head.method not in _EXPECT_CONTENT
            return () if told else ((b"Content-Length", b"0"),)
        self._writer = ChunkedWriter()
        return ((b"Transfer-Encoding", b"chunked"),)

    # Reading

    def _advance(self, events: list[Event]) -> None:
        if self._finished or self._request is HEAD:
            self._finished = self._finished or bool(self._unread)
            self._unread = b""
            return
        while self._response is HEAD and self._unread:
            if not self._read_head(events):
                return
        if self._response is BODY and self._unread:
            self._read_body(events)

    def _read_head(self, events: list[Event]) -> bool:
        """Read one head, final or informational; False while it is incomplete."""
        block = self._finder.take(self._unread)
        if not block:
            return False
        opening = parse_response(self._finder.line, block, self._parser)
        self._unread = self._unread[len(block) :]
        if self._opens_tunnel(opening):
            self._open_tunnel(opening, events)
        elif opening.head.status < 200:
            self._inform(opening, events)
        else:
            self._begin(opening, events)
        return True

    def _opens_tunnel(self, opening: ResponseOpening) -> bool:
        """Whether the answer is the one that was hoped for; a 101 must name the protocol that was asked for."""
        status, asked = opening.head.status, self._asked
        if status == 101:
            upgrade = asked.upgrade.lower()
            if not (upgrade and opening.upgrade.lower() in {b"", upgrade}):
                raise Malformed
            return True
        return asked.method == b"CONNECT" and not asked.upgrade and 200 <= status < 300

    def _open_tunnel(self, opening: ResponseOpening, events: list[Event]) -> None:
        _refuse_framing(opening)
        self._reader, self._writer = OpaqueReader(), OpaqueWriter()
        self._tunnel = True
        self._persistent = False
        if self._request is TUNNEL:
            self._request = BODY
        self._response = BODY
        events += [
            ResponseStarted(self._stream, opening.head, ended=False),
            Room(self._stream),
        ]

    def _inform(self, opening: ResponseOpening, events: list[Event]) -> None:
        _refuse_framing(opening)
        self._informed += 1
        if self._informed > self._limits.informational_heads:
            raise Malformed
        events.append(Informed(self._stream, opening.head))

    def _begin(self, opening: ResponseOpening, events: list[Event]) -> None:
        if self._request is TUNNEL:
            self._request = DONE
        self._persistent = self._persistent and opening.persistent
        self._reader = reader = self._body(opening)
        self._response = BODY
        content = b""
        if type(reader) is CountedReader and reader.owed <= len(self._unread):
            content, self._unread = reader.take(self._unread)
        events.append(ResponseStarted(self._stream, opening.head, reader.ended, content))
        if reader.ended:
            self._end_response()

    def _body(self, opening: ResponseOpening) -> BodyReader:
        """Choose the reader for what follows the head (RFC 9112, 6.3)."""
        status = opening.head.status
        if status == 204:
            _refuse_framing(opening)
        if self._asked.method == b"HEAD" or status in {204, 304}:
            return CountedReader(0)
        if opening.length == CHUNKED:
            return ChunkedReader(self._limits)
        if opening.length is not None:
            return CountedReader(opening.length)
        self._persistent = False
        return OpaqueReader()

    def _read_body(self, events: list[Event]) -> None:
        content, self._unread = self._reader.take(self._unread)
        if content:
            events.append(Data(self._stream, content, len(content)))
        if self._reader.ended:
            events.append(Ended(self._stream, self._reader.trailers))
            self._end_response()

    def _read_end(self, events: list[Event]) -> None:
        """Settle what the end of the upstream's stream means for what it was saying."""
        self._persistent = False
        if self._request is HEAD or self._finished:
            self._finished = True
        elif self._response is BODY and self._reader.ends_with_stream:
            events.append(Ended(self._stream, NO_HEADERS))
            self._end_response()
        else:
            self._finished = True
            begun = self._response is BODY
            events.append(Failed(self._stream, upstream_gone(response_begun=begun)))

    def _end_response(self) -> None:
        self._response = DONE
        self._settle()

    def _settle(self) -> None:
        """Once the response is complete, be ready for the next request or finish the connection."""
        if self._response is not DONE:
            return
        if self._tunnel and self._request is BODY:
            return
        clean = self._request is DONE and self._writer.whole and not self._unread
        if clean and self._persistent:
            self._request = self._response = HEAD
        else:
            self._finished = True


def _request_line(head: RequestHead) -> bytes:
    """Write a request line; HTTP/2's extended CONNECT is HTTP/1's GET with an Upgrade (RFC 8441, 5)."""
    if head.method == b"CONNECT" and not head.upgrade:
        return b"CONNECT %b HTTP/1.1" % head.authority
    method = b"GET" if head.method == b"CONNECT" else head.method
    return b"%b %b HTTP/1.1" % (method, _target(head))


def _target(head: RequestHead) -> bytes:
    """Keep the form that was chosen: an origin takes either, a forward proxy only the absolute one (RFC 9112, 3.2)."""
    if not head.absolute:
        return head.path
    path = b"" if head.path == b"*" else head.path
    return b"http://%b%b" % (head.authority, path)


def _with_host(head: RequestHead) -> Headers:
    """Put a Host in front when there is none, as from HTTP/2; it may be empty but not absent (RFC 9112, 3.2)."""
    if b"host" in head.headers.index:
        return head.headers
    return Headers(((b"Host", head.authority), *head.headers))


def _options(head: RequestHead) -> tuple[Field, ...]:
    """Return the fields about this connection; TE must be named as one of them (RFC 9110, 10.1.4)."""
    te = b"te" in head.headers.index
    if not head.upgrade:
        return ((b"Connection", b"TE"),) if te else ()
    options = b"Upgrade, TE" if te else b"Upgrade"
    return ((b"Connection", options), (b"Upgrade", head.upgrade))


def _refuse_framing(opening: ResponseOpening) -> None:
    """Refuse a body where there can be none: what follows would be read as the next message (RFC 9110, 15.2, 15.3.5)."""
    if opening.length == CHUNKED:
        raise Malformed("http1.transfer_encoding_not_allowed")
    if opening.length:
        raise Malformed("http1.content_length_not_allowed")
