"""Clusters are told of as Envoy does, and counted in bounded series."""

from msgspec.structs import replace

from tproxy.model.address import Address
from tproxy.model.cluster import Bounds
from tproxy.telemetry.cluster_status import (
    ClusterStatus,
    EndpointStatus,
    as_facts,
    status_lines,
)
from tproxy.telemetry.clusters import MOST_LABELLED, ClusterMetrics
from tproxy.telemetry.registry import Registry

GOOD = EndpointStatus(address=Address("192.0.2.1", 80), weight=3, connections=1, active=2, total=9)
BAD = EndpointStatus(
    address=Address("2001:db8::1", 80), weight=1, failed=5, ejected=True, locality="eu/a"
)
PROBED = EndpointStatus(address=Address("192.0.2.3", 80), weight=1, breaker="half_open")
SHOP = ClusterStatus(
    name="outbound|80||shop",
    bounds=Bounds(connections=7),
    endpoints=(GOOD, BAD, PROBED),
    active=2,
    pending=4,
    source="dns shop",
    failure="DNS: shop: no such name",
)


def test_each_fact_has_a_line() -> None:
    lines = set(status_lines([SHOP]))
    assert {
        "outbound|80||shop::default_priority::max_connections::7",
        "outbound|80||shop::rq_pending_active::4",
        "outbound|80||shop::endpoints_from::dns shop",
        "outbound|80||shop::endpoints_failure::DNS: shop: no such name",
        "outbound|80||shop::192.0.2.1:80::cx_active::1",
        "outbound|80||shop::192.0.2.1:80::rq_active::2",
        "outbound|80||shop::192.0.2.1:80::rq_total::9",
        "outbound|80||shop::192.0.2.1:80::health_flags::healthy",
        "outbound|80||shop::192.0.2.1:80::weight::3",
        "outbound|80||shop::[2001:db8::1]:80::health_flags::/failed_outlier_check",
        "outbound|80||shop::[2001:db8::1]:80::locality::eu/a",
        "outbound|80||shop::192.0.2.3:80::breaker::half_open",
    } <= lines
    waiting = replace(SHOP, endpoints=(), known=False)
    assert "outbound|80||shop::endpoints::not found yet" in set(status_lines([waiting]))


def test_programs_are_told_the_same() -> None:
    facts = as_facts([SHOP])["cluster_statuses"]
    assert isinstance(facts, list)
    (shop,) = facts
    assert shop["circuit_breakers"]["max_connections"] == 7
    assert shop["rq_active"] == 2
    assert shop["host_statuses"][1] == {
        "address": {"socket_address": {"address": "2001:db8::1", "port_value": 80}},
        "stats": [
            {"name": "cx_active", "value": 0},
            {"name": "rq_active", "value": 0},
            {"name": "rq_error", "value": 5},
            {"name": "rq_total", "value": 0},
        ],
        "health_status": {"failed_outlier_check": True},
        "breaker": None,
        "weight": 1,
        "locality": "eu/a",
    }


def shown(*clusters: ClusterStatus) -> list[str]:
    """What a scraper sees."""
    registry = Registry()
    metrics = ClusterMetrics(registry)
    metrics.looked_up("ok")
    metrics.show([SHOP])
    metrics.show(clusters)
    lines = "".join(registry.write()).splitlines()
    return [each for each in lines if each.startswith("tproxy_")]


def test_endpoints_are_counted_by_state() -> None:
    lines = shown(SHOP)
    assert {
        'tproxy_cluster_endpoints{cluster="outbound|80||shop",state="healthy"} 1.0',
        'tproxy_cluster_endpoints{cluster="outbound|80||shop",state="ejected"} 1.0',
        'tproxy_cluster_endpoints{cluster="outbound|80||shop",state="open"} 0.0',
        'tproxy_cluster_endpoints{cluster="outbound|80||shop",state="half_open"} 1.0',
        'tproxy_outlier_ejections_active{cluster="outbound|80||shop"} 1.0',
        'tproxy_breaker_state{cluster="outbound|80||shop",state="half_open"} 1.0',
        'tproxy_upstream_requests_pending{cluster="outbound|80||shop"} 4.0',
        'tproxy_dns_lookups_total{result="ok"} 1.0',
    } <= set(lines)


def test_clusters_that_are_gone_are_counted_no_more() -> None:
    assert [each for each in shown() if "shop" in each] == []


def test_clusters_beyond_the_bound_are_counted_together() -> None:
    lines = shown(*(replace(SHOP, name=f"{each}") for each in range(MOST_LABELLED + 2)))
    series = [each for each in lines if each.startswith("tproxy_outlier_ejections_active")]
    assert len(series) == MOST_LABELLED + 1
    assert 'tproxy_outlier_ejections_active{cluster="overflow"} 2.0' in series
