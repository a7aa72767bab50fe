"""Whole exchanges over HTTP/1: answers to downstreams, reuse, tunnels, and h11 as the other side."""

from collections.abc import Callable, Sequence
from http import HTTPStatus

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.engines import CLIENTS, SERVERS
from fakes.wire import feed, joined
from tproxy.codec.codec import Codec
from tproxy.codec.events import Data, Ended, Event, Failed, RequestStarted, ResponseStarted, Room
from tproxy.codec.h1 import Http1Client, Http1Server
from tproxy.codec.h2_client import Http2Client
from tproxy.model.http import NO_HEADERS, Headers, HttpVersion, RequestHead, ResponseHead
from tproxy.model.limits import Limits
from tproxy.model.outcome import DownstreamError, ProxyError

Server = Callable[[Limits], Codec]

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"
OLD_STAYING = b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
CONNECT = b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"
TOO_LARGE = HTTPStatus(413).phrase.encode()  # Python 3.13 took the new name (RFC 9110, 15.5.14)
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"


def response(
    status: int,
    *fields: tuple[bytes, bytes],
    reason: bytes = b"",
    version: HttpVersion = HttpVersion.HTTP2,
) -> ResponseHead:
    """A response to send."""
    return ResponseHead(status, Headers(fields), version, reason)


def answer(codec: Codec, head: ResponseHead, *parts: bytes, ended: bool = False) -> bytes:
    """Send a whole response on the first stream, and return it as written."""
    codec.send_head(1, head, ended=ended)
    for part in parts:
        codec.send_data(1, part)
    if not ended:
        codec.send_end(1, Headers([(b"X-Sum", b"1"), (b"Content-Length", b"9")]))
    return codec.outbox()


LENGTH = (b"content-length", b"5")


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    ("asked", "head", "parts", "ended", "wire", "reusable"),
    [
        pytest.param(
            GET,
            response(200, (b"X", b"1"), LENGTH),
            [b"hel", b"lo"],
            False,
            b"HTTP/1.1 200 OK\r\nX: 1\r\ncontent-length: 5\r\n\r\nhello",
            True,
            id="counted",
        ),
        pytest.param(
            GET,
            response(200, reason=b"Fine"),
            [b"hello", b""],
            False,
            b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
            True,
            id="chunked with trailers",
        ),
        pytest.param(
            GET,
            response(599),
            [],
            True,
            b"HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n",
            True,
            id="no body",
        ),
        pytest.param(
            GET, response(204), [], True, b"HTTP/1.1 204 No Content\r\n\r\n", True, id="204"
        ),
        pytest.param(
            GET,
            response(304, LENGTH),
            [],
            True,
            b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
            True,
            id="304",
        ),
        pytest.param(
            HEAD,
            response(200, LENGTH),
            [b"hello"],
            False,
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
            True,
            id="HEAD has no body, whatever is sent",
        ),
        pytest.param(
            HEAD,
            response(200),
            [],
            True,
            b"HTTP/1.1 200 OK\r\n\r\n",
            True,
            id="HEAD without a length",
        ),
        pytest.param(
            OLD,
            response(200, LENGTH),
            [b"hello"],
            False,
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nConnection: close\r\n\r\nhello",
            False,
            id="1.0 closes",
        ),
        pytest.param(
            OLD_STAYING,
            response(200, LENGTH),
            [b"hello"],
            False,
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nConnection: keep-alive\r\n\r\nhello",
            True,
            id="1.0 that stays",
        ),
        pytest.param(
            OLD_STAYING,
            response(200),
            [b"hel", b"lo"],
            False,
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
            False,
            id="1.0 knows no chunks",
        ),
        pytest.param(
            GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
            response(200),
            [],
            True,
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            False,
            id="close is answered",
        ),
        pytest.param(
            POST,
            response(413),
            [],
            True,
            b"HTTP/1.1 413 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % TOO_LARGE,
            False,
            id="an answer before the request's end closes",
        ),
        pytest.param(
            POST,
            response(413, LENGTH),
            [b"hello"],
            False,
            b"HTTP/1.1 413 %b\r\ncontent-length: 5\r\n\r\nhello" % TOO_LARGE,
            False,
            id="a long answer before the request's end closes too",
        ),
        pytest.param(
            GET,
            response(200, LENGTH),
            [b"hel"],
            False,
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel",
            False,
            id="shorter than it said",
        ),
        pytest.param(
            CONNECT,
            response(403, LENGTH),
            [b"never"],
            False,
            b"HTTP/1.1 403 Forbidden\r\ncontent-length: 5\r\n\r\nnever",
            True,
            id="refused CONNECT",
        ),
        pytest.param(
            UPGRADE,
            response(200),
            [],
            True,
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            True,
            id="ignored upgrade",
        ),
    ],
)
def test_a_response_is_written_as_it_was_with_the_framing_it_needs(
    server: Server,
    asked: bytes,
    head: ResponseHead,
    parts: Sequence[bytes],
    *,
    ended: bool,
    wire: bytes,
    reusable: bool,
) -> None:
    codec = server(Limits())
    codec.receive(asked)
    assert answer(codec, head, *parts, ended=ended) == wire
    assert codec.reusable is reusable
    assert codec.finished is not reusable


