"""What a `DestinationRule` says of connections to a port or a subset, in the words of those who carry it out."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from tproxy.model.cluster import UNBOUNDED, Bounds, HashKey, HashOn
from tproxy.policy.schema import (
    ClientTls,
    ConnectionPool,
    ConsistentHash,
    LoadBalancer,
    OutlierDetection,
    PortTrafficPolicy,
    SimpleLoadBalancer,
    TrafficPolicy,
    Warmup,
)
from tproxy.policy.units import duration
from tproxy.resilience.balance import Algorithm, BalancerSpec, SlowStart
from tproxy.resilience.outlier import OutlierSpec
from tproxy.resilience.retry_budget import RetryBudgetSpec

_ALGORITHMS = {
    SimpleLoadBalancer.UNSPECIFIED: Algorithm.LEAST_REQUEST,
    SimpleLoadBalancer.LEAST_REQUEST: Algorithm.LEAST_REQUEST,
    SimpleLoadBalancer.LEAST_CONN: Algorithm.LEAST_REQUEST,
    SimpleLoadBalancer.ROUND_ROBIN: Algorithm.ROUND_ROBIN,
    SimpleLoadBalancer.RANDOM: Algorithm.RANDOM,
    SimpleLoadBalancer.PASSTHROUGH: Algorithm.LEAST_REQUEST,
}
WARMED = (Algorithm.LEAST_REQUEST, Algorithm.ROUND_ROBIN)
"""Whom slow start makes a difference to, as in Envoy."""


@dataclass(frozen=True, slots=True)
class Balancing:
    """How the endpoint of a request is chosen."""

    balancer: BalancerSpec = field(default_factory=BalancerSpec)
    hash_key: HashKey | None = None
    passthrough: bool = False
    """Whether none is: the connection goes where it was going."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Its parts; None for one of which nothing is said."""

    tls: ClientTls | None = None
    balancing: Balancing | None = None
    bounds: Bounds | None = None
    outlier: OutlierSpec | None = None
    retry_budget: RetryBudgetSpec | None = None

    @property
    def at_any_address(self) -> bool:
        """Whether something is said that holds where no endpoint is chosen, besides TLS."""
        return any(each is not None for each in (self.bounds, self.outlier, self.retry_budget))

    def over(self, others: "Settings") -> "Settings":
        """Let these stand in place of others, part by part."""
        parts = (each.name for each in fields(self))
        return Settings(
            *(getattr(self if getattr(self, part) is not None else others, part) for part in parts)
        )


NOTHING = Settings()


def settings(policy: TrafficPolicy | PortTrafficPolicy) -> Settings:
    """Read what is sound."""
    pool, outlier, budget = policy.connection_pool, policy.outlier_detection, policy.retry_budget
    return Settings(
        policy.tls,
        _balancing(policy.load_balancer) if policy.load_balancer else None,
        _bounds(pool) if pool else None,
        _outlier(outlier) if outlier else None,
        RetryBudgetSpec(percent=budget.percent) if budget else None,
    )


def warmup(spec: LoadBalancer) -> Warmup | None:
    """Return what is said of endpoints that joined a moment ago, in whichever form."""
    if spec.warmup is None and spec.warmup_duration_secs is not None:
        return Warmup(spec.warmup_duration_secs)
    return spec.warmup


def algorithm(spec: LoadBalancer) -> Algorithm:
    """Return how endpoints are chosen."""
    if spec.consistent_hash is not None:
        return Algorithm.RING_HASH
    return _ALGORITHMS[spec.simple or SimpleLoadBalancer.UNSPECIFIED]


def _balancing(spec: LoadBalancer) -> Balancing:
    warm, hashed = warmup(spec), spec.consistent_hash
    slow_start = SlowStart(duration(warm.duration), warm.minimum_percent) if warm else None
    balancer = BalancerSpec(algorithm(spec), slow_start)
    if hashed is None:
        return Balancing(balancer, passthrough=spec.simple is SimpleLoadBalancer.PASSTHROUGH)
    size = BalancerSpec().min_ring_size
    if hashed.minimum_ring_size is not None:
        size = hashed.minimum_ring_size
    if hashed.ring_hash is not None:
        size = hashed.ring_hash.minimum_ring_size
    ringed = BalancerSpec(Algorithm.RING_HASH, slow_start, min_ring_size=size)
    return Balancing(ringed, _hash_key(hashed))


def hashed_by(spec: ConsistentHash) -> list[str]:
    """Name the fields that say what is hashed: in a sound one it is one."""
    said = {
        "httpHeaderName": spec.http_header_name is not None,
        "httpCookie": spec.http_cookie is not None,
        "useSourceIp": spec.use_source_ip,
        "httpQueryParameterName": spec.http_query_parameter_name is not None,
    }
    return [name for name, given in said.items() if given]


