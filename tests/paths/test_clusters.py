"""What goes to a cluster meets its endpoints, within its bounds, and its machines learn how that ended."""

from collections import Counter
from contextlib import suppress

import pytest
import trio
from h2.settings import SettingCodes

from fakes.clusters import NAME, addresses, at, cluster, instances, send_to
from fakes.path import Path, ask, to_app, to_script
from fakes.planned import follow
from fakes.talk import Broken, Call, answer, whole
from tproxy.model.address import Address
from tproxy.model.cluster import Bounds, Dns, DnsName, Endpoint, HashKey, HashOn
from tproxy.model.flow import Protocol
from tproxy.model.limits import Limits
from tproxy.model.route import Plan
from tproxy.resilience.balance import Algorithm, BalancerSpec
from tproxy.resilience.breaker import BreakerSpec, ConsecutiveFailures
from tproxy.resilience.fault import Delay, FaultSpec
from tproxy.resilience.outlier import OutlierSpec
from tproxy.resilience.retry import NO_RETRY
from tproxy.stores.clusters import LiveCluster

both = pytest.mark.parametrize(
    "protocol",
    [pytest.param(Protocol.HTTP1, id="http1"), pytest.param(Protocol.HTTP2, id="http2")],
)
TURNS = BalancerSpec(Algorithm.ROUND_ROBIN)
RING = BalancerSpec(Algorithm.RING_HASH)
OUTLIER = OutlierSpec(consecutive_5xx_errors=2, max_ejection_percent=100)
GRPC = (b"content-type", b"application/grpc")


async def nobody(call: Call) -> None:
    """Be where connections were going, and where none is to come."""
    raise AssertionError(call)


async def hosts(path: Path, times: int) -> list[bytes]:
    """Ask so many times, and tell who answered."""
    return [(await path.get()).body for _ in range(times)]


def service(path: Path, metric: str) -> set[tuple[str, ...]]:
    """Which services the series of a metric name."""
    text = path.metrics.exposition()[0].decode()
    names = ("destination_service", "destination_service_name", "destination_service_namespace")
    return {
        tuple(line.partition(f'{name}="')[2].partition('"')[0] for name in names)
        for line in text.splitlines()
        if line.startswith(metric + "{")
    }


@both
@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        pytest.param(Algorithm.ROUND_ROBIN, {4}, id="in turn"),
        pytest.param(Algorithm.RANDOM, set(range(13)), id="at random"),
        pytest.param(Algorithm.LEAST_REQUEST, set(range(13)), id="to the less loaded"),
        pytest.param(Algorithm.RING_HASH, set(range(13)), id="by a ring without a key"),
    ],
)
async def test_requests_are_spread(
    protocol: Protocol, algorithm: Algorithm, expected: set[int]
) -> None:
    async with to_app(nobody, protocol) as path, instances(3, protocol) as found:
        send_to(path, cluster(addresses(found), balancer=BalancerSpec(algorithm)))
        counts = Counter(await hosts(path, 12))
        assert len(counts) > 1
        assert {counts[str(each.address).encode()] for each in found} <= expected
        line = (await path.logged(12))[-1]
        assert line["upstream_host"] in {str(each.address) for each in found}
        assert line["upstream_cluster"] == "outbound|80||shop.example"
        assert service(path, "istio_requests_total") == {
            ("shop.example", "shop.example", "unknown")
        }


@pytest.mark.parametrize(
    ("key", "said"),
    [
        pytest.param(HashKey(HashOn.HEADER, "x-user"), ((b"X-User", b"7"),), id="header"),
        pytest.param(HashKey(HashOn.COOKIE, "u"), ((b"Cookie", b"a=1; u=7"),), id="cookie"),
        pytest.param(HashKey(HashOn.QUERY, "user"), (), id="query"),
        pytest.param(HashKey(HashOn.SOURCE_IP), (), id="source"),
    ],
)
async def test_requests_that_have_the_key_in_common_meet_the_same_endpoint(
    key: HashKey, said: tuple[tuple[bytes, bytes], ...]
) -> None:
    async with to_app(nobody, Protocol.HTTP1) as path, instances(4) as found:
        send_to(path, cluster(addresses(found), balancer=RING, hash_key=key))
        met = {(await path.get(b"/?user=7", said)).body for _ in range(8)}
        assert len(met) == 1


