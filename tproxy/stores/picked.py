"""What is asked of one endpoint of a cluster, from its choice to its end."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from tproxy.model.address import Address
from tproxy.model.cluster import Endpoint
from tproxy.resilience.balance import Balancer
from tproxy.resilience.breaker import Breaker
from tproxy.resilience.outlier import OutlierDetection


@dataclass(slots=True, eq=False)
class Member:
    """An endpoint at work. What changes: what is said of it, what it is asked, and how that ended."""

    endpoint: Endpoint
    breaker: Breaker | None
    active: int = 0
    total: int = 0
    failed: int = 0
    relayed: int = 0
    """Connections to it that are carried as bytes."""


@dataclass(slots=True, eq=False)
class Load:
    """What a cluster carries, endpoints that have left it included. What changes: how much."""

    active: int = 0


class Judges(msgspec.Struct, frozen=True):
    """The machines that are asked for a choice, and told what became of it."""

    balancer: Balancer[Address] | None
    """None where there is no choice."""
    outlier: OutlierDetection[Address] | None
    load: Load
    look: Callable[[Member, Breaker], None]
    """Told of a breaker whose state may be another one."""


class Picked:
    """One request or connection of an endpoint's. What changes: whether it was judged, and whether it is over.

    Each is judged once at most, and is over once, whoever says so again.
    """

    __slots__ = (
        "_breaker",
        "_judged",
        "_judges",
        "_member",
        "_over",
        "_relayed",
        "_term",
        "endpoint",
    )

    def __init__(self, member: Member, judges: Judges, term: int) -> None:
        self.endpoint = member.endpoint
        self._member = member
        self._judges = judges
        self._breaker = member.breaker
        self._term = term
        self._judged = False
        self._over = False
        self._relayed = 0
        member.active += 1
        member.total += 1
        judges.load.active += 1

    @property
    def probes(self) -> bool:
        """Whether a breaker waits to hear of it before it lets more pass."""
        return self._breaker is not None and not self._breaker.closed

    def answered(self, status: int, now: float) -> None:
        """Take the HTTP status that came."""
        if self._first():
            if self._judges.outlier:
                self._judges.outlier.answered(self.endpoint.address, status, now)
            self._tell_breaker(now, failed=status >= 500)

    def connected(self, now: float) -> None:
        """Take it that a connection carried as bytes has come."""
        self._relayed = 1
        self._member.relayed += 1
        if self._first():
            if self._judges.outlier:
                self._judges.outlier.connected(self.endpoint.address)
            self._tell_breaker(now, failed=False)

    def unreachable(self, now: float) -> None:
        """Take it that the endpoint could not be asked, gave no answer in time, or broke off."""
        if self._first():
            if self._judges.outlier:
                self._judges.outlier.unreachable(self.endpoint.address, now)
            self._tell_breaker(now, failed=True)

    def done(self) -> None:
        """End it; without a judgement nobody has learnt anything of the endpoint."""
        if self._over:
            return
        self._over = True
        if self._first() and self._breaker:
            self._breaker.abandoned(self._term)
            self._judges.look(self._member, self._breaker)
        self._member.active -= 1
        self._member.relayed -= self._relayed
        self._judges.load.active -= 1
        if self._judges.balancer:
            self._judges.balancer.done(self.endpoint.address)

    def _first(self) -> bool:
        first, self._judged = not self._judged, True
        return first

    def _tell_breaker(self, now: float, *, failed: bool) -> None:
        self._member.failed += failed
        breaker = self._breaker
        if breaker is not None:
            (breaker.failed if failed else breaker.succeeded)(self._term, now)
            self._judges.look(self._member, breaker)
