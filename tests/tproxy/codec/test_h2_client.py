"""Http2Client against a real h2 server."""

from collections.abc import Iterable

import pytest
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset, TrailersReceived
from h2.settings import SettingCodes
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.h2_peer import GET, OK, H2Peer, frame
from tproxy.codec import h2_frames as frames
from tproxy.codec.events import Data, Ended, Event, Failed, Informed, Leaving, ResponseStarted, Room
from tproxy.codec.h2_client import Http2Client
from tproxy.codec.h2_window import OPENING_WINDOW
from tproxy.model.http import NO_HEADERS, Field, Headers, HttpVersion, RequestHead, ResponseHead
from tproxy.model.limits import Limits
from tproxy.model.outcome import ResponseFlag, UpstreamError

GREETING = frame(frames.SETTINGS, 0, 0)


def joined(
    limits: Limits | None = None, settings: dict[SettingCodes, int] | None = None
) -> tuple[Http2Client, H2Peer]:
    """A client that has been greeted, and its server."""
    client = Http2Client(limits or Limits())
    return client, H2Peer(client, client=False, settings=settings)


def head(method: bytes = b"GET", *fields: Field, upgrade: bytes = b"") -> RequestHead:
    return RequestHead(
        method, b"http", b"shop.example", b"/", Headers(fields), HttpVersion.HTTP11, upgrade
    )


def asked(client: Http2Client, request: RequestHead | None = None, *, ended: bool = True) -> int:
    """Send a request's head."""
    stream = client.next_stream()
    client.send_head(stream, request or head(), ended=ended)
    return stream


def response(status: int = 200, *fields: Field) -> ResponseHead:
    return ResponseHead(status, Headers(fields), HttpVersion.HTTP2)


def failures(events: Iterable[Event]) -> list[tuple[int, ResponseFlag, str, str]]:
    return [
        (event.stream, event.error.flag, event.error.details, event.error.cause)
        for event in events
        if isinstance(event, Failed)
    ]


def resets(peer: H2Peer) -> list[tuple[int, ErrorCodes | int]]:
    return [
        (each.stream_id, each.error_code) for each in peer.heard if isinstance(each, StreamReset)
    ]


def test_the_opening_wants_no_pushes_and_says_how_much_we_take() -> None:
    limits = Limits(stream_window=100000, streams=9, head_bytes=5000)
    _, server = joined(limits)
    told = server.h2.remote_settings
    assert (
        told.enable_push,
        told.initial_window_size,
        told.max_header_list_size,
        told.max_frame_size,
        server.h2.outbound_flow_control_window,
    ) == (0, OPENING_WINDOW, 5000, limits.part_bytes, 900000)


@pytest.mark.parametrize(
    ("limits", "window"),
    [
        pytest.param(Limits(streams=2, stream_window=1000), 65535, id="the protocol's least"),
        pytest.param(Limits(streams=2**16, stream_window=2**20), 2**31 - 1, id="its most"),
    ],
)
def test_all_streams_have_their_windows_at_once_as_far_as_there_can_be(
    limits: Limits, window: int
) -> None:
    _, server = joined(limits)
    assert server.h2.outbound_flow_control_window == window


def test_a_request_goes_out_as_http2_wants_it() -> None:
    client, server = joined()
    stream = asked(client, head(b"POST", (b"Te", b"trailers"), (b"Host", b"x")), ended=False)
    client.send_data(stream, b"body")
    client.send_end(stream, Headers([(b"Checksum", b"7")]))
    request, data, trailers, end = server.listen()
    assert isinstance(request, RequestReceived)
    assert request.headers == [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"shop.example"),
        (b"te", b"trailers"),
    ]
    assert isinstance(data, DataReceived)
    assert isinstance(trailers, TrailersReceived)
    assert trailers.headers == [(b"checksum", b"7")]
    assert isinstance(end, StreamEnded)


def test_a_response_comes_with_informational_ones_body_and_trailers() -> None:
    client, server = joined()
    stream = asked(client)
    server.pump()
    server.h2.send_headers(stream, [(b":status", b"103"), (b"link", b"</a>")])
    server.h2.send_headers(stream, [*OK, (b"server", b"x")])
    server.h2.send_data(stream, b"body")
    server.h2.send_headers(stream, [(b"grpc-status", b"0")], end_stream=True)
    assert server.pump() == [
        Informed(stream, response(103, (b"link", b"</a>"))),
        ResponseStarted(stream, response(200, (b"server", b"x")), ended=False),
        Data(stream, b"body", 4),
        Ended(stream, Headers([(b"grpc-status", b"0")])),
    ]


