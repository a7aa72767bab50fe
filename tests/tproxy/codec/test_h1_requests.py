"""What a downstream's HTTP/1 bytes mean: one table for every engine, read whole, byte by byte and with more behind."""

from collections.abc import Callable

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.engines import SERVERS
from fakes.wire import feed
from tproxy.codec.codec import Codec
from tproxy.codec.events import Data, Ended, Event, Failed, RequestStarted
from tproxy.model.http import Headers, HttpVersion, RequestHead
from tproxy.model.limits import Limits
from tproxy.model.outcome import DownstreamError, ResponseFlag

Server = Callable[[Limits], Codec]

LIMITS = Limits(head_bytes=2048, header_fields=12, chunk_line_bytes=64, stream_window=8192)
HOST = (b"Host", b"a")


def request(
    *fields: tuple[bytes, bytes],
    method: bytes = b"GET",
    authority: bytes = b"a",
    path: bytes = b"/",
    version: HttpVersion = HttpVersion.HTTP11,
    upgrade: bytes = b"",
    absolute: bool = False,
) -> RequestHead:
    """The head that a request on the wire should become."""
    headers = Headers(fields)
    return RequestHead(method, b"http", authority, path, headers, version, upgrade, absolute)


def alone(head: RequestHead) -> list[Event]:
    """A request without a body."""
    return [RequestStarted(1, head, ended=True)]


def with_body(head: RequestHead, body: bytes, *trailers: tuple[bytes, bytes]) -> list[Event]:
    """A request with a body, and perhaps trailers."""
    data = [Data(1, body, credit=len(body))] if body else []
    return [RequestStarted(1, head, ended=False), *data, Ended(1, Headers(trailers))]


def asking(head: RequestHead) -> list[Event]:
    """A request for a tunnel: whether anything follows is for the answer to say."""
    return [RequestStarted(1, head, ended=False)]


