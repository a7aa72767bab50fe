"""What every connection of a worker shares."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from tproxy.codec.h1_h11 import H11
from tproxy.codec.h1_parser import HeadParser
from tproxy.codec.h2_engine import Engine
from tproxy.codec.h2_own import OwnEngine
from tproxy.filters.request_id import RequestIds
from tproxy.model.exchange import Handler
from tproxy.model.flow import Direction
from tproxy.model.limits import Limits
from tproxy.net.departures import Departures
from tproxy.net.handshakes import Handshakes
from tproxy.net.pump import Pipes
from tproxy.proxy.register import Register
from tproxy.proxy.sweeper import Sweeper
from tproxy.stores.identity_store import IdentityStore
from tproxy.stores.journal import Journal
from tproxy.stores.limits import Ledger
from tproxy.stores.policy_store import PolicyStore
from tproxy.upstream.reach import Reach


@dataclass(frozen=True, slots=True)
class Runtime:
    """The collaborators of `carry`, made once by the app."""

    policies: PolicyStore
    pipelines: Mapping[Direction, Handler]
    overflow: Mapping[Direction, Handler]
    """What answers on connections that are one too many."""
    reach: Reach
    journal: Journal
    register: Register
    sweeper: Sweeper
    departures: Departures
    pipes: Pipes
    handshakes: Handshakes
    limits: Limits
    ledger: Ledger
    """What rate limits have counted."""
    own_ports: frozenset[int]
    """The proxy's listeners: a connection that was going to one of them is refused, or it would come back for ever."""
    tproxy_inbound: bool = False
    parser: HeadParser = H11
    """What reads HTTP/1."""
    engine: type[Engine] = OwnEngine
    """What keeps HTTP/2's account."""
    identities: IdentityStore | None = None
    """None for a workload that has no identity: it proves nothing, and takes nobody's proof."""

    request_ids: RequestIds = field(default_factory=RequestIds)

    def turning_away(self) -> Self:
        """Return the same collaborators, of whom none carries a request."""
        return replace(self, pipelines=self.overflow)
