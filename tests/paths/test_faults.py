"""Requests that are late or fail on purpose."""
# ruff: noqa: ARG001 - the clock's presence makes waiting quick

import pytest
import trio

from fakes.path import ask, to_app
from fakes.planned import Turns, across, both, counted, follow, giving_up, interrupted, status
from fakes.policies import snapshot
from fakes.talk import Broken, Call, answer, whole
from tproxy.model.flow import Protocol
from tproxy.model.route import Plan
from tproxy.resilience.fault import Abort, Delay, FaultSpec, Throttle, choose
from tproxy.resilience.retry import RetryOn, RetryPolicy

GRPC = ((b"content-type", b"application/grpc"), (b"te", b"trailers"))
LATE = FaultSpec("late", Delay(2.0, 100.0))
FAILING = FaultSpec("failing", abort=Abort(418, percent=100.0))
BOTH = FaultSpec("both", Delay(2.0, 100.0), Abort(503, percent=100.0))


@across
async def test_a_delay_comes_before_the_upstream_is_asked(
    autojump_clock: trio.testing.MockClock, protocol: Protocol, upstream: Protocol
) -> None:
    async with to_app(status(200, b"hello"), protocol, upstream=upstream) as path:
        follow(path, Plan(fault=LATE))
        began = trio.current_time()
        assert (await path.get()).body == b"hello"
        assert trio.current_time() - began == pytest.approx(2.0, abs=0.1)
        (line,) = await path.logged()
        assert (line["response_flags"], line["response_code"]) == ("DI", 200)
        assert counted(path, "tproxy_faults_total") == {"delay": 1}


@both
@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_an_abort_asks_nobody(
    autojump_clock: trio.testing.MockClock, protocol: Protocol, method: bytes
) -> None:
    app = Turns([status(200)])
    async with to_app(app, protocol) as path:
        follow(path, Plan(fault=FAILING))
        asking = interrupted(path.talk()) if method == b"POST" else path.get()
        heard = await asking
        assert (heard.start, heard.body) == (418, b"fault filter abort")
        (line,) = await path.logged()
        assert (line["response_flags"], line["response_code"]) == ("FI", 418)
        assert line["response_code_details"] == "fault_filter_abort"
        assert app.heads == []


@both
async def test_delay_and_abort_are_both_suffered_and_logged(
    autojump_clock: trio.testing.MockClock, protocol: Protocol
) -> None:
    async with to_app(status(200), protocol) as path:
        follow(path, Plan(fault=BOTH))
        began = trio.current_time()
        assert (await path.get()).start == 503
        assert trio.current_time() - began == pytest.approx(2.0, abs=0.1)
        (line,) = await path.logged()
        assert line["response_flags"] == "DI,FI"
        assert 'response_flags="DI,FI"' in path.metrics.exposition()[0].decode()


@both
async def test_a_failure_after_a_delay_has_both_flags(
    autojump_clock: trio.testing.MockClock, protocol: Protocol
) -> None:
    async with to_app(giving_up, protocol) as path:
        follow(path, Plan(fault=LATE))
        assert (await path.get()).start == 503
        (line,) = await path.logged()
        assert line["response_flags"] in ("UC,DI", "UR,DI")


@pytest.mark.parametrize(
    ("abort", "expected"),
    [
        pytest.param(Abort(grpc_status=8, percent=100.0), b"8", id="a gRPC status"),
        pytest.param(Abort(404, percent=100.0), b"12", id="an HTTP status"),
    ],
)
async def test_a_grpc_call_is_aborted_with_a_status_of_its_own(
    autojump_clock: trio.testing.MockClock, abort: Abort, expected: bytes
) -> None:
    async with to_app(status(200), Protocol.HTTP2) as path:
        follow(path, Plan(fault=FaultSpec("a", abort=abort)))
        heard = await ask(path.talk(), method=b"POST", fields=GRPC)
        assert (heard.start, heard.get(b"grpc-status")) == (200, [expected])


@both
async def test_a_client_that_leaves_during_the_delay_ends_it(
    autojump_clock: trio.testing.MockClock, protocol: Protocol
) -> None:
    app = Turns([status(200)])
    async with to_app(app, protocol) as path:
        follow(path, Plan(fault=FaultSpec("long", Delay(1000.0, 100.0), max_active=1)))
        talk = path.talk()
        call = await talk.call()
        await call.say((b"GET", b"/"), ())
        await call.end()
        await trio.sleep(1)
        await call.give_up()
        await talk.stream.aclose()
        (line,) = await path.logged()
        assert line["response_flags"] in ("DI,DC", "DI,DR")
        began = trio.current_time()
        assert (await path.get()).start == 200  # there is room again for a fault
        assert trio.current_time() - began >= 1000