ACCEPTED = [
    pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", alone(request(HOST)), id="plain"),
    pytest.param(
        b"GET /x?y=%20&z=[1]|{} HTTP/1.1\r\nhOST:a:8080 \r\nX-A: 1\r\nx-a:\t\xff \r\nX-Empty:\r\n\r\n",
        alone(
            request(
                (b"hOST", b"a:8080"),
                (b"X-A", b"1"),
                (b"x-a", b"\xff"),
                (b"X-Empty", b""),
                authority=b"a:8080",
                path=b"/x?y=%20&z=[1]|{}",
            )
        ),
        id="case, order, duplicates and 8-bit values survive",
    ),
    pytest.param(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        with_body(request(HOST, (b"Content-Length", b"5"), method=b"POST"), b"hello"),
        id="counted body",
    ),
    pytest.param(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nhi",
        with_body(request(HOST, (b"Content-Length", b"2"), method=b"POST"), b"hi"),
        id="identical lengths are one",
    ),
    pytest.param(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        alone(request(HOST, (b"Content-Length", b"0"), method=b"POST")),
        id="declared empty body",
    ),
    pytest.param(
        b"PUT / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: Chunked\r\n\r\n"
        b'5\r\nhello\r\n0006;a;b=c;d="e f"\r\n world\r\n0\r\n\r\n',
        with_body(request(HOST, method=b"PUT"), b"hello world"),
        id="chunks with extensions",
    ),
    pytest.param(
        b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        with_body(request(HOST, method=b"PUT"), b""),
        id="no chunk but the last",
    ),
    pytest.param(
        b"PUT / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\n"
        b"X-Sum: 1 \r\nHost: evil\r\nContent-Length: 4\r\nAuthorization: x\r\nx-forwarded-for: y\r\n\r\n",
        with_body(
            request(HOST, (b"Trailer", b"X-Sum"), method=b"PUT"), b"0123456789", (b"X-Sum", b"1")
        ),
        id="trailers that frame, route or authenticate are dropped",
    ),
    pytest.param(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n"
        b"TE: gzip, trailers\r\n\r\n",
        alone(request(HOST, (b"te", b"trailers"))),
        id="hop-by-hop fields end here",
    ),
    pytest.param(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: host, x-forwarded-client-cert, authorization, cookie\r\n"
        b"X-Forwarded-Client-Cert: By=x\r\nAuthorization: t\r\nCookie: c\r\n\r\n",
        alone(
            request(
                HOST,
                (b"X-Forwarded-Client-Cert", b"By=x"),
                (b"Authorization", b"t"),
                (b"Cookie", b"c"),
            )
        ),
        id="a nomination takes no end-to-end field away",
    ),
    pytest.param(
        b"GET http://b:81/x?y HTTP/1.1\r\nX-A: 1\r\nHost: a\r\nX-B: 2\r\n\r\n",
        alone(
            request(
                (b"X-A", b"1"),
                (b"Host", b"b:81"),
                (b"X-B", b"2"),
                authority=b"b:81",
                path=b"/x?y",
                absolute=True,
            )
        ),
        id="an absolute target's authority wins",
    ),
    pytest.param(
        b"GET HTTP://[2001:db8::1]?y HTTP/1.1\r\nHost:\r\n\r\n",
        alone(
            request(
                (b"Host", b"[2001:db8::1]"), authority=b"[2001:db8::1]", path=b"/?y", absolute=True
            )
        ),
        id="an absolute target without a path",
    ),
    pytest.param(
        b"GET / HTTP/1.1\r\nHost: 2001:db8::2:8081\r\n\r\n",
        alone(request((b"Host", b"2001:db8::2:8081"), authority=b"2001:db8::2:8081")),
        id="an address without its brackets",
    ),
    pytest.param(
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        alone(request(HOST, method=b"OPTIONS", path=b"*")),
        id="asterisk",
    ),
    pytest.param(
        b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n",
        alone(request(HOST, method=b"OPTIONS", path=b"*", absolute=True)),
        id="absolute asterisk",
    ),
    pytest.param(
        b"Purge / HTTP/1.1\r\nHost: a\r\n\r\n",
        alone(request(HOST, method=b"Purge")),
        id="a method of its own",
    ),
    *(
        pytest.param(
            method + b" / HTTP/1.1\r\nHost: a\r\n\r\n",
            alone(request(HOST, method=method)),
            id=f"the method {method!r}",
        )
        for method in (
            b"PURGE",
            b"PROPFIND",
            b"PROPFIND2",
            b"QUERY",
            b"PRI",
            b"SOURCE",
            b"DESCRIBE",
        )
    ),
    pytest.param(
        b"GET / HTTP/1.0\r\n\r\n",
        alone(request(authority=b"", version=HttpVersion.HTTP10)),
        id="1.0 needs no Host",
    ),
    pytest.param(
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
        with_body(
            request(HOST, (b"Expect", b"100-continue"), (b"Content-Length", b"1"), method=b"POST"),
            b"x",
        ),
        id="Expect goes on",
    ),
    pytest.param(
        b"GET / HTTP/1.1\r\nHost: a\r\nProxy-Authorization: x\r\n\r\n",
        alone(request(HOST, (b"Proxy-Authorization", b"x"))),
        id="proxy credentials are for a proxy behind us",
    ),
    pytest.param(
        b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n",
        asking(request(HOST, (b"Sec-WebSocket-Key", b"k"), path=b"/ws", upgrade=b"websocket")),
        id="upgrade",
    ),
    pytest.param(
        b"CONNECT b:443 HTTP/1.1\r\nHost: b\r\n\r\n",
        asking(request((b"Host", b"b:443"), method=b"CONNECT", authority=b"b:443", path=b"")),
        id="CONNECT",
    ),
    pytest.param(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
        alone(request(HOST)),
        id="h2c is ignored",
    ),
    *(
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: "
            + protocol
            + b"\r\n\r\n",
            alone(request(HOST)),
            id=f"{protocol!r} is ignored",
        )
        for protocol in (b"a, b", b"H2C/1", b"h2c/", b"/a", b"a/b/c", b"a b", b"")
    ),
    pytest.param(
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        alone(request(HOST)),
        id="an upgrade that Connection does not name is ignored",
    ),
    pytest.param(
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        alone(request(HOST, version=HttpVersion.HTTP10)),
        id="1.0 cannot upgrade",
    ),
    pytest.param(
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\ny",
        with_body(request(HOST, (b"Content-Length", b"1"), method=b"POST"), b"y"),
        id="an upgrade with a body is ignored",
    ),
]


