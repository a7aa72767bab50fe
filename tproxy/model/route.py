"""Which way a request or a connection goes."""

from dataclasses import dataclass

from tproxy.model.flow import Protocol
from tproxy.model.upstream_tls import UpstreamTls


@dataclass(frozen=True, slots=True)
class Route:
    """A named way to a cluster; without traffic policies the cluster is the original destination itself."""

    name: str
    cluster: str
    """As access logs and statistics name it: `inbound|8080||`, `PassthroughCluster`."""
    protocol: Protocol | None = None
    """The HTTP version that the upstream is asked in; None: the one that the downstream speaks."""
    tls: UpstreamTls | None = None
    """How the connection to the upstream is secured; None: as what is carried is, without TLS of ours."""
