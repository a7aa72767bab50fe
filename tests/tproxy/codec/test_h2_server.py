"""Http2Server against a real h2 client."""

from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.events import Event as Heard
from h2.settings import SettingCodes
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.h2_peer import GET, POST, H2Peer, block, frame
from tproxy.codec import h2_frames as frames
from tproxy.codec.events import Data, Ended, Event, Failed, Leaving, Refused, RequestStarted, Room
from tproxy.codec.h2_link import UPDATES_DUE, UPDATES_PER_DATA
from tproxy.codec.h2_server import Http2Server
from tproxy.model.http import (
    NO_HEADERS,
    Field,
    Headers,
    HttpVersion,
    RequestHead,
    ResponseHead,
)
from tproxy.model.limits import Limits
from tproxy.model.outcome import DownstreamError, ResponseFlag

HEAD = RequestHead(b"GET", b"http", b"shop.example", b"/", NO_HEADERS, HttpVersion.HTTP2)
CONNECT = ((b":method", b"CONNECT"), (b":authority", b"db.example:5432"))
WEBSOCKET = ((b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:])


def joined(limits: Limits | None = None) -> tuple[Http2Server, H2Peer]:
    """A server that has been greeted, and its client."""
    server = Http2Server(limits or Limits())
    return server, H2Peer(server, client=True)


def answer(status: int = 200, *headers: Field) -> ResponseHead:
    return ResponseHead(status, Headers(headers), HttpVersion.HTTP11, b"whatever")


def failures(events: Iterable[Event]) -> list[tuple[int, ResponseFlag, str, str]]:
    return [
        (event.stream, event.error.flag, event.error.details, event.error.cause)
        for event in events
        if isinstance(event, Failed)
    ]


def resets(heard: Iterable[Heard]) -> list[tuple[int, ErrorCodes | int]]:
    return [(each.stream_id, each.error_code) for each in heard if isinstance(each, StreamReset)]


def test_the_opening_says_how_much_we_take() -> None:
    limits = Limits(streams=7, stream_window=100000, connection_window=200000, head_bytes=5000)
    _, client = joined(limits)
    told = client.h2.remote_settings
    assert (
        told.max_concurrent_streams,
        told.initial_window_size,
        told.max_header_list_size,
        told.max_frame_size,
        told.enable_connect_protocol,
        client.h2.outbound_flow_control_window,
    ) == (7, 100000, 5000, limits.part_bytes, 1, 200000)


def test_a_connection_window_cannot_open_below_the_protocols_own() -> None:
    _, client = joined(Limits(connection_window=1000))
    assert client.h2.outbound_flow_control_window == 65535


def test_a_request_without_body_ends_with_its_head() -> None:
    _, client = joined()
    assert client.pump() == []
    stream = client.request()
    assert client.pump() == [RequestStarted(stream, HEAD, ended=True)]


def test_a_request_comes_with_body_and_trailers() -> None:
    _, client = joined()
    stream = client.request(POST, ended=False)
    client.h2.send_data(stream, b"one")
    client.h2.send_data(stream, b"two", pad_length=4)
    client.h2.send_headers(stream, [(b"checksum", b"7")], end_stream=True)
    started, *rest = client.pump()
    assert isinstance(started, RequestStarted)
    assert not started.ended
    assert rest == [
        Data(stream, b"onetwo", 3 + 3 + 5),
        Ended(stream, Headers([(b"checksum", b"7")])),
    ]


def test_a_response_goes_out_with_informational_ones_body_and_trailers() -> None:
    server, client = joined()
    stream = client.request()
    client.pump()
    server.send_head(stream, answer(103, (b"Link", b"</a>")), ended=False)
    server.send_head(stream, answer(200, (b"Server", b"x"), (b"Connection", b"a")), ended=False)
    server.send_data(stream, b"body")
    server.send_end(stream, Headers([(b"Checksum", b"7")]))
    early, head, data, trailers, end = client.listen()
    assert isinstance(early, InformationalResponseReceived)
    assert early.headers == [(b":status", b"103"), (b"link", b"</a>")]
    assert isinstance(head, ResponseReceived)
    assert head.headers == [(b":status", b"200"), (b"server", b"x")]
    assert isinstance(data, DataReceived)
    assert data.data == b"body"
    assert isinstance(trailers, TrailersReceived)
    assert trailers.headers == [(b"checksum", b"7")]
    assert isinstance(end, StreamEnded)


def test_trailers_that_are_all_left_out_are_no_trailers() -> None:
    server, client = joined()
    stream = client.request()
    client.pump()
    server.send_head(stream, answer(), ended=False)
    server.send_end(stream, Headers([(b"Connection", b"close")]))
    assert [type(each) for each in client.listen()] == [ResponseReceived, DataReceived, StreamEnded]


