"""Choose the way of what leaves the application."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol as Interface

from tproxy.model.cluster import Cluster
from tproxy.model.flow import Flow, Protocol
from tproxy.model.http import RequestHead
from tproxy.model.route import Plan, Route
from tproxy.model.upstream_tls import UpstreamTls
from tproxy.policy.clusters import ClusterBook
from tproxy.policy.destinations import Destinations
from tproxy.policy.egress import Egress, black_hole
from tproxy.policy.hosts import asked_for

PASSTHROUGH = "PassthroughCluster"


class Routing(Interface):
    """Whatever chooses ways."""

    def route(self, flow: Flow, head: RequestHead | None, protocol: Protocol | None) -> Route:
        """Choose the way of a request, or of a connection that is no HTTP; `protocol` is what its upstream is asked in."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What policies say of destinations."""

    clusters: ClusterBook
    destinations: Destinations | None
    namespace: str
    """The workload's own."""
    egress: Egress = field(default_factory=Egress)

    def route(self, flow: Flow, head: RequestHead | None, protocol: Protocol | None) -> Route:
        """Send to the cluster of the service that is meant; else where it was going."""
        name = flow.sniffed.server_name.encode() if head is None else head.authority
        asked = asked_for(name, self.namespace) if name else ""
        service = self.clusters.service(flow.original_dst, asked)
        if service is None:
            if self.egress.refuses(flow.original_dst, asked):
                return black_hole(protocol)
            return passthrough(protocol, self.secured(flow, head))
        cluster = self.clusters.cluster(service.host, service.port)
        tls = self.secured(flow, head) if cluster.origin is None else None
        return _default(cluster, protocol, tls)

    def secured(self, flow: Flow, head: RequestHead | None) -> UpstreamTls | None:
        """Say how the original destination is secured."""
        if self.destinations is None:
            return None
        return self.destinations.choice(flow.original_dst, head).tls


@lru_cache(maxsize=1024)
def _default(cluster: Cluster, protocol: Protocol | None, tls: UpstreamTls | None) -> Route:
    return Route("default", cluster.name, protocol, tls, plan=Plan(destination=cluster))


@lru_cache(maxsize=1024)
def passthrough(protocol: Protocol | None, tls: UpstreamTls | None = None) -> Route:
    """Leave it on its way."""
    return Route("allow_any", PASSTHROUGH, protocol, tls)
