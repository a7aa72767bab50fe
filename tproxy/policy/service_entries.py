"""Which addresses have names, and who is expected at them: `ServiceEntry`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from tproxy.model.address import Address
from tproxy.model.identity import SCHEME, UNKNOWN
from tproxy.policy.findings import Code, Finding, Path, Severity
from tproxy.policy.hosts import EVERYTHING, HostTable, is_host, is_identity, is_name, qualified
from tproxy.policy.load import Document
from tproxy.policy.schema import (
    Location,
    Resolution,
    ServiceEndpoint,
    ServiceEntry,
    ServiceEntrySpec,
    ServicePort,
)
from tproxy.policy.scope import Scope

TLS_MODE = "security.istio.io/tlsMode"
WITH_SIDECAR = "istio"
ANY_PORT = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One ServiceEntry."""

    owner: str
    """`foo/reviews`."""
    namespace: str
    place: str
    hosts: tuple[str, ...]
    internal: bool
    subject_alt_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an address, or of one port of it."""

    entry: Entry
    port: int = ANY_PORT
    """The service's number of the port."""
    sidecar: bool = False
    """Whether it speaks mutual TLS of the mesh."""
    identities: tuple[str, ...] = ()
    """Who is expected there; nothing when anybody may be."""


Key = tuple[int, int, int, int]
"""Version, length and bits of a network, and a port."""


@dataclass(frozen=True, slots=True)
class EntryBook:
    """All entries, by addresses and by names."""

    by_network: Mapping[Key, Known] = field(default_factory=dict)
    lengths: tuple[tuple[int, int], ...] = ()
    """Versions and lengths of the networks among them, the longest first."""
    by_host: HostTable[Entry] = field(default_factory=lambda: HostTable[Entry]({}))

    def at(self, host: str, port: int) -> Known | None:
        """Return what is known of an address: of its port rather than of all ports, of the nearest network."""
        address = ip_address(host)
        for version, length in self.lengths:
            if version == address.version:
                bits = int(address) >> (address.max_prefixlen - length)
                for each in (port, ANY_PORT):
                    if known := self.by_network.get((version, length, bits, each)):
                        return known
        return None


def network(text: str) -> IPv4Network | IPv6Network:
    """Read an address or a network as connections show it; ValueError when it is none."""
    found = ip_network(text, strict=False)
    if "%" in text or Address.of(str(found.network_address), 0).host != str(found.network_address):
        raise ValueError(f"{text!r} is an address that no connection has")
    return found


def entries(
    documents: Sequence[Document], scope: Scope, trust_domain: str, findings: list[Finding]
) -> EntryBook:
    """Gather what sound documents say; mistakes are added to `findings`."""
    book: dict[Key, Known] = {}
    named: dict[str, Entry] = {}
    for discovered in (True, False):
        # What people write wins over what is discovered; among equals nobody does.
        gatherer = _Gatherer(scope, trust_domain)
        for document in documents:
            if document.discovered is discovered:
                mistakes = list(_mistakes(document, scope))
                findings.extend(mistakes)
                if all(each.severity is not Severity.ERROR for each in mistakes):
                    gatherer.add(document)
        findings.extend(gatherer.findings)
        book.update(gatherer.by_network)
        named.update(gatherer.by_host)
    lengths = sorted({key[:2] for key in book}, key=lambda each: -each[1])
    return EntryBook(book, tuple(lengths), HostTable(named))


