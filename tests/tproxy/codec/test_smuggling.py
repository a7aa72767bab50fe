"""No sequence of bytes makes proxy and origin disagree about where a message ends.

What one codec accepts, the other writes, as the data path would; four readers that share no code then find the
messages that the proxy found, or none. What is refused is refused with a status and leaves no whole message behind.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.engines import PARSERS
from fakes.h2_peer import H2Peer
from fakes.readers import (
    REQUEST_READERS,
    Read,
    h11_responses,
    llhttp_responses,
    python_responses,
    sloppy_responses,
)
from fakes.wire import joined
from tproxy.codec.events import (
    Data,
    Ended,
    Event,
    Failed,
    Informed,
    RequestStarted,
    ResponseStarted,
)
from tproxy.codec.h1 import Http1Client, Http1Server
from tproxy.codec.h1_h11 import H11
from tproxy.codec.h1_parser import HeadParser
from tproxy.codec.h2_server import Http2Server
from tproxy.model.http import NO_HEADERS, Field, HttpVersion, RequestHead, ResponseHead
from tproxy.model.limits import Limits
from tproxy.model.outcome import DownstreamError, ProxyError, UpstreamError

LIMITS = Limits(head_bytes=2048, header_fields=12, chunk_line_bytes=64, stream_window=8192)
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
FORBIDDEN = ResponseHead(403, NO_HEADERS, HttpVersion.HTTP11)
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
REGISTERED = frozenset(
    (b"CONNECT", b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PUT", b"TRACE")
)


class Origin:
    """One connection to an origin. What changes: what was written to it, and what the proxy takes that for."""

    def __init__(self, parser: HeadParser) -> None:
        self.codec = Http1Client(LIMITS, parser)
        self.wire = b""
        self.meant: list[Read] = []
        self.begun: Read | None = None
        self.methods: set[bytes] = set()
        self.last = False
        """Whether readers may wait for something else than HTTP behind what was written."""

    def take(self, event: Event) -> None:
        """Pass on what a downstream's codec told."""
        stream = self.codec.next_stream() - 1
        match event:
            case RequestStarted(head=head, ended=ended):
                self.codec.send_head(stream + 1, head, ended=ended)
                self.begun = meaning(head)
                self.methods.add(head.method)
                self.last = bool(head.upgrade) or head.method == b"CONNECT"
                if ended or self.last:
                    self._complete()
            case Data(data=data) if self.begun is not None:
                self.codec.send_data(stream, data)
                self.begun = Read(self.begun.start, self.begun.host, self.begun.body + data)
            case Ended(trailers=trailers):
                self.codec.send_end(stream, trailers)
                self._complete()
            case Failed():
                self.codec.send_reset(stream)
        self.wire += self.codec.outbox()

    def _complete(self) -> None:
        assert self.begun is not None
        self.meant.append(self.begun)
        self.begun = None
        self.wire += self.codec.outbox()
        self.codec.receive(NO_CONTENT)


def meaning(head: RequestHead) -> Read:
    """What an origin should read of `head`."""
    method = b"GET" if head.upgrade and head.method == b"CONNECT" else head.method
    target = head.path or head.authority
    if head.absolute:
        target = b"http://" + head.authority + (b"" if head.path == b"*" else head.path)
    return Read((method, target), head.authority, b"")


class Proxied:
    """One downstream's connection through the proxy. What changes: the origins' connections it leads to."""

    def __init__(self, parser: HeadParser) -> None:
        self.server = Http1Server(LIMITS, parser)
        self._parser = parser
        self.origins: list[Origin] = []
        self.error: ProxyError | None = None

    def run(self, wire: bytes, step: int) -> "Proxied":
        """Send `wire` in pieces, then nothing more; every request is answered as soon as it is whole."""
        try:
            for at in range(0, len(wire), step):
                self._tell(self.server.receive(wire[at : at + step]))
            self._tell(self.server.receive(b""))
        except DownstreamError as error:
            self.error = error
        return self

    def _tell(self, events: list[Event]) -> None:
        while events:
            for event in events:
                self._take(event)
            origin = self.origins[-1]
            if origin.begun is None:
                self.server.send_head(len(self.meant), FORBIDDEN, ended=True)
            events = self.server.resume()

    def _take(self, event: Event) -> None:
        if isinstance(event, RequestStarted) and not self._reusable:
            self.origins.append(Origin(self._parser))
        self.origins[-1].take(event)

    @property
    def _reusable(self) -> bool:
        return bool(self.origins) and self.origins[-1].codec.reusable and not self.origins[-1].last

    @property
    def meant(self) -> list[Read]:
        """All whole requests that the proxy found."""
        return [read for origin in self.origins for read in origin.meant]

    @property
    def targets(self) -> list[bytes]:
        """Where they went."""
        return [read.start[1] for read in self.meant if isinstance(read.start, tuple)]


