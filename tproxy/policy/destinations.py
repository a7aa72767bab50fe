"""How a connection to a destination is secured: the rule about its name decides, else who is expected there.

The rule that must not be broken: what an application writes into a request never changes the name of an address that a
ServiceEntry names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from tproxy.model.address import Address
from tproxy.model.http import RequestHead
from tproxy.model.upstream_tls import TlsMode, UpstreamTls
from tproxy.policy.destination_rules import RuleBook, Said
from tproxy.policy.hosts import LONGEST, asked_for, covers, in_full, is_name, namespace_of
from tproxy.policy.schema import ClientTls, TlsModeName
from tproxy.policy.service_entries import Entry, EntryBook, Known

LONGEST_AUTHORITY = LONGEST + len(".:65535")
"""Bytes of an authority that can name anybody; applications pass on what strangers send, and each is remembered."""

MOST_REMEMBERED = 4096
"""Choices that are kept: a workload has fewer destinations, and applications can make up names without end."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How connections to a destination are secured, and why."""

    tls: UpstreamTls | None = None
    hosts: tuple[str, ...] = ()
    """The destination's names; none when nobody knows them."""
    said: Said | None = None
    """The rule that says so; None when none is about it."""
    entry: Entry | None = None
    """The ServiceEntry that names the destination's address."""


class Destinations:
    """What is known of destinations. What changes: which choices are remembered."""

    def __init__(self, entries: EntryBook, rules: RuleBook, namespace: str) -> None:
        self.entries = entries
        self.rules = rules
        self._namespace = namespace
        """The workload's own."""
        self._remembered = lru_cache(MOST_REMEMBERED)(self._chosen)

    def describe(self) -> dict[str, object]:
        """Show what is known, for whoever looks into a running proxy."""
        entries = dict.fromkeys(each.entry for each in self.entries.by_network.values())
        named = dict.fromkeys(chain.from_iterable(self.entries.by_host.by_host.values()))
        return {
            "rules": [
                {"host": each.host, "rule": each.whole.owner, "place": each.whole.place}
                for each in self.rules.every()
            ],
            "entries": [
                {"entry": each.owner, "place": each.place, "hosts": each.hosts}
                for each in {**entries, **named}
            ],
        }

    def choice(self, to: Address, head: RequestHead | None) -> Choice:
        """Choose how a connection is secured; the head is that of its request, if it is HTTP."""
        authority = (
            b"" if head is None or len(head.authority) > LONGEST_AUTHORITY else head.authority
        )
        return self._remembered(to.host, to.port, authority)

    def _chosen(self, host: str, port: int, authority: bytes) -> Choice:
        asked = asked_for(authority, self._namespace) if authority else ""
        asked = in_full(asked, (self.entries.by_host,))
        if known := self.entries.at(host, port):
            return self._known(known, known.port or port, asked)
        return self._named(asked, port)

    def _known(self, known: Known, port: int, asked: str) -> Choice:
        entry = known.entry
        rule = self.rules.find(entry.hosts, entry.namespace)
        said = rule.of(port) if rule else None
        tls = secured_at(known, said.tls if said else None, asked)
        return Choice(tls, entry.hosts, said, entry)

    def _named(self, asked: str, port: int) -> Choice:
        hosts = (asked,) if asked else ()
        entry = next(iter(self.entries.of(asked)), None) if asked else None
        namespace = entry.namespace if entry else namespace_of(asked)
        rule = self.rules.find(hosts, namespace)
        if rule is None:
            return Choice(None, hosts)
        said = rule.of(port)
        expected = entry.subject_alt_names if entry else ()
        tls = None if said.tls is None else secured(said.tls, asked, expected)
        return Choice(tls, hosts, said)


def secured_at(known: Known, tls: ClientTls | None, asked: str) -> UpstreamTls | None:
    """Do what a rule says to where somebody is known to be; without one, what a sidecar there wants."""
    if tls is None:
        return _automatic(known)
    entry, meshed = known.entry, tls.mode is TlsModeName.ISTIO_MUTUAL
    expected = known.identities if meshed else entry.subject_alt_names
    return secured(tls, _name(entry.hosts, "" if meshed else asked), expected)


def _automatic(known: Known) -> UpstreamTls | None:
    """Use mutual TLS where a sidecar of the mesh answers."""
    if not (known.sidecar and known.entry.internal):
        return None
    return UpstreamTls(
        mode=TlsMode.ISTIO_MUTUAL,
        automatic=True,
        server_name=_name(known.entry.hosts, ""),
        subject_alt_names=known.identities,
    )


def secured(tls: ClientTls, name: str, expected: tuple[str, ...]) -> UpstreamTls | None:
    """Do what a rule says to a destination of this name, at which somebody is expected."""
    if tls.mode is TlsModeName.DISABLE:
        return None
    shown = tls.mode is TlsModeName.MUTUAL
    return UpstreamTls(
        mode=TlsMode(tls.mode.value),
        server_name=tls.sni or (name if is_name(name) else ""),
        subject_alt_names=() if tls.insecure_skip_verify else tls.subject_alt_names or expected,
        ca_certificates=tls.ca_certificates or "",
        ca_crl=tls.ca_crl or "",
        client_certificate=(tls.client_certificate or "") if shown else "",
        private_key=(tls.private_key or "") if shown else "",
        insecure_skip_verify=tls.insecure_skip_verify,
    )


def _name(hosts: Sequence[str], asked: str) -> str:
    """Return the name that is asked for if it is one of a service's, else the first that is no pattern."""
    if is_name(asked) and any(covers(host, asked) for host in hosts):
        return asked
    return next((host for host in hosts if is_name(host)), "")
