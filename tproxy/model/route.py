"""Which way a request or a connection goes."""

from dataclasses import dataclass

from tproxy.model.flow import Protocol


@dataclass(frozen=True, slots=True)
class Route:
    """A named way to a cluster; without traffic policies the cluster is the original destination itself."""

    name: str
    cluster: str
    """As access logs and statistics name it: `inbound|8080||`, `PassthroughCluster`."""
    protocol: Protocol | None = None
    """The HTTP version that the upstream is asked in; None: the one that the downstream speaks."""
