"""Requests that are sent again, and those that must not be."""
# ruff: noqa: ARG001 - the clock's presence makes waiting quick

import pytest
import trio

from fakes.path import Path, ask, to_app
from fakes.planned import Turn, Turns, across, both, cluster, counted, follow, giving_up, status
from fakes.talk import Broken, Call, Heard, answer, whole
from tproxy.model.cluster import Bounds
from tproxy.model.flow import Protocol
from tproxy.model.limits import Limits
from tproxy.model.route import Plan
from tproxy.net.tcp_stream import TcpStream
from tproxy.resilience.retry import RetryOn, RetryPolicy, conditions
from tproxy.resilience.retry_budget import RetryBudgetSpec

GRPC = ((b"content-type", b"application/grpc"), (b"te", b"trailers"))
ID = (b"x-request-id", b"0a1b2c3d-0000-4000-8000-00000000000f")
KEY = (b"idempotency-key", b"7")


def on(words: str, attempts: int = 2, per_try_timeout: float = 0.0) -> RetryPolicy:
    """Retry what `words` say."""
    met, statuses = conditions(words)
    return RetryPolicy(
        attempts=attempts, retry_on=met, status_codes=statuses, per_try_timeout=per_try_timeout
    )


async def post(path: Path, body: bytes, *fields: tuple[bytes, bytes]) -> Heard:
    """Send a body, and hear the answer."""
    return await ask(path.talk(), method=b"POST", body=body, fields=fields)


@across
@pytest.mark.parametrize(
    ("words", "first"),
    [
        pytest.param("5xx", status(500), id="a server error"),
        pytest.param("503", status(503), id="a status that is listed"),
        pytest.param("reset", giving_up, id="a reset"),
        pytest.param("unavailable", status(200, b"", (b"grpc-status", b"14")), id="gRPC status"),
    ],
)
async def test_what_a_policy_covers_is_sent_again_as_it_was(
    autojump_clock: trio.testing.MockClock,
    protocol: Protocol,
    upstream: Protocol,
    words: str,
    first: Turn,
) -> None:
    app = Turns([first, status(200, b"at last")])
    async with to_app(app, protocol, upstream=upstream) as path:
        follow(path, Plan(retry=on(words)))
        assert (await path.get(b"/a?b=c", (ID, (b"x-mine", b"1")))).body == b"at last"
        assert [head.start for head in app.heads] == [(b"GET", b"/a?b=c")] * 2
        assert app.said(b"x-request-id") == [[ID[1]], [ID[1]]]
        assert app.said(b"x-envoy-attempt-count") == [[b"1"], [b"2"]]
        assert app.said(b"x-mine") == [[b"1"], [b"1"]]
        (line,) = await path.logged()
        assert (line["response_flags"], line["tproxy"]["attempts"]) == ("-", 2)
        assert line["response_code_details"] == "via_upstream"
        assert counted(path, "tproxy_retries_total") == {"done": 1}


@across
async def test_when_no_attempt_is_left_the_last_answer_passes_with_its_flag(
    autojump_clock: trio.testing.MockClock, protocol: Protocol, upstream: Protocol
) -> None:
    app = Turns([status(503, b"no"), status(503, b"no, no"), status(503, b"never")])
    async with to_app(app, protocol, upstream=upstream) as path:
        follow(path, Plan(retry=on("5xx")))
        heard = await path.get()
        assert (heard.start, heard.body) == (503, b"never")
        (line,) = await path.logged()
        assert (line["response_flags"], line["tproxy"]["attempts"]) == ("URX", 3)
        assert line["response_code_details"] == "via_upstream"
        assert counted(path, "tproxy_retries_total") == {"done": 2, "exhausted": 1}


@both
async def test_a_failure_that_no_attempt_mends_has_both_flags(
    autojump_clock: trio.testing.MockClock, protocol: Protocol
) -> None:
    async with to_app(giving_up, protocol) as path:
        follow(path, Plan(retry=on("reset", 1)))
        assert (await path.get()).start == 503
        (line,) = await path.logged()
        assert line["response_flags"] in ("UC,URX", "UR,URX")
        text = path.metrics.exposition()[0].decode()
        assert f'response_flags="{line["response_flags"]}"' in text


