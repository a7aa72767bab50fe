"""Exchanges that have to be over in time."""
# ruff: noqa: ARG001 - the clock's presence makes waiting quick

import pytest
import trio

from fakes.path import Path, ask, to_app, to_script
from fakes.planned import Turns, across, both, follow, giving_up
from fakes.talk import Broken, Call, answer, whole
from fakes.talk_h1 import head_of
from tproxy.model.flow import Protocol
from tproxy.model.route import Plan
from tproxy.net.tcp_stream import TcpStream
from tproxy.resilience.retry import NO_RETRY, RetryOn, RetryPolicy

GRPC = ((b"content-type", b"application/grpc"), (b"te", b"trailers"))

ASKING = b"GET /chat HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


async def opened(path: Path) -> TcpStream:
    """Ask for a tunnel and get it."""
    near = path.dial()
    await near.send_all(ASKING)
    assert (await head_of(near)).startswith(b"HTTP/1.1 101 ")
    return near


async def silent(call: Call) -> None:
    """Read the request and answer nothing."""
    await whole(call)
    await trio.sleep_forever()


async def endless(call: Call) -> None:
    """Begin a response, and never end it."""
    await whole(call)
    await call.say(200, [(b"content-type", b"text/plain")])
    await call.send(b"so far")
    await trio.sleep_forever()


@across
async def test_a_response_that_does_not_begin_in_time_is_504(
    autojump_clock: trio.testing.MockClock, protocol: Protocol, upstream: Protocol
) -> None:
    async with to_app(silent, protocol, upstream=upstream) as path:
        follow(path, Plan(timeout=3.0, retry=NO_RETRY))
        began = trio.current_time()
        heard = await path.get()
        assert (heard.start, heard.body) == (504, b"upstream request timeout")
        assert trio.current_time() - began == pytest.approx(3.0, abs=0.1)
        (line,) = await path.logged()
        assert (line["response_flags"], line["response_code"]) == ("UT", 504)
        assert line["response_code_details"] == "upstream_response_timeout"
        assert line["tproxy"]["attempts"] == 1


@across
async def test_a_response_that_is_late_to_end_is_reset_and_told_so_in_the_log(
    autojump_clock: trio.testing.MockClock, protocol: Protocol, upstream: Protocol
) -> None:
    async with to_app(endless, protocol, upstream=upstream) as path:
        follow(path, Plan(timeout=3.0))
        call = await path.talk().call()
        await call.say((b"GET", b"/"), ())
        await call.end()
        assert (await call.head()).start == 200
        assert await call.part() == b"so far"
        with pytest.raises(Broken):
            await call.part()
        (line,) = await path.logged()
        assert (line["response_flags"], line["response_code"]) == ("UT", 200)
        assert line["response_code_details"] == "upstream_response_timeout"


@across
async def test_an_upload_at_its_senders_pace_is_not_the_upstreams_lateness(
    autojump_clock: trio.testing.MockClock, protocol: Protocol, upstream: Protocol
) -> None:
    async def app(call: Call) -> None:
        await whole(call)
        await trio.sleep(1)
        await answer(call, b"all of it")

    async with to_app(app, protocol, upstream=upstream) as path:
        follow(path, Plan(timeout=2.0))
        call = await path.talk().call()
        await call.say((b"POST", b"/"), [(b"content-length", b"4")])
        for _ in range(4):
            await trio.sleep(1)
            await call.send(b"x")
        await call.end()
        assert (await whole(call)).body == b"all of it"


@both
async def test_after_a_slow_upload_the_time_is_counted_from_its_end(
    autojump_clock: trio.testing.MockClock, protocol: Protocol
) -> None:
    async with to_app(silent, protocol) as path:
        follow(path, Plan(timeout=2.0))
        call = await path.talk().call()
        await call.say((b"POST", b"/"), [(b"content-length", b"1")])
        await trio.sleep(5)
        await call.send(b"x")
        await call.end()
        began = trio.current_time()
        assert (await whole(call)).start == 504
        assert trio.current_time() - began == pytest.approx(2.0, abs=0.1)