@pytest.mark.parametrize(
    ("fields", "status", "tunnel"),
    [
        pytest.param(CONNECT, 200, True, id="connect"),
        pytest.param(WEBSOCKET, 200, True, id="extended-connect"),
        pytest.param(WEBSOCKET, 101, True, id="extended-connect-to-http1"),
        pytest.param(CONNECT, 403, False, id="refused"),
    ],
)
def test_each_direction_of_a_tunnel_ends_alone(
    fields: tuple[Field, ...], status: int, tunnel: bool
) -> None:
    server, client = joined()
    stream = client.request(fields, ended=False)
    (started,) = client.pump()
    server.send_head(stream, answer(status), ended=False)
    server.send_end(stream, NO_HEADERS)
    heard = client.listen()
    assert isinstance(started, RequestStarted)
    assert started.head.upgrade == dict(fields).get(b":protocol", b"")
    assert isinstance(heard[0], ResponseReceived)
    assert heard[0].headers == [(b":status", b"%d" % (200 if tunnel else status))]
    assert resets(heard) == ([] if tunnel else [(stream, ErrorCodes.NO_ERROR)])


def test_a_tunnel_carries_bytes_after_our_end() -> None:
    server, client = joined()
    stream = client.request(CONNECT, ended=False)
    client.pump()
    server.send_head(stream, answer(), ended=True)
    client.pump()
    client.h2.send_data(stream, b"late", end_stream=True)
    assert client.pump() == [Data(stream, b"late", 4), Ended(stream, NO_HEADERS)]


def test_a_whole_response_stops_the_rest_of_the_request() -> None:
    server, client = joined()
    stream = client.request(POST, ended=False)
    client.pump()
    server.send_head(stream, answer(413), ended=True)
    assert resets(client.listen()) == [(stream, ErrorCodes.NO_ERROR)]
    assert server.room(stream) == 0


# What streams suffer


def test_what_a_client_sends_on_after_it_was_stopped_costs_no_window() -> None:
    server, client = joined(Limits(connection_window=70000))
    for _ in range(30):
        stream = client.request(POST, ended=False)
        client.pump()
        client.h2.send_data(stream, b"x" * 16000)
        client.h2.send_data(stream, b"x" * 16000, pad_length=9)
        server.send_head(stream, answer(413), ended=True)
        assert client.pump() == []
    assert client.h2.outbound_flow_control_window > 70000 // 2


def test_a_client_that_gives_up_ends_its_stream() -> None:
    server, client = joined()
    stream = client.request()
    client.pump()
    client.h2.reset_stream(stream, ErrorCodes.CANCEL)
    assert failures(client.pump()) == [
        (stream, ResponseFlag.DOWNSTREAM_RESET, "downstream_remote_reset", "CANCEL")
    ]
    server.send_head(stream, answer(), ended=False)
    server.send_data(stream, b"unheard")
    server.send_end(stream, NO_HEADERS)
    server.send_reset(stream)
    assert (server.room(stream), server.outbox()) == (0, b"")


def test_an_unregistered_reset_code_is_told_as_it_is() -> None:
    _, client = joined()
    stream = client.request()
    client.pump()
    client.h2.reset_stream(stream, 0x1234)
    assert failures(client.pump())[0][3] == "0x1234"


@pytest.mark.parametrize(
    ("refused", "code"),
    [
        pytest.param(True, ErrorCodes.REFUSED_STREAM, id="unprocessed"),
        pytest.param(False, ErrorCodes.INTERNAL_ERROR, id="failed"),
    ],
)
def test_a_stream_that_we_give_up_says_whether_it_was_touched(
    refused: bool, code: ErrorCodes
) -> None:
    server, client = joined()
    stream = client.request()
    client.pump()
    server.send_reset(stream, refused=refused)
    server.send_reset(stream, refused=refused)
    assert resets(client.listen()) == [(stream, code)]


MALFORMED = [
    pytest.param([*GET, (b"Upper", b"x")], b"", id="upper-case-name"),
    pytest.param([*GET, (b"connection", b"close")], b"", id="connection-specific"),
    pytest.param([*GET, (b"content-length", b"x")], b"", id="content-length-no-number"),
    pytest.param([*GET, (b"content-length", b"3")], None, id="promised-body-missing"),
    pytest.param([(b":status", b"200"), *GET], b"", id="status-of-a-response"),
    pytest.param([*GET, *[(b"a", b"b")] * 101], b"", id="too-many-fields"),
    pytest.param([*GET, (b"a", b"b" * 9000)], b"", id="too-large"),
]


