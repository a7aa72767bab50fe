"""Everything that is fixed for the life of the process: what `tproxy run`'s options and `TPROXY_*` say."""

from dataclasses import dataclass, field
from pathlib import Path

from tproxy.model.identity import Workload
from tproxy.model.limits import Limits


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the proxy listens: Istio's numbers, so that scrape configurations and network policies carry over."""

    outbound: int = 15001
    """Connections from the application; on loopback, where REDIRECT in OUTPUT sends them."""
    inbound: int = 15006
    """Connections to the application; on every address, since REDIRECT keeps the interface's own."""
    admin: int = 15000
    """On loopback: it can stop the proxy."""
    metrics: int = 15020
    health: int = 15021

    def all(self) -> frozenset[int]:
        """Return every one: nothing that was going to these is ever dialled."""
        return frozenset((self.outbound, self.inbound, self.admin, self.metrics, self.health))


@dataclass(frozen=True, slots=True)
class User:
    """Whom the process becomes once its listeners are open."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Settings:
    """The process's own configuration; policies are not part of it, they change while it runs."""

    ports: Ports = field(default_factory=Ports)
    policies: Path | None = None
    """The directory of policy files; without one, everything is carried and nothing is declared."""
    workload: Workload = field(default_factory=Workload)
    user: User | None = None
    tproxy_inbound: bool = False
    """The capture uses TPROXY for inbound connections: the original destination is the socket's own address."""
    limits: Limits = field(default_factory=Limits)
