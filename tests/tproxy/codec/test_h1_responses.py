"""What an upstream's HTTP/1 bytes mean: one table for every engine, read whole, byte by byte and with more behind."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fakes.engines import CLIENTS
from fakes.wire import feed
from tproxy.codec.codec import Codec
from tproxy.codec.events import Data, Ended, Event, Failed, Informed, ResponseStarted, Room
from tproxy.model.http import NO_HEADERS, Headers, HttpVersion, RequestHead, ResponseHead
from tproxy.model.limits import Limits
from tproxy.model.outcome import ResponseFlag, UpstreamError

Client = Callable[[Limits], Codec]

LIMITS = Limits(head_bytes=2048, header_fields=12, chunk_line_bytes=64, informational_heads=3)


def asked(
    client: Client, method: bytes = b"GET", upgrade: bytes = b"", *, ended: bool = True
) -> Codec:
    """A codec that has sent a request."""
    codec = client(LIMITS)
    path = b"" if method == b"CONNECT" else b"/"
    head = RequestHead(
        method, b"http", b"a:1", path, Headers([(b"Host", b"a:1")]), HttpVersion.HTTP11, upgrade
    )
    stream = codec.next_stream()
    codec.send_head(stream, head, ended=ended and not upgrade and method != b"CONNECT")
    return codec


def response(
    status: int,
    *fields: tuple[bytes, bytes],
    reason: bytes = b"OK",
    version: HttpVersion = HttpVersion.HTTP11,
) -> ResponseHead:
    """The head that a response on the wire should become."""
    return ResponseHead(status, Headers(fields), version, reason)


def alone(head: ResponseHead) -> list[Event]:
    """A response without a body."""
    return [ResponseStarted(1, head, ended=True)]


def begun(head: ResponseHead, body: bytes) -> list[Event]:
    """A response whose body goes on."""
    data = [Data(1, body, credit=len(body))] if body else []
    return [ResponseStarted(1, head, ended=False), *data]


def with_body(head: ResponseHead, body: bytes, *trailers: tuple[bytes, bytes]) -> list[Event]:
    """A response with a body, and perhaps trailers."""
    return [*begun(head, body), Ended(1, Headers(trailers))]


LENGTH = (b"Content-Length", b"5")

ACCEPTED = [
    pytest.param(
        b"GET",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        with_body(response(200, LENGTH), b"hello"),
        True,
        id="counted",
    ),
    pytest.param(
        b"GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n",
        with_body(response(200), b"hello!", (b"X-Sum", b"1")),
        True,
        id="chunked with trailers",
    ),
    pytest.param(
        b"GET",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        alone(response(200, (b"Content-Length", b"0"))),
        True,
        id="declared empty",
    ),
    pytest.param(
        b"GET",
        b"HTTP/1.1 999 Request denied\r\nContent-Length: 0\r\n\r\n",
        alone(response(999, (b"Content-Length", b"0"), reason=b"Request denied")),
        True,
        id="a status of the upstream's own",
    ),
    pytest.param(
        b"GET",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        alone(response(204, reason=b"No Content")),
        True,
        id="204",
    ),
    pytest.param(
        b"GET",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        alone(response(304, LENGTH, reason=b"Not Modified")),
        True,
        id="304 keeps its length",
    ),
    pytest.param(
        b"HEAD",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        alone(response(200, LENGTH)),
        True,
        id="answer to HEAD",
    ),
    pytest.param(
        b"HEAD",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        alone(response(200)),
        True,
        id="chunked answer to HEAD",
    ),
    pytest.param(
        b"GET",
        b"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n",
        alone(response(404, (b"Content-Length", b"0"), reason=b"")),
        True,
        id="no reason",
    ),
    pytest.param(
        b"GET",
        b"HTTP/1.1 200 Tr\xe8s bien\r\nset-COOKIE: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
        alone(
            response(
                200,
                (b"set-COOKIE", b"a"),
                (b"Set-Cookie", b"b"),
                (b"Content-Length", b"0"),
                reason=b"Tr\xe8s bien",
            )
        ),
        True,
        id="reason, case, order and duplicates survive",
    ),
    pytest.param(
        b"GET",
        b"HTTP/1.1 200 OK\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nContent-Length: 0\r\n\r\n",
        alone(response(200, (b"Content-Length", b"0"))),
        False,
        id="close",
    ),
    pytest.param(
        b"GET",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        with_body(response(200, LENGTH, version=HttpVersion.HTTP10), b"hello"),
        False,
        id="1.0 closes",
    ),
    pytest.param(
        b"GET",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
        with_body(response(200, LENGTH, version=HttpVersion.HTTP10), b"hello"),
        True,
        id="1.0 that stays",
    ),
    pytest.param(
        b"GET",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        [
            Informed(1, response(100, reason=b"Continue")),
            Informed(1, response(103, (b"Link", b"x"), reason=b"Early Hints")),
            *alone(response(200, (b"Content-Length", b"0"))),
        ],
        True,
        id="informational heads",
    ),
    pytest.param(
        b"CONNECT",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nnever",
        with_body(response(403, LENGTH, reason=b"Forbidden"), b"never"),
        True,
        id="refused CONNECT",
    ),
]

CODEC = "http1.codec_error"
TE = "http1.invalid_transfer_encoding"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
TUNNELLED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\r\n"

REFUSED = [
    pytest.param(
        b"GET",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "http1.content_length_and_chunked_not_allowed",
        id="both framings",
    ),
    pytest.param(
        b"GET", OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", CODEC, id="two lengths"
    ),
    pytest.param(b"GET", OK + b"Content-Length: x\r\n\r\n", CODEC, id="no length"),
    pytest.param(b"GET", OK + b"Transfer-Encoding: gzip\r\n\r\n", TE, id="unknown coding"),
    pytest.param(
        b"GET", OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", TE, id="a coding too many"
    ),
    pytest.param(
        b"GET",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        TE,
        id="coding in 1.0",
    ),
    pytest.param(b"GET", CHUNKED + b"5 \r\nhello\r\n", CODEC, id="bad chunk size"),
    pytest.param(b"GET", CHUNKED + b"5\r\nhelloworld\r\n", CODEC, id="bad chunk end"),
    pytest.param(b"GET", b"SSH-2.0-OpenSSH_9.2\r\n", CODEC, id="another protocol"),
    pytest.param(b"GET", b"HTTP/2.0 200 OK\r\n\r\n", CODEC, id="another version"),
    pytest.param(b"GET", b"HTTP/1.1 099 No\r\n\r\n", CODEC, id="status below"),
    pytest.param(b"GET", b"HTTP/1.1 1000 No\r\n\r\n", CODEC, id="status above"),
    pytest.param(b"GET", b"HTTP/1.1 200 OK\n\n", CODEC, id="bare LFs"),
    pytest.param(b"GET", OK + b"X: a\r\n b\r\n\r\n", CODEC, id="folded line"),
    pytest.param(b"GET", OK + b"X: \x00\r\n\r\n", CODEC, id="NUL"),
    pytest.param(b"GET", OK + b"X : y\r\n\r\n", CODEC, id="space before the colon"),
    pytest.param(b"GET", OK + b"X: " + b"y" * 4000, "http1.headers_too_large", id="large head"),
    pytest.param(
        b"GET", OK + b"X: y\r\n" * 13 + b"\r\n", "http1.too_many_headers", id="many fields"
    ),
    pytest.param(b"GET", b"HTTP/1.1 100 C\r\n\r\n" * 4, CODEC, id="informational flood"),
    pytest.param(
        b"GET",
        b"HTTP/1.1 103 E\r\nContent-Length: 5\r\n\r\n",
        "http1.content_length_not_allowed",
        id="1xx with a length",
    ),
    pytest.param(
        b"GET",
        b"HTTP/1.1 204 N\r\nContent-Length: 5\r\n\r\n",
        "http1.content_length_not_allowed",
        id="204 with a length",
    ),
    pytest.param(
        b"GET",
        b"HTTP/1.1 204 N\r\nTransfer-Encoding: chunked\r\n\r\n",
        "http1.transfer_encoding_not_allowed",
        id="chunked 204",
    ),
    pytest.param(b"GET", TUNNELLED, CODEC, id="101 unasked for"),
    pytest.param(b"CONNECT", TUNNELLED, CODEC, id="101 to CONNECT"),
    pytest.param(
        b"CONNECT",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        "http1.content_length_not_allowed",
        id="tunnel with a length",
    ),
]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("method", "wire", "events", "reusable"), ACCEPTED)
def test_a_response_is_told_alike_however_it_arrives(
    client: Client, method: bytes, wire: bytes, events: list[Event], *, reusable: bool
) -> None:
    for cuts in (range(0), range(len(wire))):
        codec = asked(client, method)
        assert feed(codec, wire, cuts) == events
        assert codec.reusable is reusable
        assert codec.finished is not reusable


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("method", "wire", "events", "reusable"), ACCEPTED)
def test_bytes_after_a_response_cost_the_connection_but_not_the_response(
    client: Client, method: bytes, wire: bytes, events: list[Event], *, reusable: bool
) -> None:
    del reusable
    for cuts in (range(0), range(len(wire) + 5)):
        codec = asked(client, method)
        assert feed(codec, wire + b"HTTP/1.1 200 OK\r\n\r\n", cuts) == events
        assert not codec.reusable
        assert codec.finished
        assert codec.receive(b"") == []


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("method", "wire", "details"), REFUSED)
@pytest.mark.parametrize("step", [1, 3, 100_000], ids=["byte by byte", "in threes", "whole"])
def test_a_response_of_more_than_one_meaning_ends_the_connection(
    client: Client, method: bytes, wire: bytes, details: str, *, step: int
) -> None:
    codec = asked(client, method)
    codec.outbox()
    with pytest.raises(UpstreamError) as refusal:
        feed(codec, wire, range(0, len(wire), step))
    assert (refusal.value.flag, refusal.value.status, refusal.value.details) == (
        ResponseFlag.UPSTREAM_PROTOCOL,
        502,
        details,
    )
    assert codec.finished
    assert not codec.reusable
    assert codec.outbox() == b""


@pytest.mark.parametrize("client", CLIENTS)
@given(
    case=st.sampled_from([param.values for param in ACCEPTED]),
    cuts=st.lists(st.integers(1, 200), max_size=8),
)
def test_any_cutting_of_the_bytes_tells_the_same(
    client: Client, case: tuple[bytes, bytes, list[Event], bool], cuts: list[int]
) -> None:
    method, wire, events, reusable = case
    codec = asked(client, method)
    assert feed(codec, wire, cuts) == events
    assert codec.reusable is reusable


BEFORE = "upstream_reset_before_response_started{connection_termination}"
AFTER = "upstream_reset_after_response_started{connection_termination}"


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("wire", "details"),
    [
        pytest.param(b"", BEFORE, id="at once"),
        pytest.param(b"HTTP/1.1 2", BEFORE, id="in the head"),
        pytest.param(b"HTTP/1.1 100 C\r\n\r\n", BEFORE, id="after an informational head"),
        pytest.param(OK + LENGTH[0] + b": 5\r\n\r\nhel", AFTER, id="in a counted body"),
        pytest.param(CHUNKED + b"5\r\nhel", AFTER, id="in a chunk"),
        pytest.param(CHUNKED + b"0\r\n", AFTER, id="before trailers"),
    ],
)
def test_an_upstream_that_leaves_within_its_response_fails_it(
    client: Client, wire: bytes, details: str
) -> None:
    codec = asked(client)
    feed(codec, wire)
    (event,) = codec.receive(b"")
    assert isinstance(event, Failed)
    assert (event.error.flag, event.error.details) == (ResponseFlag.UPSTREAM_CLOSED, details)
    assert codec.finished


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_body_without_framing_ends_with_the_connection(client: Client, version: bytes) -> None:
    codec = asked(client)
    feed(codec, b"HTTP/" + version + b" 200 OK\r\n\r\nhel")
    assert feed(codec, b"lo") == [Data(1, b"lo", credit=2)]
    assert codec.receive(b"") == [Ended(1, NO_HEADERS)]
    assert codec.finished


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("arrival", [b"HTTP/1.1 200 OK\r\n\r\n", b""], ids=["bytes", "its end"])
def test_whatever_arrives_on_an_idle_connection_makes_it_unusable(
    client: Client, arrival: bytes
) -> None:
    codec = client(LIMITS)
    assert codec.reusable
    assert codec.receive(arrival) == []
    assert not codec.reusable
    assert codec.finished


TUNNEL = [
    pytest.param(
        b"GET", b"websocket", TUNNELLED, response(101, reason=b"Switching Protocols"), id="upgrade"
    ),
    pytest.param(
        b"GET",
        b"tcp",
        b"HTTP/1.1 101 UPGRADED\r\n\r\n",
        response(101, reason=b"UPGRADED"),
        id="unnamed upgrade",
    ),
    pytest.param(b"CONNECT", b"", b"HTTP/1.1 200 OK\r\n\r\n", response(200), id="CONNECT"),
]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("method", "upgrade", "wire", "head"), TUNNEL)
def test_a_tunnel_has_room_once_it_is_open_and_loses_no_byte(
    client: Client, method: bytes, upgrade: bytes, wire: bytes, head: ResponseHead
) -> None:
    for cuts in (range(0), range(len(wire) + 5)):
        codec = asked(client, method, upgrade)
        codec.outbox()
        assert codec.room(1) == 0
        assert feed(codec, wire + b"early", cuts) == [
            ResponseStarted(1, head, ended=False),
            Room(1),
            Data(1, b"early", credit=5),
        ]
        assert codec.room(1) > 0
        codec.send_data(1, b"\x00raw\r\n")
        assert codec.outbox() == b"\x00raw\r\n"
        assert codec.receive(b"") == [Ended(1, NO_HEADERS)]
        assert not codec.finished
        codec.send_end(1, NO_HEADERS)
        assert codec.finished
        assert not codec.reusable


@pytest.mark.parametrize("client", CLIENTS)
def test_a_tunnel_goes_on_one_way_after_our_end(client: Client) -> None:
    codec = asked(client, upgrade=b"websocket")
    codec.send_end(1, NO_HEADERS)
    feed(codec, TUNNELLED)
    assert feed(codec, b"more") == [Data(1, b"more", credit=4)]
    assert not codec.finished
    assert codec.receive(b"") == [Ended(1, NO_HEADERS)]
    assert codec.finished


@pytest.mark.parametrize("client", CLIENTS)
def test_a_switch_to_another_protocol_than_asked_for_is_an_error(client: Client) -> None:
    codec = asked(client, upgrade=b"tcp")
    with pytest.raises(UpstreamError):
        codec.receive(TUNNELLED)


@pytest.mark.parametrize("client", CLIENTS)
def test_an_upgrade_that_is_not_granted_is_a_request_like_any_other(client: Client) -> None:
    codec = asked(client, upgrade=b"websocket")
    assert feed(codec, OK + b"Content-Length: 5\r\n\r\nhello") == with_body(
        response(200, LENGTH), b"hello"
    )
    assert codec.reusable
    codec.send_end(1, NO_HEADERS)
    assert codec.reusable


@pytest.mark.parametrize("client", CLIENTS)
def test_a_response_that_ends_before_its_request_ends_the_connection(client: Client) -> None:
    codec = asked(client, b"POST", ended=False)
    feed(codec, b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    codec.outbox()
    codec.send_data(1, b"dropped")
    codec.send_end(1, NO_HEADERS)
    assert codec.outbox() == b""
    assert codec.finished
    assert not codec.reusable


@pytest.mark.parametrize("client", CLIENTS)
def test_a_reset_or_a_farewell_leaves_no_reusable_connection(client: Client) -> None:
    given_up, leaving, idle = asked(client), asked(client), client(LIMITS)
    given_up.send_reset(1)
    assert given_up.finished
    assert feed(given_up, OK + b"\r\n") == []
    leaving.farewell()
    assert not leaving.finished
    feed(leaving, OK + b"Content-Length: 0\r\n\r\n")
    assert leaving.finished
    idle.send_reset(1)
    assert idle.reusable
    idle.farewell()
    assert idle.finished


def sent(client: Client, head: RequestHead, *parts: bytes, ended: bool = False) -> bytes:
    """What a request looks like on the wire."""
    codec = client(LIMITS)
    codec.send_head(codec.next_stream(), head, ended=ended)
    for part in parts:
        codec.send_data(1, part)
    if not ended:
        codec.send_end(1, Headers([(b"X-Sum", b"1"), (b"Host", b"evil")]))
    return codec.outbox()


def asking(method: bytes, *fields: tuple[bytes, bytes], upgrade: bytes = b"") -> RequestHead:
    """A request to send, from HTTP/2: its Host is only in the authority."""
    path = b"" if method == b"CONNECT" else b"/x"
    return RequestHead(method, b"https", b"a:1", path, Headers(fields), HttpVersion.HTTP2, upgrade)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("head", "parts", "ended", "wire"),
    [
        pytest.param(
            asking(b"GET"), [], True, b"GET /x HTTP/1.1\r\nHost: a:1\r\n\r\n", id="Host is added"
        ),
        pytest.param(
            asking(b"GET", (b"X", b"1"), (b"hOst", b"b")),
            [],
            True,
            b"GET /x HTTP/1.1\r\nX: 1\r\nhOst: b\r\n\r\n",
            id="Host stays where it was",
        ),
        pytest.param(
            asking(b"POST"),
            [],
            True,
            b"POST /x HTTP/1.1\r\nHost: a:1\r\nContent-Length: 0\r\n\r\n",
            id="empty POST",
        ),
        pytest.param(
            asking(b"PUT", (b"content-length", b"2")),
            [b"h", b"i"],
            False,
            b"PUT /x HTTP/1.1\r\nHost: a:1\r\ncontent-length: 2\r\n\r\nhi",
            id="counted",
        ),
        pytest.param(
            asking(b"GET", (b"te", b"trailers")),
            [b"h", b"", b"i"],
            False,
            b"GET /x HTTP/1.1\r\nHost: a:1\r\nte: trailers\r\nTransfer-Encoding: chunked\r\nConnection: TE\r\n\r\n"
            b"1\r\nh\r\n1\r\ni\r\n0\r\nX-Sum: 1\r\n\r\n",
            id="chunked with trailers",
        ),
        pytest.param(
            asking(b"GET", upgrade=b"websocket"),
            [],
            False,
            b"GET /x HTTP/1.1\r\nHost: a:1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            id="upgrade",
        ),
        pytest.param(
            RequestHead(
                b"CONNECT", b"http", b"a:1", b"/x", NO_HEADERS, HttpVersion.HTTP2, b"websocket"
            ),
            [],
            False,
            b"GET /x HTTP/1.1\r\nHost: a:1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            id="extended CONNECT",
        ),
        pytest.param(
            replace(asking(b"GET"), absolute=True),
            [],
            True,
            b"GET http://a:1/x HTTP/1.1\r\nHost: a:1\r\n\r\n",
            id="to a forward proxy",
        ),
        pytest.param(
            replace(asking(b"OPTIONS"), path=b"*", absolute=True),
            [],
            True,
            b"OPTIONS http://a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
            id="to a forward proxy about a whole server",
        ),
        pytest.param(
            asking(b"CONNECT"),
            [],
            False,
            b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
            id="CONNECT",
        ),
    ],
)
def test_a_request_is_written_as_it_was_with_the_framing_it_needs(
    client: Client, head: RequestHead, parts: list[bytes], *, ended: bool, wire: bytes
) -> None:
    assert sent(client, head, *parts, ended=ended) == wire


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("value", [b"a\r\nX: b", b"a\nb", b"a\x00"])
def test_a_field_that_would_become_two_is_never_written(client: Client, value: bytes) -> None:
    with pytest.raises(AssertionError):
        sent(client, asking(b"GET", (b"x", value)), ended=True)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_request_shorter_than_it_said_spoils_the_connection(client: Client) -> None:
    codec = client(LIMITS)
    codec.send_head(1, asking(b"POST", (b"content-length", b"3")), ended=False)
    codec.send_data(1, b"hi")
    codec.send_end(1, NO_HEADERS)
    feed(codec, OK + b"Content-Length: 0\r\n\r\n")
    assert not codec.reusable
    codec.consumed(1, 2)
    assert codec.resume() == []
    assert not codec.multiplexed