@pytest.mark.parametrize(("fields", "body"), MALFORMED)
def test_a_malformed_request_is_told_and_ends_its_own_stream(
    fields: list[Field], body: bytes | None
) -> None:
    _, client = joined(Limits(head_bytes=8000, header_fields=100))
    good = client.request(POST, ended=False)
    bad = client.request(fields, ended=body is None)
    begun, refused = client.pump()
    assert isinstance(begun, RequestStarted)
    assert isinstance(refused, Refused)
    assert (refused.stream, refused.error.flag) == (bad, ResponseFlag.DOWNSTREAM_PROTOCOL)
    assert [number for number, _ in resets(client.heard)] == [bad]
    client.h2.send_data(good, b"on we go", end_stream=True)
    assert client.pump() == [Data(good, b"on we go", 8), Ended(good, NO_HEADERS)]


def test_a_request_that_looks_like_an_informational_response_ends_alone() -> None:
    server, _ = joined()
    block = Encoder().encode([(b":status", b"100"), *GET])
    assert [type(event) for event in server.receive(frame(frames.HEADERS, 4, 1, block))] == [
        Refused
    ]
    assert server.reusable


def body_too_long(client: H2Peer, stream: int) -> None:
    client.h2.send_data(stream, b"1234")


def body_too_short(client: H2Peer, stream: int) -> None:
    client.h2.send_data(stream, b"12", end_stream=True)


def trailers_too_early(client: H2Peer, stream: int) -> None:
    client.h2.send_headers(stream, [(b"a", b"b")], end_stream=True)


def trailers_with_pseudo_header(client: H2Peer, stream: int) -> None:
    client.h2.send_data(stream, b"123")
    client.h2.send_headers(stream, [(b":path", b"/")], end_stream=True)


@pytest.mark.parametrize(
    "misbehave", [body_too_long, body_too_short, trailers_too_early, trailers_with_pseudo_header]
)
def test_a_message_that_breaks_its_promise_fails_alone(misbehave: object) -> None:
    server, client = joined()
    other = client.request(POST, ended=False)
    stream = client.request([*POST, (b"content-length", b"3")], ended=False)
    client.pump()
    assert callable(misbehave)
    misbehave(client, stream)
    assert failures(client.pump()) == [
        (stream, ResponseFlag.DOWNSTREAM_PROTOCOL, "http2.violation.of.messaging.rule", "")
    ]
    assert resets(client.heard)[-1] == (stream, ErrorCodes.PROTOCOL_ERROR)
    assert server.room(other) > 0


def test_a_body_of_the_promised_length_is_whole() -> None:
    _, client = joined()
    stream = client.request([*POST, (b"content-length", b"3")], ended=False)
    client.h2.send_data(stream, b"123")
    client.h2.send_headers(stream, [(b"a", b"b")], end_stream=True)
    assert client.pump()[1:] == [Data(stream, b"123", 3), Ended(stream, Headers([(b"a", b"b")]))]


def test_data_after_the_end_fails_its_stream_only() -> None:
    server, client = joined()
    stream = client.request()
    client.pump()
    events = server.receive(frame(frames.DATA, 0, stream, b"more"))
    assert failures(events) == [
        (
            stream,
            ResponseFlag.DOWNSTREAM_PROTOCOL,
            "http2.violation.of.messaging.rule",
            "STREAM_CLOSED",
        )
    ]
    assert resets(client.listen()) == [(stream, ErrorCodes.STREAM_CLOSED)]


def test_a_window_beyond_the_largest_fails_its_stream_only() -> None:
    server, client = joined()
    stream = client.request()
    client.pump()
    events = server.receive(frame(0x8, 0, stream, (2**31 - 1).to_bytes(4, "big")))
    assert failures(events)[0][3] == "FLOW_CONTROL_ERROR"


def test_streams_over_our_bound_are_refused_and_the_others_go_on() -> None:
    server, client = joined(Limits(streams=2))
    client.h2.remote_settings.max_concurrent_streams = 100
    client.h2.remote_settings.acknowledge()
    first, second, third = (client.request() for _ in range(3))
    *begun, refused = client.pump()
    assert [event.stream for event in begun if isinstance(event, RequestStarted)] == [first, second]
    assert isinstance(refused, Refused)
    assert (refused.stream, refused.error.details) == (third, "http2.max_concurrent_streams")
    assert resets(client.heard) == [(third, ErrorCodes.REFUSED_STREAM)]
    server.send_head(first, answer(), ended=True)
    client.pump()
    client.request()
    assert len(client.pump()) == 1


# Flow control


def test_room_is_the_smaller_window_and_none_for_streams_that_are_not_open() -> None:
    server = Http2Server(Limits())
    client = H2Peer(server, client=True, settings={SettingCodes.INITIAL_WINDOW_SIZE: 1000})
    first, second = client.request(), client.request()
    client.pump()
    assert (server.room(first), server.room(99), server.room(0)) == (1000, 0, 0)
    server.send_head(first, answer(), ended=False)
    server.send_data(first, b"x" * 1000)
    assert (server.room(first), server.room(second)) == (0, 1000)


