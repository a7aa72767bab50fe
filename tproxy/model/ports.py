"""The ports that the proxy listens on."""

from dataclasses import dataclass


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
