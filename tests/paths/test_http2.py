"""What only HTTP/2 has: many exchanges on one connection that must not disturb each other."""

import os

import pytest
import trio
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from fakes.h2_peer import frame
from fakes.path import ask, to_app, to_script
from fakes.planned import follow
from fakes.talk import Broken, Call, Heard, answer, echo, whole
from fakes.talk_h2 import Http2Call, Http2Talk
from tproxy.model.flow import Protocol
from tproxy.model.limits import Limits
from tproxy.model.route import Plan
from tproxy.net.tcp_stream import TcpStream

HTTP2 = Protocol.HTTP2


def goaway(last: int) -> bytes:
    """A GOAWAY that h2 does not know of: its own would forbid it to finish what is open."""
    return frame(7, 0, 0, last.to_bytes(4, "big") + bytes(4))


async def test_thirty_streams_pass_at_once_with_their_bodies_interleaved() -> None:
    async with to_app(echo, HTTP2) as path:
        talk = path.talk()
        answers: dict[int, bytes] = {}

        async def one(number: int) -> None:
            call = await talk.call()
            await call.say((b"POST", b"/%d" % number), [])
            for part in range(10):
                await call.send(b"%d.%d " % (number, part))
                await trio.lowlevel.checkpoint()
            await call.end()
            answers[number] = (await whole(call)).body

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(one, number)
        assert answers == {
            number: b"".join(b"%d.%d " % (number, part) for part in range(10))
            for number in range(30)
        }
        assert len(path.origin.accepted) == 1
        assert len(await path.logged(30)) == 30


async def test_a_stream_reset_by_the_downstream_ends_only_its_upstream_stream() -> None:
    reset_by: list[ErrorCodes | None] = []

    async def app(call: Call) -> None:
        assert isinstance(call, Http2Call)
        try:
            await echo(call)
        except Broken:
            reset_by.append(call.reset)

    async with to_app(app, HTTP2) as path:
        talk = path.talk()
        staying, leaving = await talk.call(), await talk.call()
        for call in (staying, leaving):
            await call.say((b"POST", b"/"), [])
            await call.send(b"a")
            await call.head()
            assert await call.part() == b"a"
        await leaving.give_up()
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (200, "DR")
        await staying.send(b"b")
        await staying.end()
        assert (await whole(staying)).body == b"ab"
        assert reset_by == [ErrorCodes.CANCEL]
        assert len(path.origin.accepted) == 1


async def test_a_stream_reset_before_its_answer_ends_its_upstream_stream() -> None:
    asked, over = trio.Event(), trio.Event()

    async def app(call: Call) -> None:
        await whole(call)
        asked.set()
        assert isinstance(call, Http2Call)
        while call.reset is None:
            await call.talk.news()
        over.set()

    async with to_app(app, HTTP2) as path:
        call = await path.talk().call()
        await call.say((b"GET", b"/"), [])
        await call.end()
        await asked.wait()
        await call.give_up()
        await over.wait()
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (0, "DR")


async def test_an_upstream_reset_before_the_answer_is_told_in_its_place() -> None:
    async def app(call: Call) -> None:
        await whole(call)
        await call.give_up()

    async with to_app(app, HTTP2) as path:
        assert (await path.get()).start == 503
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (503, "UR")


async def test_an_upstream_reset_amid_the_answer_becomes_a_reset() -> None:
    async def app(call: Call) -> None:
        await whole(call)
        await call.say(200, [])
        await call.send(b"some")
        await call.give_up()

    async with to_app(app, HTTP2) as path:
        talk = path.talk()
        with pytest.raises(Broken, match="reset"):
            await ask(talk)
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (200, "UR")
        assert line["bytes_sent"] == 4