@pytest.mark.parametrize("server", SERVERS)
def test_informational_heads_pass_but_not_to_old_peers(server: Server) -> None:
    for asked, wire in ((UPGRADE, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"), (OLD, b"")):
        codec = server(Limits())
        codec.receive(asked)
        codec.send_head(1, response(103, (b"Link", b"x")), ended=False)
        assert codec.outbox() == wire
        assert answer(codec, response(204), ended=True).startswith(b"HTTP/1.1 204 ")


@pytest.mark.parametrize("server", SERVERS)
def test_pipelined_requests_are_told_one_after_the_other(server: Server) -> None:
    codec = server(Limits())
    (first,) = feed(codec, GET + POST + b"hello" + GET)
    assert isinstance(first, RequestStarted)
    assert codec.resume() == []
    codec.send_head(1, response(204), ended=True)
    started, data, ended = codec.resume()
    assert isinstance(started, RequestStarted)
    assert (started.stream, data, ended) == (2, Data(2, b"hello", credit=5), Ended(2, NO_HEADERS))
    codec.send_head(2, response(204), ended=True)
    (third,) = codec.resume()
    assert isinstance(third, RequestStarted)
    codec.send_head(3, response(204), ended=True)
    assert codec.resume() == []
    assert codec.reusable


@pytest.mark.parametrize("server", SERVERS)
def test_a_pipelined_request_can_be_refused_too(server: Server) -> None:
    codec = server(Limits())
    feed(codec, GET + b"get / HTTP/1.1\r\n")
    codec.send_head(1, response(204), ended=True)
    with pytest.raises(DownstreamError):
        codec.resume()
    assert codec.outbox().startswith(b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 400 Bad Request\r\n")
    assert codec.finished


@pytest.mark.parametrize("server", SERVERS)
def test_requests_sent_before_the_end_of_the_stream_are_answered(server: Server) -> None:
    codec = server(Limits())
    feed(codec, GET + GET)
    assert codec.receive(b"") == []
    assert answer(codec, response(204), ended=True) == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert len(codec.resume()) == 1
    codec.send_head(2, response(204), ended=True)
    assert codec.outbox() == b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    assert codec.finished


@pytest.mark.parametrize("server", SERVERS)
def test_no_refusal_stands_within_a_response(server: Server) -> None:
    codec = server(Limits())
    codec.receive(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    codec.send_head(1, response(200, LENGTH), ended=False)
    codec.send_data(1, b"hel")
    with pytest.raises(DownstreamError):
        codec.receive(b"x\r\n")
    assert codec.outbox() == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel"
    assert codec.finished


@pytest.mark.parametrize("server", SERVERS)
def test_a_finished_connection_hears_nothing(server: Server) -> None:
    codec = server(Limits())
    codec.receive(POST)
    codec.send_reset(1)
    assert codec.finished
    assert not codec.reusable
    assert codec.receive(b"hello" + GET) == []
    assert codec.receive(b"") == []
    codec.send_head(1, response(200), ended=False)
    codec.send_data(1, b"x")
    codec.send_end(1, NO_HEADERS)
    codec.send_reset(1)
    assert codec.outbox() == b""


@pytest.mark.parametrize("server", SERVERS)
def test_a_farewell_is_told_with_the_next_response(server: Server) -> None:
    busy, begun = server(Limits()), server(Limits())
    busy.receive(GET)
    busy.farewell()
    assert not busy.reusable
    assert answer(busy, response(204), ended=True).endswith(b"Connection: close\r\n\r\n")
    assert busy.finished
    begun.receive(GET[:5])
    begun.farewell()
    begun.receive(GET[5:])
    assert answer(begun, response(204), ended=True).endswith(b"Connection: close\r\n\r\n")


@pytest.mark.parametrize("server", SERVERS)
def test_streams_are_the_downstream_s_to_open(server: Server) -> None:
    codec = server(Limits())
    with pytest.raises(AssertionError):
        codec.next_stream()
    codec.receive(GET)
    codec.consumed(1, 1)
    assert codec.room(1) > 0
    assert not codec.multiplexed


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    ("asked", "status", "wire"),
    [
        pytest.param(
            UPGRADE,
            101,
            b"HTTP/1.1 101 Switching Protocols\r\nX: 1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            id="upgrade",
        ),
        pytest.param(CONNECT, 200, b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\n", id="CONNECT"),
    ],
)
def test_a_tunnel_is_opaque_both_ways_and_ends_both_ways(
    server: Server, asked: bytes, status: int, wire: bytes
) -> None:
    codec = server(Limits())
    (started,) = codec.receive(asked + b"early")
    assert isinstance(started, RequestStarted)
    assert not started.ended
    codec.send_head(1, response(status, (b"X", b"1")), ended=False)
    assert codec.outbox() == wire
    assert codec.resume() == [Data(1, b"early", credit=5)]
    assert feed(codec, GET) == [Data(1, GET, credit=len(GET))]
    codec.send_data(1, b"\x00raw")
    assert codec.outbox() == b"\x00raw"
    codec.send_end(1, NO_HEADERS)
    assert not codec.finished
    assert codec.receive(b"") == [Ended(1, NO_HEADERS)]
    assert codec.finished
    assert not codec.reusable


@pytest.mark.parametrize("server", SERVERS)
def test_a_tunnel_goes_on_one_way_after_the_downstream_s_end(server: Server) -> None:
    codec = server(Limits())
    codec.receive(UPGRADE)
    codec.send_head(1, response(101), ended=False)
    assert codec.receive(b"") == [Ended(1, NO_HEADERS)]
    assert not codec.finished
    codec.send_data(1, b"more")
    codec.send_end(1, NO_HEADERS)
    assert codec.outbox().endswith(b"\r\n\r\nmore")
    assert codec.finished


@pytest.mark.parametrize("server", SERVERS)
def test_an_upgrade_that_is_not_granted_leaves_the_connection_http(server: Server) -> None:
    codec = server(Limits())
    codec.receive(UPGRADE + GET)
    answer(codec, response(200, LENGTH), b"hello")
    (following,) = codec.resume()
    assert isinstance(following, RequestStarted)
    assert following.stream == 2


@pytest.mark.parametrize("server", SERVERS)
def test_a_downstream_that_leaves_before_its_tunnel_opens_fails_it(server: Server) -> None:
    codec = server(Limits())
    codec.receive(UPGRADE)
    (event,) = codec.receive(b"")
    assert isinstance(event, Failed)
    assert codec.finished


def carry(source: Codec, events: list[Event], target: Codec, stream: int) -> None:
    """Send on what `source` told, as the pipeline would."""
    for event in events:
        match event:
            case RequestStarted() | ResponseStarted():
                target.send_head(stream, event.head, ended=event.ended)
            case Data():
                target.send_data(stream, event.data)
            case Ended():
                target.send_end(stream, event.trailers)
            case _:
                raise AssertionError(event)
    assert source.room(1) >= 0


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        pytest.param(GET, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", id="counted"),
        pytest.param(
            b"POST /x?y HTTP/1.1\r\nX: 1\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n",
            b"HTTP/1.1 201 Made\r\nX: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n",
            id="chunked",
        ),
        pytest.param(POST + b"hello", b"HTTP/1.1 204 \xff\r\nX: \xff\r\n\r\n", id="no content"),
        pytest.param(HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", id="HEAD"),
    ],
)
def test_what_one_side_reads_the_other_writes_as_it_was(
    server: Server, client: Server, asked: bytes, answered: bytes
) -> None:
    downstream, upstream = server(Limits()), client(Limits())
    for stream in (1, 2, 3):
        carry(downstream, feed(downstream, asked), upstream, upstream.next_stream())
        assert upstream.outbox() == asked
        carry(upstream, feed(upstream, answered), downstream, stream)
        assert downstream.outbox() == answered
        assert downstream.reusable
        assert upstream.reusable


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("client", CLIENTS)
def test_our_client_and_our_server_understand_each_other(server: Server, client: Server) -> None:
    asking, answering = client(Limits()), server(Limits())
    fields = Headers([(b"X-Case", b"1"), (b"te", b"trailers")])
    head = RequestHead(b"POST", b"http", b"a:1", b"/x", fields, HttpVersion.HTTP2)
    stream = asking.next_stream()
    asking.send_head(stream, head, ended=False)
    asking.send_data(stream, b"hello")
    asking.send_end(stream, Headers([(b"T", b"1")]))
    started, *rest = feed(answering, asking.outbox())
    assert isinstance(started, RequestStarted)
    assert started.head == RequestHead(
        b"POST",
        b"http",
        b"a:1",
        b"/x",
        Headers([(b"Host", b"a:1"), *fields]),
        HttpVersion.HTTP11,
    )
    assert rest == [Data(1, b"hello", credit=5), Ended(1, Headers([(b"T", b"1")]))]
    answering.send_head(1, response(200, reason=b"Yes"), ended=False)
    answering.send_data(1, b"world")
    answering.send_end(1, NO_HEADERS)
    assert feed(asking, answering.outbox()) == [
        ResponseStarted(
            stream, ResponseHead(200, NO_HEADERS, HttpVersion.HTTP11, b"Yes"), ended=False
        ),
        Data(stream, b"world", credit=5),
        Ended(stream, NO_HEADERS),
    ]


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("client", CLIENTS)
def test_our_client_and_our_server_tunnel(server: Server, client: Server) -> None:
    asking, answering = client(Limits()), server(Limits())
    head = RequestHead(
        b"GET", b"http", b"a", b"/ws", Headers([(b"Host", b"a")]), HttpVersion.HTTP11, b"websocket"
    )
    asking.send_head(1, head, ended=False)
    assert feed(answering, asking.outbox()) == [RequestStarted(1, head, ended=False)]
    answering.send_head(1, response(101), ended=False)
    answering.send_data(1, b"first")
    opened = ResponseHead(101, NO_HEADERS, HttpVersion.HTTP11, b"Switching Protocols")
    assert feed(asking, answering.outbox()) == [
        ResponseStarted(1, opened, ended=False),
        Room(1),
        Data(1, b"first", credit=5),
    ]


def read_all(peer: h11.Connection) -> list[h11.Event]:
    """Everything that a real peer makes of what it has received."""
    events: list[h11.Event] = []
    while True:
        event = peer.next_event()
        if event is h11.NEED_DATA or event is h11.PAUSED:
            return events
        assert isinstance(event, h11.Event)
        events.append(event)


@pytest.mark.parametrize("server", SERVERS)
def test_a_real_client_speaks_with_our_server_again_and_again(server: Server) -> None:
    codec, peer = server(Limits()), h11.Connection(h11.CLIENT)
    for stream in (1, 2):
        wire = peer.send(
            h11.Request(
                method="PUT", target="/", headers=[("Host", "a"), ("Transfer-Encoding", "chunked")]
            )
        )
        wire += peer.send(h11.Data(data=b"hello"))
        wire += peer.send(h11.EndOfMessage(headers=[("T", "1")]))
        started, *rest = feed(codec, wire)
        assert isinstance(started, RequestStarted)
        assert rest == [Data(stream, b"hello", credit=5), Ended(stream, Headers([(b"T", b"1")]))]
        codec.send_head(stream, response(200), ended=False)
        codec.send_data(stream, b"world")
        codec.send_end(stream, Headers([(b"T", b"2")]))
        peer.receive_data(codec.outbox())
        head, body, end = read_all(peer)
        assert isinstance(head, h11.Response)
        assert isinstance(body, h11.Data)
        assert isinstance(end, h11.EndOfMessage)
        assert (head.status_code, bytes(body.data), list(end.headers)) == (
            200,
            b"world",
            [(b"t", b"2")],
        )
        peer.start_next_cycle()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_real_server_speaks_with_our_client_again_and_again(client: Server) -> None:
    codec, peer = client(Limits()), h11.Connection(h11.SERVER)
    for stream in (1, 2):
        assert codec.next_stream() == stream
        head = RequestHead(b"PUT", b"http", b"a", b"/", NO_HEADERS, HttpVersion.HTTP11)
        codec.send_head(stream, head, ended=False)
        codec.send_data(stream, b"hello")
        codec.send_end(stream, NO_HEADERS)
        peer.receive_data(codec.outbox())
        request, body, _ = read_all(peer)
        assert isinstance(request, h11.Request)
        assert isinstance(body, h11.Data)
        assert (request.method, bytes(body.data)) == (b"PUT", b"hello")
        wire = peer.send(h11.Response(status_code=200, headers=[("Server", "h11")], reason="OK"))
        wire += peer.send(h11.Data(data=b"wor")) + peer.send(h11.Data(data=b"ld"))
        wire += peer.send(h11.EndOfMessage())
        started, *rest = joined(codec.receive(wire))
        assert isinstance(started, ResponseStarted)
        assert rest == [Data(stream, b"world", credit=5), Ended(stream, NO_HEADERS)]
        peer.start_next_cycle()


PIECES = st.sampled_from(
    (
        b"POST /x HTTP/1.1\r\n",
        b"get / HTTP/1.1\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 C\r\n",
        b"Host: a\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 3\r\n",
        b"X: y\r\n",
        b"X : y\r\n",
        b"5\r\nhello\r\n",
        b"3;x\r\nabc\r\n",
        b"0\r\n",
        b"\r\n\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b" ",
        b"\t",
        b"abc",
        b"\x00",
        b"\xff",
    )
)


def outcome(codec: Codec, wire: bytes, cuts: Sequence[int]) -> tuple[object, ...]:
    """All that `wire` comes to: what was told, or why it was refused."""
    try:
        return (*feed(codec, wire, cuts), codec.finished)
    except ProxyError as error:
        return error.status, error.details


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("client", CLIENTS)
@given(pieces=st.lists(PIECES, max_size=12), cuts=st.lists(st.integers(1, 99), max_size=4))
def test_nonsense_is_nonsense_however_it_arrives(
    server: Server, client: Server, pieces: list[bytes], cuts: list[int]
) -> None:
    limits = Limits(head_bytes=200, header_fields=4, chunk_line_bytes=24)

    def asked() -> Codec:
        codec = client(limits)
        codec.send_head(
            1, RequestHead(b"GET", b"http", b"a", b"/", NO_HEADERS, HttpVersion.HTTP11), ended=True
        )
        return codec

    request = b"POST / HTTP/1.1\r\n" + b"".join(pieces)
    answered = b"HTTP/1.1 200 OK\r\n" + b"".join(pieces)
    whole = outcome(server(limits), request, ()), outcome(asked(), answered, ())
    assert (outcome(server(limits), request, cuts), outcome(asked(), answered, cuts)) == whole
    assert (
        outcome(server(limits), request, range(len(request))),
        outcome(asked(), answered, range(len(answered))),
    ) == whole


@pytest.mark.parametrize("server", SERVERS)
def test_a_head_that_takes_too_long_is_refused(server: Server) -> None:
    codec = server(Limits())
    assert not codec.reading_head
    codec.receive(GET[:5])
    assert codec.reading_head
    error = codec.expire()
    assert (error.flag.code, error.status) == ("-", 408)
    assert codec.outbox() == (
        b"HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain\r\nContent-Length: 23\r\n"
        b"Connection: close\r\n\r\nrequest_header_timeout\n"
    )
    assert codec.finished
    assert not codec.reading_head


@pytest.mark.parametrize("client", [*CLIENTS, pytest.param(Http2Client, id="h2")])
def test_no_request_is_waited_for_where_they_are_sent(client: Server) -> None:
    codec = client(Limits())
    assert not codec.reading_head
    with pytest.raises(AssertionError):
        codec.expire()


@pytest.mark.parametrize("server", SERVERS)
def test_a_request_on_its_way_is_no_head(server: Server) -> None:
    codec = server(Limits())
    codec.receive(GET + GET[:5])
    assert not codec.reading_head
    answer(codec, response(204), ended=True)
    assert codec.reading_head


def test_content_that_goes_past_a_server_counts_as_sent() -> None:
    server = Http1Server(Limits())
    assert server.owing == 0
    server.receive(GET)
    server.send_head(1, response(200, LENGTH), ended=False)
    assert server.owing == 0, "the head is to be written first"
    server.outbox()
    assert server.owing == 5
    server.send_data(1, b"12")
    server.outbox()
    server.skip_sent(3)
    assert server.owing == 0
    server.send_end(1, NO_HEADERS)
    assert server.reusable
    assert not server.finished


def test_content_that_goes_past_a_client_counts_as_received() -> None:
    client = Http1Client(Limits())
    assert client.owed == 0
    client.send_head(1, RequestHead(b"GET", b"http", b"a", b"/", NO_HEADERS, HttpVersion.HTTP11), ended=True)  # fmt: skip
    client.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1")
    assert client.owed == 4
    assert client.skip_received(3) is None
    assert client.skip_received(1) == Ended(1, NO_HEADERS)
    assert client.owed == 0
    assert client.reusable


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n5\r\n", id="chunks"),
        pytest.param(b"\r\n", id="until the end of the stream"),
    ],
)
def test_content_of_no_declared_length_is_not_let_past(content: bytes) -> None:
    client, server = Http1Client(Limits()), Http1Server(Limits())
    client.send_head(1, RequestHead(b"GET", b"http", b"a", b"/", NO_HEADERS, HttpVersion.HTTP11), ended=True)  # fmt: skip
    client.receive(b"HTTP/1.1 200 OK\r\n" + content)
    assert client.owed == 0
    server.receive(GET)
    server.send_head(1, response(200), ended=False)
    server.outbox()
    assert server.owing == 0


def test_content_of_requests_goes_past_alike() -> None:
    server, client = Http1Server(Limits()), Http1Client(Limits())
    assert server.owed == client.owing == 0
    (begun,) = server.receive(POST)
    assert isinstance(begun, RequestStarted)
    assert server.owed == 5
    client.send_head(1, begun.head, ended=False)
    assert client.owing == 0, "the head is to be written first"
    client.outbox()
    assert client.owing == 5
    assert server.skip_received(2) is None
    client.skip_sent(2)
    assert server.skip_received(3) == Ended(1, NO_HEADERS)
    client.skip_sent(3)
    client.send_end(1, NO_HEADERS)
    client.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert client.reusable
    answer(server, response(200), ended=True)
    assert server.reusable


def test_chunks_of_requests_are_not_let_past() -> None:
    server, client = Http1Server(Limits()), Http1Client(Limits())
    (begun,) = server.receive(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert isinstance(begun, RequestStarted)
    client.send_head(1, begun.head, ended=False)
    client.outbox()
    assert server.owed == client.owing == 0