class _Gatherer:
    """Puts entries of one origin side by side. What changes: what is known so far, and who contradicts whom."""

    def __init__(self, scope: Scope, trust_domain: str) -> None:
        self._scope = scope
        self._trust_domain = trust_domain
        self._first: dict[Key, Document] = {}
        self.by_network: dict[Key, Known] = {}
        self.by_host: dict[str, Entry] = {}
        self.findings: list[Finding] = []

    def add(self, document: Document) -> None:
        """Take a document in which there is no mistake."""
        spec, entry = _spec(document), self._entry(document)
        for host in entry.hosts:
            self.by_host.setdefault(host, entry)
        at_endpoints: set[Key] = set()
        for index, endpoint in enumerate(spec.endpoints):
            path: Path = ("spec", "endpoints", index, "address")
            for port, number in _endpoint_ports(spec.ports, endpoint):
                key = _key(endpoint.address, number)
                at_endpoints.add(key)
                known = Known(
                    entry,
                    port,
                    _has_sidecar(endpoint),
                    entry.subject_alt_names or self._identity(entry, endpoint),
                )
                self._put(key, known, document, path)
        for index, address in enumerate(spec.addresses):
            for port in [each.number for each in spec.ports] or [ANY_PORT]:
                if (key := _key(address, port)) not in at_endpoints:
                    known = self._service(entry, port, spec.endpoints)
                    self._put(key, known, document, ("spec", "addresses", index))

    def _entry(self, document: Document) -> Entry:
        spec, namespace = _spec(document), self._scope.namespace_of(document.config)
        return Entry(
            f"{namespace}/{document.config.metadata.name}",
            namespace,
            f"{document.file}:{document.node.mark.line}",
            tuple(dict.fromkeys(qualified(host, namespace) for host in spec.hosts)),
            spec.location is Location.MESH_INTERNAL,
            spec.subject_alt_names or (),
        )

    def _service(self, entry: Entry, port: int, endpoints: Sequence[ServiceEndpoint]) -> Known:
        """Say of the service's own address what holds at every endpoint that may be behind it."""
        identities = [self._identity(entry, each) for each in endpoints]
        everybody = dict.fromkeys(each for of_one in identities for each in of_one)
        expected = tuple(everybody) if all(identities) else ()
        sidecar = bool(endpoints) and all(map(_has_sidecar, endpoints))
        return Known(entry, port, sidecar, entry.subject_alt_names or expected)

    def _identity(self, entry: Entry, endpoint: ServiceEndpoint) -> tuple[str, ...]:
        if endpoint.service_account is None:
            return ()
        path = f"/ns/{entry.namespace}/sa/{endpoint.service_account}"
        return (f"{SCHEME}{self._trust_domain}{path}",)

    def _put(self, key: Key, known: Known, document: Document, path: Path) -> None:
        if (other := self._first.setdefault(key, document)) is document and (
            key not in self.by_network
        ):
            self.by_network[key] = known
            return
        place = f"{other.file}:{other.node.mark.line}"
        message = f"is named by {place} already, and neither is older: name it once"
        self.findings.append(document.finding(Code.CONFLICT, path, message))


def _endpoint_ports(
    ports: Sequence[ServicePort], endpoint: ServiceEndpoint
) -> Iterator[tuple[int, int]]:
    """Give each port as the service and as the endpoint numbers it."""
    if not ports:
        yield ANY_PORT, ANY_PORT
    for port in ports:
        yield port.number, endpoint.ports.get(port.name) or port.target_port or port.number


def _has_sidecar(endpoint: ServiceEndpoint) -> bool:
    return endpoint.labels.get(TLS_MODE) == WITH_SIDECAR


def _key(text: str, port: int) -> Key:
    found = network(text)
    bits = int(found.network_address) >> (found.max_prefixlen - found.prefixlen)
    return found.version, found.prefixlen, bits, port


def _mistakes(document: Document, scope: Scope) -> Iterator[Finding]:
    spec = _spec(document)
    yield from _host_mistakes(document, scope)
    yield from _address_mistakes(document)
    yield from _port_mistakes(document)
    for index, endpoint in enumerate(spec.endpoints):
        yield from _endpoint_mistakes(document, endpoint, ("spec", "endpoints", index))
    if any(each.service_account for each in spec.endpoints) and _nowhere(document, scope):
        yield document.finding(Code.CONFLICT, ("metadata",), _NAMELESS)
    yield from _name_mistakes(document)


_NAMELESS = (
    "nobody said in which namespace this entry is, and its hosts or service accounts are of one:"
    " set metadata.namespace"
)


def _nowhere(document: Document, scope: Scope) -> bool:
    return scope.namespace_of(document.config) == UNKNOWN