async def test_an_upstream_that_dies_amid_the_answer_resets_the_stream_only() -> None:
    async def app(call: Call) -> None:
        heard = await whole(call)
        if heard.start == (b"GET", b"/dies"):
            await call.say(200, [])
            await call.send(b"some")
            assert isinstance(call, Http2Call)
            await call.talk.stream.aclose()
        else:
            await answer(call, b"alive")

    async with to_app(app, HTTP2) as path:
        talk = path.talk()
        with pytest.raises(Broken, match="reset"):
            await ask(talk, b"/dies")
        assert (await ask(talk, b"/lives")).body == b"alive"
        first, second = await path.logged(2)
        assert (first["response_flags"], second["response_flags"]) == ("UC", "-")


async def test_after_goaway_the_next_request_takes_another_connection() -> None:
    async def app(call: Call) -> None:
        assert isinstance(call, Http2Call)
        await whole(call)
        await call.talk.say_octets(goaway(call.number))
        await answer(call, b"the last one here")

    async with to_app(app, HTTP2) as path:
        talk = path.talk()
        for _ in range(3):
            assert (await ask(talk)).body == b"the last one here"
        assert len(path.origin.accepted) == 3


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_a_stream_that_the_upstream_refused_is_asked_again(method: bytes) -> None:
    async def app(call: Call) -> None:
        assert isinstance(call, Http2Call)
        await whole(call)
        if len(path.origin.accepted) == 1:
            await call.talk.say_octets(goaway(0))
        else:
            await answer(call, b"welcome")

    async with to_app(app, HTTP2) as path:
        assert (await ask(path.talk(), method=method)).body == b"welcome"
        assert len(path.origin.accepted) == 2


@pytest.mark.parametrize("length", [[], [(b"content-length", b"5")]], ids=["unknown", "declared"])
@pytest.mark.parametrize("plan", [None, Plan()], ids=["unplanned", "planned"])
async def test_a_refused_request_never_arrives_again_without_its_body(
    plan: Plan | None, length: list[tuple[bytes, bytes]]
) -> None:
    bodies: list[bytes] = []

    async def app(call: Call) -> None:
        assert isinstance(call, Http2Call)
        bodies.append((await whole(call)).body)
        if len(path.origin.accepted) == 1:
            await call.talk.say_octets(goaway(0))
        else:
            await answer(call, b"welcome")

    async with to_app(app, HTTP2) as path:
        if plan is not None:
            follow(path, plan)
        call = await path.talk().call()
        await call.say((b"POST", b"/pay"), length)
        await call.send(b"hello")
        await call.end()
        assert (await whole(call)).start == 503
        assert bodies == [b"hello"]


async def test_an_upstream_that_takes_one_stream_at_a_time_serves_five_at_once() -> None:
    async def app(call: Call) -> None:
        await whole(call)
        await trio.lowlevel.checkpoint()
        await answer(call, b"done")

    one = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}
    async with to_app(app, HTTP2, settings=one) as path:
        talk = path.talk()
        answers: list[Heard] = []

        async def ask_once() -> None:
            answers.append(await ask(talk))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask_once)
        assert [heard.body for heard in answers] == [b"done"] * 5


async def test_slow_readers_hold_only_their_own_streams() -> None:
    async def app(call: Call) -> None:
        await call.head()
        if call.heard.start != (b"GET", b"/slow"):
            await echo(call)
            return
        await call.say(200, [])
        while True:
            await call.send(b"x" * 65536)

    async with to_app(app, HTTP2) as path:
        chat = await path.talk().call()
        await chat.say((b"POST", b"/chat"), [])
        await chat.head()
        for _ in range(9):
            slow = await path.talk().call()
            await slow.say((b"GET", b"/slow"), [])
            await slow.end()
            await slow.head()
            await trio.testing.wait_all_tasks_blocked(0.02)
        await chat.send(b"still there")
        assert await chat.part() == b"still there"
        assert (await ask(path.talk(), body=b"and for others")).body == b"and for others"
        assert len(path.origin.accepted) == 1