@both
async def test_faults_that_are_too_many_at_once_are_spared(
    autojump_clock: trio.testing.MockClock, protocol: Protocol
) -> None:
    async with to_app(status(200), protocol) as path, trio.open_nursery() as nursery:
        follow(path, Plan(fault=FaultSpec("few", Delay(10.0, 100.0), max_active=1)))
        nursery.start_soon(path.get)
        await trio.sleep(1)
        began = trio.current_time()
        assert (await path.get()).start == 200
        assert trio.current_time() - began < 1
        assert counted(path, "tproxy_faults_total") == {"delay": 1, "overflow": 1}


@both
async def test_who_is_affected_is_settled_by_the_requests_id(
    autojump_clock: trio.testing.MockClock, protocol: Protocol
) -> None:
    spec = FaultSpec("half", abort=Abort(418, percent=50.0))
    async with to_app(status(200), protocol) as path:
        follow(path, Plan(fault=spec))
        for name in (b"id-%d" % number for number in range(20)):
            heard = await path.get(fields=((b"x-request-id", name),))
            assert heard.start == (418 if choose(spec, name) else 200)


@both
async def test_with_a_fault_there_is_neither_time_out_nor_retry(
    autojump_clock: trio.testing.MockClock, protocol: Protocol
) -> None:
    async def slow(call: Call) -> None:
        await whole(call)
        await trio.sleep(2)
        await answer(call, status=503)

    app = Turns([slow])
    async with to_app(app, protocol) as path:
        again = RetryPolicy(retry_on=frozenset({RetryOn.SERVER_ERROR}))
        follow(path, Plan(fault=FaultSpec("idle"), timeout=1.0, retry=again))
        assert (await path.get()).start == 503
        assert len(app.heads) == 1


@across
async def test_a_reset_is_no_answer(
    autojump_clock: trio.testing.MockClock, protocol: Protocol, upstream: Protocol
) -> None:
    app = Turns([status(200)])
    async with to_app(app, protocol, upstream=upstream) as path:
        follow(path, Plan(fault=FaultSpec("gone", reset=100.0)))
        with pytest.raises(Broken, match="reset"):
            await path.get()
        (line,) = await path.logged()
        assert (line["response_flags"], line["response_code"]) == ("FI", 0)
        assert line["response_code_details"] == "fault_filter_reset"
        assert app.heads == []
        assert counted(path, "tproxy_faults_total") == {"reset": 1}


@across
async def test_a_throttled_answer_comes_whole_and_at_its_rate(
    autojump_clock: trio.testing.MockClock, protocol: Protocol, upstream: Protocol
) -> None:
    body = bytes(range(256)) * 400
    async with to_app(status(200, body), protocol, upstream=upstream) as path:
        follow(path, Plan(fault=FaultSpec("slow", throttle=Throttle(10240, 100.0), max_active=1)))
        began = trio.current_time()
        call = await path.talk().call()
        await call.say((b"GET", b"/"), ())
        await call.end()
        await call.head()
        while trio.current_time() - began < 5:
            await call.part()
        assert len(call.heard.body) == pytest.approx(51200, rel=0.05)
        assert (await path.get()).start == 200  # one too many is spared
        assert trio.current_time() - began < 6
        while await call.part():
            pass
        assert call.heard.body == body
        assert trio.current_time() - began == pytest.approx(10.0, rel=0.01)
        *_, line = await path.logged(2)
        assert line["response_flags"] == "DI"
        assert counted(path, "tproxy_faults_total") == {"throttle": 1, "overflow": 1}


@both
async def test_a_policy_has_what_comes_in_fail(
    autojump_clock: trio.testing.MockClock, protocol: Protocol
) -> None:
    app = Turns([status(200)])
    document = (
        "apiVersion: tproxy.io/v1alpha1\nkind: FaultPolicy\nmetadata: {name: f, namespace: web}\n"
        "spec: {direction: INBOUND, rules: [{match: {paths: [/slow*]},"
        " delay: {percentage: 100, fixedDelay: 2s}, abort: {percentage: 100, httpStatus: 503}}]}\n"
    )
    async with to_app(app, protocol) as path:
        path.policies.swap(snapshot(document))
        assert (await path.get(b"/slow/x")).start == 503
        assert (await path.get(b"/else")).start == 200
        assert app.said(b"x-envoy-attempt-count") == [[]]
        late, other = await path.logged(2)
        assert (late["response_flags"], late["tproxy"]["direction"]) == ("DI,FI", "inbound")
        assert late["duration"] == 2000
        assert (other["response_flags"], other["response_code_details"]) == ("-", "via_upstream")
