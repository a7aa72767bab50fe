"""Which services there are, and the clusters of endpoints that answer for them.

The rule that must not be broken: what asks for a service's name goes to that service's endpoints, and whoever answers
must prove to be one of them, whichever address was dialled.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import assert_never

from msgspec import structs

from tproxy.model.address import Address
from tproxy.model.cluster import (
    Bounds,
    Cluster,
    Dns,
    DnsName,
    Endpoint,
    Labels,
    Origin,
    Static,
    cluster_name,
)
from tproxy.model.identity import UNKNOWN
from tproxy.model.upstream_tls import UpstreamTls
from tproxy.policy.destination_rules import DestinationPolicy, RuleBook, Said
from tproxy.policy.destinations import MOST_REMEMBERED, Destinations, secured, secured_at
from tproxy.policy.hosts import LONGEST, HostTable, namespace_of
from tproxy.policy.resilience_policies import Endurance, ResilienceBook
from tproxy.policy.schema import Resolution, ServiceEndpoint, ServicePort
from tproxy.policy.service_endpoints import is_numeric, number_at
from tproxy.policy.service_entries import Entry, EntryBook, Known, Member, known_at, service_at
from tproxy.policy.settings import NOTHING, Balancing, Settings
from tproxy.resilience.retry_budget import RetryBudgetSpec

NOBODY = Static(())
"""The endpoints of what there is not: what is sent there is answered with 503."""


@dataclass(frozen=True, slots=True)
class Service:
    """A host at a port of its, as policies know it."""

    host: str
    """Complete: `reviews.default.svc.cluster.local`; or the pattern by which a ServiceEntry names it."""
    port: int
    """The service's number, which endpoints may number otherwise."""


@dataclass(frozen=True, slots=True)
class _Meant:
    """A host, and what policies say of it."""

    host: str
    port: int
    entries: tuple[Entry, ...]
    settings: Settings


class ClusterBook:
    """All services that policies name, and how each is reached. What changes: which answers are remembered."""

    def __init__(
        self, destinations: Destinations | None = None, endurance: ResilienceBook | None = None
    ) -> None:
        known = destinations or Destinations(EntryBook(), RuleBook(), UNKNOWN)
        self.endurance = endurance or ResilienceBook()
        self._entries, self._rules = known.entries, known.rules
        self._services = lru_cache(MOST_REMEMBERED)(self._service)
        self._clusters = lru_cache(MOST_REMEMBERED)(self._cluster)

    def service(self, to: Address, asked: str) -> Service | None:
        """Tell which service a connection to `to` means whose request or ClientHello asks for a name, or for none.

        A name decides where an entry knows it at that port, else the service's own address. None: nobody knows, or
        an endpoint was dialled and is the one that is meant.
        """
        return self._services(to.host, to.port, asked if len(asked) <= LONGEST else "")

    def _service(self, host: str, port: int, asked: str) -> Service | None:
        known = self._entries.at(host, port)
        name = self._entries.by_host.nearest((asked,))
        named = self._entries.by_host.by_host.get(name, ())
        if any(each.number == port for entry in named for each in entry.ports):
            # Where the address itself is the endpoint, whose it is does not depend on what is asked for.
            dialled = self.cluster(name, port).origin is None
            if not dialled or known is None or known.entry in named:
                return Service(name, port)
        if known is None or not known.of_service:
            return None
        asked_for_it = known.entry in named
        return Service(name if asked_for_it else known.entry.hosts[0], known.port or port)

    @property
    def hosts(self) -> HostTable[tuple[Entry, ...]]:
        """What entries say of names."""
        return self._entries.by_host

    def knows(self, host: str) -> bool:
        """Whether a ServiceEntry names a host."""
        return bool(self._entries.of(host))

    def named(self) -> Iterator[tuple[str, int, str]]:
        """Give host, port and subset of the clusters of all hosts that entries name."""
        for host in self._entries.by_host.by_host:
            for port in self.ports(host):
                for subset in ("", *sorted(self.subsets(host))):
                    yield host, port, subset

    def ports(self, host: str) -> tuple[int, ...]:
        """Return the numbers of a service's ports; none where every port may be one."""
        numbers = {each.number for entry in self._entries.of(host) for each in entry.ports}
        return tuple(sorted(numbers))

    def serves(self, host: str, port: int) -> bool:
        """Whether a port may be one of a host's: where entries name ports, only these are."""
        entries = self._entries.of(host)
        if not entries:
            return True
        return any(
            not entry.ports or any(each.number == port for each in entry.ports) for entry in entries
        )

    def original(self, host: str, port: int) -> Cluster | None:
        """Return what answers for a host where a connection was going; None where no policy says how.

        Only of hosts that no entry names. What is looked up under the same name is another cluster.
        """
        if not host or self.knows(host):
            return None
        rule, endurance = self._rule(host, ()), self.endurance.find(*_names_of(host, ()))
        said = rule.of(port).settings if rule else NOTHING
        if endurance is None and not said.at_any_address:
            return None
        cluster = self.cluster(host, port)
        name = cluster_name(port, host, "", where="original")
        tls = None if said.tls is None else secured(said.tls, host, ())
        return structs.replace(cluster, name=name, origin=None, tls=tls)

    def subsets(self, host: str) -> frozenset[str]:
        """Name the subsets of a host that the DestinationRule about it defines."""
        rule = self._rule(host, self._entries.of(host))
        return frozenset(rule.subsets) if rule else frozenset()

    def said(self, cluster: Cluster) -> tuple[Said | None, Entry | None]:
        """Return what a DestinationRule says of a cluster, and the first entry that names its host."""
        entries = self._entries.of(cluster.host)
        rule = self._rule(cluster.host, entries)
        said = rule.of(cluster.port, cluster.subset) if rule else None
        return said, next(iter(entries), None)

    def cluster(self, host: str, port: int, subset: str = "") -> Cluster:
        """Return what answers for a host; one that no ServiceEntry names is looked up. The same for the same."""
        return self._clusters(host, port, subset)

    def _rule(self, host: str, entries: Sequence[Entry]) -> DestinationPolicy | None:
        return self._rules.find(*_names_of(host, entries))

    def _cluster(self, host: str, port: int, subset: str) -> Cluster:
        entries = self._entries.of(host)
        rule = self._rule(host, entries)
        name = cluster_name(port, host, subset)
        cluster = Cluster(name=name, host=host, port=port, subset=subset, origin=NOBODY)
        if subset and (rule is None or subset not in rule.subsets):
            return cluster
        said = rule.of(port, subset).settings if rule else NOTHING
        meant = _Meant(host, port, entries, said)
        origin = _origin(meant)
        wanted = rule.subsets[subset].labels if rule and subset else ()
        tls = _at_address(meant) if origin is None else None
        cluster = structs.replace(cluster, origin=origin, wanted=wanted, tls=tls)
        return _managed(cluster, said, self.endurance.find(*_names_of(host, entries)))


