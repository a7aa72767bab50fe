"""Connections are shared where they can be, kept while they may be of use, and closed by nobody who does not own them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import pytest
import trio
from msgspec import structs

from fakes.sockets import open_descriptors, tcp_pair
from tproxy.codec.codec import Codec
from tproxy.codec.h1 import Http1Client
from tproxy.codec.h2_client import Http2Client
from tproxy.model.address import Address
from tproxy.model.cluster import Bounds
from tproxy.model.flow import Protocol
from tproxy.model.limits import Limits
from tproxy.model.outcome import ResponseFlag, UpstreamError
from tproxy.net.tcp_stream import TcpStream
from tproxy.upstream.connector import Target
from tproxy.upstream.pool import Pool

HTTP1 = Target(Address("192.0.2.1", 80), Protocol.HTTP1)
HTTP2 = Target(Address("192.0.2.1", 80), Protocol.HTTP2)
LIMITS = Limits(pool_connections=3, pool_idle_seconds=4)


class Upstreams:
    """Whoever is dialled. What changes: the far ends of what was dialled, and whether that is refused."""

    def __init__(self) -> None:
        self.dialled: list[TcpStream] = []
        self.attempts = 0
        self.refuse = False

    async def dial(self, target: Target) -> TcpStream:
        self.attempts += 1
        await trio.lowlevel.checkpoint()
        if self.refuse:
            raise UpstreamError(ResponseFlag.UPSTREAM_CONNECT, "refused")
        near, far = tcp_pair()
        if target.protocol is Protocol.HTTP2:
            greeting = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
            greeting.initiate_connection()
            assert far.try_send(greeting.data_to_send())
        self.dialled.append(far)
        return near


def codec(protocol: Protocol) -> Codec:
    """Speak what the target speaks."""
    return Http2Client(LIMITS) if protocol is Protocol.HTTP2 else Http1Client(LIMITS)


@asynccontextmanager
async def pooling() -> AsyncIterator[tuple[Pool, Upstreams]]:
    """A pool that is swept, and what it dials."""
    upstreams = Upstreams()
    pool = Pool(upstreams.dial, codec, LIMITS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.sweep)
        yield pool, upstreams
        nursery.cancel_scope.cancel()
    for far in upstreams.dialled:
        far.close()


async def test_a_connection_that_was_given_back_is_taken_again() -> None:
    async with pooling() as (pool, upstreams):
        first = await pool.take(HTTP1)
        assert pool.counts() == (1, 0)
        pool.give_back(first)
        assert pool.counts() == (0, 1)
        assert await pool.take(HTTP1) is first
        assert len(upstreams.dialled) == 1


async def test_http1_connections_are_not_shared() -> None:
    async with pooling() as (pool, _):
        assert await pool.take(HTTP1) is not await pool.take(HTTP1)
        assert pool.by_endpoint() == {(HTTP1.cluster, HTTP1.address): 2}


async def test_connections_under_an_earlier_identity_carry_nothing_more() -> None:
    earlier = structs.replace(HTTP1, issue=1)
    plain = HTTP1
    async with pooling() as (pool, _):
        idle, busy, other = [await pool.take(each) for each in (earlier, earlier, plain)]
        pool.give_back(idle)
        pool.give_back(other)
        pool.retire(2)
        assert pool.counts() == (1, 1)
        assert await pool.take(plain) is other
        pool.give_back(busy)
        assert pool.counts() == (1, 0)


async def test_targets_share_nothing() -> None:
    other = Target(HTTP1.address, Protocol.HTTP1, Address("127.0.0.6", 0))
    async with pooling() as (pool, _):
        first = await pool.take(HTTP1)
        pool.give_back(first)
        assert await pool.take(other) is not first


async def test_http2_requests_at_once_share_one_dial() -> None:
    async with pooling() as (pool, upstreams):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(pool.take, HTTP2)
        assert len(upstreams.dialled) == 1
        assert pool.counts() == (1, 0)


async def test_http2_requests_at_once_share_a_failure_to_dial() -> None:
    async with pooling() as (pool, upstreams):
        upstreams.refuse = True
        failures: list[UpstreamError] = []

        async def take() -> None:
            with pytest.raises(UpstreamError) as caught:
                await pool.take(HTTP2)
            failures.append(caught.value)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(take)
        assert len(failures) == 5
        assert upstreams.attempts == 1
        upstreams.refuse = False
        assert (await pool.take(HTTP2)).fresh


async def test_whoever_distrusts_idle_connections_gets_a_fresh_one() -> None:
    async with pooling() as (pool, _):
        pool.give_back(await pool.take(HTTP1))
        assert (await pool.take(HTTP1, distrusting=True)).fresh


async def test_no_more_are_kept_idle_than_the_bound() -> None:
    async with pooling() as (pool, upstreams):
        taken = [await pool.take(HTTP1) for _ in range(5)]
        for pooled in taken:
            pool.give_back(pooled)
        assert pool.counts() == (0, 3)
        assert [far.try_receive(1) for far in upstreams.dialled] == [b"", b"", None, None, None]


async def test_idle_connections_are_closed_after_their_time(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    async with pooling() as (pool, upstreams):
        used, idle = await pool.take(HTTP1), await pool.take(HTTP1)
        pool.give_back(idle)
        await trio.sleep(LIMITS.pool_idle_seconds)
        assert pool.counts() == (1, 1)
        await trio.sleep(1.5)
        assert pool.counts() == (1, 0)
        assert [far.try_receive(1) for far in upstreams.dialled] == [None, b""]
        pool.give_back(used)


async def test_a_connection_that_its_upstream_closed_is_swept_at_once(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    async with pooling() as (pool, upstreams):
        pool.give_back(await pool.take(HTTP1))
        upstreams.dialled[0].close()
        await trio.sleep(1.5)
        assert pool.counts() == (0, 0)
        assert pool.by_endpoint() == {}


async def test_a_connection_taken_while_the_sweep_closes_others_stays_open(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    async with pooling() as (pool, upstreams):
        for pooled in [await pool.take(HTTP1) for _ in range(3)]:
            pool.give_back(pooled)
        first = upstreams.dialled[0]
        await trio.sleep(LIMITS.pool_idle_seconds)
        assert await first.receive_some(1) == b""
        taken = await pool.take(HTTP1)
        await trio.sleep(5)
        assert taken.connection.reusable
        assert taken.stream.fileno() != -1


async def test_a_dial_that_fails_leaves_nothing_behind() -> None:
    async with pooling() as (pool, upstreams):
        upstreams.refuse = True
        for target in (HTTP1, HTTP2):
            with pytest.raises(UpstreamError):
                await pool.take(target)
        assert pool.by_endpoint() == {}


async def test_a_swept_pool_ends_with_nothing_open() -> None:
    before = open_descriptors()
    async with pooling() as (pool, _):
        await pool.take(HTTP1)
        pool.give_back(await pool.take(HTTP2))
    assert len(open_descriptors()) <= len(before) + 2  # the event loop's own


async def test_an_upstream_that_leaves_before_it_greets_is_told_with_what_broke_the_connection() -> (
    None
):
    near, far = tcp_pair()

    async def dial(_: Target) -> TcpStream:
        far.reset()
        return near

    with pytest.raises(UpstreamError) as caught:
        await Pool(dial, codec, LIMITS).take(HTTP2)
    assert caught.value.cause == "Connection reset by peer"


def shown(target: Target, issue: int) -> Target:
    """The same upstream, to which an identity is shown."""
    return Target(target.address, target.protocol, issue=issue)


@pytest.mark.parametrize(
    "plain", [pytest.param(HTTP1, id="http1"), pytest.param(HTTP2, id="http2")]
)
async def test_connections_under_an_identity_of_before_go_as_soon_as_nobody_uses_them(
    plain: Target,
) -> None:
    async with pooling() as (pool, _):
        busy = await pool.take(shown(plain, 1))
        kept = [await pool.take(target) for target in (shown(plain, 2), plain)]
        for each in kept:
            pool.give_back(each)
        pool.retire(2)
        assert pool.counts() == (1, 2)
        pool.give_back(busy)
        assert pool.counts() == (0, 2)
        assert [await pool.take(target) for target in (shown(plain, 2), plain)] == kept


async def test_an_idle_connection_under_an_identity_of_before_goes_at_once() -> None:
    async with pooling() as (pool, _):
        pool.give_back(await pool.take(shown(HTTP1, 1)))
        pool.retire(2)
        assert pool.counts() == (0, 0)


async def test_a_connection_that_is_dialled_while_the_identity_changes_carries_what_it_was_for() -> (
    None
):
    near, far = tcp_pair()

    async def dial(_: Target) -> TcpStream:
        pool.retire(2)
        return near

    pool = Pool(dial, codec, LIMITS)
    pool.give_back(await pool.take(shown(HTTP1, 1)))
    assert pool.counts() == (0, 0)
    far.close()


def of_cluster(target: Target, **bounds: float) -> Target:
    """The same upstream, as an endpoint of a cluster."""
    said = Bounds(**bounds)  # type: ignore[arg-type]
    return structs.replace(target, cluster="outbound|80||shop", bounds=said)


async def test_connections_of_a_cluster_are_kept_for_as_long_as_it_says(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    async with pooling() as (pool, _):
        for seconds in (1.0, 60.0):
            pool.give_back(await pool.take(of_cluster(HTTP1, idle_seconds=seconds)))
        await trio.sleep(LIMITS.pool_idle_seconds + 2)
        assert pool.counts() == (0, 1)


async def test_an_upstream_that_does_not_greet_is_given_up_when_its_cluster_says(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    near, far = tcp_pair()

    async def dial(_: Target) -> TcpStream:
        return near

    with pytest.raises(UpstreamError) as caught:
        await Pool(dial, codec, LIMITS).take(of_cluster(HTTP2, connect_seconds=0.25))
    assert caught.value.cause == "no HTTP/2 settings within 0.25 s"
    far.close()


async def test_shared_connections_have_a_bound_too() -> None:
    bounded = of_cluster(HTTP2, connections=1)
    elsewhere = structs.replace(bounded, address=Address("192.0.2.2", 80))
    async with pooling() as (pool, _):
        first = await pool.take(bounded)
        assert await pool.take(bounded) is first
        with pytest.raises(UpstreamError, match="overflow"):
            await pool.take(elsewhere)
        pool.give_back(first)
        pool.give_back(first)
        assert (await pool.take(elsewhere)).target is elsewhere
        assert pool.counts() == (1, 0)


@pytest.mark.parametrize(
    "plain", [pytest.param(HTTP1, id="http1"), pytest.param(HTTP2, id="http2")]
)
async def test_a_dial_that_fails_takes_no_room(plain: Target) -> None:
    bounded = of_cluster(plain, connections=1, pending=0)
    async with pooling() as (pool, upstreams):
        upstreams.refuse = True
        for _ in range(3):
            with pytest.raises(UpstreamError, match="refused"):
                await pool.take(bounded)
        upstreams.refuse = False
        pool.give_back(await pool.take(bounded))
        assert pool.counts() == (0, 1)


async def test_idle_connections_give_way_to_an_endpoint_that_needs_one() -> None:
    bounded = of_cluster(HTTP1, connections=2, pending=0)
    others = [
        structs.replace(bounded, address=Address(f"192.0.2.{each}", 80)) for each in range(2, 5)
    ]
    async with pooling() as (pool, _):
        for target in (bounded, *others):
            pool.give_back(await pool.take(target))
        assert {address for _, address in pool.by_endpoint()} == {
            each.address for each in others[-2:]
        }
        held = [await pool.take(each) for each in (bounded, others[0])]
        with pytest.raises(UpstreamError, match="overflow"):
            await pool.take(bounded)
        assert len(held) == 2
