"""How connections end: peers that say nothing for too long, and a proxy that drains."""

import pytest
import trio

from fakes.path import Path, ask, to_app
from fakes.talk import Broken, Call, answer, whole
from fakes.talk_h1 import Http1Talk
from fakes.talk_h2 import Http2Talk
from tproxy.model.flow import Direction, Protocol
from tproxy.model.limits import Limits
from tproxy.net.standstill import LOOK_SECONDS

both = pytest.mark.parametrize(
    "protocol",
    [pytest.param(Protocol.HTTP1, id="http1"), pytest.param(Protocol.HTTP2, id="http2")],
)


class Gate:
    """An app that answers when it is told to. What changes: whether it was asked, and may answer."""

    def __init__(self) -> None:
        self.asked = trio.Event()
        self.open = trio.Event()

    async def app(self, call: Call) -> None:
        await whole(call)
        self.asked.set()
        await self.open.wait()
        await answer(call, b"at last")


async def app(call: Call) -> None:
    """Answer at once."""
    await whole(call)
    await answer(call)


async def ended(talk: Http1Talk | Http2Talk) -> bool:
    """Wait for the proxy to end the connection, and say whether it did so politely."""
    if isinstance(talk, Http1Talk):
        return await talk.stream.receive_some(1) == b""
    while not talk.over:
        await talk.news()
    return talk.left is not None


async def no_connection_is_left(path: Path) -> None:
    """Wait until the proxy holds no downstream connection."""
    await path.servers.emptied(*Direction)
    assert path.servers.open == 0


@both
async def test_an_idle_downstream_is_left_after_its_time(
    protocol: Protocol,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with to_app(app, protocol, Limits(idle_seconds=3)) as path:
        talk = path.talk()
        await ask(talk)
        began = autojump_clock.current_time()
        assert await ended(talk)
        assert 2.9 < autojump_clock.current_time() - began < 3.1 + LOOK_SECONDS


@both
async def test_a_request_that_takes_long_is_not_idle(
    protocol: Protocol,
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    gate = Gate()
    async with to_app(gate.app, protocol, Limits(idle_seconds=1)) as path:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(path.get)
            await gate.asked.wait()
            await trio.sleep(3)
            gate.open.set()
        (line,) = await path.logged()
        assert line["response_code"] == 200


@both
async def test_a_drain_ends_an_idle_connection_soon(
    protocol: Protocol,
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    async with to_app(app, protocol) as path:
        talk = path.talk()
        await ask(talk)
        path.servers.leave(Direction.INBOUND)
        assert await ended(talk)
        await talk.stream.aclose()
        await no_connection_is_left(path)


@both
async def test_a_drain_lets_a_busy_connection_have_its_answer(protocol: Protocol) -> None:
    gate = Gate()
    async with to_app(gate.app, protocol) as path:
        talk = path.talk()
        call = await talk.call()
        await call.say((b"GET", b"/"), [])
        await call.end()
        await gate.asked.wait()
        path.servers.leave(Direction.INBOUND)
        if isinstance(talk, Http2Talk):
            while talk.left is None:
                await talk.news()
        gate.open.set()
        heard = await whole(call)
        assert heard.body == b"at last"
        assert heard.get(b"connection") == ([b"close"] if protocol is Protocol.HTTP1 else [])
        assert protocol is Protocol.HTTP1 or await ended(talk)
        await talk.stream.aclose()
        await no_connection_is_left(path)


@both
async def test_a_request_that_crosses_a_drain_is_answered(protocol: Protocol) -> None:
    async with to_app(app, protocol) as path:
        talk = path.talk()
        await ask(talk)
        call = await talk.call()
        path.servers.leave(Direction.INBOUND)
        await call.say((b"POST", b"/"), [(b"content-length", b"0")])
        await call.end()
        heard = await whole(call)
        assert heard.start in (200, b"HTTP/1.1 200 OK")
        assert heard.get(b"connection") == ([b"close"] if protocol is Protocol.HTTP1 else [])
        assert await ended(talk)


async def test_whoever_comes_while_its_direction_drains_may_ask_once() -> None:
    async with to_app(app, Protocol.HTTP1) as path:
        path.servers.leave(Direction.INBOUND)
        talk = path.talk()
        assert (await ask(talk)).get(b"connection") == [b"close"]
        assert await ended(talk)


@pytest.mark.parametrize("requests", [1, 2], ids=["one", "several"])
async def test_requests_whose_sender_has_left_are_given_up(
    requests: int,
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    asked = 0

    async def app(call: Call) -> None:
        nonlocal asked
        await whole(call)
        asked += 1
        await trio.sleep(0.5 if asked < requests else float("inf"))
        await answer(call)

    async with to_app(app, Protocol.HTTP1) as path:
        near = path.dial()
        await near.send_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n" * requests)
        await near.send_eof()
        lines = await path.logged(requests)
        assert [line["response_flags"] for line in lines] == ["-"] * (requests - 1) + ["DC"]
        await no_connection_is_left(path)


@both
async def test_a_cancelled_proxy_breaks_off_what_it_was_sending(protocol: Protocol) -> None:
    async def endless(call: Call) -> None:
        await whole(call)
        await call.say(200, [])
        await call.send(b"some")
        await trio.sleep_forever()

    async with to_app(endless, protocol) as path:
        call = await path.talk().call()
        await call.say((b"GET", b"/"), [])
        await call.end()
        await call.head()
        assert await call.part() == b"some"
        path.stop()
        with pytest.raises(Broken):
            await call.part()
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (200, "DC")
