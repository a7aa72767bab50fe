"""Which addresses and services have names, where their endpoints are, and who is expected there: `ServiceEntry`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from tproxy.model.identity import SCHEME
from tproxy.policy.findings import Code, Finding, Path, Severity
from tproxy.policy.hosts import HostTable, qualified
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
from tproxy.policy.service_endpoints import (
    ANY_PORT,
    endpoint_ports,
    has_sidecar,
    is_numeric,
    network,
)
from tproxy.policy.service_entry_mistakes import foreign, mistakes


@dataclass(frozen=True, slots=True)
class Member:
    """One endpoint, and who is expected there."""

    spec: ServiceEndpoint
    identities: tuple[str, ...]
    """Nothing when anybody may be."""


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
    resolution: Resolution = Resolution.NONE
    # Not compared: an entry is told from others by its name, and its endpoints may be many.
    ports: tuple[ServicePort, ...] = field(default=(), compare=False)
    members: tuple[Member, ...] = field(default=(), compare=False)


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
    of_service: bool = False
    """Whether the address is the service's own, and no endpoint's."""


Key = tuple[int, int, int, int]
"""Version, length and bits of a network, and a port."""


@dataclass(frozen=True, slots=True)
class EntryBook:
    """All entries, by addresses and by names."""

    by_network: Mapping[Key, Known] = field(default_factory=dict)
    lengths: tuple[tuple[int, int], ...] = ()
    """Versions and lengths of the networks among them, the longest first."""
    by_host: HostTable[tuple[Entry, ...]] = field(default_factory=lambda: HostTable({}))
    """Several entries of one name are one service."""

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

    def of(self, host: str) -> tuple[Entry, ...]:
        """Return the entries that name a host, be it by a pattern."""
        return self.by_host.find((host,)) or ()


def entries(
    documents: Sequence[Document], scope: Scope, trust_domain: str, findings: list[Finding]
) -> EntryBook:
    """Gather what sound documents say; mistakes are added to `findings`."""
    book: dict[Key, Known] = {}
    named: dict[str, tuple[Entry, ...]] = {}
    for discovered in (True, False):
        # What people write wins over what is discovered; among equals nobody does.
        gatherer = _Gatherer(scope, trust_domain)
        for document in documents:
            if document.discovered is discovered:
                found = list(mistakes(document, scope))
                findings.extend(found)
                sound = all(each.severity is not Severity.ERROR for each in found)
                if sound and not foreign(document, scope):
                    gatherer.add(document)
        findings.extend(gatherer.findings)
        book.update(gatherer.by_network)
        named.update({host: tuple(each) for host, each in gatherer.by_host.items()})
    lengths = sorted({key[:2] for key in book}, key=lambda each: -each[1])
    return EntryBook(book, tuple(lengths), HostTable(named))


class _Gatherer:
    """Puts entries of one origin side by side. What changes: what is known so far, and who contradicts whom."""

    def __init__(self, scope: Scope, trust_domain: str) -> None:
        self._scope = scope
        self._trust_domain = trust_domain
        self._first: dict[Key, Document] = {}
        self.by_network: dict[Key, Known] = {}
        self.by_host: dict[str, list[Entry]] = {}
        self.findings: list[Finding] = []

    def add(self, document: Document) -> None:
        """Take a document in which there is no mistake."""
        spec, entry = _spec(document), self._entry(document)
        self._name(entry, document)
        at_endpoints: set[Key] = set()
        for index, member in enumerate(entry.members):
            for key, known in _at(entry, member):
                at_endpoints.add(key)
                self._put(key, known, document, ("spec", "endpoints", index, "address"))
        for index, address in enumerate(spec.addresses):
            for port in [each.number for each in spec.ports] or [ANY_PORT]:
                if (key := _key(address, port)) not in at_endpoints:
                    known = service_at(entry, port)
                    self._put(key, known, document, ("spec", "addresses", index))

    def _name(self, entry: Entry, document: Document) -> None:
        for host in entry.hosts:
            others = self.by_host.setdefault(host, [])
            for other in others[:1]:
                self._compare(entry, other, host, document)
            others.append(entry)

    def _compare(self, entry: Entry, other: Entry, host: str, document: Document) -> None:
        if other.subject_alt_names != entry.subject_alt_names:
            message = f"{other.place} names others for {host}, and neither is older: say it alike"
            path: Path = ("spec", "subjectAltNames")
            self.findings.append(document.finding(Code.CONFLICT, path, message))
        if other.resolution is not entry.resolution:
            message = f"{other.place} says {other.resolution} for {host}, and neither is older: say it alike"
            path = ("spec", "resolution")
            self.findings.append(document.finding(Code.CONFLICT, path, message))

    def _entry(self, document: Document) -> Entry:
        spec, namespace = _spec(document), self._scope.namespace_of(document.config)
        return Entry(
            f"{namespace}/{document.config.metadata.name}",
            namespace,
            f"{document.file}:{document.node.mark.line}",
            tuple(dict.fromkeys(qualified(host, namespace) for host in spec.hosts)),
            spec.location is Location.MESH_INTERNAL,
            spec.subject_alt_names or (),
            spec.resolution,
            spec.ports,
            tuple(Member(each, self._expected(spec, each, namespace)) for each in spec.endpoints),
        )

    def _expected(
        self, spec: ServiceEntrySpec, endpoint: ServiceEndpoint, namespace: str
    ) -> tuple[str, ...]:
        if spec.subject_alt_names:
            return spec.subject_alt_names
        if endpoint.service_account is None:
            return ()
        path = f"/ns/{namespace}/sa/{endpoint.service_account}"
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


def known_at(entry: Entry, member: Member, port: int) -> Known:
    """Say what is known of an endpoint's port, by the service's number."""
    return Known(entry, port, has_sidecar(member.spec), member.identities)


def _at(entry: Entry, member: Member) -> Iterator[tuple[Key, Known]]:
    """Give what is known of each port of an endpoint that has an address."""
    if is_numeric(member.spec):
        for port, number in endpoint_ports(entry.ports, member.spec):
            yield _key(member.spec.address, number), known_at(entry, member, port)


def service_at(entry: Entry, port: int) -> Known:
    """Say of the service's own address what holds at every endpoint that may be behind it."""
    identities = [each.identities for each in entry.members]
    everybody = dict.fromkeys(each for of_one in identities for each in of_one)
    expected = tuple(everybody) if all(identities) else ()
    sidecar = bool(identities) and all(has_sidecar(each.spec) for each in entry.members)
    return Known(entry, port, sidecar, entry.subject_alt_names or expected, of_service=True)


def _key(text: str, port: int) -> Key:
    found = network(text)
    bits = int(found.network_address) >> (found.max_prefixlen - found.prefixlen)
    return found.version, found.prefixlen, bits, port


def _spec(document: Document) -> ServiceEntrySpec:
    assert isinstance(document.config, ServiceEntry), "the caller told kinds apart"
    return document.config.spec
