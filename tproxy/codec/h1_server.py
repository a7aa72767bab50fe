"""HTTP/1 towards downstreams: requests are read, responses written.

A connection carries another request only when both messages of the exchange before it ended where their framing said
they would. In every other case it closes: what follows could be a body that passes for a request.
"""

from tproxy.codec.events import Data, Ended, Event, Failed, RequestStarted
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
from tproxy.codec.h1_head import CHUNKED, parse_request
from tproxy.codec.h1_line import HTTP10, HTTP11, read_request_line, render_status_line
from tproxy.codec.h1_parser import HeadParser, Malformed
from tproxy.codec.h1_phase import BODY, DONE, HEAD, TUNNEL
from tproxy.codec.headers import content_length
from tproxy.model.http import NO_HEADERS, Field, Headers, RequestHead, ResponseHead
from tproxy.model.limits import Limits
from tproxy.model.outcome import DownstreamError, ResponseFlag, downstream_gone, head_timeout


class Http1Server:
    """A downstream's connection. What changes: the exchange that is open, and how far its two messages are."""

    multiplexed = False

    _asked: RequestHead
    """The request that is open, or was last."""

    def __init__(self, limits: Limits, parser: HeadParser = H11) -> None:
        self._limits = limits
        self._parser = parser
        self._finder = BlockFinder(limits, read_request_line)
        self._unread = b""
        self._out: list[bytes] = []
        self._stream = 0
        self._request = HEAD
        self._response = HEAD
        self._reader: BodyReader = OpaqueReader()
        self._writer: BodyWriter = SilentWriter()
        self._persistent = True
        self._input_ended = False
        self._finished = False

    @property
    def reusable(self) -> bool:
        """Whether one more request may come."""
        return self._persistent and not self._input_ended and not self._finished

    @property
    def finished(self) -> bool:
        """Whether nothing is left but to write the outbox and close."""
        return self._finished

    @property
    def reading_head(self) -> bool:
        """Whether a request has begun whose head is not complete."""
        return self._request is HEAD and bool(self._unread) and not self._finished

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the downstream; a DownstreamError leaves the refusal in the outbox."""
        self._unread += data
        self._input_ended = not data
        return self._read()

    @property
    def owed(self) -> int:
        """Bytes that can be nothing but content of the request, whatever they are; 0 where only reading tells."""
        reader = self._reader
        if self._request is BODY and not self._unread and isinstance(reader, CountedReader):
            return reader.owed
        return 0

    def skip_received(self, size: int) -> Ended | None:
        """Count content, at most what is owed, that was passed on without being received here; tell of its end."""
        assert isinstance(self._reader, CountedReader), "some is owed"
        self._reader.skip(size)
        return self._end_request() if self._reader.ended else None

    def resume(self) -> list[Event]:
        """Tell what waited: a pipelined request, or what came early through a tunnel. Raises as `receive` does."""
        return self._read() if self._unread else []

    def send_head(self, stream: int, head: RequestHead | ResponseHead, *, ended: bool) -> None:
        """Answer, finally or, with 1xx, before that; 101 and CONNECT's 2xx open the tunnel."""
        assert isinstance(head, ResponseHead), "a server sends responses"
        if not self._is_open(stream):
            return
        assert self._response is HEAD, "a request is answered once"
        if self._opens_tunnel(head):
            self._open_tunnel(head)
        elif head.status < 200:
            self._inform(head)
            return
        else:
            self._answer(head, ended=ended)
        self._response = BODY
        if ended:
            self.send_end(stream, NO_HEADERS)

    def send_data(self, stream: int, data: bytes) -> None:
        """Send a part of the response's body."""
        if self._is_open(stream):
            self._out.append(self._writer.part(data))

    @property
    def owing(self) -> int:
        """Bytes of content that the response's head has promised, with nothing to be written before them."""
        writer = self._writer
        if self._response is BODY and not (self._out or self._finished):
            return writer.owing if isinstance(writer, CountedWriter) else 0
        return 0

    def skip_sent(self, size: int) -> None:
        """Count content, at most what is owing, that does not leave by the outbox."""
        assert isinstance(self._writer, CountedWriter), "some is owing"
        self._writer.skip(size)

    def send_end(self, stream: int, trailers: Headers) -> None:
        """Complete the response."""
        if self._is_open(stream):
            self._out.append(self._writer.end(trailers))
            self._response = DONE
            self._settle()

    def send_reset(self, stream: int, *, refused: bool = False) -> None:  # noqa: ARG002  (the interface's)
        """End the connection: HTTP/1 knows no other way to give a response up."""
        if self._is_open(stream):
            self._finished = True

    def next_stream(self) -> int:
        """Never: a server opens no streams."""
        raise AssertionError("downstreams open the streams")

    def room(self, stream: int) -> int:  # noqa: ARG002  (the interface's)
        """Let one outbox full of body be sent; a stream that is over drops it."""
        return self._limits.unsent_bytes

    def consumed(self, stream: int, credit: int) -> None:
        """Change nothing: whoever does not read holds an HTTP/1 peer back."""

    def farewell(self) -> None:
        """Have the next response say that the connection closes; its request may be on its way already."""
        self._persistent = False

    def expire(self) -> DownstreamError:
        """Refuse a request whose head does not come to its end."""
        error = head_timeout()
        self._say_refusal(error.status, error.details)
        return error

    def outbox(self) -> bytes:
        """Take what is to be written."""
        if not self._out:
            return b""
        written = b"".join(self._out)
        self._out.clear()
        return written

    def _is_open(self, stream: int) -> bool:
        """Whether `stream` still wants an answer; its sender may not know yet that it is over."""
        return stream == self._stream and self._request is not HEAD and not self._finished

    # Reading

    def _read(self) -> list[Event]:
        events: list[Event] = []
        try:
            self._advance(events)
        except Malformed as error:
            raise self._refuse(error) from error
        return events

    def _advance(self, events: list[Event]) -> None:
        if self._finished:
            self._unread = b""
            return
        if self._request is HEAD and self._unread:
            self._read_head(events)
        if self._request is BODY and self._unread:
            self._read_body(events)
        if self._input_ended:
            self._read_end(events)
        elif len(self._unread) > self._limits.stream_window:
            raise Malformed("http1.too_much_pipelined")

    def _read_head(self, events: list[Event]) -> None:
        block = self._finder.take(self._unread)
        if not block:
            return
        opening = parse_request(self._finder.line, block, self._parser)
        self._unread = self._unread[len(block) :]
        self._asked = opening.head
        self._stream += 1
        self._persistent = self._persistent and opening.persistent
        if opening.head.asks_tunnel:
            self._request = TUNNEL
        elif opening.length == 0:
            self._request = DONE
        else:
            self._request = BODY
            self._reader = (
                ChunkedReader(self._limits)
                if opening.length == CHUNKED
                else CountedReader(opening.length)
            )
        ended = self._request is DONE
        events.append(RequestStarted(self._stream, opening.head, ended))

    def _read_body(self, events: list[Event]) -> None:
        content, self._unread = self._reader.take(self._unread)
        if content:
            events.append(Data(self._stream, content, len(content)))
        if self._reader.ended:
            events.append(self._end_request())

    def _read_end(self, events: list[Event]) -> None:
        """Settle what the end of the downstream's stream means for what it was saying."""
        if self._request is HEAD:
            self._finished = True
        elif self._request is BODY and self._reader.ends_with_stream:
            events.append(self._end_request())
        elif self._request is DONE:
            self._persistent = self._persistent and bool(self._unread)
        else:
            self._finished = True
            events.append(Failed(self._stream, downstream_gone()))

    def _end_request(self) -> Ended:
        self._request = DONE
        self._settle()
        return Ended(self._stream, self._reader.trailers)

    def _refuse(self, error: Malformed) -> DownstreamError:
        self._say_refusal(error.status, error.details)
        return DownstreamError(ResponseFlag.DOWNSTREAM_PROTOCOL, error.details, status=error.status)

    def _say_refusal(self, status: int, details: str) -> None:
        """Leave the refusal in the outbox, unless it would stand in the middle of a response."""
        self._finished = True
        if self._response is HEAD:
            text = details.encode() + b"\n"
            fields = (
                (b"Content-Type", b"text/plain"),
                (b"Content-Length", b"%d" % len(text)),
                (b"Connection", b"close"),
            )
            self._out += [render(render_status_line(status), NO_HEADERS, fields), text]

    # Writing

    def _opens_tunnel(self, head: ResponseHead) -> bool:
        if self._request is not TUNNEL:
            return False
        return head.status == 101 if self._asked.upgrade else 200 <= head.status < 300

    def _open_tunnel(self, head: ResponseHead) -> None:
        """Stop being HTTP: what was received beyond the request is the first of the tunnel's bytes."""
        protocol = self._asked.upgrade
        switch = ((b"Connection", b"Upgrade"), (b"Upgrade", protocol)) if protocol else ()
        self._write_head(head, switch)
        self._reader, self._writer = OpaqueReader(), OpaqueWriter()
        self._request = BODY
        self._persistent = False

    def _inform(self, head: ResponseHead) -> None:
        """Pass a 1xx on, but never to an HTTP/1.0 peer, which would take it for the answer (RFC 9110, 15.2)."""
        assert head.status != 101, "nobody asked to switch protocols"
        if self._asked.version is HTTP11:
            self._write_head(head)

    def _answer(self, head: ResponseHead, *, ended: bool) -> None:
        if self._request is TUNNEL:
            self._request = DONE
        framing = self._frame(head, ended=ended)
        if ended and self._request is not DONE:
            self._persistent = False
        self._write_head(head, framing + self._options())

    def _frame(self, head: ResponseHead, *, ended: bool) -> tuple[Field, ...]:
        """Choose how the end of the body will be told, and return the field that says so (RFC 9112, 6.3)."""
        if self._asked.method == b"HEAD" or head.status in {204, 304}:
            self._writer = SilentWriter()
            return ()
        length = content_length(head.headers)
        if length is not None or ended:
            self._writer = CountedWriter(length or 0)
            return ((b"Content-Length", b"0"),) if length is None else ()
        if self._asked.version is HTTP11:
            self._writer = ChunkedWriter()
            return ((b"Transfer-Encoding", b"chunked"),)
        self._writer = OpaqueWriter()
        self._persistent = False
        return ()

    def _options(self) -> tuple[Field, ...]:
        if not self._persistent:
            return ((b"Connection", b"close"),)
        if self._asked.version is HTTP10:
            return ((b"Connection", b"keep-alive"),)
        return ()

    def _write_head(self, head: ResponseHead, added: tuple[Field, ...] = ()) -> None:
        self._out.append(render(render_status_line(head.status, head.reason), head.headers, added))

    def _settle(self) -> None:
        """Once the response is complete, await the next request or finish the connection."""
        if self._response is not DONE:
            return
        if self._request is BODY and self._reader.ends_with_stream:
            return
        if self._request is DONE and self._persistent and self._writer.whole:
            self._request = self._response = HEAD
        else:
            self._finished = True
