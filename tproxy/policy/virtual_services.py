"""Mistakes in `VirtualService` documents, and between them."""

from collections.abc import Collection, Iterator, Sequence

from msgspec import structs

from tproxy.model.identity import UNKNOWN
from tproxy.policy.clusters import ClusterBook
from tproxy.policy.findings import Code, Finding, Path, Severity
from tproxy.policy.hosts import EVERYTHING, covers, is_host, is_name, qualified
from tproxy.policy.load import Document
from tproxy.policy.match import networks
from tproxy.policy.route_mistakes import http_mistakes
from tproxy.policy.routes import hosts_of, is_exported, is_own, spec_of
from tproxy.policy.schema import (
    Destination,
    HttpMatch,
    TcpMatch,
    TlsMatch,
    WeightedDestination,
    WeightedRoute,
)
from tproxy.policy.scope import LABELLESS, NAMELESS, Scope

Matches = Sequence[HttpMatch | TcpMatch | TlsMatch]
Shares = Sequence[WeightedDestination | WeightedRoute]


def mistakes(documents: Sequence[Document], scope: Scope) -> Iterator[Finding]:
    """Tell of documents that mean nothing, and of those that contradict each other: files have no age."""
    first: dict[tuple[bool, str], Document] = {}
    for document in documents:
        yield from _scope_mistakes(document, scope)
        yield from _host_mistakes(document)
        yield from _entry_mistakes(document, scope)
        if not (is_own(document, scope) or is_exported(document)):
            continue
        for host in hosts_of(document, scope):
            other = first.setdefault((is_own(document, scope), host), document)
            if other is not document:
                place = f"{other.file}:{other.node.mark.line}"
                message = (
                    f"{place} is about {host} already, and neither is older: put them into one"
                )
                yield document.finding(Code.DUPLICATE_HOST, ("spec", "hosts"), message)


def _scope_mistakes(document: Document, scope: Scope) -> Iterator[Finding]:
    namespace, spec = document.config.metadata.namespace, spec_of(document)
    if namespace and scope.workload.namespace == UNKNOWN:
        yield document.finding(Code.CONFLICT, ("metadata", "namespace"), NAMELESS)
    elif not is_own(document, scope) and not is_exported(document):
        message = (
            f"is for workloads of {namespace}, this one is in {scope.workload.namespace}: not read"
        )
        path: Path = ("metadata", "namespace")
        yield document.finding(Code.FOREIGN_NAMESPACE, path, message, severity=Severity.INFO)
    if len(spec.export_to) > 1:
        message = "several words contradict each other: write one"
        yield document.finding(Code.CONFLICT, ("spec", "exportTo"), message)
    if not (spec.http or spec.tls or spec.tcp):
        message = "leads nowhere: write http, tls or tcp"
        yield document.finding(Code.CONFLICT, ("spec",), message)


def _host_mistakes(document: Document) -> Iterator[Finding]:
    for index, host in enumerate(spec_of(document).hosts):
        whole = is_name(host) or (is_host(host) and host.startswith("*."))
        if not whole or host == EVERYTHING:
            message = f"{host!r} is no name of a service: write a DNS name, or `*.suffix`"
            yield document.finding(Code.BAD_VALUE, ("spec", "hosts", index), message)


def _entry_mistakes(document: Document, scope: Scope) -> Iterator[Finding]:
    spec, checks = spec_of(document), _Checks(document, scope)
    for index, route in enumerate(spec.http):
        path: Path = ("spec", "http", index)
        yield from http_mistakes(document, path, route)
        yield from checks.matches(path, route.match or ())
        yield from checks.shares(path, route.route or ())
    for index, secured in enumerate(spec.tls):
        yield from checks.matches(("spec", "tls", index), secured.match)
        yield from checks.shares(("spec", "tls", index), secured.route)
    for index, carried in enumerate(spec.tcp):
        yield from checks.matches(("spec", "tcp", index), carried.match or ())
        yield from checks.shares(("spec", "tcp", index), carried.route)
    for where, destination in every_destination(document):
        yield from checks.destination(where, destination)


