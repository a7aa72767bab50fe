"""What operators count of clusters: how their endpoints fare, who waits, and how names are found."""

from collections import Counter as Tally
from collections.abc import Iterable

from tproxy.telemetry.cluster_status import ClusterStatus
from tproxy.telemetry.labels import OVERFLOW
from tproxy.telemetry.registry import Family, Registry

MOST_LABELLED = 256
"""Clusters with series of their own; those after them share one."""

STATES = ("healthy", "ejected", "open", "half_open")
BREAKER_STATES = ("closed", "open", "half_open")


class ClusterMetrics:
    """What there is to say of clusters. What changes: what is shown, each time that somebody asks."""

    def __init__(self, registry: Registry) -> None:
        self._endpoints = registry.gauge(
            "tproxy_cluster_endpoints",
            "Endpoints of clusters by whether they are asked.",
            ["cluster", "state"],
        )
        self._ejections = registry.gauge(
            "tproxy_outlier_ejections_active",
            "Endpoints that outlier detection has taken out for a while.",
            ["cluster"],
        )
        self._breakers = registry.gauge(
            "tproxy_breaker_state",
            "Endpoints by the state of their breaker.",
            ["cluster", "state"],
        )
        self._pending = registry.gauge(
            "tproxy_upstream_requests_pending",
            "Requests that wait for a connection, as their cluster may have no more.",
            ["cluster"],
        )
        self._lookups = registry.counter(
            "tproxy_dns_lookups",
            "Looks for the endpoints that names lead to, by what they came to.",
            ["result"],
        )

    def looked_up(self, result: str) -> None:
        """Count a look that is over; `result` is one of a closed set."""
        self._lookups.labels(result).inc()

    def show(self, clusters: Iterable[ClusterStatus]) -> None:
        """Have the gauges say what is so at the moment."""
        endpoints, breakers = Tally[tuple[str, str]](), Tally[tuple[str, str]]()
        ejections, pending = Tally[str](), Tally[str]()
        for order, cluster in enumerate(clusters):
            name = cluster.name if order < MOST_LABELLED else OVERFLOW
            endpoints.update({(name, state): 0 for state in STATES})
            endpoints.update((name, each.state) for each in cluster.endpoints)
            ejections[name] += sum(each.ejected for each in cluster.endpoints)
            pending[name] += cluster.pending
            if any(each.breaker for each in cluster.endpoints):
                breakers.update({(name, state): 0 for state in BREAKER_STATES})
                breakers.update((name, each.breaker) for each in cluster.endpoints if each.breaker)
        _set(self._endpoints, endpoints)
        _set(self._breakers, breakers)
        _set(self._ejections, {(name,): value for name, value in ejections.items()})
        _set(self._pending, {(name,): value for name, value in pending.items()})


def _set(gauge: Family, values: dict[tuple[str, ...], int] | Tally[tuple[str, str]]) -> None:
    gauge.clear()
    for labels, value in values.items():
        gauge.labels(*labels).set(value)
