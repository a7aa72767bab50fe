"""Copies of requests, of which the original notices nothing."""
# ruff: noqa: ARG001 - the clock's presence makes waiting quick

import trio

from fakes.path import ask, to_app, to_script
from fakes.planned import Turns, across, both, cluster, counted, follow, status
from fakes.talk import Call, answer, whole
from tproxy.model.flow import Protocol
from tproxy.model.limits import Limits
from tproxy.model.route import Mirror, Plan
from tproxy.resilience.fraction import fraction

ID = (b"x-request-id", b"0a1b2c3d-0000-4000-8000-00000000000f")


@across
async def test_a_copy_is_what_was_asked_and_says_that_it_is_one(
    autojump_clock: trio.testing.MockClock, protocol: Protocol, upstream: Protocol
) -> None:
    app, shadow = Turns([status(200, b"mine")]), Turns([status(500, b"dropped" * 10000)])
    async with (
        to_app(app, protocol, upstream=upstream) as path,
        to_app(shadow, upstream) as other,
    ):
        follow(path, Plan(mirrors=(Mirror(cluster(other, name="shadow")),)))
        heard = await ask(path.talk(), b"/a?b", method=b"POST", body=b"x" * 50000, fields=(ID,))
        assert (heard.start, heard.body) == (200, b"mine")
        await trio.sleep(1)
        (original,), (copy,) = app.heads, shadow.heads
        assert copy.start == original.start == (b"POST", b"/a?b")
        assert copy.body == original.body == b"x" * 50000
        assert copy.get(b"host") == original.get(b"host")
        assert copy.get(b"x-request-id") == [ID[1]]
        assert (copy.get(b"x-tproxy-shadow"), original.get(b"x-tproxy-shadow")) == ([b"1"], [])
        assert counted(path, "tproxy_mirrored_total") == {"sent": 1}
        assert len(await path.logged()) == 1


@both
async def test_a_shadow_that_answers_nothing_delays_nobody(
    autojump_clock: trio.testing.MockClock, protocol: Protocol
) -> None:
    async def idle(_: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with (
        to_app(status(200, b"mine"), protocol) as path,
        to_script(idle, protocol) as other,
    ):
        follow(path, Plan(mirrors=(Mirror(cluster(other, name="shadow")),)))
        began = trio.current_time()
        assert (await path.get()).body == b"mine"
        assert trio.current_time() - began < 0.1
        await trio.sleep(100)
        assert counted(path, "tproxy_mirrored_total") == {"failed": 1}


@both
async def test_a_shadow_that_falls_behind_gets_no_copy_and_the_original_passes(
    autojump_clock: trio.testing.MockClock,
    protocol: Protocol,
) -> None:
    async def idle(call: Call) -> None:
        await call.head()
        await trio.sleep_forever()

    limits = Limits(mirrored_bytes=100000)
    async with (
        to_app(status(200, b"mine"), protocol, limits) as path,
        to_app(idle, protocol) as other,
    ):
        follow(path, Plan(mirrors=(Mirror(cluster(other, name="shadow")),)))
        heard = await ask(path.talk(), method=b"POST", body=bytes(10_000_000))
        assert heard.body == b"mine"
        await trio.sleep(100)
        assert counted(path, "tproxy_mirrored_total") == {"too_large": 1}


@both
async def test_copies_beyond_the_bound_are_not_made(
    autojump_clock: trio.testing.MockClock, protocol: Protocol
) -> None:
    async def slow(call: Call) -> None:
        await whole(call)
        await trio.sleep(10)
        await answer(call)

    limits = Limits(mirrored=1)
    async with (
        to_app(status(200, b"mine"), protocol, limits) as path,
        to_app(slow, protocol) as other,
    ):
        follow(path, Plan(mirrors=(Mirror(cluster(other, name="shadow")),)))
        assert (await path.get()).body == (await path.get()).body == b"mine"
        await trio.sleep(100)
        assert counted(path, "tproxy_mirrored_total") == {"overflow": 1, "sent": 1}


@both
async def test_an_original_that_breaks_off_takes_its_copy_with_it(
    autojump_clock: trio.testing.MockClock, protocol: Protocol
) -> None:
    shadow = Turns([status(200)])
    async with to_app(status(200), protocol) as path, to_app(shadow, protocol) as other:
        follow(path, Plan(mirrors=(Mirror(cluster(other, name="shadow")),)))
        talk = path.talk()
        call = await talk.call()
        await call.say((b"POST", b"/"), [(b"content-length", b"10")])
        await call.send(b"half")
        await trio.sleep(1)
        await call.give_up()
        await talk.stream.aclose()
        await trio.sleep(10)
        assert counted(path, "tproxy_mirrored_total") == {"failed": 1}


@both
async def test_who_is_copied_is_settled_by_the_requests_id(
    autojump_clock: trio.testing.MockClock, protocol: Protocol
) -> None:
    shadow = Turns([status(200)])
    async with to_app(status(200), protocol) as path, to_app(shadow, protocol) as other:
        follow(path, Plan(mirrors=(Mirror(cluster(other, name="shadow"), 30.0),)))
        names = [b"id-%d" % number for number in range(40)]
        for name in names:
            await path.get(fields=((b"x-request-id", name),))
        await trio.sleep(1)
        expected = [[name] for name in names if fraction(name, b"mirror shadow") < 0.3]
        assert sorted(shadow.said(b"x-request-id")) == sorted(expected)
        assert 0 < len(expected) < 40
