"""Peers that let things stand still: each ends in bounded time, and is told and logged why."""

from contextlib import suppress
from dataclasses import replace
from socket import IPPROTO_TCP, SO_KEEPALIVE, SO_RCVBUF, SOL_SOCKET, TCP_KEEPIDLE

import pytest
import trio
import trio.testing
from h2.settings import SettingCodes

from fakes.path import Path, ask, to_app, to_script
from fakes.talk import Broken, Call, answer, whole
from fakes.talk_h2 import Http2Talk
from tproxy.model.flow import Protocol
from tproxy.model.http import Field
from tproxy.model.limits import Limits
from tproxy.net.tcp_stream import TcpStream

# ruff: noqa: ARG001  (the clock, by its presence, makes waiting quick)

Clock = trio.testing.MockClock

both = pytest.mark.parametrize(
    "protocol",
    [pytest.param(Protocol.HTTP1, id="http1"), pytest.param(Protocol.HTTP2, id="http2")],
)
QUICK = Limits(head_seconds=5, stream_idle_seconds=20, tcp_idle_seconds=60)
MEGABYTE = bytes(1 << 20)
GRPC = ((b"content-type", b"application/grpc"), (b"te", b"trailers"))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
UNFINISHED_HEADERS = b"\0\0\1\1\1\0\0\0\1\x82"


async def fine(call: Call) -> None:
    """Answer once the request is whole."""
    await whole(call)
    await answer(call, b"fine")


async def to_the_end(near: TcpStream) -> bytes:
    """Read until the connection ends."""
    heard = b""
    while data := await near.receive_some(65536):
        heard += data
    return heard


async def everything(path: Path, *said: bytes) -> bytes:
    """Say parts with pauses between them, and return what is answered until the connection ends."""
    near = path.dial()
    for part in said:
        await near.send_all(part)
        await trio.sleep(2)
    return await to_the_end(near)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param((b"GET / HT",), id="a line"),
        pytest.param((b"GET / HTTP/1.1\r\nHost: a\r\n",), id="an end"),
        pytest.param((b"G", b"E", b"T", b" /"), id="a byte at a time"),
    ],
)
async def test_a_request_head_that_does_not_end_is_refused(
    said: tuple[bytes, ...], autojump_clock: Clock
) -> None:
    async with to_app(fine, Protocol.HTTP1, QUICK) as path:
        began = trio.current_time()
        answered = await everything(path, *said)
        assert 5 <= trio.current_time() - began < 9
        assert answered.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (408, "-")
        assert line["response_code_details"] == "request_header_timeout"
        assert path.origin.accepted == []


async def test_a_head_that_trickles_has_fifteen_seconds_by_default(autojump_clock: Clock) -> None:
    async with to_app(fine, Protocol.HTTP1) as path, trio.open_nursery() as nursery:
        near = path.dial()
        began = trio.current_time()

        async def trickle() -> None:
            await near.send_all(b"GET / HTTP/1.1\r\n")
            while True:
                await near.send_all(b"X: 1\r\n")
                await trio.sleep(1)

        nursery.start_soon(trickle)
        assert (await to_the_end(near)).startswith(b"HTTP/1.1 408 ")
        nursery.cancel_scope.cancel()
    assert 15 <= trio.current_time() - began < 17


@pytest.mark.parametrize(
    "said",
    [
        pytest.param((PREFACE[:7],), id="half a preface"),
        pytest.param((PREFACE,), id="no settings"),
        pytest.param((PREFACE + SETTINGS, UNFINISHED_HEADERS[:4]), id="half a frame"),
        pytest.param((PREFACE + SETTINGS + UNFINISHED_HEADERS,), id="half a block"),
    ],
)
async def test_an_http2_connection_is_left_when_its_opening_or_a_head_does_not_end(
    said: tuple[bytes, ...], autojump_clock: Clock
) -> None:
    async with to_app(fine, Protocol.HTTP2, QUICK) as path:
        began = trio.current_time()
        answered = await everything(path, *said)
        assert 5 <= trio.current_time() - began < 9
        assert answered[-17:-13] == b"\0\0\x08\x07", "a GOAWAY"
        (line,) = await path.logged()
        assert (line["response_flags"], line["response_code_details"]) == (
            "-",
            "request_header_timeout",
        )


async def test_a_head_that_takes_too_long_ends_the_exchanges_beside_it(
    autojump_clock: Clock,
) -> None:
    async def silent(call: Call) -> None:
        await call.head()
        await trio.sleep_forever()

    async with to_app(silent, Protocol.HTTP2, QUICK) as path:
        talk = path.talk()
        assert isinstance(talk, Http2Talk)
        call = await talk.call()
        await call.say((b"GET", b"/"), ())
        await call.end()
        await trio.sleep(1)
        await talk.say_octets(b"\0\0\1\1\1\0\0\0\3\x82")
        with pytest.raises(Broken):
            await call.head()
        (line,) = await path.logged()
        assert (line["path"], line["response_code_details"]) == ("/", "request_header_timeout")


