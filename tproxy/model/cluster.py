"""A named group of endpoints that answer for one host, as policies describe it."""

from enum import StrEnum

import msgspec

from tproxy.model.address import Address
from tproxy.model.upstream_tls import UpstreamTls
from tproxy.resilience.balance import BalancerSpec
from tproxy.resilience.breaker import BreakerSpec
from tproxy.resilience.outlier import OutlierSpec
from tproxy.resilience.retry_budget import RetryBudgetSpec

Labels = tuple[tuple[str, str], ...]
"""Names and values, in the order of the names."""

UNBOUNDED = 2**32 - 1
"""Istio's word for no bound."""


class Endpoint(msgspec.Struct, frozen=True, cache_hash=True):
    """One instance of a service."""

    address: Address
    weight: int = 1
    labels: Labels = ()
    locality: str = ""
    tls: UpstreamTls | None = None
    """How connections to it are secured; None: what is carried goes as it is."""


class DnsName(msgspec.Struct, frozen=True, cache_hash=True):
    """A name under which endpoints are found; what is said of it is said of each of them."""

    name: str
    """One that begins with `_` is asked for SRV, and says port and weight itself."""
    port: int
    weight: int = 1
    labels: Labels = ()
    locality: str = ""
    tls: UpstreamTls | None = None

    def at(self, address: Address, weight: int | None = None) -> Endpoint:
        """Describe an endpoint that was found under the name."""
        weight = self.weight if weight is None else weight
        return Endpoint(address, weight, self.labels, self.locality, self.tls)


class Static(msgspec.Struct, frozen=True, cache_hash=True):
    """Endpoints that files name."""

    endpoints: tuple[Endpoint, ...]


class Dns(msgspec.Struct, frozen=True, cache_hash=True):
    """Endpoints that names lead to."""

    names: tuple[DnsName, ...]
    first_only: bool = False
    """Whether only the first address of an answer is used, for whoever rotates them (DNS_ROUND_ROBIN)."""


Origin = Static | Dns
"""Where endpoints come from."""


class HashOn(StrEnum):
    """What of a request decides on its endpoint."""

    HEADER = "header"
    COOKIE = "cookie"
    SOURCE_IP = "source_ip"
    QUERY = "query"


class HashKey(msgspec.Struct, frozen=True, cache_hash=True):
    """What requests must have alike to meet the same endpoint."""

    on: HashOn
    name: str = ""
    """Of the header (in lower case), cookie or query parameter."""
    cookie_seconds: float | None = None
    """How long a cookie lasts that is set where there is none; 0: as long as the session; None: none is set."""
    cookie_path: str = ""


class Bounds(msgspec.Struct, frozen=True, cache_hash=True):
    """What a cluster may have at once, in each worker."""

    connections: int = UNBOUNDED
    pending: int = UNBOUNDED
    """Requests that wait for a connection."""
    requests: int = UNBOUNDED
    retries: int = UNBOUNDED
    requests_per_connection: int = 0
    """0: no bound."""
    connect_seconds: float = 0.0
    """How long to dial; 0: what holds for all."""
    idle_seconds: float = 0.0
    """How long an HTTP connection that nobody uses is kept; 0: what holds for all."""


class Cluster(msgspec.Struct, frozen=True, cache_hash=True, kw_only=True):
    """One host's endpoints at a port, or a subset of them, and how they are used."""

    name: str
    """`outbound|9080|v1|reviews.default.svc.cluster.local`."""
    host: str
    port: int
    """The service's."""
    subset: str = ""
    wanted: Labels = ()
    """What the subset's endpoints are labelled with."""
    origin: Origin | None = None
    """None: the original destination itself, whatever it is (PASSTHROUGH)."""
    tls: UpstreamTls | None = None
    """How the original destination is secured."""
    balancer: BalancerSpec = BalancerSpec()
    hash_key: HashKey | None = None
    """For RING_HASH."""
    bounds: Bounds = Bounds()
    outlier: OutlierSpec | None = None
    breaker: BreakerSpec | None = None
    retry_budget: RetryBudgetSpec = RetryBudgetSpec()

    def has(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint of the host belongs to the subset."""
        return not self.wanted or set(self.wanted) <= set(endpoint.labels)


def cluster_name(port: int, host: str, subset: str = "", *, where: str = "outbound") -> str:
    """Write a cluster's name as Istio does."""
    return f"{where}|{port}|{subset}|{host}"