async def test_a_client_without_the_cookie_is_given_one_and_comes_back() -> None:
    key = HashKey(HashOn.COOKIE, "lb", cookie_seconds=60, cookie_path="/shop")
    async with to_app(nobody, Protocol.HTTP1) as path, instances(4) as found:
        send_to(path, cluster(addresses(found), balancer=RING, hash_key=key))
        first = await path.get()
        (cookie,) = first.get(b"set-cookie")
        pair, *said = cookie.split(b"; ")
        assert said == [b"Max-Age=60", b"Path=/shop", b"HttpOnly"]
        for _ in range(5):
            again = await path.get(b"/", ((b"Cookie", pair),))
            assert (again.body, again.get(b"set-cookie")) == (first.body, [])


@both
async def test_an_endpoint_that_answers_badly_is_left_out(protocol: Protocol) -> None:
    async with to_app(nobody, protocol) as path, instances(2, protocol) as found:
        found[0].status = 503
        send_to(path, cluster(addresses(found), balancer=TURNS, outlier=OUTLIER))
        await hosts(path, 4)
        assert await hosts(path, 4) == [str(found[1].address).encode()] * 4
        assert found[0].asked == 2


async def test_an_endpoint_that_answers_badly_in_grpc_is_left_out() -> None:
    async def unavailable(call: Call) -> None:
        await whole(call)
        await call.say(200, [GRPC])
        await call.end([(b"grpc-status", b"14")])

    async with to_app(nobody, Protocol.HTTP2) as path, instances(2, Protocol.HTTP2) as found:
        found[0].app = unavailable
        send_to(path, cluster(addresses(found), balancer=TURNS, outlier=OUTLIER))
        for _ in range(8):
            await path.get(b"/", (GRPC,))
        assert found[0].asked == 2


@both
async def test_an_endpoint_that_cannot_be_reached_is_left_out(protocol: Protocol) -> None:
    async with to_app(nobody, protocol) as path, instances(1, protocol) as found:
        gone = await refusing()
        spec = cluster(at(gone, found[0].address), balancer=TURNS, outlier=OUTLIER)
        send_to(path, spec)
        statuses = [(await path.get()).start for _ in range(8)]
        assert sorted(statuses)[-2:] == [503, 503]
        assert statuses[-3:] == [200] * 3
        failed = [each for each in await path.logged(8) if each["response_flags"] == "UF"]
        assert [each["upstream_host"] for each in failed] == [str(gone)] * 2


@both
async def test_an_endpoint_that_breaks_off_is_left_out(protocol: Protocol) -> None:
    async def breaking(call: Call) -> None:
        await whole(call)
        await call.say(200, [(b"content-length", b"100")])
        await call.send(b"half")
        await call.give_up()

    async with to_app(nobody, protocol) as path, instances(2, protocol) as found:
        found[0].app = breaking
        send_to(path, cluster(addresses(found), balancer=TURNS, outlier=OUTLIER))
        for _ in range(8):
            call = await path.talk().call()
            await call.say((b"GET", b"/"), [])
            await call.end()
            with suppress(Broken):
                await whole(call)
        assert found[0].asked == 2