@both
async def test_a_connection_that_rests_between_requests_is_no_slow_head(
    protocol: Protocol, autojump_clock: Clock
) -> None:
    async with to_app(fine, protocol, QUICK) as path:
        talk = path.talk()
        for _ in range(3):
            assert (await ask(talk)).start == 200
            await trio.sleep(30)


async def silent_call(call: Call) -> None:
    """Take a request and never answer."""
    await whole(call)
    await trio.sleep_forever()


@both
async def test_an_upstream_that_does_not_answer_is_given_up(
    protocol: Protocol, autojump_clock: Clock
) -> None:
    async with to_app(silent_call, protocol, QUICK) as path:
        began = trio.current_time()
        heard = await ask(path.talk())
        assert 20 <= trio.current_time() - began <= 22
        assert (heard.start, heard.body) == (504, b"stream timeout")
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (504, "SI")
        assert line["response_code_details"] == "stream_idle_timeout"


async def test_a_grpc_call_that_is_not_answered_learns_it_as_a_status(
    autojump_clock: Clock,
) -> None:
    async with to_app(silent_call, Protocol.HTTP2, QUICK) as path:
        heard = await ask(path.talk(), method=b"POST", fields=GRPC, body=b"x")
        assert (heard.start, heard.get(b"grpc-status")) == (200, [b"4"])
        (line,) = await path.logged()
        assert line["response_flags"] == "SI"


@both
async def test_a_request_body_that_stops_is_given_up(
    protocol: Protocol, autojump_clock: Clock
) -> None:
    async with to_app(fine, protocol, QUICK) as path:
        talk = path.talk()
        call = await talk.call()
        await call.say((b"POST", b"/"), ((b"content-length", b"10"),))
        await call.send(b"half")
        heard = await whole(call)
        assert (heard.start, heard.body) == (408, b"stream timeout")
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (408, "SI")
        assert line["bytes_received"] == 4


@both
async def test_a_response_that_stops_is_cut_off(protocol: Protocol, autojump_clock: Clock) -> None:
    async def stops(call: Call) -> None:
        await whole(call)
        await call.say(200, [(b"content-length", b"10")])
        await call.send(b"half")
        await trio.sleep_forever()

    async with to_app(stops, protocol, QUICK) as path:
        talk = path.talk()
        with pytest.raises(Broken):
            await ask(talk)
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (200, "SI")
        assert line["response_code_details"] == "stream_idle_timeout"


@both
@pytest.mark.parametrize("slow", ["request", "response"])
async def test_a_body_that_keeps_moving_may_take_for_ever(
    protocol: Protocol, slow: str, autojump_clock: Clock
) -> None:
    async def paced(call: Call) -> None:
        await whole(call)
        await call.say(200, [(b"content-length", b"10")])
        for _ in range(10):
            await call.send(b"x")
            await trio.sleep(15 if slow == "response" else 0)
        await call.end()

    async with to_app(paced, protocol, QUICK) as path:
        call = await path.talk().call()
        await call.say((b"POST", b"/"), ((b"content-length", b"10"),))
        for _ in range(10):
            await call.send(b"x")
            await trio.sleep(15 if slow == "request" else 0)
        await call.end()
        assert (await whole(call)).body == b"x" * 10


@both
async def test_informational_responses_show_that_an_upstream_is_at_work(
    protocol: Protocol, autojump_clock: Clock
) -> None:
    async def working(call: Call) -> None:
        await whole(call)
        for _ in range(5):
            await trio.sleep(15)
            await call.say(102, ())
        await answer(call)

    async with to_app(working, protocol, QUICK) as path:
        assert (await ask(path.talk())).start == 200


@both
async def test_no_bound_is_a_choice(protocol: Protocol, autojump_clock: Clock) -> None:
    async def late(call: Call) -> None:
        await whole(call)
        await trio.sleep(900)
        await answer(call)

    limits = replace(QUICK, stream_idle_seconds=0)
    async with to_app(late, protocol, limits) as path:
        assert (await ask(path.talk())).start == 200


async def test_a_tunnel_stands_still_only_when_both_directions_do(autojump_clock: Clock) -> None:
    async def origin(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n"
        )
        async for _ in stream:
            pass

    async with to_script(origin, limits=QUICK) as path:
        near = path.dial()
        await near.send_all(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n"
        )
        assert b" 101 " in await near.receive_some(65536)
        for _ in range(5):
            await trio.sleep(15)
            await near.send_all(b"still here")
        began = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            await near.receive_some(1)
        assert 20 <= trio.current_time() - began <= 22
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (101, "SI")
        assert line["bytes_received"] == 50


READERS = 50


@both
async def test_readers_that_stall_cost_bounded_memory_and_are_cut_off(
    protocol: Protocol, autojump_clock: Clock
) -> None:
    async def endless(call: Call) -> None:
        await whole(call)
        await call.say(200, ())
        while True:
            await call.send(bytes(16384))

    async with to_app(endless, protocol, QUICK) as path:
        for _ in range(READERS):
            call = await path.talk(buffers=65536).call()
            await call.say((b"GET", b"/"), ())
            await call.end()
        lines = await path.logged(READERS)
        assert {line["response_flags"] for line in lines} == {"SI"}
        assert max(line["bytes_sent"] for line in lines) < len(MEGABYTE)