def head(*lines: bytes) -> bytes:
    """A GET with these lines in its head."""
    return b"\r\n".join((b"GET / HTTP/1.1", b"Host: a", *lines, b"", b""))


def chunks(framed: bytes) -> bytes:
    """A request whose body is framed so."""
    return b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + framed


CODEC = "http1.codec_error"
TE = "http1.invalid_transfer_encoding"
URL = "http1.invalid_url"
AUTHORITY = "http.invalid_authority"
METHOD = "http.invalid_method"

REFUSED = [
    pytest.param(
        head(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        400,
        "http1.content_length_and_chunked_not_allowed",
        id="both framings",
    ),
    *(
        pytest.param(head(b"Content-Length: " + value), 400, CODEC, id=f"length {value!r}")
        for value in (
            b"5, 6",
            b"+5",
            b"-1",
            b"0x5",
            b"5 5",
            b"5\x0b",
            b"5,",
            b"",
            b"1" * 19,
            b"1" * 21,
            b"\xb2",
        )
    ),
    pytest.param(head(b"Content-Length: 5", b"Content-Length: 6"), 400, CODEC, id="two lengths"),
    *(
        pytest.param(head(b"Transfer-Encoding: " + value), 501, TE, id=f"coding {value!r}")
        for value in (
            b"xchunked",
            b"chunked, gzip",
            b"gzip, chunked",
            b"identity",
            b"",
            b"chunked,",
        )
    ),
    pytest.param(head(b"Transfer-Encoding:\tchunked"), 400, TE, id="coding after a tab"),
    pytest.param(head(b"Transfer-Encoding: chunked\t"), 400, TE, id="coding before a tab"),
    pytest.param(
        head(b"Transfer-Encoding: chunked\x0b"), 400, CODEC, id="coding and a vertical tab"
    ),
    pytest.param(
        head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        501,
        TE,
        id="coding twice",
    ),
    pytest.param(head(b"Transfer-Encoding:", b" chunked"), 400, CODEC, id="folded coding"),
    pytest.param(
        b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, TE, id="coding in 1.0"
    ),
    pytest.param(b"GET / HTTP/1.1\nHost: a\n\n", 400, CODEC, id="bare LFs"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400, CODEC, id="one bare LF"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", 400, CODEC, id="bare CR"),
    pytest.param(b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400, CODEC, id="CR CR LF"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400, CODEC, id="LF as empty line"),
    pytest.param(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, CODEC, id="leading empty line"),
    *(
        pytest.param(head(line), 400, CODEC, id=f"line {line!r}")
        for line in (
            b"X: a\x00b",
            b"X: a\x1fb",
            b"X: a\x7f",
            b"X\x00: a",
            b"X : a",
            b": a",
            b" X: a",
            b"X",
            b"X\xff: a",
            b"X\ty: a",
            b"X: a\r\n\tb",
        )
    ),
    *(
        pytest.param(line + b"\r\nHost: a\r\n\r\n", 400, CODEC, id=f"request line {line!r}")
        for line in (
            b"GET /",
            b"GET  / HTTP/1.1",
            b"GET / HTTP/1.1 ",
            b" GET / HTTP/1.1",
            b"GET /a b HTTP/1.1",
            b"GET / HTTP/2.0",
            b"GET / HTTP/1.2",
            b"GET / http/1.1",
            b"GET /\tx HTTP/1.1",
            b"GET /\x00 HTTP/1.1",
            b"PRI * HTTP/2.0",
            b"GET",
        )
    ),
    *(
        pytest.param(
            method + b" / HTTP/1.1\r\nHost: a\r\n\r\n", 400, METHOD, id=f"method {method!r}"
        )
        for method in (b"get", b"Post", b"G(T", b"G:T")
    ),
    *(
        pytest.param(
            b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n", 400, URL, id=f"target {target!r}"
        )
        for target in (
            b"/a#b",
            b"/a\\b",
            b"/\xc3\xa9",
            b"a:80",
            b"a",
            b"*",
            b"http://u@a/",
            b"http:///x",
            b"https://a/",
            b"http://a/#b",
            b"ftp://a/",
            b"?x",
        )
    ),
    pytest.param(b"PRI * HTTP/1.1\r\nHost: a\r\n\r\n", 400, URL, id="preface's method"),
    pytest.param(b"CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n", 400, URL, id="CONNECT to a path"),
    pytest.param(
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 3\r\n\r\nabc",
        400,
        "http1.body_disallowed",
        id="CONNECT with a body",
    ),
    pytest.param(b"GET / HTTP/1.1\r\nX: y\r\n\r\n", 400, "missing_host_header", id="no Host"),
    pytest.param(b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "missing_host_header", id="empty Host"),
    pytest.param(
        b"GET http://a/ HTTP/1.1\r\nX: y\r\n\r\n",
        400,
        "missing_host_header",
        id="no Host beside an absolute target",
    ),
    pytest.param(
        b"CONNECT a:1 HTTP/1.1\r\nX: y\r\n\r\n",
        400,
        "missing_host_header",
        id="no Host beside CONNECT",
    ),
    pytest.param(head(b"Host: b"), 400, CODEC, id="two Hosts"),
    pytest.param(
        b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400, CODEC, id="two Hosts in 1.0"
    ),
    *(
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", 400, AUTHORITY, id=f"Host {host!r}"
        )
        for host in (
            b"u@a",
            b"a/b",
            b"a b",
            b"a,b",
            b"a:b",
            b"a:123456",
            b"a:1:2",
            b"u@2001:db8::2",
            b"[::1",
            b"a?b",
            b"a#b",
            b"\xc3\xa9",
        )
    ),
    pytest.param(b"GET /" + b"x" * 4000, 414, "http1.headers_too_large", id="long request line"),
    pytest.param(head(b"X: " + b"x" * 4000), 431, "http1.headers_too_large", id="large head"),
    pytest.param(head(*[b"X: y"] * 12), 431, "http1.too_many_headers", id="one field too many"),
    *(
        pytest.param(chunks(framed), 400, CODEC, id=f"chunk {framed[:24]!r}")
        for framed in (
            b"5 \r\nhello\r\n0\r\n\r\n",
            b" 5\r\nhello",
            b"+5\r\nhello",
            b"-5\r\nhello",
            b"0x5\r\nhello",
            b"5;\r\nhello",
            b"5;a=\r\nhello",
            b"5; a\r\nhello",
            b'5;a="\r\nhello',
            b"5\nhello\r\n",
            b"5\rhello\r\n",
            b"5;a\rb\r\nhello",
            b"5;a\nb\r\nhello",
            b"5\r\nhelloX\r\n0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhello\rX",
            b"1" * 16 + b"\r\n",
            b"0" * 16 + b"5\r\nhello",
            b"5;a=" + b"b" * 100 + b"\r\nhello",
            b"\r\n",
            b";a\r\n",
            b"g\r\n",
            b"5\x00\r\nhello",
            b"0\r\nX: a\n\r\n",
            b"0\r\n X: a\r\n\r\n",
            b"0\r\nX : a\r\n\r\n",
            b"0\r\nX\r\n\r\n",
            b"0\r\nX: \x00\r\n\r\n",
        )
    ),
    pytest.param(
        chunks(b"0\r\n" + b"X: y\r\n" * 13 + b"\r\n"),
        431,
        "http1.too_many_headers",
        id="many trailers",
    ),
    pytest.param(
        chunks(b"0\r\nX: " + b"y" * 4000), 431, "http1.headers_too_large", id="large trailers"
    ),
]

BEHIND = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(("wire", "events"), ACCEPTED)
def test_a_request_is_told_alike_however_it_arrives(
    server: Server, wire: bytes, events: list[Event]
) -> None:
    assert feed(server(LIMITS), wire) == events
    assert feed(server(LIMITS), wire, range(len(wire))) == events


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(("wire", "events"), ACCEPTED)
def test_what_follows_a_request_is_not_part_of_it(
    server: Server, wire: bytes, events: list[Event]
) -> None:
    assert feed(server(LIMITS), wire + BEHIND) == events
    assert feed(server(LIMITS), wire + BEHIND, range(len(wire + BEHIND))) == events


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(("wire", "status", "details"), REFUSED)
@pytest.mark.parametrize("step", [1, 3, 100_000], ids=["byte by byte", "in threes", "whole"])
def test_a_request_of_more_than_one_meaning_is_refused(
    server: Server, wire: bytes, status: int, details: str, *, step: int
) -> None:
    codec = server(LIMITS)
    with pytest.raises(DownstreamError) as refusal:
        feed(codec, wire + BEHIND, range(0, len(wire + BEHIND), step))
    assert (refusal.value.flag, refusal.value.status, refusal.value.details) == (
        ResponseFlag.DOWNSTREAM_PROTOCOL,
        status,
        details,
    )
    assert codec.finished
    assert not codec.reusable
    assert_complete_refusal(codec.outbox(), status, details)


def assert_complete_refusal(wire: bytes, status: int, details: str) -> None:
    """A real client reads a whole response, and that the connection closes."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(wire)
    response, body, end = client.next_event(), client.next_event(), client.next_event()
    assert isinstance(response, h11.Response)
    assert isinstance(body, h11.Data)
    assert isinstance(end, h11.EndOfMessage)
    assert response.status_code == status
    assert bytes(body.data) == details.encode() + b"\n"
    assert client.their_state is h11.MUST_CLOSE


@pytest.mark.parametrize("server", SERVERS)
@given(
    case=st.sampled_from([param.values for param in ACCEPTED]),
    cuts=st.lists(st.integers(1, 400), max_size=8),
)
def test_any_cutting_of_the_bytes_tells_the_same(
    server: Server, case: tuple[bytes, list[Event]], cuts: list[int]
) -> None:
    wire, events = case
    assert feed(server(LIMITS), wire + BEHIND, cuts) == events


@pytest.mark.parametrize("server", SERVERS)
@given(
    case=st.sampled_from([param.values for param in REFUSED]),
    cuts=st.lists(st.integers(1, 400), max_size=8),
)
def test_any_cutting_of_the_bytes_is_refused_alike(
    server: Server, case: tuple[bytes, int, str], cuts: list[int]
) -> None:
    wire, status, details = case
    with pytest.raises(DownstreamError) as refusal:
        feed(server(LIMITS), wire + BEHIND, cuts)
    assert (refusal.value.status, refusal.value.details) == (status, details)


@pytest.mark.parametrize("server", SERVERS)
@given(noise=st.binary(max_size=60), cuts=st.lists(st.integers(1, 200), max_size=4))
def test_noise_in_a_head_is_taken_or_refused_the_same_way_however_it_arrives(
    server: Server, noise: bytes, cuts: list[int]
) -> None:
    wire = b"GET / HTTP/1.1\r\nHost: a\r\n" + noise + b"\r\n\r\n"

    def outcome(places: list[int]) -> list[Event] | tuple[int, str]:
        try:
            return feed(server(LIMITS), wire, places)
        except DownstreamError as error:
            return error.status, error.details

    assert outcome(cuts) == outcome([])


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel", id="counted"),
        pytest.param(chunks(b"5\r\nhel"), id="in a chunk"),
        pytest.param(chunks(b"5\r\nhello\r\n0\r\n"), id="before trailers"),
    ],
)
def test_a_downstream_that_leaves_within_its_request_fails_it(server: Server, begun: bytes) -> None:
    codec = server(LIMITS)
    codec.receive(begun)
    (event,) = codec.receive(b"")
    assert isinstance(event, Failed)
    assert event.error.details == "downstream_remote_disconnect"
    assert codec.finished


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("begun", [b"", b"GET / HTT"], ids=["idle", "in a head"])
def test_a_downstream_that_leaves_before_a_request_is_nobody_s_failure(
    server: Server, begun: bytes
) -> None:
    codec = server(LIMITS)
    assert feed(codec, begun) == []
    assert codec.receive(b"") == []
    assert codec.finished
    assert codec.outbox() == b""


@pytest.mark.parametrize("server", SERVERS)
def test_pipelined_bytes_are_bounded(server: Server) -> None:
    codec = server(LIMITS)
    codec.receive(BEHIND)
    with pytest.raises(DownstreamError) as refusal:
        feed(codec, BEHIND * 400, range(0, 400 * len(BEHIND), 1000))
    assert refusal.value.details == "http1.too_much_pipelined"
