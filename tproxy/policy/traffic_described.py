"""What policies say of ways, clusters and faults, for whoever looks into a running proxy."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from tproxy.model.flow import Direction
from tproxy.policy.clusters import ClusterBook
from tproxy.policy.explain_cluster import balancer_text, origin_text
from tproxy.policy.routes import Entry, HostRoutes, Target
from tproxy.policy.snapshot import Snapshot
from tproxy.policy.traffic import Traffic

T = TypeVar("T")

MOST_SHOWN = 1000
"""Of each kind, and as many entries of one VirtualService: what is more makes a page that nobody reads."""

Shown = dict[str, Any]
Key = tuple[str, int, str]
"""A cluster's host, port and subset."""


def traffic_described(snapshot: Snapshot, *, most: int = MOST_SHOWN) -> Shown:
    """List what is said; what is left out of a list is counted."""
    traffic = snapshot.traffic
    left_out: dict[str, int] = {}

    def listed(name: str, found: Iterable[T], show: Callable[[T], Shown]) -> list[Shown]:
        iterator = iter(found)
        shown = [show(each) for each in islice(iterator, most)]
        if rest := sum(1 for _ in iterator):
            left_out[name] = rest
        return shown

    def cluster(key: Key) -> Shown:
        assert traffic is not None, "it named the cluster"
        return _cluster(traffic.clusters, key)

    return {
        "virtual_services": listed(
            "virtual_services",
            traffic.routes.every() if traffic else (),
            partial(_routes, most=most),
        ),
        "clusters": listed("clusters", _named(traffic) if traffic else (), cluster),
        "fault_policies": listed("fault_policies", _faults(snapshot), dict),
        "resilience_policies": listed(
            "resilience_policies", _endurance(traffic) if traffic else (), dict
        ),
        "left_out": left_out,
    }


def _routes(routes: HostRoutes, *, most: int) -> Shown:
    every = (*routes.http, *routes.tls, *routes.tcp)
    return {
        "virtual_service": routes.owner,
        "place": routes.place,
        "hosts": routes.hosts,
        "entries": [
            {"kind": each.kind, "entry": each.name, "place": each.place} for each in every[:most]
        ],
        "entries_left_out": max(0, len(every) - most),
    }


def _cluster(book: ClusterBook, key: Key) -> Shown:
    cluster = book.cluster(*key)
    return {
        "cluster": cluster.name,
        "origin": origin_text(cluster),
        "balancer": balancer_text(cluster),
    }


def _named(traffic: Traffic) -> Iterator[Key]:
    """Name the clusters of all hosts that entries name, and those to which routes lead at a port that is sure."""
    named = dict.fromkeys(traffic.clusters.named())
    for routes in traffic.routes.every():
        for target in _targets(routes):
            if (port := _port(traffic.clusters, target)) is not None:
                named[target.host, port, target.subset] = None
    yield from named


def _port(book: ClusterBook, target: Target) -> int | None:
    """Return the port that a target surely has; None where it is the one that is dialled."""
    if target.port is not None:
        return target.port
    ports = book.ports(target.host)
    return ports[0] if len(ports) == 1 else None


def _faults(snapshot: Snapshot) -> Iterator[Shown]:
    for direction in Direction:
        for rule in snapshot.faults.rules[direction] if snapshot.faults else ():
            yield {"rule": rule.spec.name, "direction": direction, "place": rule.place}


def _endurance(traffic: Traffic) -> Iterator[Shown]:
    for host, each in traffic.clusters.endurance.every():
        yield {"policy": each.owner, "host": host, "place": each.place}


def _targets(routes: HostRoutes) -> Iterator[Target]:
    for entry in (*routes.http, *routes.tls, *routes.tcp):
        yield from _of_entry(entry)


def _of_entry(entry: Entry) -> Iterator[Target]:
    yield from (each.target for each in entry.shares)
    yield from (target for target, _ in entry.mirrors)