def test_the_connections_window_bounds_every_stream() -> None:
    server = Http2Server(Limits())
    client = H2Peer(server, client=True, settings={SettingCodes.INITIAL_WINDOW_SIZE: 2**20})
    first, second = client.request(), client.request()
    client.pump()
    server.send_head(first, answer(), ended=False)
    server.send_data(first, b"x" * 65000)
    assert server.room(second) == 535


def test_a_window_that_was_taken_back_leaves_no_room() -> None:
    server, client = joined()
    stream = client.request()
    client.pump()
    server.send_head(stream, answer(), ended=False)
    server.send_data(stream, b"x" * 60000)
    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
    assert client.pump() == [Room(0)]
    assert server.room(stream) == 0


def test_room_is_told_for_a_stream_or_for_all() -> None:
    _, client = joined()
    stream = client.request()
    client.pump()
    client.h2.increment_flow_control_window(10, stream)
    client.h2.increment_flow_control_window(10)
    client.h2.update_settings({SettingCodes.MAX_HEADER_LIST_SIZE: 10})
    assert client.pump() == [Room(stream), Room(0)]


def test_a_large_part_leaves_in_frames_that_the_peer_takes() -> None:
    server, client = joined()
    stream = client.request()
    client.pump()
    server.send_head(stream, answer(), ended=False)
    server.send_data(stream, b"x" * 40000)
    sizes = [len(each.data) for each in client.listen() if isinstance(each, DataReceived)]
    assert sizes == [16384, 16384, 7232]


def test_the_windows_never_leak_whatever_becomes_of_the_data() -> None:
    server, client = joined(Limits(stream_window=70000, connection_window=70000))
    for turn in range(60):
        stream = client.request(POST, ended=False)
        client.h2.send_data(stream, b"x" * 9000, pad_length=turn)
        client.h2.send_data(stream, b"", pad_length=200)
        if turn % 3 == 0:
            client.h2.reset_stream(stream)
        told = client.pump()
        if turn % 3 == 1:
            server.send_reset(stream)
        elif turn % 3 == 2:
            server.send_head(stream, answer(), ended=True)
        for event in told:
            if isinstance(event, Data):
                server.consumed(stream, event.credit)
        client.pump()
    assert client.h2.outbound_flow_control_window > 70000 // 2


def test_what_nobody_consumes_is_not_granted_again() -> None:
    _, client = joined(Limits(stream_window=65535))
    stream = client.request(POST, ended=False)
    for _ in range(4):
        client.h2.send_data(stream, b"x" * 16000)
    client.pump()
    assert client.h2.local_flow_control_window(stream) == 1535


def test_padding_is_given_back_without_being_told() -> None:
    _, client = joined(Limits(stream_window=65535))
    stream = client.request(POST, ended=False)
    for _ in range(400):
        client.h2.send_data(stream, b"", pad_length=255)
        assert not [event for event in client.pump() if isinstance(event, Data)]
    assert client.h2.local_flow_control_window(stream) > 30000


def overrun(limits: Limits, bodies: Iterable[tuple[int, int]]) -> DownstreamError:
    """What a server says to `bodies`, sizes on streams, that nobody consumed."""
    server, client = joined(limits)
    client.request(POST, ended=False)
    client.request(POST, ended=False)
    client.pump()
    *within, (stream, size) = bodies
    for number, length in within:
        server.receive(frame(frames.DATA, 0, number, b"x" * length))
    with pytest.raises(DownstreamError) as refused:
        server.receive(frame(frames.DATA, 0, stream, b"x" * size))
    return refused.value


@pytest.mark.parametrize(
    ("limits", "bodies"),
    [
        pytest.param(
            Limits(connection_window=100000), [(1, 60000), (3, 40000), (1, 1)], id="the-connections"
        ),
        pytest.param(
            Limits(connection_window=10),
            [(1, 60000), (3, 5536)],
            id="the-least-that-it-can-be",
        ),
    ],
)
def test_nobody_sends_more_than_the_connections_window(
    limits: Limits, bodies: list[tuple[int, int]]
) -> None:
    assert overrun(limits, bodies).details == "http2.flow_control_error"


@pytest.mark.parametrize(
    ("window", "first"),
    [
        pytest.param(70000, 60000, id="its-own"),
        pytest.param(10, 55535, id="the-default-before-settings"),
    ],
)
def test_a_stream_that_sends_more_than_its_window_fails_alone(window: int, first: int) -> None:
    server, client = joined(Limits(stream_window=window))
    eager, other = client.request(POST, ended=False), client.request(POST, ended=False)
    client.pump()
    server.receive(frame(frames.DATA, 0, eager, b"x" * first))
    assert failures(server.receive(frame(frames.DATA, 0, other, b"x" * 10000))) == []
    assert failures(server.receive(frame(frames.DATA, 0, eager, b"x" * 10001))) == [
        (
            eager,
            ResponseFlag.DOWNSTREAM_PROTOCOL,
            "http2.violation.of.messaging.rule",
            "FLOW_CONTROL_ERROR",
        )
    ]
    assert resets(client.listen()) == [(eager, ErrorCodes.FLOW_CONTROL_ERROR)]
    assert server.receive(frame(frames.DATA, 1, other, b"on we go"))[-1] == Ended(other, NO_HEADERS)


