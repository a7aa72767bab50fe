"""Whether what leaves the application may go where no policy names anybody: `outboundTrafficPolicy`.

It keeps mistakes in, and nobody who means harm: a request can ask for a name that is known and dial whomever it likes.
"""

from dataclasses import dataclass, field
from functools import lru_cache

from tproxy.model.address import Address
from tproxy.model.flow import Protocol
from tproxy.model.route import DirectResponse, Plan, Route
from tproxy.policy.service_entries import EntryBook

BLACK_HOLE = "BlackHoleCluster"
REFUSED = Plan(answer=DirectResponse(502))
"""Istio's answer."""


@dataclass(frozen=True, slots=True)
class Egress:
    """What may be reached of that to which no route leads."""

    entries: EntryBook = field(default_factory=EntryBook)
    registry_only: bool = False
    """Whether only what entries name may."""

    def refuses(self, to: Address, asked: str) -> bool:
        """Whether a connection to `to` may not go on whose request or ClientHello asks for a name, or for none."""
        if not self.registry_only or self.entries.at(to.host, to.port):
            return False
        # An entry without ports is about all of them; where ports are named, this is none of them.
        return not any(not entry.ports for entry in self.entries.of(asked))


@lru_cache(maxsize=8)
def black_hole(protocol: Protocol | None) -> Route:
    """Lead nowhere."""
    return Route("block_all", BLACK_HOLE, protocol, plan=REFUSED)