def _names_of(host: str, entries: Sequence[Entry]) -> tuple[Sequence[str], str]:
    """Return the names of a service, and its namespace."""
    hosts = dict.fromkeys((host, *(each for entry in entries for each in entry.hosts)))
    return tuple(hosts), entries[0].namespace if entries else namespace_of(host)


def _managed(cluster: Cluster, said: Settings, endurance: Endurance | None) -> Cluster:
    balancing, outlier = said.balancing or Balancing(), said.outlier
    panic = outlier.min_health_percent if outlier else 0.0
    budget = (endurance.retry_budget if endurance else None) or said.retry_budget
    return structs.replace(
        cluster,
        balancer=replace(balancing.balancer, panic_percent=panic),
        hash_key=balancing.hash_key,
        bounds=said.bounds or Bounds(),
        outlier=outlier,
        breaker=endurance.breaker if endurance else None,
        retry_budget=budget or RetryBudgetSpec(),
    )


def _origin(meant: _Meant) -> Origin | None:
    """Say where the endpoints of a service come from; None when none is chosen."""
    if meant.settings.balancing is not None and meant.settings.balancing.passthrough:
        return None
    if not meant.entries:
        return Dns((DnsName(meant.host, meant.port, tls=_at_address(meant)),))
    resolution, members = meant.entries[0].resolution, _members(meant)
    match resolution:
        case Resolution.NONE:
            return None
        case Resolution.STATIC:
            return Static(tuple(_static(meant)))
        case Resolution.DNS | Resolution.DNS_ROUND_ROBIN:
            if members and all(map(is_numeric, members)):
                return Static(tuple(_static(meant)))
            return Dns(tuple(_names(meant)), first_only=resolution is Resolution.DNS_ROUND_ROBIN)
        case _:
            assert_never(resolution)


def _at_address(meant: _Meant) -> UpstreamTls | None:
    """Say how an address is secured of which nothing but the name is known."""
    tls = meant.settings.tls
    if meant.entries:
        return _tls(meant, service_at(meant.entries[0], meant.port))
    return None if tls is None else secured(tls, meant.host, ())


def _members(meant: _Meant) -> list[ServiceEndpoint]:
    return [member.spec for entry in meant.entries for member in entry.members]


def _places(meant: _Meant) -> Iterator[tuple[Entry, Member, int]]:
    """Give the endpoints that get something, with their numbers of the port."""
    for entry in meant.entries:
        for port in _ports(entry, meant.port):
            for member in entry.members:
                if member.spec.weight:
                    yield entry, member, number_at(member.spec, port)


def _ports(entry: Entry, number: int) -> Iterator[ServicePort]:
    if not entry.ports:
        yield ServicePort(number=number, name=str(number))
    yield from (each for each in entry.ports if each.number == number)


def _static(meant: _Meant) -> Iterator[Endpoint]:
    for entry, member, number in _places(meant):
        spec, tls = member.spec, _tls(meant, known_at(entry, member, meant.port))
        address = Address.of(spec.address, number)
        yield Endpoint(address, spec.weight, _labels(member), spec.locality, tls)


def _names(meant: _Meant) -> Iterator[DnsName]:
    for entry, member, number in _places(meant):
        spec, tls = member.spec, _tls(meant, known_at(entry, member, meant.port))
        name = spec.address if is_numeric(spec) else spec.address.lower()
        yield DnsName(name, number, spec.weight, _labels(member), spec.locality, tls)
    for entry in meant.entries:
        if not entry.members:
            known = Known(entry, meant.port, identities=entry.subject_alt_names)
            for port in _ports(entry, meant.port):
                number = port.target_port or port.number
                yield DnsName(meant.host, number, tls=_tls(meant, known))


def _tls(meant: _Meant, known: Known) -> UpstreamTls | None:
    return secured_at(known, meant.settings.tls, meant.host)


def _labels(member: Member) -> Labels:
    return tuple(sorted(member.spec.labels.items()))