# The end


def test_a_client_that_leaves_without_a_word_fails_what_is_open() -> None:
    server, client = joined()
    done, first, second = client.request(), client.request(), client.request(POST, ended=False)
    client.pump()
    server.send_head(done, answer(), ended=True)
    assert failures(server.receive(b"")) == [
        (stream, ResponseFlag.DOWNSTREAM_GONE, "downstream_remote_disconnect", "")
        for stream in (first, second)
    ]
    assert (server.finished, server.reusable, server.room(first)) == (True, False, 0)


def test_leaving_refuses_nothing_until_the_client_has_heard_it() -> None:
    server, client = joined()
    client.request()
    client.pump()
    server.farewell()
    server.farewell()
    assert (server.reusable, server.finished) == (False, False)
    (warning,) = goaways(server)
    assert warning == (2**31 - 1, ErrorCodes.NO_ERROR)
    crossing = server.receive(crossing_request(client))
    assert [type(event) for event in crossing] == [RequestStarted]


def goaways(server: Http2Server) -> list[tuple[int, int]]:
    """What the GOAWAYs in the outbox say: last stream and code."""
    reader = frames.FrameReader(preface=b"", frame_bytes=2**20, block_bytes=0)
    greeting = frame(frames.SETTINGS, 0, 0)
    return [
        (int.from_bytes(each.payload[:4], "big"), int.from_bytes(each.payload[4:8], "big"))
        for each in reader.feed(greeting + server.outbox())
        if each.kind == frames.GOAWAY
    ]


def crossing_request(client: H2Peer) -> bytes:
    """A request that was sent before the client heard anything."""
    client.request()
    return client.h2.data_to_send()


def pong(payload: bytes = b"farewell") -> bytes:
    return frame(0x6, frames.ACK, 0, payload)


def test_the_second_goaway_names_the_last_request_and_the_open_ones_finish() -> None:
    server, client = joined()
    stream = client.request()
    client.pump()
    server.farewell()
    server.outbox()
    server.receive(pong(b"whatever"))
    assert server.outbox() == b""
    server.receive(pong())
    assert goaways(server) == [(stream, ErrorCodes.NO_ERROR)]
    server.receive(pong())
    assert (server.outbox(), server.finished) == (b"", False)
    server.send_head(stream, answer(), ended=False)
    server.send_data(stream, b"in peace")
    server.send_end(stream, NO_HEADERS)
    assert server.finished
    assert [type(each) for each in client.listen()][-1] is StreamEnded


def test_requests_after_the_last_goaway_are_refused_unseen() -> None:
    server, client = joined()
    server.farewell()
    server.receive(pong())
    server.outbox()
    assert server.receive(crossing_request(client)) == []
    assert resets(client.listen()) == [(1, ErrorCodes.REFUSED_STREAM)]


def test_an_answer_to_no_farewell_means_nothing() -> None:
    server, _ = joined()
    assert server.receive(pong()) == []
    assert (server.outbox(), server.reusable) == (b"", True)


def test_a_client_that_leaves_politely_is_answered_in_kind() -> None:
    server, client = joined()
    stream = client.request(POST, ended=False)
    client.pump()
    assert server.receive(frames.goaway(0, ErrorCodes.NO_ERROR)) == [Leaving()]
    assert goaways(server) == [(2**31 - 1, ErrorCodes.NO_ERROR)]
    rest = server.receive(frame(frames.DATA, 1, stream, b"rest"))
    assert rest == [Data(stream, b"rest", 4), Ended(stream, NO_HEADERS)]


def test_a_server_opens_no_streams_and_owes_nothing_unasked() -> None:
    server, _ = joined()
    assert server.resume() == []
    with pytest.raises(AssertionError):
        server.next_stream()


# The connection's end