def test_a_response_may_be_all_head() -> None:
    client, server = joined()
    stream = asked(client)
    server.pump()
    server.h2.send_headers(stream, [*OK, (b"grpc-status", b"0")], end_stream=True)
    assert server.pump() == [
        ResponseStarted(stream, response(200, (b"grpc-status", b"0")), ended=True)
    ]


@pytest.mark.parametrize(
    ("method", "status"),
    [
        pytest.param(b"HEAD", b"200", id="head"),
        pytest.param(b"GET", b"304", id="not-modified"),
    ],
)
def test_a_length_that_describes_no_content_is_owed_to_nobody(method: bytes, status: bytes) -> None:
    client, server = joined()
    stream = asked(client, head(method))
    server.pump()
    block = [(b":status", status), (b"content-length", b"100")]
    server.h2.send_headers(stream, block, end_stream=True)
    (started,) = server.pump()
    assert isinstance(started, ResponseStarted)
    assert started.ended


@pytest.mark.parametrize(
    ("method", "status"),
    [
        pytest.param(b"HEAD", 200, id="head"),
        pytest.param(b"GET", 204, id="no-content"),
        pytest.param(b"GET", 304, id="not-modified"),
    ],
)
@pytest.mark.parametrize("trailers", [False, True])
def test_what_has_no_content_is_whole_with_its_head(
    method: bytes, status: int, trailers: bool
) -> None:
    client, server = joined(Limits(streams=1))
    stream = asked(client, head(method))
    server.pump()
    server.h2.send_headers(stream, [(b":status", b"%d" % status)])
    assert server.pump() == [ResponseStarted(stream, response(status), ended=True)]
    assert not client.reusable
    if trailers:
        server.h2.send_headers(stream, [(b"checksum", b"7")], end_stream=True)
    else:
        server.h2.end_stream(stream)
    assert server.pump() == []
    assert client.reusable


MALFORMED = [
    pytest.param(b"HEAD", [*OK], b"x", id="content-after-head"),
    pytest.param(b"GET", [(b":status", b"204")], b"x", id="content-after-no-content"),
    pytest.param(b"GET", [*OK, (b"content-length", b"2")], b"xyz", id="longer-than-promised"),
    pytest.param(b"GET", [*OK, (b"content-length", b"9")], b"xyz", id="shorter-than-promised"),
    pytest.param(b"GET", [*OK, (b"content-length", b"9")], None, id="nothing-of-what-was-promised"),
    pytest.param(b"GET", [*OK, (b"content-length", b"x")], b"", id="length-no-number"),
    pytest.param(b"GET", [*OK, (b"Server", b"x")], b"", id="upper-case-name"),
    pytest.param(b"GET", [(b"a", b"b")], b"", id="no-status"),
    pytest.param(b"GET", [*OK, *[(b"a", b"b")] * 300], b"", id="too-many-fields"),
]


@pytest.mark.parametrize(("method", "block", "body"), MALFORMED)
def test_a_malformed_response_fails_its_own_stream(
    method: bytes, block: list[Field], body: bytes | None
) -> None:
    client, server = joined()
    stream, other = asked(client, head(method)), asked(client, ended=False)
    server.pump()
    server.h2.send_headers(stream, block, end_stream=body is None)
    if body is not None:
        server.h2.send_data(stream, body, end_stream=True)
    events = server.pump()
    assert [(number, flag) for number, flag, _, _ in failures(events)] == [
        (stream, ResponseFlag.UPSTREAM_PROTOCOL)
    ]
    assert isinstance(events[-1], Failed)
    assert events[-1].error.status == 502
    assert client.room(other) > 0


def test_a_switch_of_protocols_is_no_answer_here() -> None:
    client, server = joined()
    stream = asked(client)
    server.pump()
    server.h2.send_headers(stream, [(b":status", b"101")])
    assert failures(server.pump())[0][:2] == (stream, ResponseFlag.UPSTREAM_PROTOCOL)
    assert resets(server) == [(stream, ErrorCodes.PROTOCOL_ERROR)]


# Upgrades