async def test_no_downstream_has_the_upstream_see_a_flood_of_resets() -> None:
    begun, asked = trio.open_memory_channel[None](9)

    async def app(call: Call) -> None:
        await whole(call)
        await begun.send(None)
        await trio.sleep_forever()

    async with to_app(app, HTTP2, Limits(resets=5)) as path:
        for turn in range(20):
            call = await path.talk().call()
            await call.say((b"GET", b"/"), [])
            await call.end()
            await asked.receive()
            await call.give_up()
            await path.logged(turn + 1)
        assert len(path.origin.accepted) == 4


async def test_a_head_larger_than_the_upstream_takes_costs_nobody_its_connection() -> None:
    little = {SettingCodes.MAX_HEADER_LIST_SIZE: 5000}
    async with to_app(echo, HTTP2, settings=little) as path:
        chat = await path.talk().call()
        await chat.say((b"POST", b"/chat"), [])
        await chat.head()
        refused = await path.get(fields=((b"x", b"y" * 9000),))
        assert refused.start == 431
        await chat.send(b"still there")
        assert await chat.part() == b"still there"
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (431, "UPE")
        assert line["response_code_details"] == "http2.headers_too_large"


async def test_a_malformed_connection_is_told_to_go_and_logged_once() -> None:
    async def never(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)
        raise AssertionError("nothing may reach the upstream")

    async with to_script(never, HTTP2) as path:
        talk = path.talk()
        assert isinstance(talk, Http2Talk)
        await talk.stream.send_all(b"\0\0\4\1\5\0\0\0\1\xff\xff\xff\xff")
        while not talk.over:
            await talk.news()
        assert talk.left is not None
        await talk.stream.aclose()
        (line,) = await path.logged()
        assert line["response_flags"] == "DPE"


async def test_a_downstream_that_leaves_cancels_all_its_exchanges() -> None:
    asked, over = trio.Semaphore(0), trio.Semaphore(0)

    async def app(call: Call) -> None:
        assert isinstance(call, Http2Call)
        await whole(call)
        asked.release()
        while call.reset is None:
            await call.talk.news()
        over.release()

    async with to_app(app, HTTP2) as path:
        talk = path.talk()
        for _ in range(3):
            call = await talk.call()
            await call.say((b"GET", b"/"), [])
            await call.end()
            await asked.acquire()
        await trio.aclose_forcefully(talk.stream)
        for _ in range(3):
            await over.acquire()
        assert [line["response_flags"] for line in await path.logged(3)] == ["DC"] * 3


async def test_resets_that_meet_their_responses_leave_nobody_waiting_for_a_task() -> None:
    asked, hear_asked = trio.open_memory_channel[trio.SocketStream](1)

    async def script(stream: trio.SocketStream) -> None:
        seen = b""
        while data := await stream.receive_some(65536):
            seen += data
            # The request's end may have come behind its head.
            if seen.endswith(b"0\r\n\r\n" if b"chunked" in seen else b"\r\n\r\n"):
                seen = b""
                await asked.send(stream)

    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    async with to_script(script, Protocol.HTTP2, upstream=Protocol.HTTP1) as path:
        talk = path.talk()
        assert isinstance(talk, Http2Talk)
        near = talk.stream
        assert isinstance(near, TcpStream)
        for _ in range(30):
            call = await talk.call()
            await call.say((b"GET", b"/"), ())
            await call.end()
            origin = await hear_asked.receive()
            # Both are there when the proxy looks next, and either may be seen first.
            talk.h2.reset_stream(call.number)
            near.socket.send(talk.h2.data_to_send())
            os.write(origin.socket.fileno(), answer)
            await trio.testing.wait_all_tasks_blocked(0.005)
        calls = [await talk.call() for _ in range(40)]
        for call in calls:
            await call.say((b"GET", b"/"), ())
            await call.end()
        with trio.fail_after(2):
            origins = [await hear_asked.receive() for _ in calls]  # all at once
            for origin in origins:
                await origin.send_all(answer)
            assert [(await whole(call)).body for call in calls] == [b"ok"] * 40