async def test_a_grpc_call_that_is_late_learns_that_its_deadline_was_exceeded(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with to_app(silent, Protocol.HTTP2) as path:
        follow(path, Plan(timeout=2.0))
        heard = await ask(path.talk(), method=b"POST", fields=GRPC)
        assert heard.get(b"grpc-status") == [b"4"]


@pytest.mark.parametrize(
    ("asked", "bound", "holds"),
    [
        pytest.param(b"1S", 5.0, 1.0, id="the callers is shorter"),
        pytest.param(b"5S", 1.0, 1.0, id="the routes is shorter"),
        pytest.param(b"1500m", 0.0, 1.5, id="the route has none"),
        pytest.param(b"soon", 2.0, 2.0, id="the callers is malformed"),
    ],
)
async def test_the_shortest_deadline_of_a_grpc_call_holds_and_is_told_on(
    autojump_clock: trio.testing.MockClock, asked: bytes, bound: float, holds: float
) -> None:
    app = Turns([silent])
    async with to_app(app, Protocol.HTTP2) as path:
        follow(path, Plan(timeout=bound))
        began = trio.current_time()
        await ask(path.talk(), method=b"POST", fields=(*GRPC, (b"grpc-timeout", asked)))
        assert trio.current_time() - began == pytest.approx(holds, abs=0.1)
        ((told,),) = app.said(b"x-envoy-expected-rq-timeout-ms")
        assert int(told) == pytest.approx(holds * 1000, abs=20)
        ((on,),) = app.said(b"grpc-timeout")
        assert on.endswith(b"u")


@across
async def test_what_the_application_asks_for_holds_and_stays_here(
    autojump_clock: trio.testing.MockClock, protocol: Protocol, upstream: Protocol
) -> None:
    app = Turns([silent])
    async with to_app(app, protocol, upstream=upstream) as path:
        follow(path, Plan(timeout=10.0))
        fields = (
            (b"x-envoy-upstream-rq-timeout-ms", b"1000"),
            (b"x-envoy-max-retries", b"1"),
            (b"x-envoy-retry-on", b"5xx,never-heard-of"),
            (b"x-envoy-upstream-rq-per-try-timeout-ms", b"300"),
        )
        assert (await path.get(fields=fields)).start == 504
        assert len(app.heads) == 2
        assert not [name for name, _ in app.heads[0].fields if name in dict(fields)]
        assert app.said(b"x-envoy-expected-rq-timeout-ms") == [[b"300"], [b"300"]]
        (line,) = await path.logged()
        assert line["response_flags"] == "UT,URX"
        assert line["response_code_details"] == "upstream_per_try_timeout"


@both
async def test_a_retry_has_what_the_first_attempt_left(
    autojump_clock: trio.testing.MockClock, protocol: Protocol
) -> None:
    async def slow(call: Call) -> None:
        await whole(call)
        await trio.sleep(2.7)
        await call.give_up()

    app = Turns([slow, silent])
    async with to_app(app, protocol) as path:
        follow(path, Plan(timeout=3.0, retry=RetryPolicy(retry_on=frozenset({RetryOn.RESET}))))
        began = trio.current_time()
        assert (await path.get()).start == 504
        assert trio.current_time() - began == pytest.approx(3.0, abs=0.1)
        first, second = (int(told) for (told,) in app.said(b"x-envoy-expected-rq-timeout-ms"))
        assert first == pytest.approx(3000, abs=20)
        assert 200 < second <= 300
        (line,) = await path.logged()
        assert (line["response_flags"], line["tproxy"]["attempts"]) == ("UT", 2)


async def test_a_tunnel_that_opened_in_time_may_stay(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def script(stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(SWITCHING)
        while data := await stream.receive_some(65536):
            await stream.send_all(data.upper())

    async with to_script(script) as path:
        follow(path, Plan(timeout=2.0, retry=RetryPolicy(per_try_timeout=1.0)))
        near = await opened(path)
        for _ in range(3):
            await trio.sleep(3)
            await near.send_all(b"hello")
            assert await near.receive_some(65536) == b"HELLO"


async def test_a_tunnel_that_does_not_open_in_time_is_504(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def script(stream: trio.SocketStream) -> None:
        await head_of(stream)
        await trio.sleep_forever()

    async with to_script(script) as path:
        follow(path, Plan(timeout=2.0))
        near = path.dial()
        await near.send_all(ASKING)
        assert (await head_of(near)).startswith(b"HTTP/1.1 504 ")


async def test_an_attempt_that_breaks_off_without_a_retry_is_told_as_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with to_app(giving_up, Protocol.HTTP1) as path:
        follow(path, Plan(timeout=2.0, retry=NO_RETRY))
        assert (await path.get()).start == 503
        (line,) = await path.logged()
        assert line["response_flags"] == "UC"


EXPECTING = [(b"expect", b"100-continue"), (b"content-length", b"4")]

bounded = pytest.mark.parametrize(
    ("plan", "details"),
    [
        pytest.param(
            Plan(timeout=2.0, retry=NO_RETRY), "upstream_response_timeout", id="the whole exchange"
        ),
        pytest.param(
            Plan(retry=RetryPolicy(attempts=1, per_try_timeout=2.0)),
            "upstream_per_try_timeout",
            id="an attempt",
        ),
    ],
)


async def expecting(path: Path) -> Call:
    """Begin a request whose body waits to be asked for."""
    call = await path.talk().call()
    await call.say((b"PUT", b"/"), EXPECTING)
    return call


async def asked_for(call: Call) -> None:
    """Wait until the body is."""
    while not call.informed:
        with trio.move_on_after(0.01):
            await call.head()


@across
@bounded
async def test_an_upstream_that_never_asks_for_the_body_is_late(
    autojump_clock: trio.testing.MockClock,
    protocol: Protocol,
    upstream: Protocol,
    plan: Plan,
    details: str,
) -> None:
    async def app(call: Call) -> None:
        await call.head()
        await trio.sleep_forever()

    async with to_app(app, protocol, upstream=upstream) as path:
        follow(path, plan)
        began = trio.current_time()
        call = await expecting(path)
        assert (await call.head()).start == 504
        assert trio.current_time() - began == pytest.approx(2.0, abs=0.1)
        (line,) = await path.logged()
        assert line["response_code_details"] == details


@across
@bounded
@pytest.mark.parametrize(
    "asks", [pytest.param(True, id="asked for"), pytest.param(False, id="unasked")]
)
async def test_a_body_that_comes_at_last_has_its_senders_pace(
    autojump_clock: trio.testing.MockClock,
    protocol: Protocol,
    upstream: Protocol,
    plan: Plan,
    details: str,
    *,
    asks: bool,
) -> None:
    del details

    async def app(call: Call) -> None:
        await call.head()
        if asks:
            await trio.sleep(1.5)
            await call.say(100, [])
        await whole(call)
        await trio.sleep(1.5)
        await answer(call, call.heard.body)

    async with to_app(app, protocol, upstream=upstream) as path:
        follow(path, plan)
        call = await expecting(path)
        if asks:
            await asked_for(call)
            await trio.sleep(5)
        else:
            await trio.sleep(1.5)
        await call.send(b"da")
        await trio.sleep(5)
        await call.send(b"ta")
        await call.end()
        assert (await whole(call)).body == b"data"


@across
@bounded
async def test_who_asks_for_what_it_has_gets_no_more_time(
    autojump_clock: trio.testing.MockClock,
    protocol: Protocol,
    upstream: Protocol,
    plan: Plan,
    details: str,
) -> None:
    async def app(call: Call) -> None:
        await whole(call)
        await trio.sleep(1)
        await call.say(100, [])
        await trio.sleep_forever()

    async with to_app(app, protocol, upstream=upstream) as path:
        follow(path, plan)
        call = await expecting(path)
        await call.send(b"data")
        await call.end()
        began = trio.current_time()
        assert (await whole(call)).start == 504
        assert trio.current_time() - began == pytest.approx(2.0, abs=0.1)
        (line,) = await path.logged()
        assert line["response_code_details"] == details