def _host_mistakes(document: Document, scope: Scope) -> Iterator[Finding]:
    for index, host in enumerate(_spec(document).hosts):
        path: Path = ("spec", "hosts", index)
        if not is_host(host) or host == EVERYTHING:
            message = f"{host!r} is no name of a service: write a DNS name, or `*.suffix`"
            yield document.finding(Code.BAD_VALUE, path, message)
        elif "." not in host and _nowhere(document, scope):
            yield document.finding(Code.CONFLICT, path, _NAMELESS)


def _address_mistakes(document: Document) -> Iterator[Finding]:
    for index, address in enumerate(_spec(document).addresses):
        if not _is_network(address):
            message = f"{address!r} is no address and no network: write 192.0.2.1 or 192.0.2.0/24"
            yield document.finding(Code.BAD_VALUE, ("spec", "addresses", index), message)


def _is_network(text: str) -> bool:
    try:
        network(text)
    except ValueError:
        return False
    return True


def _port_mistakes(document: Document) -> Iterator[Finding]:
    numbers: dict[int, int] = {}
    names: dict[str, int] = {}
    for index, port in enumerate(_spec(document).ports):
        path: Path = ("spec", "ports", index)
        for key, first in (
            ("number", numbers.setdefault(port.number, index)),
            ("name", names.setdefault(port.name, index)),
        ):
            if first != index:
                message = f"is that of $.spec.ports[{first}] already: a port stands once"
                yield document.finding(Code.CONFLICT, (*path, key), message)


def _endpoint_mistakes(
    document: Document, endpoint: ServiceEndpoint, path: Path
) -> Iterator[Finding]:
    if "/" in endpoint.address or not _is_network(endpoint.address):
        message = f"{endpoint.address!r} is no IP address, and no name is looked up: write 192.0.2.1 or 2001:db8::1"
        yield document.finding(Code.BAD_VALUE, (*path, "address"), message)
    known = [port.name for port in _spec(document).ports]
    for name in endpoint.ports:
        if name not in known:
            message = f"{name!r} is none of $.spec.ports: write the name of one of them"
            yield document.finding(Code.BAD_VALUE, (*path, "ports", name), message)
    mode = endpoint.labels.get(TLS_MODE, WITH_SIDECAR)
    if mode not in (WITH_SIDECAR, "disabled"):
        message = f"{mode!r} is no mode: write {WITH_SIDECAR} where there is a sidecar, disabled or nothing elsewhere"
        yield document.finding(Code.BAD_VALUE, (*path, "labels", TLS_MODE), message)
    elif _has_sidecar(endpoint) and _spec(document).location is Location.MESH_EXTERNAL:
        message = "changes nothing outside the mesh: set spec.location to MESH_INTERNAL"
        yield document.finding(
            Code.NO_EFFECT, (*path, "labels", TLS_MODE), message, severity=Severity.WARNING
        )


def _name_mistakes(document: Document) -> Iterator[Finding]:
    """Find who could never be proven, and endpoints where there must be none, or some."""
    spec = _spec(document)
    meshed = any(map(_has_sidecar, spec.endpoints))
    for index, name in enumerate(spec.subject_alt_names or ()):
        path: Path = ("spec", "subjectAltNames", index)
        if not is_identity(name) and (meshed or not is_name(name)):
            wanted = "spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/NAME"
            wanted = wanted if meshed else f"{wanted}, or a DNS name"
            message = f"{name!r} is nobody who could be there: write {wanted}"
            yield document.finding(Code.BAD_VALUE, path, message)
    if spec.resolution is Resolution.NONE and spec.endpoints:
        message = "NONE has no endpoints: set spec.resolution to STATIC, or write addresses"
        yield document.finding(Code.CONFLICT, ("spec", "endpoints"), message)
    if spec.resolution is Resolution.STATIC and not spec.endpoints:
        message = "STATIC needs endpoints: write them, or NONE"
        yield document.finding(Code.CONFLICT, ("spec", "resolution"), message)


def _spec(document: Document) -> ServiceEntrySpec:
    assert isinstance(document.config, ServiceEntry), "the caller told kinds apart"
    return document.config.spec
