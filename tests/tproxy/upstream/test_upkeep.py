"""What is needed no more goes, and what is there is told of."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import trio

from fakes.clusters import NAME, address, cluster, endpoints
from fakes.sockets import tcp_pair
from tproxy.codec.h1 import Http1Client
from tproxy.model.cluster import Dns, DnsName
from tproxy.model.flow import Protocol
from tproxy.model.limits import Limits
from tproxy.net.tcp_stream import TcpStream
from tproxy.resilience.breaker import BreakerSpec, ConsecutiveFailures
from tproxy.resilience.outlier import OutlierSpec
from tproxy.stores.clusters import UNUSED_SECONDS, Clusters
from tproxy.upstream.connector import Target
from tproxy.upstream.pool import Pool
from tproxy.upstream.upkeep import Upkeep

LIMITS = Limits(pool_idle_seconds=10 * UNUSED_SECONDS)
TARGET = Target(address(1), Protocol.HTTP1, cluster=NAME)


@contextmanager
def pooling() -> Iterator[Pool]:
    """A pool whose upstreams are there and say nothing."""
    with ExitStack() as closing:

        async def dial(_: Target) -> TcpStream:
            near, far = tcp_pair()
            closing.callback(near.close)
            closing.callback(far.close)
            await trio.lowlevel.checkpoint()
            return near

        yield Pool(dial, lambda _: Http1Client(LIMITS), LIMITS)


async def test_clusters_go_with_their_connections(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    clusters = Clusters(random.random)
    with pooling() as pool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.sweep)
            nursery.start_soon(Upkeep(clusters, pool).run)
            clusters.of(cluster(endpoints(1)), trio.current_time())
            pool.give_back(await pool.take(TARGET))
            await trio.sleep(UNUSED_SECONDS)
            assert pool.counts() == (0, 1)
            await trio.sleep(3)
            assert (list(clusters), pool.counts()) == ([], (0, 0))
            nursery.cancel_scope.cancel()


async def test_clusters_tell_how_they_are() -> None:
    clusters = Clusters(random.random)
    outlier = OutlierSpec(consecutive_5xx_errors=1, max_ejection_percent=100)
    breaker = BreakerSpec(ConsecutiveFailures(1))
    now = trio.current_time()
    live = clusters.of(cluster(endpoints(1, 2), outlier=outlier, breaker=breaker), now)
    bad = live.pick(now, tried=[address(2)])
    good = live.pick(now)
    assert bad is not None
    assert good is not None
    bad.unreachable(now)
    good.connected(now)
    names = Dns((DnsName("a.example", 80), DnsName("b.example", 80)))
    other = cluster(names)
    clusters.of(type(other)(name="a", host="a", port=80, origin=names), now)
    clusters.of(type(other)(name="b", host="b", port=80), now)
    with pooling() as pool:
        pool.give_back(await pool.take(TARGET))
        by_names, passing, shop = Upkeep(clusters, pool).statuses()
    assert (by_names.source, by_names.known) == ("dns a.example b.example", False)
    assert (passing.source, passing.known) == ("original destination", True)
    assert (shop.source, shop.active) == ("static", 2)
    first, second = shop.endpoints
    assert (first.state, first.breaker, first.connections, first.failed) == (
        "ejected",
        "open",
        1,
        1,
    )
    assert (second.state, second.breaker, second.connections) == ("healthy", "closed", 1)
