"""How the connection to an upstream would be secured, and why: the data path's own choice, where enough is known for it."""

from dataclasses import dataclass

from tproxy.model.cluster import Cluster, Static
from tproxy.model.flow import Direction, Protocol
from tproxy.policy.clusters import ClusterBook
from tproxy.policy.destinations import Choice, Destinations
from tproxy.policy.facts import DESTINATION_IP, HOST, Facts
from tproxy.policy.schema import TlsModeName

REQUEST = "request"
ENDPOINT = "endpoint"
_HTTP = (Protocol.HTTP1, Protocol.HTTP2)


@dataclass(frozen=True, slots=True)
class Securing:
    """How it would be."""

    choice: Choice
    missing: tuple[str, ...] = ()
    """Facts on which it depends, and that nobody knows: then nothing was chosen."""

    @property
    def mode(self) -> str:
        """Say it in a word."""
        if self.missing:
            return "UNDETERMINED"
        tls = self.choice.tls
        return TlsModeName.DISABLE.value if tls is None else tls.mode.value


def securing(destinations: Destinations | None, facts: Facts) -> Securing | None:
    """Say how the connection for a request would be secured; None for what comes in."""
    if facts.flow.direction is Direction.INBOUND:
        return None
    if destinations is None:
        return Securing(Choice())
    if DESTINATION_IP in facts.hidden and destinations.entries.by_network:
        return Securing(Choice(), (DESTINATION_IP,))
    choice = destinations.choice(facts.flow.original_dst, facts.head)
    if choice.entry is None and destinations.rules.some and (why := _nameless(facts)):
        return Securing(Choice(), (why,))
    return Securing(choice)


def at_endpoints(securing: Securing, cluster: Cluster, clusters: ClusterBook) -> Securing:
    """Say how connections to a cluster's endpoints are secured, where that is not said by the original destination."""
    origin, wanted = cluster.origin, set(cluster.wanted)
    if origin is None:
        return securing
    asked = origin.endpoints if isinstance(origin, Static) else origin.names
    found = {each.tls for each in asked if wanted <= set(each.labels)}
    if len(found) > 1:
        return Securing(Choice(), (ENDPOINT,))
    said, entry = clusters.said(cluster)
    hosts = entry.hosts if entry else (cluster.host,)
    return Securing(Choice(next(iter(found), None), hosts, said, entry))


def _nameless(facts: Facts) -> str | None:
    """Return what is not known of a request that would have a name."""
    if facts.head is None:
        return REQUEST if facts.flow.protocol in _HTTP else None
    return HOST if HOST in facts.hidden else None
