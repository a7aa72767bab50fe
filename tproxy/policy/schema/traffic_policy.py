"""The forms of what a `DestinationRule` says beside TLS: how endpoints are chosen, bounded and taken out."""

from enum import StrEnum
from typing import Annotated

import msgspec

from tproxy.policy.schema.words import Form, Name

MOST_PLACES = 16_384
"""Places on the ring of a consistent hash: computing more would hold everything else up."""

Count = Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]
Times = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
RingSize = Annotated[int, msgspec.Meta(ge=1, le=MOST_PLACES)]


class SimpleLoadBalancer(StrEnum):
    """How the endpoint of a request is chosen."""

    UNSPECIFIED = "UNSPECIFIED"
    """As LEAST_REQUEST."""
    LEAST_REQUEST = "LEAST_REQUEST"
    """Of two drawn by weight, the one with fewer requests for its weight."""
    LEAST_CONN = "LEAST_CONN"
    """Istio's old name for LEAST_REQUEST."""
    ROUND_ROBIN = "ROUND_ROBIN"
    """In turn, as often as their weights say."""
    RANDOM = "RANDOM"
    """By lot, weighted."""
    PASSTHROUGH = "PASSTHROUGH"
    """The address that was dialled: no endpoint is chosen."""


class HttpCookie(Form, frozen=True):
    """A cookie that decides on the endpoint."""

    name: Name
    path: str = ""
    """Of the cookie that is set where there is none."""
    ttl: str | None = None
    """How long that one lasts: a duration, `0s` for as long as the session; without it none is set."""


class RingHash(Form, frozen=True):
    """The ring of a consistent hash."""

    minimum_ring_size: RingSize = 1024
    """Places on it: more spread load more evenly."""


class ConsistentHash(Form, frozen=True):
    """What requests have alike that are to meet the same endpoint: one of four."""

    http_header_name: Name | None = None
    http_cookie: HttpCookie | None = None
    use_source_ip: bool = False
    """The address of who asks, which is this pod's."""
    http_query_parameter_name: Name | None = None
    ring_hash: RingHash | None = None
    minimum_ring_size: RingSize | None = None
    """Istio's old place for that of `ringHash`."""


class Warmup(Form, frozen=True):
    """Endpoints that joined a moment ago get less, for ROUND_ROBIN and LEAST_REQUEST."""

    duration: str
    """How long it takes them to get as much as the others."""
    minimum_percent: Annotated[float, msgspec.Meta(gt=0, le=100)] = 10.0
    """What they get at least."""
    aggression: Annotated[float, msgspec.Meta(ge=1, le=1)] = 1.0
    """1: their share grows evenly."""


class LoadBalancer(Form, frozen=True):
    """How the endpoint of a request, or of a connection that is no HTTP, is chosen."""

    simple: SimpleLoadBalancer | None = None
    """Without it and without `consistentHash`, LEAST_REQUEST."""
    consistent_hash: ConsistentHash | None = None
    warmup: Warmup | None = None
    warmup_duration_secs: str | None = None
    """Istio's old form of `warmup`, a duration."""


class TcpPool(Form, frozen=True):
    """Connections to the destination."""

    max_connections: Count | None = None
    """At once, in each worker."""
    connect_timeout: str | None = None
    """How long to dial: a duration; without it, what holds for all."""


class HttpPool(Form, frozen=True):
    """Requests to the destination."""

    http1_max_pending_requests: Count | None = msgspec.field(
        default=None, name="http1MaxPendingRequests"
    )
    """Requests that wait for a connection at once, in each worker."""
    http2_max_requests: Count | None = msgspec.field(default=None, name="http2MaxRequests")
    """Requests at once, of every HTTP version, in each worker."""
    max_requests_per_connection: Times | None = None
    """Before a connection is closed; 0: no bound."""
    max_retries: Count | None = None
    """Retries at once, in each worker."""
    idle_timeout: str | None = None
    """How long a connection that nobody uses is kept: a duration; without it, what holds for all."""


class ConnectionPool(Form, frozen=True):
    """What the destination may have at once: beyond it, requests are answered with 503 and connections reset."""

    tcp: TcpPool = TcpPool()
    http: HttpPool = HttpPool()


class OutlierDetection(Form, frozen=True):
    """When an endpoint that fails gets nothing for a while."""

    consecutive5xx_errors: Times = msgspec.field(default=5, name="consecutive5xxErrors")
    """Failures in a row, connections that fail included; 0: however many."""
    consecutive_gateway_errors: Times = 0
    """Of 502, 503 and 504 alone, and of connections that fail; 0: however many."""
    split_external_local_origin_errors: bool = False
    """Whether connections that fail are counted by themselves, by `consecutiveLocalOriginFailures`."""
    consecutive_local_origin_failures: Times = 5
    interval: str = "10s"
    """How long an endpoint has to be back for one of its ejections to be forgotten: a duration."""
    base_ejection_time: str = "30s"
    """For the first ejection; the next takes twice as long, the one after three times."""
    max_ejection_percent: Percent = 10.0
    """Of the endpoints, that may be out at once: with 10, one of ten and none of nine."""
    min_health_percent: Percent = 0.0
    """With fewer healthy endpoints than this, all of them are used."""


class RetryBudget(Form, frozen=True):
    """How many retries there may be beside the requests."""

    percent: Percent = 20.0
    """Of the requests of ten seconds; ten retries a second are always allowed."""
