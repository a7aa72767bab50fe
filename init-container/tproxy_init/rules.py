"""The words of a rule: which packets, what becomes of them, and why.

They say no more than xtables and nft have in common, so that every engine can say the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from tproxy_init.values import Network, Span

PREFIX = "TPX_"
"""Every chain of ours starts so, and nothing else may: cleanup goes by it."""


class Family(IntEnum):
    """An IP version."""

    V4 = 4
    V6 = 6


class Table(StrEnum):
    """Netfilter's tables, in the order a packet meets them and we fill them.

    DNS zones must exist before DNS is redirected, so raw comes first.
    """

    RAW = "raw"
    MANGLE = "mangle"
    NAT = "nat"


class Proto(StrEnum):
    """A transport protocol."""

    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """The packets a rule is about: every field given must hold."""

    source: Network | None = None
    destination: Network | None = None
    beyond: Network | None = None
    """The destination lies outside this network."""
    by_in: str | None = None
    """Came in by this interface."""
    by_out: str | None = None
    """Leaves by this interface."""
    proto: Proto | None = None
    uid: Span | None = None
    gid: Span | None = None
    sports: tuple[Span, ...] = ()
    dports: tuple[Span, ...] = ()
    transparent: bool = False
    """Belongs to a connection that a transparent socket already holds."""
    opening: bool = False
    """Opens a connection."""

    @property
    def networks(self) -> list[Network]:
        """The networks named, which decide the families this can match in."""
        return [net for net in (self.source, self.destination, self.beyond) if net is not None]


@dataclass(frozen=True, slots=True)
class Return:
    """Back to the chain before; in the end, on its way as if there were no proxy."""


@dataclass(frozen=True, slots=True)
class Jump:
    """Through another chain and back here."""

    chain: str


@dataclass(frozen=True, slots=True)
class Goto:
    """Through another chain, and from its end back to where this one was called."""

    chain: str


@dataclass(frozen=True, slots=True)
class Redirect:
    """To a port of this host."""

    port: int


@dataclass(frozen=True, slots=True)
class Zone:
    """Tracked in a conntrack zone of its own."""

    number: int


@dataclass(frozen=True, slots=True)
class Mark:
    """Marked, for the policy route."""

    mark: int


@dataclass(frozen=True, slots=True)
class Tproxy:
    """To a transparent socket, addresses unchanged."""

    port: int
    mark: int


Target = Return | Jump | Goto | Redirect | Zone | Mark | Tproxy


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: where it stands, what it is about, what it does, and why it is there."""

    table: Table
    chain: str
    when: When
    target: Target
    why: str

    @property
    def hook(self) -> bool:
        """Stands in a chain of the kernel's: a jump into ours, there once and last."""
        return not self.chain.startswith(PREFIX)

    def fits(self, family: Family) -> bool:
        """Can match packets of this family."""
        return all(net.version == family for net in self.when.networks)


@dataclass(frozen=True, slots=True)
class Plan:
    """All rules for some families."""

    rules: tuple[Rule, ...]
    families: tuple[Family, ...]

    def of(self, table: Table, family: Family) -> list[Rule]:
        """The rules of one table that can match in one family."""
        return [rule for rule in self.rules if rule.table is table and rule.fits(family)]

    def tables(self) -> list[Table]:
        """The tables with rules, in the order to fill them."""
        return [table for table in Table if any(rule.table is table for rule in self.rules)]


def chains(rules: Iterable[Rule]) -> list[str]:
    """Our chains among `rules`, those they lead to included, in order of appearance."""
    found: dict[str, None] = {}
    for rule in rules:
        if not rule.hook:
            found[rule.chain] = None
        if isinstance(rule.target, Jump | Goto):
            found[rule.target.chain] = None
    return list(found)