WRONG = [
    pytest.param(
        frame(0x8, 0, 0, (2**31 - 1).to_bytes(4, "big")),
        "http2.flow_control_error",
        0x3,
        id="window-overflow",
    ),
    pytest.param(frame(0x6, 0, 0, b"short"), "http2.frame_size_error", 0x6, id="short-ping"),
    pytest.param(
        frame(0x1, 0, 1, b"\x82") + frame(0x7, 0, 0, b"12345678"),
        "http2.protocol_error",
        0x1,
        id="goaway-inside-a-header-block",
    ),
    pytest.param(
        frame(0x1, 4, 1, b"\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
        "http2.compression_error",
        0x9,
        id="endless-integer",
    ),
]


@pytest.mark.parametrize(("wire", "details", "code"), WRONG)
def test_a_broken_connection_says_why_and_ends(wire: bytes, details: str, code: int) -> None:
    server, _ = joined()
    with pytest.raises(DownstreamError) as refused:
        server.receive(wire)
    assert (refused.value.flag, refused.value.details) == (
        ResponseFlag.DOWNSTREAM_PROTOCOL,
        details,
    )
    assert [said for _, said in goaways(server)] == [code]
    assert (server.finished, server.reusable) == (True, False)


def test_frames_of_unknown_kinds_mean_nothing() -> None:
    server, _ = joined()
    assert server.receive(frame(0xBB, 255, 77, b"anything") + frame(0xA, 0, 0, b"\0\0")) == []


@pytest.mark.parametrize(
    "opening",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="http1"),
        pytest.param(frames.PREFACE + frame(0x1, 5, 1, b"\x82\x87\x84"), id="no-settings"),
    ],
)
def test_an_opening_that_is_none_is_refused(opening: bytes) -> None:
    server = Http2Server(Limits())
    with pytest.raises(DownstreamError, match=r"http2\.bad_connection_preface"):
        server.receive(opening)
    assert len(goaways(server)) == 1


def test_a_header_block_that_unfolds_beyond_reason_ends_the_connection() -> None:
    _, client = joined(Limits(head_bytes=5000))
    client.request([*GET, *[(b"bomb", b"x" * 3000)] * 20])
    with pytest.raises(DownstreamError, match=r"http2\.headers_too_large"):
        client.pump()