@across
@pytest.mark.parametrize(
    ("fields", "attempts"),
    [pytest.param((), 1, id="without a key"), pytest.param((KEY,), 2, id="with a key")],
)
async def test_a_method_that_is_not_safe_to_repeat_needs_a_key(
    autojump_clock: trio.testing.MockClock,
    protocol: Protocol,
    upstream: Protocol,
    fields: tuple[tuple[bytes, bytes], ...],
    attempts: int,
) -> None:
    app = Turns([status(503), status(200, b"at last")])
    async with to_app(app, protocol, upstream=upstream) as path:
        follow(path, Plan(retry=on("5xx")))
        await post(path, b"order", *fields)
        assert len(app.heads) == attempts
        result = "done" if fields else "unsafe_method"
        assert counted(path, "tproxy_retries_total") == {result: 1}


@across
@pytest.mark.parametrize("size", [pytest.param(5, id="some"), pytest.param(65536, id="the most")])
async def test_a_body_is_sent_again_whole(
    autojump_clock: trio.testing.MockClock, protocol: Protocol, upstream: Protocol, size: int
) -> None:
    app = Turns([status(503), giving_up, status(200, b"at last")])
    async with to_app(app, protocol, upstream=upstream) as path:
        follow(path, Plan(retry=on("5xx")))
        body = bytes(range(256))[:size] * (size // 256 or 1)
        assert (await post(path, body, KEY)).body == b"at last"
        assert [head.body for head in app.heads] == [body, body, body]
        (line,) = await path.logged()
        assert line["bytes_received"] == len(body)


@across
@pytest.mark.parametrize(
    "plan", [pytest.param(None, id="unplanned"), pytest.param(Plan(), id="planned")]
)
async def test_a_request_that_meets_a_connection_that_just_closed_never_loses_its_body(
    autojump_clock: trio.testing.MockClock,
    protocol: Protocol,
    upstream: Protocol,
    plan: Plan | None,
) -> None:
    app = Turns([status(200), giving_up, status(200)])
    async with to_app(app, protocol, upstream=upstream) as path:
        if plan is not None:
            follow(path, plan)
        talk = path.talk()
        await ask(talk)
        assert (await ask(talk, method=b"PUT", body=b"order")).start == 503
        assert [head.body for head in app.heads] == [b"", b"order"]


@across
async def test_a_body_whose_connection_just_closed_is_sent_again_whole_where_retries_say_so(
    autojump_clock: trio.testing.MockClock, protocol: Protocol, upstream: Protocol
) -> None:
    app = Turns([status(200), giving_up, status(200, b"at last")])
    async with to_app(app, protocol, upstream=upstream) as path:
        follow(path, Plan(retry=on("reset")))
        talk = path.talk()
        await ask(talk)
        assert (await ask(talk, method=b"PUT", body=b"order")).body == b"at last"
        assert [head.body for head in app.heads] == [b"", b"order", b"order"]


@across
async def test_a_body_beyond_the_bound_is_sent_once(
    autojump_clock: trio.testing.MockClock, protocol: Protocol, upstream: Protocol
) -> None:
    app = Turns([status(503, b"no"), status(200)])
    async with to_app(app, protocol, Limits(replay_bytes=1000), upstream=upstream) as path:
        follow(path, Plan(retry=on("5xx")))
        assert (await post(path, b"x" * 1001, KEY)).body == b"no"
        assert len(app.heads) == 1
        assert counted(path, "tproxy_retries_total") == {"body_too_large": 1}


@across
async def test_an_answer_that_comes_while_the_body_goes_out_ends_that_before_the_next_attempt(
    autojump_clock: trio.testing.MockClock, protocol: Protocol, upstream: Protocol
) -> None:
    async def early(call: Call) -> None:
        await call.head()
        assert await call.part() == b"one"
        await answer(call, b"busy", status=503)
        await trio.sleep_forever()

    app = Turns([early, status(200, b"at last")])
    async with to_app(app, protocol, upstream=upstream) as path:
        follow(path, Plan(retry=on("5xx")))
        call = await path.talk().call()
        await call.say((b"PUT", b"/"), [(b"content-length", b"6")])
        await call.send(b"one")
        await trio.sleep(5)
        assert len(app.heads) == 2
        await call.send(b"two")
        await call.end()
        assert (await whole(call)).body == b"at last"
        assert app.heads[1].body == b"onetwo"


@across
@pytest.mark.parametrize("turns", range(4))
async def test_what_arrives_beyond_the_bound_as_an_attempt_ends_costs_nobody_the_connection(
    autojump_clock: trio.testing.MockClock, protocol: Protocol, upstream: Protocol, turns: int
) -> None:
    decide = trio.Event()

    async def early(call: Call) -> None:
        await decide.wait()
        await answer(call, b"busy", status=503)
        await trio.sleep_forever()

    app = Turns([early, status(200, b"at last")])
    async with to_app(app, protocol, Limits(replay_bytes=1000), upstream=upstream) as path:
        follow(path, Plan(retry=on("5xx")))
        call = await path.talk().call()
        await call.say((b"PUT", b"/"), [(b"content-length", b"1200")])
        await call.send(b"x" * 500)
        await trio.testing.wait_all_tasks_blocked()
        decide.set()
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        await call.send(b"x" * 700)
        await call.end()
        # Which of the two is known first is the kernel's choice.
        if (heard := await whole(call)).start == 200:
            assert app.heads[1].body == b"x" * 1200
        else:
            assert (heard.body, len(app.heads)) == (b"busy", 1)


@across
@pytest.mark.parametrize("turns", range(4))
async def test_a_client_that_leaves_as_an_attempt_is_given_up_keeps_no_place_among_retries(
    autojump_clock: trio.testing.MockClock, protocol: Protocol, upstream: Protocol, turns: int
) -> None:
    decide = trio.Event()

    async def early(call: Call) -> None:
        await decide.wait()
        await answer(call, status=503)
        await trio.sleep_forever()

    async with to_app(Turns([early]), protocol, upstream=upstream) as path:
        spec = cluster(path, bounds=Bounds(retries=1))
        follow(path, Plan(destination=spec, retry=on("5xx")))
        talk = path.talk()
        call = await talk.call()
        await call.say((b"PUT", b"/"), [(b"content-length", b"10")])
        await call.send(b"half")
        await trio.testing.wait_all_tasks_blocked()
        decide.set()
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        assert isinstance(talk.stream, TcpStream)
        talk.stream.reset()
        await path.logged()
        assert path.clusters.of(spec, trio.current_time()).retries.active == 0


@across
async def test_nothing_is_sent_again_once_the_response_has_begun(
    autojump_clock: trio.testing.MockClock, protocol: Protocol, upstream: Protocol
) -> None:
    async def broken(call: Call) -> None:
        await whole(call)
        await call.say(200, [(b"content-length", b"10")])
        await call.send(b"half")
        await call.give_up()

    app = Turns([broken])
    async with to_app(app, protocol, upstream=upstream) as path:
        follow(path, Plan(retry=on("5xx,reset")))
        with pytest.raises(Broken):
            await path.get()
        assert len(app.heads) == 1


@across
async def test_an_attempt_that_takes_too_long_is_given_up_for_the_next(
    autojump_clock: trio.testing.MockClock, protocol: Protocol, upstream: Protocol
) -> None:
    async def silent(call: Call) -> None:
        await whole(call)
        await trio.sleep_forever()

    app = Turns([silent, status(200, b"at last")])
    async with to_app(app, protocol, upstream=upstream) as path:
        follow(path, Plan(retry=on("5xx", per_try_timeout=1.0)))
        began = trio.current_time()
        assert (await path.get()).body == b"at last"
        assert 1.0 <= trio.current_time() - began < 1.3


@both
async def test_another_endpoint_is_asked_than_the_one_that_refused(
    autojump_clock: trio.testing.MockClock, protocol: Protocol
) -> None:
    async with to_app(status(200, b"here"), protocol) as path, to_app(giving_up, protocol) as bad:
        spec = cluster(path, bad)
        follow(path, Plan(destination=spec, retry=on("reset")))
        for _ in range(8):
            assert (await path.get()).body == b"here"
        assert counted(path, "tproxy_retries_total")["done"] > 0


@both
async def test_over_the_budget_the_answer_is_503_and_says_not_to_ask_again(
    autojump_clock: trio.testing.MockClock,
    protocol: Protocol,
) -> None:
    app = Turns([status(500)])
    async with to_app(app, protocol) as path:
        few = RetryBudgetSpec(percent=0.0, min_retries=1, min_interval=1000.0)
        spec = cluster(path, retry_budget=few)
        follow(path, Plan(destination=spec, retry=on("5xx", 5)))
        heard = await path.get()
        assert (heard.start, heard.get(b"x-envoy-overloaded")) == (503, [b"true"])
        assert len(app.heads) == 2
        (line,) = await path.logged()
        assert line["response_flags"] == "UO"
        details = "upstream_reset_before_response_started{overflow}"
        assert line["response_code_details"] == details
        assert counted(path, "tproxy_retries_total") == {"done": 1, "budget": 1}


@both
async def test_a_cluster_bounds_how_many_retries_are_under_way(
    autojump_clock: trio.testing.MockClock, protocol: Protocol
) -> None:
    waiting = trio.Event()

    async def slow(call: Call) -> None:
        await whole(call)
        await waiting.wait()
        await answer(call, b"at last")

    app = Turns([status(500), slow, status(500)])
    async with to_app(app, protocol) as path, trio.open_nursery() as nursery:
        spec = cluster(path, bounds=Bounds(retries=1))
        follow(path, Plan(destination=spec, retry=on("5xx")))
        nursery.start_soon(path.get)
        await trio.sleep(5)
        assert (await path.get()).start == 503
        waiting.set()
        await trio.sleep(1)
        assert counted(path, "tproxy_retries_total") == {"done": 1, "budget": 1}


async def test_informational_heads_of_any_attempt_are_passed_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def hinting(call: Call) -> None:
        await whole(call)
        await call.say(103, [(b"link", b"</a>")])
        await answer(call, status=503)

    app = Turns([hinting, hinting, status(200)])
    async with to_app(app, Protocol.HTTP2) as path:
        follow(path, Plan(retry=on("5xx")))
        call = await path.talk().call()
        await call.say((b"GET", b"/"), ())
        await call.end()
        assert (await whole(call)).start == 200
        assert call.informed == [103, 103]


@both
async def test_discarded_answers_keep_no_window_and_no_stream(
    autojump_clock: trio.testing.MockClock, protocol: Protocol
) -> None:
    app = Turns([status(503, b"x" * 15000) if turn % 2 else status(200) for turn in range(1, 200)])
    async with to_app(app, protocol) as path:
        follow(path, Plan(retry=on("5xx"), destination=cluster(path)))
        talk = path.talk()
        for _ in range(80):
            assert (await ask(talk)).start == 200
            await trio.sleep(1)
        assert sum(path.pool.counts()) <= 1


@both
async def test_what_pushes_back_is_not_asked_again(
    autojump_clock: trio.testing.MockClock, protocol: Protocol
) -> None:
    app = Turns([status(503, b"", (b"x-envoy-overloaded", b"true"))])
    async with to_app(app, protocol) as path:
        follow(path, Plan(retry=on("5xx")))
        assert (await path.get()).start == 503
        assert len(app.heads) == 1


@both
async def test_a_client_that_leaves_between_two_attempts_ends_them(
    autojump_clock: trio.testing.MockClock, protocol: Protocol
) -> None:
    app = Turns([status(503)])
    async with to_app(app, protocol) as path:
        slow = RetryPolicy(
            attempts=3, retry_on=frozenset({RetryOn.SERVER_ERROR}), base=1000.0, cap=1000.0
        )
        follow(path, Plan(retry=slow))
        talk = path.talk()
        call = await talk.call()
        await call.say((b"GET", b"/"), ())
        await call.end()
        await trio.sleep(0.1)
        await call.give_up()
        await talk.stream.aclose()
        (line,) = await path.logged()
        assert line["response_flags"] in ("DC", "DR")
        assert len(app.heads) == 1


async def test_grpc_calls_are_repeated_for_the_statuses_that_are_named(
    autojump_clock: trio.testing.MockClock,
) -> None:
    unavailable = ((b"content-type", b"application/grpc"), (b"grpc-status", b"14"))
    fine = ((b"content-type", b"application/grpc"), (b"grpc-status", b"0"))
    app = Turns([status(200, b"", *unavailable), status(200, b"", *fine)])
    async with to_app(app, Protocol.HTTP2) as path:
        follow(path, Plan(retry=on("unavailable")))
        heard = await post(path, b"\0\0\0\0\0", *GRPC)
        assert heard.get(b"grpc-status") == [b"0"]
        assert [head.body for head in app.heads] == [b"\0\0\0\0\0"] * 2


COUNT = (b"x-envoy-attempt-count", b"9")


@both
async def test_the_application_hears_which_attempt_its_callers_sidecar_makes(
    protocol: Protocol,
) -> None:
    app = Turns([status(200)])
    async with to_app(app, protocol) as path:
        await path.get(b"/", (COUNT,))
        assert app.said(COUNT[0]) == [[b"9"]]


@both
async def test_an_application_does_not_count_its_own_attempts_where_policies_lead(
    protocol: Protocol,
) -> None:
    app = Turns([status(200)])
    async with to_app(app, protocol) as path:
        follow(path, Plan())
        await path.get(b"/", (COUNT,))
        assert app.said(COUNT[0]) == [[b"1"]]