def assert_all_read_alike(origin: Origin) -> None:
    """All readers find the messages that the proxy meant."""
    for name, reader in REQUEST_READERS.items():
        if name == "llhttp" and not origin.methods <= REGISTERED:
            continue
        assert reader(origin.wire) == origin.meant, f"{name} reads {origin.wire!r}"


def get(*lines: bytes, line: bytes = b"GET / HTTP/1.1", body: bytes = b"") -> bytes:
    """A request with these lines behind its Host."""
    return b"\r\n".join((line, b"Host: a", *lines, b"", b"")) + body


def post(*lines: bytes, body: bytes = b"") -> bytes:
    """A POST with these lines in its head."""
    return get(*lines, line=b"POST / HTTP/1.1", body=body)


CHUNKED = b"Transfer-Encoding: chunked"
EMPTY = b"0\r\n\r\n"

BOTH_FRAMINGS = {
    "CL.TE": post(b"Content-Length: 6", CHUNKED, body=EMPTY + b"G"),
    "TE.CL": post(CHUNKED, b"Content-Length: 3", body=b"8\r\nSMUGGLED\r\n0\r\n\r\n"),
    "CL.TE with a request": post(b"Content-Length: 40", CHUNKED, body=EMPTY + HIDDEN),
    "TE.CL with a request": post(
        b"Content-Length: 4", CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
    ),
    "CL.TE with length zero": post(b"Content-Length: 0", CHUNKED, body=EMPTY),
    "CL.TE in lower case": post(b"content-length: 5", b"transfer-encoding: chunked", body=EMPTY),
    "TE.CL twice": post(CHUNKED, b"Content-Length: 5", b"Content-Length: 5", body=EMPTY),
    "GET with both": get(b"Content-Length: 5", CHUNKED, body=EMPTY),
}
CODINGS = (
    *(
        b"Transfer-Encoding: " + value
        for value in (
            b"xchunked",
            b"chunkedx",
            b"chunked, identity",
            b"identity, chunked",
            b"identity",
            b"gzip",
            b"gzip, chunked",
            b"chunked, gzip",
            b"chunked, chunked",
            b"chunked,",
            b",chunked",
            b"chunked;q=1",
            b"chunked ;x",
            b'"chunked"',
            b"'chunked'",
            b"chun ked",
            b"chunk",
            b"cow",
            b"",
            b"\x0bchunked",
            b"chunked\x0b",
            b"\x0cchunked",
            b"chunked\x0c",
            b"\x00chunked",
            b"chunked\x00",
            b"\x85chunked",
            b"\xa0chunked",
            b"chunked\xa0",
            b"\xffchunked",
            b"\tchunked",
            b"chunked\t",
            b"chun\rked",
            b"chun\nked",
            b"chun\xe2\x84\xaaed",
        )
    ),
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding\t: chunked",
    b" Transfer-Encoding: chunked",
    b"\tTransfer-Encoding: chunked",
    b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding: \r\n\tchunked",
    b"Transfer-Encoding\r\n : chunked",
    b"X: y\rTransfer-Encoding: chunked",
    b"X: y\nTransfer-Encoding: chunked",
    b"X: y\x00\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding:chunked\n",
    b"Transfer-Encoding: chunked\r\r",
    b"Transfer-Encoding chunked",
    b"Transfer\x00-Encoding: chunked",
    b"Transfer-Encoding\x00: chunked",
    b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-encoding: identity",
    b"Transf\xc3\xa9r-Encoding: chunked",
)
LENGTHS = (
    *(
        b"Content-Length: " + value
        for value in (
            b"+5",
            b"-5",
            b"-0",
            b"0x5",
            b"0o5",
            b"5.0",
            b"5e0",
            b"5 5",
            b"5,6",
            b"5, 6",
            b"5,",
            b",5",
            b"5;",
            b'"5"',
            b"five",
            b"",
            b"5\x0b",
            b"\x0c5",
            b"5\x00",
            b"\x005",
            b"5_0",
            b"\xb2",
            b"\xd9\xa5",
            b"5 \x0b",
            b"9" * 19,
            b"18446744073709551621",
            b"5\r",
            b"5\n",
        )
    ),
    b"Content-Length : 5",
    b"Content-Length\t: 5",
    b" Content-Length: 5",
    b"Content-Length:\r\n 5",
    b"Content-Length: 5\r\n 0",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 0\r\nContent-Length: 5",
    b"content-length: 5\r\nCONTENT-LENGTH: 50",
    b"Content-Length: 5\r\nContent-Length:",
    b"X: y\rContent-Length: 5",
    b"X: y\nContent-Length: 5",
    b"Content-Length 5",
    b"Content-Length\x00: 5",
    b"Content-Length: 5\r\nContent-Length : 5",
)
CHUNKS = (
    b"5 \r\nhello\r\n",
    b" 5\r\nhello\r\n",
    b"\t5\r\nhello\r\n",
    b"+5\r\nhello\r\n",
    b"-5\r\nhello\r\n",
    b"0x5\r\nhello\r\n",
    b"5h\r\nhello\r\n",
    b"5_0\r\nhello\r\n",
    b"5;\r\nhello\r\n",
    b"5;a=\r\nhello\r\n",
    b"5; a\r\nhello\r\n",
    b"5 ;a\r\nhello\r\n",
    b'5;a="\r\nhello\r\n',
    b"5;a\nb\r\nhello\r\n",
    b"5;a\rb\r\nhello\r\n",
    b"5;a\x00\r\nhello\r\n",
    b"5,a\r\nhello\r\n",
    b'5;a="b\r\n"\r\nhello\r\n',
    b'5;a="\\\r\n"\r\nhello\r\n',
    b"5;" + b"a" * 100 + b"\r\nhello\r\n",
    b"5\nhello\r\n",
    b"5\rhello\r\n",
    b"5\n\rhello\r\n",
    b"5\r\r\nhello\r\n",
    b"5\r\nhello\n",
    b"5\r\nhello\r",
    b"5\r\nhello",
    b"5\r\nhelloXX",
    b"5\r\nhello!\r\n",
    b"4\r\nhello\r\n",
    b"\r\nhello\r\n",
    b";a\r\nhello\r\n",
    b"\r\n5\r\nhello\r\n",
    b"0" * 20 + b"5\r\nhello\r\n",
    b"10000000000000005\r\nhello\r\n",
    b"FFFFFFFFFFFFFFFF\r\nhello\r\n",
    b"g\r\nhello\r\n",
    b"5\x0b\r\nhello\r\n",
    b"\xb2\r\nhe\r\n",
    b"\xef\xbc\x95\r\nhello\r\n",
    b"0\n\n",
    b"0\r\n\n",
    b"0\n\r\n",
    b"0\r\n\r",
    b"00x\r\n\r\n",
    b"0\r\nX: y\n\r\n",
    b"0\r\nX: y\r\n\n",
    b"0\r\nX\r\n\r\n",
    b"0\r\nX : y\r\n\r\n",
    b"0\r\n X: y\r\n\r\n",
    b"0\r\nX: \x00\r\n\r\n",
    b"0\r\nX: y\r\n z\r\n\r\n",
    b"0\r\n: y\r\n\r\n",
    b"0\r\nX: y\rZ: y\r\n\r\n",
)
HEADS = {
    **{
        f"line {line!r}": get(line)
        for line in (
            b"X: y\n",
            b"X: y\r",
            b"X: y\rZ: z",
            b"X: y\nZ: z",
            b"X: \x00",
            b"X: \x0b",
            b"X: \x7f",
            b"X : y",
            b"X\x00: y",
            b"X",
            b": y",
            b" X: y",
            b"X: y\r\n z",
            b"X: y\r\n\tz",
            b"X\xff: y",
            b"(X): y",
            b"X\ty: z",
            b"X: y\r\r",
            b"Host : b",
            b"Host: b",
            b"host: a",
            b"X:y\n\nGET /hidden HTTP/1.1",
            b"X: y\r\n\nGET /hidden HTTP/1.1",
        )
    },
    **{
        f"request line {line!r}": get(line=line)
        for line in (
            b"GET /",
            b"GET / HTTP/0.9",
            b"GET / HTTP/1.2",
            b"GET / HTTP/2.0",
            b"GET / HTTP/1.1 ",
            b"GET  / HTTP/1.1",
            b"GET /  HTTP/1.1",
            b" GET / HTTP/1.1",
            b"GET\t/ HTTP/1.1",
            b"GET /\tHTTP/1.1",
            b"GET /a b HTTP/1.1",
            b"GET / http/1.1",
            b"GET / HTTP/1.1\r",
            b"GET / HTTP/1.10",
            b"GET / HTTP/01.1",
            b"GET / HTTP/1.1 HTTP/1.1",
            b"GET /\x00 HTTP/1.1",
            b"GET /\x0b HTTP/1.1",
            b"get / HTTP/1.1",
            b"G\x00ET / HTTP/1.1",
            b"GET /# HTTP/1.1",
            b"GET /\\x HTTP/1.1",
            b"GET x HTTP/1.1",
            b"GET * HTTP/1.1",
            b"GET /\xff HTTP/1.1",
            b"GET /\r\nX: y HTTP/1.1",
            b"\r\nGET / HTTP/1.1",
            b"\nGET / HTTP/1.1",
            b"PRI * HTTP/2.0",
            b"GET http://u@b/ HTTP/1.1",
            b"GET http:///x HTTP/1.1",
            b"GET https://b/ HTTP/1.1",
            b"GET http://2001:db8::2/ HTTP/1.1",
            b"CONNECT 2001:db8::2:80 HTTP/1.1",
            b"GET http://b\\c/ HTTP/1.1",
            b"CONNECT / HTTP/1.1",
        )
    },
    **{
        f"Host {host!r}": b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
        for host in (
            b"",
            b"a b",
            b"a,b",
            b"u@a",
            b"a/b",
            b"a#b",
            b"a?b",
            b"a:b",
            b"a:1:2",
            b"a\x00",
            b"a\r\n b",
            b"\xff",
            b"a\\b",
            b"[::1",
        )
    },
    "bare LFs": b"GET / HTTP/1.1\nHost: a\n\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "chunks in 1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "CONNECT with a body": b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 5\r\n\r\nhello",
}
REFUSED = [
    *(pytest.param(wire, id=name) for name, wire in (BOTH_FRAMINGS | HEADS).items()),
    *(pytest.param(post(coding, body=EMPTY), id=f"coding {coding!r}") for coding in CODINGS),
    *(pytest.param(post(length, body=b"hello"), id=f"length {length!r}") for length in LENGTHS),
    *(pytest.param(post(CHUNKED, body=chunk), id=f"chunk {chunk[:40]!r}") for chunk in CHUNKS),
]


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("wire", REFUSED)
@pytest.mark.parametrize("step", [1, 100_000], ids=["byte by byte", "whole"])
def test_what_two_readers_could_read_differently_reaches_no_origin(
    parser: HeadParser, wire: bytes, step: int
) -> None:
    proxied = Proxied(parser).run(wire + NEXT, step)
    assert proxied.error is not None
    assert proxied.error.status in {400, 414, 431, 501}
    assert proxied.server.outbox().startswith(b"HTTP/1.1 %d " % proxied.error.status)
    assert proxied.meant == []
    for origin in proxied.origins:
        assert_all_read_alike(origin)


