"""The ports that the proxy listens on, and the user that it runs as."""

from dataclasses import dataclass

PROXY_UID = 1337
"""Its user and its group: what runs as either is not captured."""


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