async def test_a_peer_that_takes_nothing_at_all_is_cut_off_with_everything_it_asked_for(
    autojump_clock: Clock,
) -> None:
    async def large(call: Call) -> None:
        await whole(call)
        await answer(call, bytes(60000))

    async with to_app(large, Protocol.HTTP2, QUICK) as path:
        near = path.dial(buffers=4096)
        talk = Http2Talk(near, client=True)
        talk.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
        talk.h2.increment_flow_control_window(1 << 20)
        for _ in range(20):
            call = await talk.call()
            await call.say((b"GET", b"/"), ())
            await call.end()
        (*_, line) = await path.logged_by(60)
        assert line["response_flags"] == "SI"
        assert path.servers.open == 0
        with pytest.raises(trio.BrokenResourceError):
            await to_the_end(near)


@both
async def test_an_upstream_that_takes_nothing_is_given_up(
    protocol: Protocol, autojump_clock: Clock
) -> None:
    async def deaf(stream: trio.SocketStream) -> None:
        stream.setsockopt(SOL_SOCKET, SO_RCVBUF, 4096)
        if protocol is Protocol.HTTP2:
            window = b"\0\4\x7f\xff\xff\xff"
            await stream.send_all(b"\0\0\6\4\0\0\0\0\0" + window)
            await stream.send_all(b"\0\0\4\x08\0\0\0\0\0\x7f\xff\0\0")
        await trio.sleep_forever()

    async with to_script(deaf, protocol, QUICK) as path, trio.open_nursery() as nursery:
        call = await path.talk().call()
        await call.say((b"POST", b"/"), ((b"content-length", b"%d" % 10**12),))

        async def send() -> None:
            with suppress(Broken, trio.BrokenResourceError):
                while True:
                    await call.send(MEGABYTE)

        nursery.start_soon(send)
        (line,) = await path.logged()
        assert line["response_flags"] == "SI"
        nursery.cancel_scope.cancel()


async def shout(stream: trio.SocketStream) -> None:
    """Answer in capitals."""
    async for data in stream:
        await stream.send_all(data.upper())


async def test_bytes_that_stand_still_in_both_directions_end_their_connection(
    autojump_clock: Clock,
) -> None:
    async with to_script(shout, limits=QUICK) as path:
        near = path.relay()
        for _ in range(3):
            await near.send_all(b"hello")
            assert await near.receive_some(65536) == b"HELLO"
            await trio.sleep(50)
        began = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            await near.receive_some(1)
        assert trio.current_time() - began <= 12
        (line,) = await path.logged()
        assert (line["response_flags"], line["response_code_details"]) == (
            "SI",
            "tcp_session_idle_timeout",
        )
        assert (line["bytes_received"], line["bytes_sent"]) == (15, 15)


async def test_a_half_closed_connection_may_be_silent_as_long_as_a_whole_one(
    autojump_clock: Clock,
) -> None:
    async def late(stream: trio.SocketStream) -> None:
        async for _ in stream:
            pass
        await trio.sleep(50)
        await stream.send_all(b"done")
        await stream.aclose()

    async with to_script(late, limits=QUICK) as path:
        near = path.relay()
        await near.send_eof()
        assert await near.receive_some(65536) == b"done"


async def test_the_kernel_asks_both_sides_whether_they_are_still_there(
    autojump_clock: Clock,
) -> None:
    async with to_app(fine, Protocol.HTTP1, replace(QUICK, keepalive_seconds=77)) as path:
        await path.get()
        (pooled,) = path.pool._all
        assert isinstance(pooled.stream, TcpStream)
        asked = pooled.stream.socket
        assert asked.getsockopt(SOL_SOCKET, SO_KEEPALIVE) == 1
        assert asked.getsockopt(IPPROTO_TCP, TCP_KEEPIDLE) == 77


@pytest.mark.parametrize(
    ("headers", "details", "flag"),
    [
        pytest.param(((b"Upper", b"x"),), "http2.invalid.header.field", "DPE", id="malformed"),
        pytest.param(((b"x", b"x" * 70000),), "http2.headers_too_large", "DPE", id="too large"),
    ],
)
async def test_a_malformed_http2_request_has_a_line_of_its_own(
    headers: tuple[Field, ...], details: str, flag: str, autojump_clock: Clock
) -> None:
    async with to_app(fine, Protocol.HTTP2, QUICK) as path:
        talk = path.talk()
        assert isinstance(talk, Http2Talk)
        talk.h2.config.normalize_outbound_headers = False
        talk.h2.config.validate_outbound_headers = False
        with pytest.raises(Broken):
            await ask(talk, fields=headers)
        assert (await ask(talk)).start == 200
        refused, served = await path.logged(2)
        assert (refused["response_flags"], refused["response_code_details"]) == (flag, details)
        assert refused["path"] is None
        assert served["response_code"] == 200