@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [
        pytest.param(b"GET", b"200", 101, id="http1-asks-and-hears-101"),
        pytest.param(b"CONNECT", b"200", 200, id="http2-asks-and-hears-200"),
        pytest.param(b"GET", b"403", 403, id="refused"),
    ],
)
def test_an_upgrade_is_an_extended_connect(method: bytes, status: bytes, expected: int) -> None:
    client, server = joined(settings={SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    stream = asked(client, head(method, upgrade=b"websocket"), ended=False)
    request = server.listen()[0]
    assert isinstance(request, RequestReceived)
    assert request.headers[:2] == [(b":method", b"CONNECT"), (b":protocol", b"websocket")]
    server.h2.send_headers(stream, [(b":status", status), (b"content-length", b"5")])
    server.h2.send_data(stream, b"12345")
    (started, data) = server.pump()
    assert isinstance(started, ResponseStarted)
    assert started.head.status == expected
    assert data == Data(stream, b"12345", 5)


def test_an_upgrade_that_the_peer_does_not_know_is_refused_before_anything_is_sent() -> None:
    client, _ = joined()
    with pytest.raises(UpstreamError, match="upgrade_failed") as refused:
        asked(client, head(upgrade=b"websocket"), ended=False)
    assert (refused.value.status, client.outbox(), client.next_stream()) == (502, b"", 1)


def test_a_head_larger_than_the_peer_takes_is_refused_before_anything_is_sent() -> None:
    client, _ = joined(settings={SettingCodes.MAX_HEADER_LIST_SIZE: 500})
    stream = asked(client)
    client.outbox()
    with pytest.raises(UpstreamError, match=r"http2\.headers_too_large") as refused:
        asked(client, head(b"GET", (b"x", b"y" * 400)))
    assert (refused.value.status, client.outbox(), client.next_stream()) == (431, b"", 3)
    assert client.room(stream) == 0


@pytest.mark.parametrize(
    ("most", "expected"),
    [pytest.param(500, [], id="too large"), pytest.param(2000, [b"x"], id="small enough")],
)
def test_trailers_larger_than_the_peer_takes_are_discarded(
    most: int, expected: list[bytes]
) -> None:
    client, server = joined(settings={SettingCodes.MAX_HEADER_LIST_SIZE: most})
    stream = asked(client, ended=False)
    client.send_end(stream, Headers([(b"x", b"y" * 600)]))
    heard = server.listen()
    assert isinstance(heard[-1], StreamEnded)
    named = [
        bytes(name)
        for each in heard
        if isinstance(each, TrailersReceived)
        for name, _ in each.headers
    ]
    assert named == expected


def test_a_tunnel_owes_no_length() -> None:
    client, server = joined()
    stream = asked(client, head(b"CONNECT"), ended=False)
    server.pump()
    server.h2.send_headers(stream, [*OK, (b"content-length", b"1")])
    server.h2.send_data(stream, b"more than that", end_stream=True)
    assert server.pump()[1:] == [Data(stream, b"more than that", 14), Ended(stream, NO_HEADERS)]
    client.send_data(stream, b"and back")
    assert isinstance(server.listen()[0], DataReceived)


# What streams suffer


@pytest.mark.parametrize(
    ("begun", "code", "details"),
    [
        pytest.param(
            False,
            ErrorCodes.REFUSED_STREAM,
            "upstream_reset_before_response_started{remote_reset}",
            id="refused",
        ),
        pytest.param(
            True,
            ErrorCodes.INTERNAL_ERROR,
            "upstream_reset_after_response_started{remote_reset}",
            id="begun",
        ),
    ],
)
def test_a_reset_says_how_far_the_response_was(begun: bool, code: ErrorCodes, details: str) -> None:
    client, server = joined()
    stream = asked(client)
    server.pump()
    if begun:
        server.h2.send_headers(stream, OK)
    server.h2.reset_stream(stream, code)
    assert failures(server.pump()) == [(stream, ResponseFlag.UPSTREAM_RESET, details, code.name)]
    client.send_reset(stream)
    assert client.outbox() == b""


def test_a_server_that_has_answered_may_stop_the_request() -> None:
    client, server = joined()
    stream = asked(client, ended=False)
    server.pump()
    server.h2.send_headers(stream, OK, end_stream=True)
    server.h2.reset_stream(stream, ErrorCodes.NO_ERROR)
    started, stopped = server.pump()
    assert isinstance(started, ResponseStarted)
    assert failures([stopped])[0][3] == "NO_ERROR"
    client.send_data(stream, b"unheard")
    assert (client.room(stream), client.outbox()) == (0, b"")


def test_a_request_may_go_on_after_its_response() -> None:
    client, server = joined()
    stream = asked(client, ended=False)
    server.pump()
    server.h2.send_headers(stream, OK, end_stream=True)
    server.pump()
    client.send_data(stream, b"the rest")
    client.send_end(stream, NO_HEADERS)
    assert [type(each) for each in server.listen()] == [DataReceived, StreamEnded]
    client.send_end(stream, NO_HEADERS)
    assert (client.room(stream), client.outbox()) == (0, b"")


@pytest.mark.parametrize(
    ("refused", "code"),
    [
        pytest.param(False, ErrorCodes.CANCEL, id="given-up"),
        pytest.param(True, ErrorCodes.REFUSED_STREAM, id="refused"),
    ],
)
def test_giving_up_cancels_the_stream(refused: bool, code: ErrorCodes) -> None:
    client, server = joined()
    stream = asked(client)
    server.pump()
    client.send_reset(stream, refused=refused)
    server.pump()
    assert resets(server) == [(stream, code)]


def test_a_window_beyond_the_largest_fails_its_stream_only() -> None:
    client, server = joined()
    stream = asked(client)
    server.pump()
    events = client.receive(frame(0x8, 0, stream, (2**31 - 1).to_bytes(4, "big")))
    assert failures(events) == [
        (
            stream,
            ResponseFlag.UPSTREAM_PROTOCOL,
            "http2.violation.of.messaging.rule",
            "FLOW_CONTROL_ERROR",
        )
    ]
    assert client.reusable


def test_data_for_streams_that_we_gave_up_costs_no_window() -> None:
    client, server = joined(Limits(stream_window=70000, streams=1))
    for turn in range(40):
        stream = asked(client)
        server.pump()
        server.h2.send_headers(stream, OK)
        server.h2.send_data(stream, b"x" * 9000, pad_length=turn)
        if turn % 2:
            client.send_reset(stream)
        for event in server.pump():
            if isinstance(event, Data):
                client.consumed(stream, event.credit)
        client.send_reset(stream)
        server.pump()
    assert server.h2.outbound_flow_control_window > 35000


def test_small_messages_on_their_way_to_a_stream_that_we_gave_up_are_no_flood() -> None:
    client, server = joined(Limits(control_frames=50))
    stream, other = asked(client), asked(client)
    server.pump()
    server.h2.send_headers(stream, OK)
    server.pump()
    client.send_reset(stream)
    client.outbox()
    assert client.receive(frame(frames.DATA, 0, stream, b"tick") * 1000) == []
    server.h2.send_headers(other, OK, end_stream=True)
    assert [type(event) for event in server.pump()] == [ResponseStarted]


# How many


def test_a_client_asks_nothing_before_it_knows_what_its_peer_takes() -> None:
    client = Http2Client(Limits())
    assert not client.reusable
    H2Peer(client, client=False)
    assert client.reusable


@pytest.mark.parametrize(
    ("limits", "settings", "expected"),
    [
        pytest.param(Limits(), {SettingCodes.MAX_CONCURRENT_STREAMS: 3}, 3, id="the-peers-bound"),
        pytest.param(Limits(streams=5), {}, 5, id="our-own"),
    ],
)
def test_no_more_streams_than_both_sides_allow(
    limits: Limits, settings: dict[SettingCodes, int], expected: int
) -> None:
    client, server = joined(limits, settings)
    streams = []
    while client.reusable:
        streams.append(asked(client))
    assert streams == list(range(1, 2 * expected, 2))
    server.pump()
    server.h2.send_headers(1, OK, end_stream=True)
    server.pump()
    assert client.reusable


def test_a_client_that_has_given_up_many_streams_leaves_before_its_peer_calls_it_a_flood() -> None:
    client, server = joined(Limits(resets=3))
    done = asked(client)
    for _ in range(3):
        assert client.reusable
        client.send_reset(asked(client))
    assert (client.reusable, client.finished) == (False, False)
    server.pump()
    server.h2.send_headers(done, OK, end_stream=True)
    server.pump()
    assert client.reusable


def test_a_client_that_has_run_out_of_numbers_is_used_up() -> None:
    client, _ = joined()
    client.send_head(2**31 - 1, head(), ended=True)
    assert not client.reusable


def test_a_peer_may_open_the_windows_of_all_streams() -> None:
    client, server = joined(settings={SettingCodes.INITIAL_WINDOW_SIZE: 10})
    stream = asked(client, ended=False)
    assert client.room(stream) == 10
    server.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1000})
    assert server.pump() == [Room(0)]
    assert client.room(stream) == 1000