class _Checks:
    """What all entries of one document have alike."""

    def __init__(self, document: Document, scope: Scope) -> None:
        self._document = document
        self._scope = scope

    def matches(self, path: Path, matches: Matches) -> Iterator[Finding]:
        """Find matches that say nothing, or of which nobody can tell whether they are for the workload."""
        workload = self._scope.workload
        for index, match in enumerate(matches):
            here: Path = (*path, "match", index)
            bare = structs.replace(match, name=None) if isinstance(match, HttpMatch) else match
            if bare in (HttpMatch(), TcpMatch()):
                message = "says nothing: leave match out where all is meant"
                yield self._document.finding(Code.BAD_VALUE, here, message)
            if match.source_labels and not workload.labels:
                yield self._document.finding(Code.CONFLICT, (*here, "sourceLabels"), LABELLESS)
            if match.source_namespace and workload.namespace == UNKNOWN:
                yield self._document.finding(Code.CONFLICT, (*here, "sourceNamespace"), NAMELESS)
            if not isinstance(match, HttpMatch):
                yield from self._connection(here, match)

    def _connection(self, path: Path, match: TcpMatch | TlsMatch) -> Iterator[Finding]:
        for index, block in enumerate(match.destination_subnets or ()):
            try:
                networks([block])
            except ValueError as error:
                where: Path = (*path, "destinationSubnets", index)
                yield self._document.finding(Code.BAD_VALUE, where, str(error))
        hosts = hosts_of(self._document, self._scope)
        for index, host in enumerate(match.sni_hosts if isinstance(match, TlsMatch) else ()):
            if not is_host(host) or not any(covers(each, host.lower()) for each in hosts):
                message = f"{host!r} is none of $.spec.hosts: name it there too"
                yield self._document.finding(Code.BAD_VALUE, (*path, "sniHosts", index), message)

    def shares(self, path: Path, shares: Shares) -> Iterator[Finding]:
        """Find several destinations of which none gets anything."""
        if len(shares) > 1 and not any(each.weight for each in shares):
            message = "no destination has a weight, so none gets anything: write weight"
            yield self._document.finding(Code.BAD_VALUE, (*path, "route"), message)

    def destination(self, path: Path, destination: Destination) -> Iterator[Finding]:
        """Find a destination that is no service."""
        host = destination.host
        if not is_name(host):
            message = f"{host!r} is no name of a service: write a DNS name"
            yield self._document.finding(Code.BAD_VALUE, (*path, "host"), message)
        elif "." not in host and self._scope.namespace_of(self._document.config) == UNKNOWN:
            yield self._document.finding(Code.CONFLICT, (*path, "host"), NAMELESS)


def destination_mistakes(
    documents: Sequence[Document], scope: Scope, clusters: ClusterBook
) -> Iterator[Finding]:
    """Tell of destinations that there are not; a document that this workload does not read may know others."""
    for document in documents:
        if not (is_own(document, scope) or is_exported(document)):
            continue
        namespace = scope.namespace_of(document.config)
        for path, destination in every_destination(document):
            host = qualified(destination.host, namespace)
            yield from _unknown_subset(document, path, destination, (host, clusters))
            yield from _unknown_port(document, path, destination, (host, clusters))
            if not any(covers(each, host) for each in hosts_of(document, scope)):
                yield from _elsewhere(document, path, destination, (host, clusters))


def _unknown_subset(
    document: Document, path: Path, destination: Destination, at: tuple[str, ClusterBook]
) -> Iterator[Finding]:
    host, clusters = at
    known = clusters.subsets(host) if destination.subset else ()
    if destination.subset and destination.subset not in known:
        message = _undefined(destination.subset, host, known)
        yield document.finding(Code.UNKNOWN_SUBSET, (*path, "subset"), message)


def _unknown_port(
    document: Document, path: Path, destination: Destination, at: tuple[str, ClusterBook]
) -> Iterator[Finding]:
    host, clusters = at
    number = destination.port.number if destination.port else None
    if number is not None and not clusters.serves(host, number):
        there_are = ", ".join(map(str, clusters.ports(host)))
        message = f"{host} has no port {number}, known are {there_are}: write one of these"
        yield document.finding(Code.UNKNOWN_PORT, (*path, "port"), message)


def _elsewhere(
    document: Document, path: Path, destination: Destination, at: tuple[str, ClusterBook]
) -> Iterator[Finding]:
    """Find other services that have no endpoints to go to."""
    host, clusters = at
    port = destination.port.number if destination.port else next(iter(clusters.ports(host)), 80)
    if clusters.cluster(host, port, destination.subset or "").origin is not None:
        return
    where: Path = (*path, "host")
    if "route" in path:
        message = (
            f"{host} has no endpoints of its own (NONE or PASSTHROUGH), so this goes where it was"
            " going: write endpoints, or set resolution to DNS"
        )
        yield document.finding(Code.NO_EFFECT, where, message, severity=Severity.WARNING)
    else:
        message = (
            f"{host} has no endpoints of its own (NONE or PASSTHROUGH), so copies would go where"
            " the request goes: write endpoints, or set resolution to DNS"
        )
        yield document.finding(Code.CONFLICT, where, message)


def _undefined(subset: str, host: str, known: Collection[str]) -> str:
    there_are = f", known are {', '.join(sorted(known))}" if known else ""
    return f"no DestinationRule defines {subset!r} of {host}{there_are}: write it into its subsets"


def every_destination(document: Document) -> Iterator[tuple[Path, Destination]]:
    """Give all destinations of a document, and where they stand."""
    spec = spec_of(document)
    for index, route in enumerate(spec.http):
        path: Path = ("spec", "http", index)
        yield from _of_shares(path, route.route or ())
        if route.mirror is not None:
            yield (*path, "mirror"), route.mirror
        for at, mirror in enumerate(route.mirrors):
            yield (*path, "mirrors", at, "destination"), mirror.destination
    for index, secured in enumerate(spec.tls):
        yield from _of_shares(("spec", "tls", index), secured.route)
    for index, carried in enumerate(spec.tcp):
        yield from _of_shares(("spec", "tcp", index), carried.route)


def _of_shares(path: Path, shares: Shares) -> Iterator[tuple[Path, Destination]]:
    for index, each in enumerate(shares):
        yield (*path, "route", index, "destination"), each.destination
