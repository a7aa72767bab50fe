"""Sources are followed for as long as some cluster needs them."""

import random
from pathlib import Path

import trio
from trio.testing import MockClock

from fakes.clusters import cluster
from fakes.name_server import NameServer, name_server
from tproxy.discovery.discovery import Discovery
from tproxy.discovery.dns import DnsSource
from tproxy.discovery.source import Result
from tproxy.model.cluster import Dns, DnsName
from tproxy.stores.clusters import UNUSED_SECONDS, Clusters

NAMES = Dns((DnsName("shop.example.", 80),))


def discovery(clusters: Clusters, server: NameServer, path: Path, told: list[Result]) -> Discovery:
    """Follow what the clusters need."""
    resolver = server.resolver(path)
    return Discovery(clusters, lambda origin: DnsSource(origin, resolver, lambda: 0.0), told.append)


async def test_a_cluster_is_told_what_its_name_leads_to(tmp_path: Path) -> None:
    clusters, told = Clusters(random.random), list[Result]()
    async with name_server() as server, trio.open_nursery() as nursery:
        server.knows("shop.example", "A", "192.0.2.1")
        nursery.start_soon(discovery(clusters, server, tmp_path, told).run)
        live = clusters.of(cluster(NAMES), 0.0)
        await live.known.wait()
        assert [each.host for each in live.endpoints] == ["192.0.2.1"]
        assert told == [Result.OK]
        nursery.cancel_scope.cancel()


async def test_failures_are_told_and_change_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    clusters, told = Clusters(random.random), list[Result]()
    async with name_server() as server, trio.open_nursery() as nursery:
        nursery.start_soon(discovery(clusters, server, tmp_path, told).run)
        live = clusters.of(cluster(NAMES), 0.0)
        await live.known.wait()
        assert (live.failure, dict(live.endpoints)) == (
            "DNS: shop.example.: no such name",
            {},
        )
        server.knows("shop.example", "A", "192.0.2.1", ttl=5)
        await trio.sleep(2)
        assert (live.failure, len(live.endpoints)) == ("", 1)
        server.records.clear()
        await trio.sleep(8)
        assert (live.failure, len(live.endpoints)) == ("DNS: shop.example.: no such name", 1)
        assert told[:3] == [Result.ABSENT, Result.OK, Result.ABSENT]
        assert autojump_clock is not None
        nursery.cancel_scope.cancel()


async def test_a_name_is_asked_for_no_more_when_no_cluster_needs_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    clusters = Clusters(random.random)
    async with name_server() as server, trio.open_nursery() as nursery:
        server.knows("shop.example", "A", "192.0.2.1", ttl=5)
        nursery.start_soon(discovery(clusters, server, tmp_path, []).run)
        clusters.of(cluster(NAMES), 0.0)
        await trio.sleep(20)
        asked = server.asked["shop.example A"]
        assert asked >= 4
        clusters.sweep(UNUSED_SECONDS + 1)
        await trio.sleep(100)
        assert server.asked["shop.example A"] == asked
        assert autojump_clock is not None
        nursery.cancel_scope.cancel()