# The end


def test_a_server_that_leaves_finishes_what_it_took_and_refuses_the_rest() -> None:
    client, server = joined()
    taken, refused, another = asked(client, ended=False), asked(client), asked(client)
    server.pump()
    events = client.receive(frames.goaway(taken, ErrorCodes.NO_ERROR))
    assert events[0] == Leaving()
    assert failures(events) == [
        (
            stream,
            ResponseFlag.UPSTREAM_RESET,
            "upstream_reset_before_response_started{remote_reset}",
            "REFUSED_STREAM",
        )
        for stream in (refused, another)
    ]
    assert (client.reusable, client.finished) == (False, False)
    client.send_data(taken, b"still")
    client.send_end(taken, NO_HEADERS)
    server.pump()
    server.h2.send_headers(taken, OK, end_stream=True)
    assert [type(event) for event in server.pump()] == [ResponseStarted]
    assert client.finished


def test_a_server_that_leaves_in_two_steps_refuses_only_in_the_second() -> None:
    client, server = joined()
    stream = asked(client)
    server.pump()
    assert client.receive(frames.goaway(2**31 - 1, ErrorCodes.NO_ERROR)) == [Leaving()]
    events = client.receive(frames.goaway(0, ErrorCodes.NO_ERROR))
    assert [number for number, *_ in failures(events)] == [stream]
    assert client.finished


