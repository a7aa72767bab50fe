"""Choose the way of what leaves the application.

A request's way is drawn from its x-request-id, and a connection's from who dialled: asked again, it is the same.
"""

from dataclasses import dataclass
from functools import lru_cache

import msgspec
from msgspec import structs

from tproxy.model.address import Address
from tproxy.model.cluster import Cluster
from tproxy.model.flow import Flow, Protocol
from tproxy.model.http import RequestHead
from tproxy.model.route import Mirror, Plan, Route
from tproxy.model.upstream_tls import UpstreamTls
from tproxy.policy.clusters import ClusterBook, Service
from tproxy.policy.destinations import LONGEST_AUTHORITY, MOST_REMEMBERED, Destinations
from tproxy.policy.egress import Egress, black_hole
from tproxy.policy.hosts import HostTable, asked_for, in_full
from tproxy.policy.route_match import Match, asking_of
from tproxy.policy.routes import Entry, HostRoutes, RouteBook, Share, Target
from tproxy.resilience.fraction import fraction
from tproxy.resilience.split import Split

PASSTHROUGH = "PassthroughCluster"
REQUEST_ID = b"x-request-id"


@dataclass(frozen=True, slots=True)
class Meant:
    """Whom a request or a connection means, by its name and its address."""

    asked: str
    """The name that it asks for; empty for none."""
    service: Service | None
    """None when nobody knows it."""
    port: int
    """The service's, else the one that is dialled."""
    named: HostRoutes | None
    """What is said of the name."""
    addressed: HostRoutes | None
    """What is said of the service, whatever name is asked for."""
    original: Cluster | None = None
    """What is said of the name where the connection was going, be there no service."""

    @property
    def host(self) -> str:
        """Return the name that it goes by."""
        return self.asked or (self.service.host if self.service else "")


class Chosen(msgspec.Struct, frozen=True):
    """The entry that is about a request or a connection."""

    entry: Entry
    match: Match


NO_ROUTES = RouteBook(HostTable({}))
ANYWHERE = Egress()