@pytest.mark.slow
@given(wire=st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_no_bytes_raise_anything_but_a_protocol_error(wire: bytes) -> None:
    server, _ = joined()
    try:
        server.receive(wire)
    except DownstreamError:
        assert server.outbox()


@pytest.mark.slow
@given(
    kind=st.integers(0, 11),
    flags=st.integers(0, 255),
    stream=st.integers(0, 4),
    payload=st.binary(max_size=40),
)
@settings(max_examples=100, deadline=None)
def test_no_frame_raises_anything_but_a_protocol_error(
    kind: int, flags: int, stream: int, payload: bytes
) -> None:
    server, client = joined()
    client.request(POST, ended=False)
    client.pump()
    try:
        server.receive(frame(kind, flags, stream, payload))
    except DownstreamError:
        assert server.outbox()


# Floods


def flood(unit: bytes) -> DownstreamError:
    """What a server with an open stream says to very many of `unit` in one read."""
    server, client = joined(Limits(control_frames=50))
    _, _, given_up = (client.request(POST, ended=False) for _ in range(3))
    client.pump()
    server.send_reset(given_up)
    server.outbox()
    server.receive(unit * 50)
    with pytest.raises(DownstreamError) as refused:
        server.receive(unit)
    assert goaways(server)[-1][1] == ErrorCodes.ENHANCE_YOUR_CALM
    return refused.value


@pytest.mark.parametrize(
    "unit",
    [
        pytest.param(frame(0x6, 0, 0, b"12345678"), id="ping"),
        pytest.param(frame(0x4, 0, 0), id="settings"),
        pytest.param(frame(0x2, 0, 1, b"\0\0\0\0\7"), id="priority"),
        pytest.param(frame(0x0, 0, 1), id="empty-data"),
        pytest.param(frame(0x0, 8, 1, b"\x00"), id="empty-padded-data"),
        pytest.param(frame(0x8, 0, 0, b"\0\0\0\1"), id="window-by-one"),
        pytest.param(frames.goaway(0, ErrorCodes.NO_ERROR), id="goaway"),
        pytest.param(frame(0xBB, 0, 0), id="unknown"),
        pytest.param(frame(0x6, frames.ACK, 0, b"12345678"), id="ping-acknowledged"),
        pytest.param(frame(0x4, frames.ACK, 0), id="settings-acknowledged"),
        pytest.param(frame(0x0, 0, 5), id="empty-data-of-a-stream-that-was-reset"),
        pytest.param(frame(0x1, 4, 5, block(POST)), id="heads-of-a-stream-that-was-reset"),
        pytest.param(frame(0x3, 0, 5, b"\0" * 4), id="resets-of-a-stream-that-was-reset"),
    ],
)
def test_frames_without_a_message_are_bounded_until_our_answers_left(unit: bytes) -> None:
    assert flood(unit).details == "http2.control_frames_flood"


def test_updates_for_what_was_sent_are_no_flood() -> None:
    server, client = joined(Limits(control_frames=50))
    stream = client.request()
    client.pump()
    server.send_head(stream, answer(), ended=False)
    for _ in range(9):
        server.send_data(stream, b"x" * 100)
    server.outbox()
    server.receive(frame(0x8, 0, 0, b"\0\0\0\1") * 90)
    server.receive(frame(0x8, 0, 0, b"\0\0\0\1") * 50)
    with pytest.raises(DownstreamError, match=r"http2\.control_frames_flood"):
        server.receive(frame(0x8, 0, 0, b"\0\0\0\1"))


def test_updates_that_are_due_do_not_add_up_for_ever() -> None:
    server, client = joined(Limits(control_frames=50))
    stream = client.request()
    client.pump()
    server.send_head(stream, answer(), ended=False)
    for _ in range(2 * UPDATES_DUE // UPDATES_PER_DATA):
        server.send_data(stream, b"x")
    server.outbox()
    with pytest.raises(DownstreamError, match=r"http2\.control_frames_flood"):
        server.receive(frame(0x8, 0, 0, b"\0\0\0\1") * (UPDATES_DUE + 51))


def test_the_same_frames_spread_over_time_are_no_flood() -> None:
    server, client = joined(Limits(control_frames=2))
    for _ in range(20):
        client.h2.ping(b"keepaliv")
        assert client.pump() == []
    assert server.reusable


def test_the_end_of_a_body_is_no_control_frame_even_when_empty() -> None:
    _, client = joined(Limits(control_frames=9))
    for _ in range(20):
        client.h2.end_stream(client.request(POST, ended=False))
    assert len(client.pump()) == 40


def test_requests_given_up_unanswered_are_bounded() -> None:
    _, client = joined(Limits(resets=10))
    for _ in range(11):
        client.h2.reset_stream(client.request())
    with pytest.raises(DownstreamError, match=r"http2\.reset_flood"):
        client.pump()


def opened(stream: int, fields: Iterable[Field] = POST, flags: int = frames.END_HEADERS) -> bytes:
    return frame(frames.HEADERS, flags, stream, block(fields))


MADE_YOU_RESET = {
    "malformed heads": lambda stream: opened(stream, [*GET, (b"Upper", b"x")]),
    "malformed trailers": lambda stream: opened(stream) + opened(stream, [(b"a", b"b")]),
    "DATA behind the end": lambda stream: opened(stream, flags=5) + frame(0x0, 0, stream, b"x"),
    "HEADERS behind the end": lambda stream: opened(stream, flags=5) * 2,
    "no increments": lambda stream: opened(stream) + frame(0x8, 0, stream, b"\0" * 4),
    "windows that overflow": lambda stream: (
        opened(stream) + frame(0x8, 0, stream, b"\x7f" + b"\xff" * 3)
    ),
    "priorities of no length": lambda stream: opened(stream) + frame(0x2, 0, stream),
    "priorities on themselves": lambda stream: (
        opened(stream) + frame(0x2, 0, stream, stream.to_bytes(4, "big") + b"\0")
    ),
    "bodies beyond their length": lambda stream: (
        opened(stream, [*POST, (b"content-length", b"1")]) + frame(0x0, 0, stream, b"xx")
    ),
}


@pytest.mark.parametrize("misbehaving", MADE_YOU_RESET.values(), ids=MADE_YOU_RESET)
def test_requests_that_make_us_reset_them_are_bounded(
    misbehaving: Callable[[int], bytes],
) -> None:
    server, _ = joined(Limits(resets=10))
    for turn in range(10):
        server.receive(misbehaving(2 * turn + 1))
    with pytest.raises(DownstreamError, match=r"http2\.reset_flood"):
        server.receive(misbehaving(21))
    assert goaways(server)[-1][1] == ErrorCodes.ENHANCE_YOUR_CALM


def test_streams_beyond_our_bound_are_refused_within_bounds() -> None:
    server, _ = joined(Limits(streams=1, resets=10))
    server.receive(opened(1))
    for turn in range(1, 11):
        server.receive(opened(2 * turn + 1))
    with pytest.raises(DownstreamError, match=r"http2\.reset_flood"):
        server.receive(opened(23))


def test_requests_given_up_among_answered_ones_are_no_flood() -> None:
    server, client = joined(Limits(resets=10))
    for _ in range(30):
        answered, stopped = client.request(), client.request(POST, ended=False)
        client.h2.reset_stream(client.request())
        client.pump()
        server.send_head(answered, answer(), ended=True)
        server.send_head(stopped, answer(), ended=True)
    assert server.reusable


def test_answers_that_are_cut_short_are_no_flood() -> None:
    server, client = joined(Limits(resets=10))
    for _ in range(30):
        stream = client.request()
        client.pump()
        server.send_head(stream, answer(), ended=False)
        client.pump()
        client.h2.reset_stream(stream)
        client.pump()
    assert server.reusable


def test_unknown_settings_are_not_hoarded() -> None:
    server, client = joined()
    before = len(client.h2.remote_settings)
    many = b"".join(code.to_bytes(2, "big") + b"\0\0\0\1" for code in range(100, 3000))
    assert server.receive(frame(frames.SETTINGS, 0, 0, many)) == []
    assert len(client.h2.remote_settings) == before


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param([2**32 - 1], id="huge"),
        pytest.param([100, 100], id="the-same-twice"),
        pytest.param([0, 4096], id="there-and-back"),
        pytest.param([50, 3000, 200], id="down-up-down"),
    ],
)
def test_the_peers_compression_table_may_change_at_will(sizes: list[int]) -> None:
    server, client = joined()
    for size in sizes:
        client.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: size})
        client.pump()
    for _ in range(3):
        stream = client.request()
        client.pump()
        server.send_head(stream, answer(200, (b"server", b"x" * 60)), ended=True)
        head = client.listen()[0]
        assert isinstance(head, ResponseReceived)
        assert head.headers[1] == (b"server", b"x" * 60)


