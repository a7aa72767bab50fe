"""Entries of VirtualServices, compiled: which of them is about a request or a connection, and where it leads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tproxy.model.route import HeaderEdits
from tproxy.policy.hosts import HostTable, qualified
from tproxy.policy.load import Document
from tproxy.policy.plans import edited, joined, of_prefix, planned, share
from tproxy.policy.route_match import Match, connection_match, http_match
from tproxy.policy.schema import (
    Destination,
    ExportTo,
    HttpRoute,
    PathNormalization,
    TcpMatch,
    TcpRoute,
    TlsMatch,
    TlsRoute,
    VirtualService,
    VirtualServiceSpec,
    WeightedDestination,
    WeightedRoute,
)
from tproxy.policy.schema import HeaderEdits as WrittenEdits
from tproxy.policy.scope import Scope


@dataclass(frozen=True, slots=True)
class Target:
    """Where an entry leads."""

    host: str
    subset: str = ""
    port: int | None = None
    """None where the entry does not say."""


@dataclass(frozen=True, slots=True)
class Share:
    """One of an entry's destinations."""

    target: Target
    weight: int
    request_headers: HeaderEdits | None = None
    """The entry's own included."""
    response_headers: HeaderEdits | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One entry of `http`, `tls` or `tcp`."""

    name: str
    """As logs name it."""
    identity: str
    """`foo/reviews.http[canary]`: what is drawn for requests is salted by it, so that it stays over reloads."""
    kind: str
    index: int
    place: str
    matches: tuple[Match, ...]
    """Any of these."""
    shares: tuple[Share, ...] = ()
    """None where the answer is ours."""
    leads_to: frozenset[str] = frozenset()
    """The hosts of these."""
    mirrors: tuple[tuple[Target, float], ...] = ()
    """With percentages."""


@dataclass(frozen=True, slots=True, eq=False)
class HostRoutes:
    """One VirtualService."""

    owner: str
    """`foo/reviews`."""
    place: str
    hosts: tuple[str, ...]
    http: tuple[Entry, ...] = ()
    tls: tuple[Entry, ...] = ()
    tcp: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class RouteBook:
    """All VirtualServices that are for this workload."""

    by_host: HostTable[HostRoutes]
    form: PathNormalization = PathNormalization.MERGE_SLASHES
    """In which paths are compared."""

    def find(self, host: str) -> HostRoutes | None:
        """Return the one about a name: of the whole name, else of the longest pattern."""
        return self.by_host.find((host,)) if host else None

    def every(self) -> Iterator[HostRoutes]:
        """Give each of them once."""
        return iter(dict.fromkeys(self.by_host.by_host.values()))


def routes(documents: Sequence[Document], scope: Scope, form: PathNormalization) -> RouteBook:
    """Gather what sound documents say to this workload; its own namespace is nearer than others."""
    found: dict[str, HostRoutes] = {}
    for document in sorted(documents, key=lambda each: is_own(each, scope)):
        if is_own(document, scope) or is_exported(document):
            compiled = _Compiler(document, scope).compiled()
            found.update(dict.fromkeys(compiled.hosts, compiled))
    return RouteBook(HostTable(found), form)


def is_own(document: Document, scope: Scope) -> bool:
    """Whether it is of the workload's namespace."""
    return scope.namespace_of(document.config) == scope.workload.namespace


def is_exported(document: Document) -> bool:
    """Whether workloads of other namespaces use it."""
    return spec_of(document).export_to == (ExportTo.EVERYBODY,)


def spec_of(document: Document) -> VirtualServiceSpec:
    """Return what a VirtualService says."""
    assert isinstance(document.config, VirtualService), "the caller told kinds apart"
    return document.config.spec


def hosts_of(document: Document, scope: Scope) -> tuple[str, ...]:
    """Return whom a VirtualService is about, by complete names."""
    namespace = scope.namespace_of(document.config)
    return tuple(dict.fromkeys(qualified(host, namespace) for host in spec_of(document).hosts))


class _Compiler:
    """Compiles one sound document."""

    def __init__(self, document: Document, scope: Scope) -> None:
        self._document = document
        self._scope = scope
        self._namespace = scope.namespace_of(document.config)
        self._owner = f"{self._namespace}/{document.config.metadata.name}"

    def compiled(self) -> HostRoutes:
        """Compile all of it."""
        spec, document = spec_of(self._document), self._document
        return HostRoutes(
            self._owner,
            f"{document.file}:{document.node.mark.line}",
            hosts_of(document, self._scope),
            tuple(self._http(index, each) for index, each in enumerate(spec.http)),
            tuple(self._connections("tls", index, each) for index, each in enumerate(spec.tls)),
            tuple(self._connections("tcp", index, each) for index, each in enumerate(spec.tcp)),
        )

    def _place(self, *path: str | int) -> str:
        return f"{self._document.file}:{self._document.node.nearest(('spec', *path)).line}"

    def _http(self, index: int, route: HttpRoute) -> Entry:
        place = self._place("http", index)
        name = f"{self._owner}.http[{index if route.name is None else route.name}]"
        plan = planned(route, name)
        matches = [
            http_match(each, self._place("http", index, "match", at), self._scope.workload)
            for at, each in enumerate(route.match or ())
        ] or [Match(place)]
        shares = tuple(self._share(each, route.headers) for each in route.route or ())
        return Entry(
            route.name or name,
            name,
            "http",
            index,
            place,
            tuple(replace(each, plan=of_prefix(plan, each.prefix)) for each in matches),
            shares,
            _hosts(shares),
            self._mirrors(route),
        )

    def _connections(self, kind: str, index: int, route: TcpRoute | TlsRoute) -> Entry:
        place = self._place(kind, index)
        name = f"{self._owner}.{kind}[{index}]"
        said: Sequence[TcpMatch | TlsMatch] = route.match or ()
        matches = tuple(
            connection_match(each, self._place(kind, index, "match", at), self._scope.workload)
            for at, each in enumerate(said)
        )
        shares = tuple(self._share(each, None) for each in route.route)
        about = matches or (Match(place),)
        return Entry(name, name, kind, index, place, about, shares, _hosts(shares))

    def _share(
        self, said: WeightedDestination | WeightedRoute, whole: WrittenEdits | None
    ) -> Share:
        own = said.headers if isinstance(said, WeightedDestination) else None
        first, then = own or WrittenEdits(), whole or WrittenEdits()
        return Share(
            self._target(said.destination),
            said.weight or 0,
            joined(edited(first.request), edited(then.request)),
            joined(edited(first.response), edited(then.response)),
        )

    def _target(self, said: Destination) -> Target:
        port = None if said.port is None else said.port.number
        return Target(qualified(said.host, self._namespace), said.subset or "", port)

    def _mirrors(self, route: HttpRoute) -> tuple[tuple[Target, float], ...]:
        one = (
            ()
            if route.mirror is None
            else ((self._target(route.mirror), share(route.mirror_percentage, 100.0)),)
        )
        several = (
            (self._target(each.destination), share(each.percentage, 100.0))
            for each in route.mirrors
        )
        return (*one, *several)


def _hosts(shares: Sequence[Share]) -> frozenset[str]:
    return frozenset(each.target.host for each in shares)