async def refusing() -> Address:
    """Find an address where nobody listens."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    name = listener.socket.getsockname()
    await listener.aclose()
    return Address.of(*name[:2])


@both
async def test_without_an_endpoint_there_is_no_healthy_upstream(protocol: Protocol) -> None:
    async with to_app(nobody, protocol) as path:
        send_to(path, cluster(at()))
        heard = await path.get()
        assert (heard.start, heard.body) == (503, b"no healthy upstream")
        (line,) = await path.logged()
        assert line["response_flags"] == "UH"
        assert line["response_code_details"] == "no_healthy_upstream"


async def test_endpoints_that_are_not_found_yet_are_waited_for(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    names = Dns((DnsName("shop.example", 80),))
    async with (
        to_app(nobody, Protocol.HTTP1) as path,
        instances(1) as found,
        trio.open_nursery() as nursery,
    ):
        send_to(path, cluster(names, bounds=Bounds(connect_seconds=2)))
        began = trio.current_time()
        assert (await path.get()).start == 503
        assert trio.current_time() - began >= 2

        async def later() -> None:
            assert (await path.get()).body == str(found[0].address).encode()

        nursery.start_soon(later)
        await trio.sleep(1)
        path.clusters.found(names, (Endpoint(found[0].address),), 1.0)
        line, *_ = await path.logged(2)
        assert line["upstream_transport_failure_reason"] == "its endpoints are not found yet"


@both
async def test_a_breaker_lets_one_request_at_a_time_find_out(
    protocol: Protocol,
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    async with to_app(nobody, protocol) as path, instances(1, protocol) as found:
        found[0].status = 500
        spec = BreakerSpec(ConsecutiveFailures(2))
        send_to(path, cluster(addresses(found), breaker=spec))
        assert [(await path.get()).start for _ in range(3)] == [500, 500, 503]
        await trio.sleep(2)
        found[0].status = 200
        assert [(await path.get()).start for _ in range(3)] == [200, 200, 200]
        assert found[0].asked == 5


async def test_a_breaker_hears_of_a_stream_before_it_is_over(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    async def watch(call: Call) -> None:
        await whole(call)
        await call.say(200, [GRPC])
        await speak.wait()
        await call.send(b"\0\0\0\0\x01a")
        await trio.sleep_forever()

    speak = trio.Event()
    async with to_app(nobody, Protocol.HTTP2) as path, instances(1, Protocol.HTTP2) as found:
        found[0].status = 500
        spec = BreakerSpec(ConsecutiveFailures(2))
        send_to(path, cluster(addresses(found), breaker=spec))
        assert [(await path.get()).start for _ in range(3)] == [500, 500, 503]
        await trio.sleep(2)
        found[0].app, found[0].status = watch, 200
        call = await path.talk().call()
        await call.say((b"POST", b"/"), [GRPC])
        await call.end()
        assert (await call.head()).start == 200
        assert (await path.get()).start == 503, "a head may be followed by a bad status"
        speak.set()
        assert await call.part() == b"\0\0\0\0\x01a"
        found[0].app = None
        assert (await path.get()).start == 200


@both
async def test_more_requests_than_the_bound_are_turned_away(protocol: Protocol) -> None:
    free = trio.Event()

    async def slow(call: Call) -> None:
        await whole(call)
        await free.wait()
        await answer(call, b"late")

    async with (
        to_app(nobody, protocol) as path,
        instances(1, protocol, slow) as found,
        trio.open_nursery() as nursery,
    ):
        send_to(path, cluster(addresses(found), bounds=Bounds(requests=2)))
        for _ in range(2):
            nursery.start_soon(path.get)
        await found[0].met(asked=2)
        refused = await path.get()
        assert (refused.start, refused.get(b"x-envoy-overloaded")) == (503, [b"true"])
        free.set()
        (line,) = [each for each in await path.logged(3) if each["response_code"] == 503]
        assert line["response_flags"] == "UO"
        details = "upstream_reset_before_response_started{overflow}"
        assert line["response_code_details"] == details
        assert (await path.get()).start == 200


async def slowly(call: Call) -> None:
    """Answer in a while."""
    await whole(call)
    await trio.sleep(1)
    await answer(call, b"done")


async def test_requests_wait_in_order_for_a_connection(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    async with (
        to_app(nobody, Protocol.HTTP1) as path,
        instances(2, app=slowly) as found,
        trio.open_nursery() as nursery,
    ):
        bounds = Bounds(connections=1, pending=3)
        send_to(path, cluster(addresses(found), balancer=TURNS, bounds=bounds))
        order: list[int] = []

        async def get(number: int) -> None:
            assert (await path.get()).start == 200
            order.append(number)

        for number in range(4):
            nursery.start_soon(get, number)
            await trio.testing.wait_all_tasks_blocked()
        assert (await path.get()).start == 503
        await path.logged(1)
        assert path.clusters.rooms.waiting("outbound|80||shop.example") == 3
        await trio.sleep(5)
        assert order == [0, 1, 2, 3]
        assert sum(path.pool.by_endpoint().values()) <= 1


async def test_whoever_waits_for_a_connection_and_leaves_takes_no_place(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    async with (
        to_app(nobody, Protocol.HTTP1) as path,
        instances(1, app=slowly) as found,
        trio.open_nursery() as nursery,
    ):
        send_to(path, cluster(addresses(found), bounds=Bounds(connections=1, pending=1)))
        nursery.start_soon(path.get)
        await trio.testing.wait_all_tasks_blocked()
        leaver = path.dial()
        await leaver.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked()
        leaver.reset()
        await trio.sleep(0.5)
        assert (await path.get()).start == 200
        assert found[0].asked == 2


FEW_STREAMS = {SettingCodes.MAX_CONCURRENT_STREAMS: 2}


async def test_requests_wait_for_a_stream_where_connections_have_a_bound(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    async with (
        to_app(slowly, Protocol.HTTP2, settings=FEW_STREAMS) as path,
        trio.open_nursery() as nursery,
    ):
        spec = cluster(at(path.origin.address), bounds=Bounds(connections=1, pending=4))
        send_to(path, spec)
        assert (await path.get()).start == 200
        order: list[int] = []

        async def get(number: int) -> None:
            assert (await path.get()).start == 200
            order.append(number)

        for number in range(6):
            nursery.start_soon(get, number)
            await trio.testing.wait_all_tasks_blocked()
        assert path.clusters.rooms.waiting(NAME) == 4
        assert (await path.get()).start == 503
        await trio.sleep(5)
        # Two at once, in whichever order.
        assert [{*order[each : each + 2]} for each in (0, 2, 4)] == [{0, 1}, {2, 3}, {4, 5}]
        assert path.clusters.rooms.waiting(NAME) == 0
        assert len(path.origin.accepted) == 1


async def test_whoever_waits_for_a_stream_of_a_connection_that_ends_has_another_one(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    async with (
        to_app(slowly, Protocol.HTTP2, settings=FEW_STREAMS) as path,
        trio.open_nursery() as nursery,
    ):
        bounds = Bounds(connections=1, requests_per_connection=2)
        send_to(path, cluster(at(path.origin.address), bounds=bounds))
        statuses: list[object] = []

        async def get() -> None:
            statuses.append((await path.get()).start)

        for _ in range(7):
            nursery.start_soon(get)
        await trio.sleep(10)
        assert statuses == [200] * 7
        assert len(path.origin.accepted) == 4


async def test_whoever_waits_for_a_stream_and_leaves_takes_none(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    async with (
        to_app(slowly, Protocol.HTTP2, settings=FEW_STREAMS) as path,
        trio.open_nursery() as nursery,
    ):
        bounds = Bounds(connections=1, pending=1)
        send_to(path, cluster(at(path.origin.address), bounds=bounds))
        for _ in range(2):
            nursery.start_soon(path.get)
            await trio.testing.wait_all_tasks_blocked()
        leaver = await path.talk().call()
        await leaver.say((b"GET", b"/"), [])
        await leaver.end()
        await trio.testing.wait_all_tasks_blocked()
        assert path.clusters.rooms.waiting(NAME) == 1
        await leaver.give_up()
        await trio.testing.wait_all_tasks_blocked()
        assert path.clusters.rooms.waiting(NAME) == 0
        assert (await path.get()).start == 200


async def test_a_request_of_earlier_policies_changes_no_bound(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    async with (
        to_app(nobody, Protocol.HTTP1) as path,
        instances(1, app=slowly) as found,
        trio.open_nursery() as nursery,
    ):
        statuses: list[object] = []

        async def get() -> None:
            statuses.append((await path.get()).start)

        earlier = cluster(addresses(found), bounds=Bounds(connections=50))
        slow = FaultSpec("slow", delay=Delay(seconds=3.5, percent=100.0))
        follow(path, Plan(destination=earlier, retry=NO_RETRY, fault=slow))
        nursery.start_soon(get)
        await trio.testing.wait_all_tasks_blocked()
        send_to(path, cluster(addresses(found), bounds=Bounds(connections=1)))
        for _ in range(6):
            nursery.start_soon(get)
        await trio.sleep(10)
        assert statuses == [200] * 7
        assert sum(path.pool.by_endpoint().values()) == 1


async def test_a_connection_of_earlier_policies_changes_no_bound() -> None:
    async with to_app(nobody, Protocol.HTTP1) as path, instances(1) as found:
        send_to(path, cluster(addresses(found), bounds=Bounds(connections=50)))
        earlier = path.policies.current
        send_to(path, cluster(addresses(found), bounds=Bounds(connections=1)))
        assert (await relayed(path)).startswith(b"HTTP/1.1 200")
        await path.logged(1)
        path.policies.swap(earlier)
        assert (await relayed(path)).startswith(b"HTTP/1.1 200")
        room = path.clusters.rooms.find(NAME, Bounds(connections=1))
        assert room is not None
        assert room.bounds.connections == 1


async def test_a_connection_carries_so_many_requests() -> None:
    async with to_app(nobody, Protocol.HTTP1) as path, instances(1) as found:
        send_to(path, cluster(addresses(found), bounds=Bounds(requests_per_connection=2)))
        talk = path.talk()
        for _ in range(5):
            assert (await ask(talk)).start == 200
        assert len(found[0].connections) == 3


async def test_streams_share_a_connection_only_so_often() -> None:
    async with to_app(nobody, Protocol.HTTP2) as path, instances(1, Protocol.HTTP2) as found:
        send_to(path, cluster(addresses(found), bounds=Bounds(requests_per_connection=2)))
        for _ in range(5):
            assert (await path.get()).start == 200
        assert len(found[0].connections) == 3


async def test_idle_connections_to_endpoints_that_are_gone_are_closed() -> None:
    async with to_app(nobody, Protocol.HTTP1) as path, instances(2) as found:
        send_to(path, cluster(addresses(found), balancer=TURNS))
        await hosts(path, 2)
        assert path.pool.counts() == (0, 2)
        send_to(path, cluster(addresses(found[:1]), balancer=TURNS))
        await path.get()
        path.pool.drain(path.clusters.serves)
        assert {address for _, address in path.pool.by_endpoint()} == {found[0].address}


async def test_the_original_destination_may_have_bounds_of_its_own() -> None:
    async def slow(call: Call) -> None:
        await whole(call)
        asked.set()
        await free.wait()
        await answer(call, b"late")

    asked, free = trio.Event(), trio.Event()
    async with to_app(slow, Protocol.HTTP1) as path, trio.open_nursery() as nursery:
        send_to(path, cluster(None, bounds=Bounds(requests=1)))
        nursery.start_soon(path.get)
        await asked.wait()
        assert (await path.get()).start == 503
        free.set()


async def shout(stream: trio.SocketStream) -> None:
    """Be where connections carried as bytes were going, and where none is to come."""
    raise AssertionError(stream)


async def relayed(path: Path) -> bytes:
    """Connect, say something and tell what comes."""
    near = path.relay()
    await near.send_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    try:
        return await near.receive_some(65536)
    finally:
        near.close()


async def test_connections_are_spread_and_pass_by_endpoints_that_refuse() -> None:
    async with to_script(shout) as path, instances(2) as found:
        gone = await refusing()
        origin = at(gone, *(each.address for each in found))
        send_to(path, cluster(origin, balancer=TURNS, outlier=OUTLIER))
        for _ in range(6):
            assert (await relayed(path)).startswith(b"HTTP/1.1 200")
        assert [each.asked for each in found] == [3, 3]
        opened = service(path, "istio_tcp_connections_opened_total")
        assert opened == {("shop.example", "shop.example", "unknown")}
        lines = await path.logged(6)
        assert {each["upstream_host"] for each in lines} == {str(each.address) for each in found}
        live = at_work(path)
        assert live.ejected(trio.current_time()) == {gone}


async def test_a_connection_for_which_nobody_can_be_reached_says_who_was_asked() -> None:
    async with to_script(shout) as path:
        gone = [await refusing() for _ in range(5)]
        send_to(path, cluster(at(*gone), balancer=TURNS))
        with pytest.raises(trio.BrokenResourceError):
            await relayed(path)
        (line,) = await path.logged()
        assert line["response_flags"] == "UF"
        assert line["upstream_host"] in {str(each) for each in gone}
        live = at_work(path)
        assert (sum(each.total for each in live.members), live.active) == (3, 0)


async def test_connections_have_a_bound() -> None:
    async with to_script(shout) as path, instances(1) as found:
        send_to(path, cluster(addresses(found), bounds=Bounds(connections=1)))
        near = path.relay()
        await found[0].met(connections=1)
        with pytest.raises(trio.BrokenResourceError):
            await relayed(path)
        (line,) = await path.logged()
        assert line["response_flags"] == "UO"
        near.close()
        await path.logged(2)
        assert (await relayed(path)).startswith(b"HTTP/1.1 200")


def at_work(path: Path) -> LiveCluster:
    """The cluster that everything is sent to."""
    live = path.clusters.get(NAME)
    assert live is not None
    return live


@both
async def test_a_request_in_flight_outlasts_its_endpoint(protocol: Protocol) -> None:
    free = trio.Event()

    async def slow(call: Call) -> None:
        await whole(call)
        await free.wait()
        await answer(call, b"late")

    async with (
        to_app(nobody, protocol) as path,
        instances(2, protocol, slow) as found,
        trio.open_nursery() as nursery,
    ):
        heard: list[bytes] = []

        async def get() -> None:
            heard.append((await path.get()).body)

        send_to(path, cluster(addresses(found[:1])))
        nursery.start_soon(get)
        await found[0].met(asked=1)
        send_to(path, cluster(addresses(found[1:])))
        nursery.start_soon(get)
        await found[1].met(asked=1)
        path.pool.drain(path.clusters.serves)
        assert path.pool.counts() == (2, 0)
        free.set()
        await path.logged(2)
        assert heard == [b"late"] * 2
        path.pool.drain(path.clusters.serves)
        assert {address for _, address in path.pool.by_endpoint()} == {found[1].address}
        assert at_work(path).active == 0


@both
async def test_a_downstream_that_leaves_says_nothing_of_the_endpoint(protocol: Protocol) -> None:
    async def never(call: Call) -> None:
        await whole(call)
        await trio.sleep_forever()

    async with to_app(nobody, protocol) as path, instances(1, protocol, never) as found:
        strict = OutlierSpec(consecutive_5xx_errors=1, max_ejection_percent=100)
        breaker = BreakerSpec(ConsecutiveFailures(1))
        send_to(path, cluster(addresses(found), outlier=strict, breaker=breaker))
        for number in (1, 2, 3):
            talk = path.talk()
            call = await talk.call()
            await call.say((b"GET", b"/"), [])
            await call.end()
            await found[0].met(asked=number)
            await call.give_up()
            await path.logged(number)
        (member,) = at_work(path).members
        assert (member.active, member.total, member.failed) == (0, 3, 0)
        assert at_work(path).pick(trio.current_time()) is not None


async def test_policies_that_say_the_same_again_keep_what_is_known() -> None:
    async with to_app(nobody, Protocol.HTTP1) as path, instances(2) as found:
        found[0].status = 503
        for _ in range(6):
            send_to(path, cluster(addresses(found), balancer=TURNS, outlier=OUTLIER))
            await hosts(path, 2)
        assert found[0].asked == 2


async def test_a_connection_carried_as_bytes_may_have_been_going_to_no_cluster_at_all() -> None:
    async def origin(stream: trio.SocketStream) -> None:
        await stream.send_all(b"here")

    async with to_script(origin) as path:
        send_to(path, cluster(None, outlier=OUTLIER))
        near = path.relay()
        assert await near.receive_some(65536) == b"here"
        near.close()
        (line,) = await path.logged()
        assert line["upstream_host"] == str(path.origin.address)


@both
async def test_an_upstream_that_never_answers_counts_against_it(
    protocol: Protocol,
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    async def never(call: Call) -> None:
        await whole(call)
        await trio.sleep_forever()

    async with (
        to_app(nobody, protocol, Limits(stream_idle_seconds=5)) as path,
        instances(1, protocol, never) as found,
    ):
        strict = OutlierSpec(consecutive_5xx_errors=1, max_ejection_percent=100)
        send_to(path, cluster(addresses(found), outlier=strict))
        assert (await path.get()).start == 504
        assert at_work(path).ejected(trio.current_time()) == {found[0].address}


async def test_an_original_destination_that_refuses_gives_way_to_no_other() -> None:
    async def origin(stream: trio.SocketStream) -> None:
        await stream.send_all(b"here")

    async with to_script(origin) as path:
        send_to(path, cluster(None, outlier=OUTLIER))
        there, path.origin.address = path.origin.address, await refusing()
        for asked in (there, path.origin.address):
            live = path.clusters.of(cluster(None, outlier=OUTLIER), 0.0, 9)
            one = live.ask(Endpoint(asked), 0.0)
            assert one is not None
            one.done()
        with pytest.raises(trio.BrokenResourceError):
            await path.relay().receive_some(1)
        (line,) = await path.logged()
        assert (line["response_flags"], path.origin.accepted) == ("UF", [])