# However the bytes arrive


def conversation() -> bytes:
    """What a client says in one breath."""
    client = H2Peer(Http2Server(Limits()), client=True, greet=False)
    first = client.request([*POST, (b"a", b"b" * 300)], ended=False)
    client.request()
    client.h2.send_data(first, b"x" * 5000, pad_length=3)
    client.h2.ping(b"12345678")
    client.h2.send_data(first, b"y" * 50)
    client.h2.send_headers(first, [(b"t", b"u")], end_stream=True)
    third = client.request(POST, ended=False)
    client.h2.reset_stream(third, ErrorCodes.CANCEL)
    return client.h2.data_to_send()


WIRE = conversation()


def told(pieces: Iterable[bytes]) -> tuple[list[object], bytes]:
    """The events and the answers, with a body's parts joined and errors by their words."""
    server = Http2Server(Limits())
    events: list[object] = []
    bodies: dict[int, tuple[bytes, int]] = {}
    for piece in pieces:
        for event in server.receive(piece) if piece else []:
            match event:
                case Data(stream, data, credit):
                    so_far, credited = bodies.get(stream, (b"", 0))
                    bodies[stream] = (so_far + data, credited + credit)
                case Failed(stream, error):
                    events.append((stream, str(error)))
                case _:
                    events.append(event)
    return [*events, bodies], server.outbox()


def test_the_events_are_the_same_byte_by_byte() -> None:
    assert told(WIRE[at : at + 1] for at in range(len(WIRE))) == told([WIRE])


@pytest.mark.slow
@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, len(WIRE)), max_size=12))
def test_the_events_are_the_same_in_any_pieces(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(WIRE)]
    pieces = (WIRE[start:end] for start, end in pairwise(edges))
    assert told(pieces) == told([WIRE])


def test_a_terminated_client_is_what_h2_makes_of_our_goaway() -> None:
    server, client = joined()
    with pytest.raises(DownstreamError):
        server.receive(frame(0x6, 0, 0, b"short"))
    assert [type(each) for each in client.listen()] == [ConnectionTerminated]


HEADERS_IN_TWO = (
    frame(frames.HEADERS, 1, 1, Encoder().encode(list(GET))),
    frame(frames.CONTINUATION, frames.END_HEADERS, 1),
)
GREETING = frames.PREFACE + frame(frames.SETTINGS, 0, 0)


@pytest.mark.parametrize(
    ("said", "reading"),
    [
        pytest.param(b"", False, id="silence"),
        pytest.param(GREETING[:3], True, id="half a preface"),
        pytest.param(frames.PREFACE, True, id="no settings"),
        pytest.param(GREETING[:-1], True, id="half of them"),
        pytest.param(GREETING, False, id="a peer that has said what it takes"),
        pytest.param(GREETING + HEADERS_IN_TWO[0][:12], True, id="half a frame"),
        pytest.param(GREETING + HEADERS_IN_TWO[0], True, id="half a block"),
        pytest.param(GREETING + b"".join(HEADERS_IN_TWO), False, id="a whole request"),
        pytest.param(
            GREETING + b"".join(HEADERS_IN_TWO) + b"\0\0", False, id="half a frame beside a request"
        ),
    ],
)
def test_a_head_that_has_begun_is_known(said: bytes, reading: bool) -> None:
    server = Http2Server(Limits())
    if said:
        server.receive(said)
    assert server.reading_head is reading


def test_a_head_that_takes_too_long_ends_the_connection_without_blame() -> None:
    server, client = joined()
    server.receive(HEADERS_IN_TWO[0])
    error = server.expire()
    assert (error.flag.code, error.status, error.details) == ("-", 408, "request_header_timeout")
    (farewell,) = client.listen()
    assert isinstance(farewell, ConnectionTerminated)
    assert (farewell.error_code, server.finished, server.reading_head) == (
        ErrorCodes.NO_ERROR,
        True,
        False,
    )
