"""What clusters and their endpoints are at, as Envoy's `/clusters` writes it."""

from collections.abc import Iterable, Iterator

import msgspec

from tproxy.model.address import Address
from tproxy.model.cluster import Bounds

UNFOUND = "not found yet"
"""The state of a cluster whose endpoints are still looked for."""


class EndpointStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint at a moment."""

    address: Address
    weight: int
    locality: str = ""
    connections: int = 0
    active: int = 0
    total: int = 0
    failed: int = 0
    ejected: bool = False
    breaker: str = ""
    """Its state; empty where there is none."""

    @property
    def state(self) -> str:
        """Whether it is asked: one of a closed set."""
        if self.ejected:
            return "ejected"
        return "healthy" if self.breaker in ("", "closed") else self.breaker


class ClusterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster at a moment."""

    name: str
    bounds: Bounds
    endpoints: tuple[EndpointStatus, ...]
    active: int = 0
    pending: int = 0
    source: str = "static"
    known: bool = True
    failure: str = ""
    """Why the last look for endpoints found out nothing."""


def status_lines(clusters: Iterable[ClusterStatus]) -> Iterator[str]:
    """Write a line for each thing there is to know."""
    for cluster in clusters:
        facts = (*_bounds(cluster), *_facts(cluster))
        yield from (f"{cluster.name}::{name}::{value}" for name, value in facts)
        for each in cluster.endpoints:
            at = f"{cluster.name}::{each.address}"
            yield from (f"{at}::{name}::{value}" for name, value in _counts(each))
            flags = "/failed_outlier_check" if each.ejected else "healthy"
            yield f"{at}::health_flags::{flags}"
            if each.breaker:
                yield f"{at}::breaker::{each.breaker}"
            yield f"{at}::weight::{each.weight}"
            if each.locality:
                yield f"{at}::locality::{each.locality}"


def as_facts(clusters: Iterable[ClusterStatus]) -> dict[str, object]:
    """Say the same with the keys of Envoy's JSON, and some of ours."""
    return {"cluster_statuses": [_cluster_facts(each) for each in clusters]}


def _bounds(cluster: ClusterStatus) -> tuple[tuple[str, int], ...]:
    bounds = cluster.bounds
    return (
        ("default_priority::max_connections", bounds.connections),
        ("default_priority::max_pending_requests", bounds.pending),
        ("default_priority::max_requests", bounds.requests),
        ("default_priority::max_retries", bounds.retries),
    )


def _facts(cluster: ClusterStatus) -> Iterator[tuple[str, object]]:
    yield "rq_active", cluster.active
    yield "rq_pending_active", cluster.pending
    yield "endpoints_from", cluster.source
    if not cluster.known:
        yield "endpoints", UNFOUND
    if cluster.failure:
        yield "endpoints_failure", cluster.failure


def _counts(endpoint: EndpointStatus) -> tuple[tuple[str, int], ...]:
    return (
        ("cx_active", endpoint.connections),
        ("rq_active", endpoint.active),
        ("rq_error", endpoint.failed),
        ("rq_total", endpoint.total),
    )


def _cluster_facts(cluster: ClusterStatus) -> dict[str, object]:
    return {
        "name": cluster.name,
        "circuit_breakers": {name.rpartition("::")[2]: value for name, value in _bounds(cluster)},
        **dict(_facts(cluster)),
        "host_statuses": [_endpoint_facts(each) for each in cluster.endpoints],
    }


def _endpoint_facts(endpoint: EndpointStatus) -> dict[str, object]:
    address = endpoint.address
    return {
        "address": {"socket_address": {"address": address.host, "port_value": address.port}},
        "stats": [{"name": name, "value": value} for name, value in _counts(endpoint)],
        "health_status": {"failed_outlier_check": endpoint.ejected},
        "breaker": endpoint.breaker or None,
        "weight": endpoint.weight,
        "locality": endpoint.locality,
    }