def _hash_key(spec: ConsistentHash) -> HashKey:
    if spec.http_header_name is not None:
        return HashKey(HashOn.HEADER, spec.http_header_name.lower())
    if spec.http_cookie is not None:
        cookie = spec.http_cookie
        seconds = None if cookie.ttl is None else duration(cookie.ttl)
        return HashKey(HashOn.COOKIE, cookie.name, seconds, cookie.path)
    if spec.http_query_parameter_name is not None:
        return HashKey(HashOn.QUERY, spec.http_query_parameter_name)
    return HashKey(HashOn.SOURCE_IP)


def _bounds(pool: ConnectionPool) -> Bounds:
    tcp, http = pool.tcp, pool.http
    return Bounds(
        connections=tcp.max_connections or UNBOUNDED,
        pending=http.http1_max_pending_requests or UNBOUNDED,
        requests=http.http2_max_requests or UNBOUNDED,
        retries=http.max_retries or UNBOUNDED,
        requests_per_connection=http.max_requests_per_connection or 0,
        connect_seconds=duration(tcp.connect_timeout) if tcp.connect_timeout else 0.0,
        idle_seconds=duration(http.idle_timeout) if http.idle_timeout else 0.0,
    )


def _outlier(spec: OutlierDetection) -> OutlierSpec:
    return OutlierSpec(
        consecutive_5xx_errors=spec.consecutive5xx_errors,
        consecutive_gateway_errors=spec.consecutive_gateway_errors,
        split_external_local_origin_errors=spec.split_external_local_origin_errors,
        consecutive_local_origin_failures=spec.consecutive_local_origin_failures,
        interval=duration(spec.interval),
        base_ejection_time=duration(spec.base_ejection_time),
        max_ejection_percent=spec.max_ejection_percent,
        min_health_percent=spec.min_health_percent,
    )


Word = str | int
Mistake = tuple[tuple[Word, ...], str]
"""Where it is below a policy, and what is wrong."""


def bad_values(policy: TrafficPolicy | PortTrafficPolicy) -> Iterator[Mistake]:
    """Find what has no meaning."""
    for path, text, zero in _durations(policy):
        try:
            seconds = duration(text)
        except ValueError as error:
            yield path, str(error)
            continue
        if seconds == 0 and not zero:
            yield path, f"{text!r} is no time at all: write a longer one, or leave the field out"


def _durations(
    policy: TrafficPolicy | PortTrafficPolicy,
) -> Iterator[tuple[tuple[Word, ...], str, bool]]:
    """Give each duration, where it is, and whether it may be 0."""
    balancer, pool = policy.load_balancer, policy.connection_pool
    outlier = policy.outlier_detection
    if balancer is not None:
        yield from _balancer_durations(balancer)
    if pool is not None:
        for path, text in (
            (("tcp", "connectTimeout"), pool.tcp.connect_timeout),
            (("http", "idleTimeout"), pool.http.idle_timeout),
        ):
            if text is not None:
                yield ("connectionPool", *path), text, False
    if outlier is not None:
        yield ("outlierDetection", "interval"), outlier.interval, False
        yield ("outlierDetection", "baseEjectionTime"), outlier.base_ejection_time, False


def _balancer_durations(spec: LoadBalancer) -> Iterator[tuple[tuple[Word, ...], str, bool]]:
    if spec.warmup is not None:
        yield ("loadBalancer", "warmup", "duration"), spec.warmup.duration, False
    if spec.warmup_duration_secs is not None:
        yield ("loadBalancer", "warmupDurationSecs"), spec.warmup_duration_secs, False
    cookie = spec.consistent_hash.http_cookie if spec.consistent_hash else None
    if cookie is not None and cookie.ttl is not None:
        yield ("loadBalancer", "consistentHash", "httpCookie", "ttl"), cookie.ttl, True


def conflicts(policy: TrafficPolicy | PortTrafficPolicy) -> Iterator[Mistake]:
    """Find what cannot hold at once."""
    spec = policy.load_balancer
    if spec is None:
        return
    if spec.simple is not None and spec.consistent_hash is not None:
        yield ("loadBalancer",), "simple and consistentHash choose endpoints both: leave one out"
    if spec.warmup is not None and spec.warmup_duration_secs is not None:
        yield ("loadBalancer", "warmupDurationSecs"), "is said by warmup too: leave this one out"
    if spec.consistent_hash is not None and len(hashed_by(spec.consistent_hash)) != 1:
        names = "httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName"
        yield ("loadBalancer", "consistentHash"), f"needs one of {names}"


def idle_words(policy: TrafficPolicy | PortTrafficPolicy) -> Iterator[Mistake]:
    """Find what is sound and changes nothing."""
    spec = policy.load_balancer
    if spec is not None and warmup(spec) is not None and algorithm(spec) not in WARMED:
        field = "warmup" if spec.warmup is not None else "warmupDurationSecs"
        yield ("loadBalancer", field), "changes nothing but with ROUND_ROBIN and LEAST_REQUEST"