def test_a_client_that_leaves_says_so_once_and_finishes_what_is_open() -> None:
    client, server = joined()
    stream = asked(client)
    server.pump()
    client.farewell()
    client.farewell()
    assert client.outbox() == frames.goaway(0, ErrorCodes.NO_ERROR)
    assert (client.reusable, client.finished) == (False, False)
    server.h2.send_headers(stream, OK, end_stream=True)
    server.pump()
    assert client.finished


@pytest.mark.parametrize(
    ("begun", "when"),
    [pytest.param(False, "before", id="early"), pytest.param(True, "after", id="late")],
)
def test_a_server_that_is_gone_fails_what_is_open(begun: bool, when: str) -> None:
    client, server = joined()
    stream = asked(client)
    server.pump()
    if begun:
        server.h2.send_headers(stream, OK)
        server.pump()
    assert failures(client.receive(b"")) == [
        (
            stream,
            ResponseFlag.UPSTREAM_CLOSED,
            f"upstream_reset_{when}_response_started{{connection_termination}}",
            "",
        )
    ]
    assert (client.finished, client.reusable) == (True, False)


WRONG = [
    pytest.param(frame(0x1, 5, 2, Encoder().encode(GET)), id="a-request"),
    pytest.param(frame(0x6, 0, 3, b"12345678"), id="ping-on-a-stream"),
]


@pytest.mark.parametrize("wire", WRONG)
def test_a_broken_connection_says_why_and_ends(wire: bytes) -> None:
    client, server = joined()
    stream = asked(client)
    server.pump()
    with pytest.raises(UpstreamError, match=r"http2\.protocol_error") as refused:
        client.receive(wire)
    assert (refused.value.flag, refused.value.status) == (ResponseFlag.UPSTREAM_PROTOCOL, 502)
    assert client.outbox() == frames.goaway(0, ErrorCodes.PROTOCOL_ERROR)
    assert (client.finished, client.reusable, client.room(stream)) == (True, False, 0)


def test_what_was_said_before_the_break_still_goes_out() -> None:
    client, _ = joined()
    asked(client)
    with pytest.raises(UpstreamError):
        client.receive(frame(0x6, 0, 3, b"12345678"))
    assert len(client.outbox()) > len(frames.goaway(0, ErrorCodes.PROTOCOL_ERROR))


def test_a_client_has_nothing_due_unasked() -> None:
    client, _ = joined()
    assert client.resume() == []


def test_control_frames_are_bounded_here_too() -> None:
    client, _ = joined(Limits(control_frames=9))
    with pytest.raises(UpstreamError, match=r"http2\.control_frames_flood"):
        client.receive(frame(0x6, 0, 0, b"12345678") * 10)


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
    client, server = joined()
    asked(client, ended=False)
    server.pump()
    try:
        client.receive(frame(kind, flags, stream, payload))
    except UpstreamError:
        assert client.outbox()


def answered(pieces: Iterable[bytes]) -> list[Event]:
    client = Http2Client(Limits())
    asked(client)
    return [event for piece in pieces for event in client.receive(piece)]


def test_the_events_are_the_same_byte_by_byte() -> None:
    head_block = Encoder().encode([*OK, (b"server", b"x" * 300)])
    wire = (
        GREETING
        + frame(frames.HEADERS, 0, 1, head_block[:9])
        + frame(frames.CONTINUATION, 4, 1, head_block[9:])
        + frame(frames.DATA, 8, 1, b"\x03body\0\0\0")
        + frame(frames.HEADERS, 5, 1, Encoder().encode([(b"a", b"b")]))
        + frames.goaway(1, ErrorCodes.NO_ERROR)
    )
    whole = answered([wire])
    assert [type(event) for event in whole] == [ResponseStarted, Data, Ended, Leaving]
    assert answered(wire[at : at + 1] for at in range(len(wire))) == whole
