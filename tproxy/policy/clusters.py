"""Which services there are, and the clusters of endpoints that answer for them."""

from dataclasses import dataclass

from tproxy.model.address import Address
from tproxy.model.cluster import Cluster, Dns, DnsName, cluster_name


@dataclass(frozen=True, slots=True)
class Service:
    """A host at a port of its, as policies know it."""

    host: str
    """Complete: `reviews.default.svc.cluster.local`."""
    port: int
    """The service's number, which endpoints may number otherwise."""


class ClusterBook:
    """All services that policies name, and how each is reached."""

    def service(self, to: Address, asked: str) -> Service | None:  # noqa: ARG002
        """Tell which service a connection to `to` means whose request or ClientHello asks for a name, or for none.

        A name decides where there is one that is known, else the address. None: nobody knows.
        """
        return None

    def cluster(self, host: str, port: int, subset: str = "") -> Cluster:
        """Return what answers for a host; one that no ServiceEntry names is looked up."""
        origin = Dns((DnsName(host, port),))
        name = cluster_name(port, host, subset)
        return Cluster(name=name, host=host, port=port, subset=subset, origin=origin)

    def knows(self, host: str) -> bool:  # noqa: ARG002
        """Whether a ServiceEntry names a host."""
        return False

    def ports(self, host: str) -> tuple[int, ...]:  # noqa: ARG002
        """Return the numbers of a host's ports, as the service has them."""
        return ()

    def subsets(self, host: str) -> frozenset[str]:  # noqa: ARG002
        """Return the names of the subsets that a DestinationRule defines for a host."""
        return frozenset()