class Traffic:
    """What policies say of destinations. What changes: which choices are remembered."""

    def __init__(
        self,
        clusters: ClusterBook,
        destinations: Destinations | None,
        namespace: str,
        *,
        routes: RouteBook = NO_ROUTES,
        egress: Egress = ANYWHERE,
    ) -> None:
        self.clusters = clusters
        self.destinations = destinations
        self.routes = routes
        self.egress = egress
        self.namespace = namespace
        """The workload's own."""
        self._remembered = lru_cache(MOST_REMEMBERED)(self._meant)
        self._ways = lru_cache(MOST_REMEMBERED)(self._split)
        # These end with the policies: others that say the same would be compared with them by each request.
        self._defaults = lru_cache(MOST_REMEMBERED)(_default)
        self._passed = lru_cache(MOST_REMEMBERED)(passthrough)
        self._secured = lru_cache(MOST_REMEMBERED)(_secured)

    def route(self, flow: Flow, head: RequestHead | None, protocol: Protocol | None) -> Route:
        """Go the way of the entry that is about it; else to the service that is meant; else where it was going.

        `protocol` is what the upstream of a request is asked in.
        """
        meant = self.meant(flow, head)
        chosen = self.choose(meant, flow, head)
        if chosen is not None:
            return self._drawn(chosen, meant, flow, head, protocol)
        if meant.service is None:
            if self.egress.refuses(flow.original_dst, meant.asked):
                return black_hole(protocol)
            tls = self._at_dialled(flow, head)
            if meant.original is None:
                return self._passed(protocol, tls)
            return self._defaults(meant.original, protocol, tls)
        cluster = self.clusters.cluster(meant.service.host, meant.service.port)
        tls = self._at_dialled(flow, head) if cluster.origin is None else None
        return self._defaults(cluster, protocol, tls)

    def meant(self, flow: Flow, head: RequestHead | None) -> Meant:
        """Tell whom it means."""
        name = flow.sniffed.server_name.encode() if head is None else head.authority
        to = flow.original_dst
        return self._remembered(to.host, to.port, name if len(name) <= LONGEST_AUTHORITY else b"")

    def _meant(self, host: str, port: int, name: bytes) -> Meant:
        asked = asked_for(name, self.namespace) if name else ""
        asked = in_full(asked, (self.clusters.hosts, self.routes.by_host))
        service = self.clusters.service(Address(host, port), asked)
        return Meant(
            asked,
            service,
            service.port if service else port,
            self.routes.find(asked) if self.clusters.serves(asked, port) else None,
            self.routes.find(service.host) if service else None,
            None if service else self.clusters.original(asked, port),
        )

    def choose(self, meant: Meant, flow: Flow, head: RequestHead | None) -> Chosen | None:
        """Return the first entry that is about it."""
        entries = candidates(meant, flow, head)
        if not entries:
            return None
        asking = asking_of(flow, head, meant.port, self.routes.form)
        for entry in entries:
            # Not in a function of the entry's: a request may be held against very many.
            for match in entry.matches:
                if match.holds(asking):
                    return Chosen(entry, match)
        return None

    def _drawn(
        self,
        chosen: Chosen,
        meant: Meant,
        flow: Flow,
        head: RequestHead | None,
        protocol: Protocol | None,
    ) -> Route:
        # Of the names that a pattern is about, most are no destination, and one choice is right for all of these.
        host = meant.host if meant.host in chosen.entry.leads_to else ""
        ways = self._ways(chosen, host, meant.port, protocol)
        several = len(chosen.entry.shares) > 1
        route = ways.choose(drawn(chosen.entry, flow, head) if several else 0.0)
        if self.egress.registry_only and self._unknown(route, meant, flow):
            return black_hole(protocol)
        if not _stays(route):
            return route
        tls = self._at_dialled(flow, head, route.plan.destination if route.plan else None)
        return route if tls is None else self._secured(route, tls)

    def _unknown(self, route: Route, meant: Meant, flow: Flow) -> bool:
        """Whether no entry knows where a way leads, nor who is asked for."""
        plan = route.plan
        assert plan is not None, "entries have plans"
        if plan.answer is not None or meant.service is not None:
            return False
        if plan.destination is not None and self.clusters.knows(plan.destination.host):
            return False
        return self.egress.refuses(flow.original_dst, meant.asked)

    def _at_dialled(
        self, flow: Flow, head: RequestHead | None, cluster: Cluster | None = None
    ) -> UpstreamTls | None:
        """Say how the original destination is secured: as who is known there, else as whom it is taken for."""
        choice = self.destinations.choice(flow.original_dst, head) if self.destinations else None
        if cluster is None or (choice is not None and choice.entry is not None):
            return choice.tls if choice else None
        return cluster.tls

    def share(self, chosen: Chosen, flow: Flow, head: RequestHead | None) -> Share | None:
        """Tell which of an entry's destinations it is; None where the answer is ours."""
        entry = chosen.entry
        if not entry.shares:
            return None
        split = Split([(each, each.weight) for each in entry.shares])
        return split.choose(drawn(entry, flow, head))

    def _split(
        self, chosen: Chosen, host: str, port: int, protocol: Protocol | None
    ) -> Split[Route]:
        """Make the routes of an entry for those who ask at a port for a host, or for none that it leads to."""
        entry = chosen.entry
        mirrors = tuple(
            Mirror(self.clusters.cluster(target.host, self._port(target, port), target.subset), of)
            for target, of in entry.mirrors
            if not self.egress.registry_only or self.clusters.knows(target.host)
        )
        plan = structs.replace(chosen.match.plan, mirrors=mirrors)
        if not entry.shares:
            return Split([(Route(entry.name, "", protocol, plan=plan), 1)])
        return Split(
            [
                (self._way(chosen, share, plan, (host, port, protocol)), share.weight)
                for share in entry.shares
            ]
        )

    def _way(
        self, chosen: Chosen, share: Share, plan: Plan, meant: tuple[str, int, Protocol | None]
    ) -> Route:
        host, port, protocol = meant
        cluster = self._cluster(share.target, host, port)
        plan = structs.replace(
            plan,
            destination=cluster,
            request_headers=share.request_headers,
            response_headers=share.response_headers,
        )
        if cluster is None:
            return Route(chosen.entry.name, PASSTHROUGH, protocol, plan=plan)
        return Route(chosen.entry.name, cluster.name, protocol, plan=plan)

    def _cluster(self, target: Target, host: str, port: int) -> Cluster | None:
        """Return where a target is; None when that is where the connection was going, of which nothing is said."""
        stays = target.host == host and not target.subset and target.port in (None, port)
        if stays and not self.clusters.knows(host):
            return self.clusters.original(host, port)
        return self.clusters.cluster(target.host, self._port(target, port), target.subset)

    def _port(self, target: Target, dialled: int) -> int:
        if target.port is not None:
            return target.port
        ports = self.clusters.ports(target.host)
        return ports[0] if len(ports) == 1 else dialled


def candidates(meant: Meant, flow: Flow, head: RequestHead | None) -> tuple[Entry, ...]:
    """Return the entries that may be about it, in the order in which they are asked."""
    if head is not None:
        found = meant.named or meant.addressed
        return found.http if found else ()
    if flow.sniffed.server_name:
        found = meant.named or meant.addressed
        tls = found.tls if found else ()
    else:
        tls = ()
    return (*tls, *meant.addressed.tcp) if meant.addressed else tls


def drawn(entry: Entry, flow: Flow, head: RequestHead | None) -> float:
    """Draw a number in [0, 1) that decides between an entry's destinations."""
    text = str(flow.peer).encode() if head is None else head.headers.get(REQUEST_ID) or b""
    return fraction(text, entry.identity.encode())


def _stays(route: Route) -> bool:
    """Whether it goes where it was going, be that a service's."""
    plan = route.plan
    assert plan is not None, "entries have plans"
    ours, cluster = plan.answer is not None, plan.destination
    return not ours and (cluster is None or cluster.origin is None)


def passthrough(protocol: Protocol | None, tls: UpstreamTls | None = None) -> Route:
    """Leave it on its way."""
    return Route("allow_any", PASSTHROUGH, protocol, tls)


def _default(cluster: Cluster, protocol: Protocol | None, tls: UpstreamTls | None) -> Route:
    return Route("default", cluster.name, protocol, tls, plan=Plan(destination=cluster))


def _secured(route: Route, tls: UpstreamTls) -> Route:
    return structs.replace(route, tls=tls)