ROOT, PLACE = b"/", b"/next"
FORWARDED = [
    pytest.param(
        b"GET / HTTP/1.1\r\nHost: 2001:db8::2:8081\r\n\r\n",
        [ROOT, PLACE],
        id="an address without its brackets",
    ),
    pytest.param(
        b"CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        [b"b:1", PLACE],
        id="CONNECT and an upgrade",
    ),
    pytest.param(get(b"Content-Length: 0"), [ROOT, PLACE], id="CL.0 without a body"),
    pytest.param(post(), [ROOT, PLACE], id="POST without a length"),
    pytest.param(get(b"Content-Length: 39", body=b"x" * 39), [ROOT, PLACE], id="GET with a body"),
    pytest.param(
        post(b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
        [ROOT, PLACE],
        id="a request as body",
    ),
    pytest.param(
        get(b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
        [ROOT, PLACE],
        id="a request as a GET's body",
    ),
    pytest.param(
        get(b"Content-Length: 5", line=b"HEAD / HTTP/1.1", body=b"hello"),
        [ROOT, PLACE],
        id="HEAD with a body",
    ),
    pytest.param(
        get(CHUNKED, line=b"DELETE / HTTP/1.1", body=EMPTY), [ROOT, PLACE], id="DELETE in chunks"
    ),
    pytest.param(
        post(b"Content-Length: 05", body=b"hello"),
        [ROOT, PLACE],
        id="a length with a zero in front",
    ),
    pytest.param(
        post(b"Content-Length:\t5\t", body=b"hello"), [ROOT, PLACE], id="a length between tabs"
    ),
    pytest.param(
        post(b"Content-Length: 5, 5", body=b"hello"), [ROOT, PLACE], id="one length said twice"
    ),
    pytest.param(
        post(b"Content-Length: 5", b"content-length: 5", body=b"hello"),
        [ROOT, PLACE],
        id="one length in two fields",
    ),
    pytest.param(
        post(b"Content-Length: 05", b"Content-Length: 05", body=b"hello"),
        [ROOT, PLACE],
        id="a zero in front, twice",
    ),
    pytest.param(
        post(CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
        [ROOT, PLACE],
        id="a request as chunk",
    ),
    pytest.param(
        post(CHUNKED, body=b"005;a\r\nhello\r\n000\r\n\r\n"),
        [ROOT, PLACE],
        id="zeros in front of sizes",
    ),
    pytest.param(
        post(CHUNKED, body=b"5;a=b\r\nhello\r\n0;b\r\n\r\n"),
        [ROOT, PLACE],
        id="chunk extensions",
    ),
    pytest.param(
        post(CHUNKED, body=b"0\r\nContent-Length: 40\r\nTransfer-Encoding: x\r\nHost: b\r\n\r\n"),
        [ROOT, PLACE],
        id="framing in trailers",
    ),
    pytest.param(
        post(CHUNKED, b"Trailer: X", body=b"0\r\nX: y\r\n\r\n"), [ROOT, PLACE], id="trailers"
    ),
    pytest.param(
        post(b"transfer-ENCODING:CHUNKED", body=EMPTY), [ROOT, PLACE], id="the coding in capitals"
    ),
    pytest.param(
        post(b"Transfer_Encoding: chunked", b"Content-Length: 5", body=b"hello"),
        [ROOT, PLACE],
        id="an underscore",
    ),
    pytest.param(
        post(b"Content_Length: 50", b"Content-Length: 5", body=b"hello"),
        [ROOT, PLACE],
        id="a length's underscore",
    ),
    pytest.param(
        post(b"X-Transfer-Encoding: chunked", b"Content-Length: 5", body=b"hello"),
        [ROOT, PLACE],
        id="another name",
    ),
    pytest.param(
        post(b"Connection: content-length", b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
        [ROOT, PLACE],
        id="Content-Length nominated",
    ),
    pytest.param(
        post(b"Connection: transfer-encoding", CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"),
        [ROOT, PLACE],
        id="coding nominated",
    ),
    pytest.param(get(b"Connection: host"), [ROOT, PLACE], id="Host nominated"),
    pytest.param(
        get(line=b"GET http://b/x HTTP/1.1"),
        [b"http://b/x", PLACE],
        id="an absolute target against Host",
    ),
    pytest.param(get(line=b"GET //b/x HTTP/1.1"), [b"//b/x", PLACE], id="two slashes"),
    pytest.param(get(line=b"OPTIONS * HTTP/1.1"), [b"*", PLACE], id="asterisk"),
    pytest.param(get(b"Connection: close"), [ROOT], id="nothing after close"),
    pytest.param(b"GET / HTTP/1.0\r\n\r\n", [ROOT], id="nothing after 1.0"),
    pytest.param(
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        [ROOT, PLACE],
        id="1.0 that stays",
    ),
    pytest.param(
        get(b"Upgrade: x", b"Connection: upgrade"), [ROOT, PLACE], id="an upgrade refused"
    ),
    pytest.param(
        get(b"Upgrade: h2c", b"Connection: upgrade, http2-settings", b"HTTP2-Settings: AA"),
        [ROOT, PLACE],
        id="h2c",
    ),
    pytest.param(
        b"CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\n", [b"b:1", PLACE], id="CONNECT refused"
    ),
    pytest.param(post(b"Content-Length: 500", body=b"hello"), [], id="less than was declared"),
    pytest.param(post(CHUNKED, body=b"fff\r\nhello"), [], id="less than a chunk"),
    pytest.param(
        post(b"Expect: 100-continue", b"Content-Length: 5", body=b"hello"),
        [ROOT, PLACE],
        id="Expect",
    ),
    pytest.param(
        post(b"Expect: x", b"Content-Length: 5", body=b"hello"), [ROOT, PLACE], id="an odd Expect"
    ),
    pytest.param(get(b"X: \x85\xa0", b"From: x"), [ROOT, PLACE], id="blanks of other alphabets"),
    pytest.param(
        get(b"X: HTTP/1.1 200 OK", b"Y: %0d%0a"), [ROOT, PLACE], id="line ends in disguise"
    ),
]


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(("wire", "targets"), FORWARDED)
@pytest.mark.parametrize("step", [1, 100_000], ids=["byte by byte", "whole"])
def test_what_is_forwarded_is_read_as_it_was_meant(
    parser: HeadParser, wire: bytes, targets: list[bytes], step: int
) -> None:
    proxied = Proxied(parser).run(wire + NEXT, step)
    assert proxied.error is None
    assert proxied.targets == targets
    for origin in proxied.origins:
        assert_all_read_alike(origin)


VALID = [
    NEXT,
    HIDDEN,
    post(b"Content-Length: 5", body=b"hello"),
    post(CHUNKED, body=b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n"),
    get(b"Connection: keep-alive, x", b"X: y", b"TE: trailers"),
    get(line=b"GET http://b/x?y HTTP/1.1"),
]
EDITS = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.integers(0, 3),
        st.one_of(
            st.sampled_from(
                (
                    b"\r",
                    b"\n",
                    b"\r\n",
                    b"\0",
                    b" ",
                    b"\t",
                    b":",
                    b"0",
                    b"5",
                    b",",
                    b";",
                    b"\x85",
                    CHUNKED + b"\r\n",
                    EMPTY,
                )
            ),
            st.binary(max_size=2),
        ),
    ),
    max_size=4,
)


def edited(wire: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """`wire` with pieces cut out and put in."""
    for place, cut, piece in edits:
        at = place % (len(wire) + 1)
        wire = wire[:at] + piece + wire[at + cut :]
    return wire


@given(
    messages=st.lists(st.sampled_from(VALID), min_size=1, max_size=3),
    edits=EDITS,
    step=st.integers(1, 90),
)
@pytest.mark.parametrize("parser", PARSERS)
def test_damaged_requests_are_read_as_the_proxy_read_them(
    parser: HeadParser, messages: list[bytes], edits: list[tuple[int, int, bytes]], step: int
) -> None:
    wire = edited(b"".join(messages), edits)
    for origin in Proxied(parser).run(wire, step).origins:
        assert_all_read_alike(origin)


class Answered:
    """One request's answer through the proxy: what the downstream gets, and what the proxy takes that for."""

    def __init__(self, method: bytes, parser: HeadParser) -> None:
        self.server = Http1Server(LIMITS, parser)
        self.client = Http1Client(LIMITS, parser)
        self.meant: list[Read] = []
        self.error: ProxyError | None = None
        (asked,) = self.server.receive(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert isinstance(asked, RequestStarted)
        self.client.send_head(1, asked.head, ended=True)
        self._bare = method == b"HEAD"
        self._begun = Read(0, b"", b"")

    def run(self, wire: bytes, step: int) -> bytes:
        """Have the upstream say `wire`, then nothing more; return what the downstream gets."""
        try:
            for at in range(0, len(wire), step):
                self._tell(self.client.receive(wire[at : at + step]))
            self._tell(self.client.receive(b""))
        except UpstreamError as error:
            self.error = error
        return self.server.outbox()

    def _tell(self, events: list[Event]) -> None:
        for event in joined(events):
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case Informed(head=head):
                self.server.send_head(1, head, ended=False)
            case ResponseStarted(head=head, ended=ended):
                self.server.send_head(1, head, ended=ended)
                self._begun = Read(head.status, b"", b"")
                if ended:
                    self.meant.append(self._begun)
            case Data(data=data):
                self.server.send_data(1, data)
                self._begun = Read(self._begun.start, b"", self._begun.body + data)
            case Ended(trailers=trailers):
                self.server.send_end(1, trailers)
                self.meant.append(self._begun)
            case Failed(error=error):
                self.server.send_reset(1)
                self.error = error


def assert_answer_read_alike(wire: bytes, meant: list[Read], method: bytes) -> None:
    """All readers find the response that the proxy meant, and nothing behind it."""
    assert h11_responses(wire, method) == meant, wire
    assert python_responses(wire, method) == meant, wire
    assert sloppy_responses(wire, method) == meant, wire
    assert method == b"HEAD" or llhttp_responses(wire) == meant, wire


def ok(*lines: bytes, body: bytes = b"", line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """A response with these lines in its head."""
    return b"\r\n".join((line, *lines, b"", b"")) + body


SPLIT = ok(b"Content-Length: 6", body=b"hidden")
BROKEN_ANSWERS = [
    *(pytest.param(ok(coding, body=EMPTY), id=f"coding {coding!r}") for coding in CODINGS),
    *(pytest.param(ok(length, body=b"hello"), id=f"length {length!r}") for length in LENGTHS),
    *(pytest.param(ok(CHUNKED, body=chunk), id=f"chunk {chunk[:40]!r}") for chunk in CHUNKS),
    *(
        pytest.param(ok(line=line), id=f"status line {line!r}")
        for line in (
            b"HTTP/1.1",
            b"HTTP/1.1 ",
            b"HTTP/1.1 20",
            b"HTTP/1.1 2000 OK",
            b"HTTP/1.1  200 OK",
            b"HTTP/1.1 1000 X",
            b"HTTP/1.1 099 X",
            b"HTTP/2.0 200 OK",
            b"http/1.1 200 OK",
            b"HTTP/1.2 200 OK",
            b" HTTP/1.1 200 OK",
            b"ICY 200 OK",
            b"HTTP/1.1 200 O\x00K",
            b"HTTP/1.1 200 OK\n",
            b"HTTP/1.1 200 OK\r",
            b"HTTP/1.1 +20 OK",
            b"HTTP/1.1\t200 OK",
            b"GET / HTTP/1.1",
            b"HTTP/1.1 101 Switching Protocols",
        )
    ),
    *(
        pytest.param(ok(line, body=SPLIT), id=f"line {line!r}")
        for line in (
            b"X: y\n",
            b"X: y\r",
            b"X: y\nZ: z",
            b"X: y\rZ: z",
            b"X: \x00",
            b"X : y",
            b" X: y",
            b"X: y\r\n z",
            b"X",
            b": y",
            b"Set-Cookie: a\n\nHTTP/1.1 200 OK",
            b"Location: /\r\n\nHTTP/1.1 200 OK",
            b"X: y\r\r\n",
        )
    ),
    pytest.param(ok(b"Content-Length: 5", CHUNKED, body=EMPTY), id="CL.TE"),
    pytest.param(ok(CHUNKED, b"Content-Length: 5", body=EMPTY), id="TE.CL"),
    pytest.param(ok(CHUNKED, line=b"HTTP/1.0 200 OK", body=EMPTY), id="chunks in 1.0"),
    pytest.param(
        ok(b"Content-Length: 5", line=b"HTTP/1.1 204 X", body=b"hello"), id="204 with a length"
    ),
    pytest.param(ok(CHUNKED, line=b"HTTP/1.1 204 X", body=EMPTY), id="204 in chunks"),
    pytest.param(
        ok(b"Content-Length: 5", line=b"HTTP/1.1 103 X", body=b"hello"), id="103 with a length"
    ),
    pytest.param(ok(CHUNKED, line=b"HTTP/1.1 100 X", body=EMPTY), id="100 in chunks"),
    pytest.param(ok(line=b"HTTP/1.1 100 X") * 40 + SPLIT, id="a flood of 100"),
    pytest.param(ok(b"Content-Length: 50", body=b"hello"), id="less than was declared"),
    pytest.param(ok(CHUNKED, body=b"ff\r\nhello"), id="less than a chunk"),
]
WHOLE_ANSWERS = [
    pytest.param(
        b"GET",
        ok(b"Content-Length: 5", body=b"hello") + SPLIT,
        [Read(200, b"", b"hello")],
        id="a second response",
    ),
    pytest.param(b"GET", ok(b"Content-Length: 0") + SPLIT, [Read(200, b"", b"")], id="CL.0"),
    pytest.param(
        b"GET", ok(CHUNKED, body=EMPTY) + SPLIT, [Read(200, b"", b"")], id="behind the last chunk"
    ),
    pytest.param(
        b"GET",
        ok(CHUNKED, body=b"0\r\nContent-Length: 9\r\n\r\n"),
        [Read(200, b"", b"")],
        id="framing in trailers",
    ),
    pytest.param(
        b"GET", ok(line=b"HTTP/1.1 204 X") + SPLIT, [Read(204, b"", b"")], id="behind a 204"
    ),
    pytest.param(
        b"GET",
        ok(b"Content-Length: 6", line=b"HTTP/1.1 304 X") + SPLIT,
        [Read(304, b"", b"")],
        id="304 with a length",
    ),
    pytest.param(
        b"GET",
        ok(CHUNKED, line=b"HTTP/1.1 304 X") + SPLIT,
        [Read(304, b"", b"")],
        id="304 in chunks",
    ),
    pytest.param(b"HEAD", SPLIT, [Read(200, b"", b"")], id="HEAD with a body"),
    pytest.param(
        b"HEAD", ok(CHUNKED, body=EMPTY) + SPLIT, [Read(200, b"", b"")], id="HEAD in chunks"
    ),
    pytest.param(b"GET", ok(body=SPLIT), [Read(200, b"", SPLIT)], id="a body until the end"),
    pytest.param(
        b"GET",
        ok(line=b"HTTP/1.0 200 OK", body=SPLIT),
        [Read(200, b"", SPLIT)],
        id="1.0 until the end",
    ),
    pytest.param(
        b"GET", ok(line=b"HTTP/1.1 103 X") + SPLIT, [Read(200, b"", b"hidden")], id="behind a 103"
    ),
    pytest.param(
        b"GET",
        ok(b"Content-Length: 6, 6", body=b"hidden"),
        [Read(200, b"", b"hidden")],
        id="one length twice",
    ),
    pytest.param(
        b"GET",
        ok(b"Connection: content-length", b"Content-Length: 0") + SPLIT,
        [Read(200, b"", b"")],
        id="length nominated",
    ),
]


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("wire", BROKEN_ANSWERS)
@pytest.mark.parametrize("step", [1, 100_000], ids=["byte by byte", "whole"])
def test_no_downstream_takes_a_broken_answer_for_a_whole_one(
    parser: HeadParser, wire: bytes, step: int
) -> None:
    answered = Answered(b"GET", parser)
    got = answered.run(wire, step)
    assert answered.error is not None
    assert answered.error.status in {502, 503}
    assert answered.client.finished
    assert answered.meant == []
    assert_answer_read_alike(got, [], b"GET")


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(("method", "wire", "meant"), WHOLE_ANSWERS)
@pytest.mark.parametrize("step", [1, 100_000], ids=["byte by byte", "whole"])
def test_what_follows_an_answer_reaches_nobody(
    parser: HeadParser, method: bytes, wire: bytes, meant: list[Read], step: int
) -> None:
    answered = Answered(method, parser)
    assert_answer_read_alike(answered.run(wire, step), meant, method)
    assert answered.meant == meant
    assert not answered.client.reusable


ANSWERS = [
    SPLIT,
    ok(CHUNKED, body=b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n"),
    ok(line=b"HTTP/1.1 103 X"),
    ok(body=b"hello"),
    NO_CONTENT,
]


@given(
    messages=st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=3),
    edits=EDITS,
    step=st.integers(1, 90),
)
@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_damaged_answers_are_read_as_the_proxy_read_them(
    parser: HeadParser,
    method: bytes,
    messages: list[bytes],
    edits: list[tuple[int, int, bytes]],
    step: int,
) -> None:
    answered = Answered(method, parser)
    got = answered.run(edited(b"".join(messages), edits), step)
    assert_answer_read_alike(got, answered.meant, method)


def asked(
    *fields: Field, method: bytes = b"POST", path: bytes = b"/", authority: bytes = b"a"
) -> list[Field]:
    """An HTTP/2 request's fields."""
    return [
        (b":method", method),
        (b":scheme", b"http"),
        (b":authority", authority),
        (b":path", path),
        *fields,
    ]


SECOND = b"x\r\n\r\n" + HIDDEN
DOWNGRADES = [
    pytest.param(asked((b"x", SECOND)), id="a request in a value"),
    pytest.param(asked((b"x\r\ny", b"z")), id="a line end in a name"),
    pytest.param(asked((b"x: y", b"z")), id="a colon in a name"),
    pytest.param(asked((b"x", b"y\n")), id="LF at the end of a value"),
    pytest.param(asked((b"x", b"\0")), id="NUL"),
    pytest.param(asked((b"transfer-encoding", b"chunked")), id="H2.TE"),
    pytest.param(asked((b"Transfer-Encoding", b"chunked")), id="H2.TE in capitals"),
    pytest.param(asked((b"transfer-encoding ", b"chunked")), id="H2.TE and a space"),
    pytest.param(asked((b"content-length", b"3")), id="H2.CL too short"),
    pytest.param(asked((b"content-length", b"50")), id="H2.CL too long"),
    pytest.param(asked((b"content-length", b"+5")), id="H2.CL with a sign"),
    pytest.param(
        asked((b"content-length", b"5"), (b"content-length", b"6")), id="H2.CL of two lengths"
    ),
    pytest.param(asked((b"connection", b"close")), id="connection"),
    pytest.param(asked((b"host", b"b")), id="another host"),
    pytest.param(asked(path=b"/ HTTP/1.1\r\nHost: b"), id="a line end in the path"),
    pytest.param(asked(path=b"/ HTTP/1.1"), id="a version in the path"),
    pytest.param(asked(path=b"http://b/"), id="an absolute path"),
    pytest.param(asked(path=b""), id="no path"),
    pytest.param(asked(method=b"GET / HTTP/1.1\r\nX:"), id="a line end in the method"),
    pytest.param(asked(method=b"GET /hidden"), id="a target in the method"),
    pytest.param(asked(authority=b"a\r\nX: y"), id="a line end in the authority"),
    pytest.param(asked(authority=b"a/b"), id="a path in the authority"),
]


def downgraded(fields: list[Field], body: bytes) -> Origin:
    """What an HTTP/1 origin gets of an HTTP/2 request."""
    peer = H2Peer(Http2Server(LIMITS), client=True)
    number = peer.request(fields, ended=False)
    peer.h2.send_data(number, body, end_stream=True)
    origin = Origin(H11)
    for event in peer.pump():
        if isinstance(event, RequestStarted | Data | Ended | Failed):
            origin.take(event)
    return origin


@pytest.mark.parametrize("fields", DOWNGRADES)
def test_http2_says_nothing_that_http1_would_read_differently(fields: list[Field]) -> None:
    origin = downgraded(fields, b"hello")
    assert origin.meant == []
    assert_all_read_alike(origin)


def test_what_an_http2_request_says_beyond_its_length_reaches_no_origin() -> None:
    origin = downgraded(asked((b"content-length", b"0")), HIDDEN)
    assert origin.codec.finished
    empty = [Read((b"POST", b"/"), b"a", b"")]
    assert {name: reader(origin.wire) for name, reader in REQUEST_READERS.items()} == dict.fromkeys(
        REQUEST_READERS, empty
    )


@pytest.mark.parametrize(
    "fields", [asked(), asked((b"content-length", b"5"))], ids=["chunks", "length"]
)
def test_an_http2_body_ends_where_it_ended(fields: list[Field]) -> None:
    origin = downgraded(fields, b"hello")
    assert origin.meant == [Read((b"POST", b"/"), b"a", b"hello")]
    assert_all_read_alike(origin)
