"""Who would answer for a cluster and how one of them would be chosen, in a form that travels."""

from collections.abc import Iterator

import msgspec

from tproxy.model.cluster import (
    UNBOUNDED,
    Bounds,
    Cluster,
    Dns,
    DnsName,
    Endpoint,
    HashKey,
    Labels,
    Static,
)
from tproxy.model.upstream_tls import UpstreamTls
from tproxy.policy.schema import TlsModeName
from tproxy.resilience.balance import Algorithm, BalancerSpec
from tproxy.resilience.breaker import BreakerSpec, ConsecutiveFailures
from tproxy.resilience.outlier import OutlierSpec
from tproxy.resilience.retry_budget import RetryBudgetSpec

PASSTHROUGH = "PASSTHROUGH"
"""Where no endpoint is chosen: the address that was dialled."""


class EndpointAccount(msgspec.Struct, frozen=True):
    """An endpoint, or a name under which there are some."""

    at: str
    weight: int
    labels: dict[str, str]
    locality: str
    tls: str
    """`DISABLE` where what is carried goes as it is."""
    expected: tuple[str, ...]
    """Who may answer; empty: as the mode has it."""


class ClusterAccount(msgspec.Struct, frozen=True):
    """A cluster, as policies describe it."""

    name: str
    host: str
    port: int
    subset: str
    labels: dict[str, str]
    """What the subset's endpoints are labelled with."""
    origin: str
    """`STATIC`, `DNS`, `DNS_ROUND_ROBIN` or `PASSTHROUGH`."""
    endpoints: tuple[EndpointAccount, ...]
    balancer: str
    """`LEAST_REQUEST`, `RING_HASH by header x-user`."""
    bounds: dict[str, float]
    """What is bounded, by names, and how far; nothing else is."""
    outlier: str | None
    breaker: str | None
    retry_budget: str


def cluster_account(cluster: Cluster) -> ClusterAccount:
    """Describe a cluster."""
    return ClusterAccount(
        cluster.name,
        cluster.host,
        cluster.port,
        cluster.subset,
        dict(cluster.wanted),
        origin_text(cluster),
        tuple(_endpoints(cluster)),
        balancer_text(cluster),
        _bounds(cluster.bounds),
        _outlier(cluster.outlier) if cluster.outlier else None,
        _breaker(cluster.breaker) if cluster.breaker else None,
        _budget(cluster.retry_budget),
    )


def origin_text(cluster: Cluster) -> str:
    """Name where endpoints come from."""
    match cluster.origin:
        case Static():
            return "STATIC"
        case Dns(first_only=first_only):
            return "DNS_ROUND_ROBIN" if first_only else "DNS"
    return PASSTHROUGH


def _endpoints(cluster: Cluster) -> Iterator[EndpointAccount]:
    found: tuple[Endpoint, ...] | tuple[DnsName, ...] = ()
    match cluster.origin:
        case Static(endpoints=endpoints):
            found = endpoints
        case Dns(names=names):
            found = names
    for each in found:
        if set(cluster.wanted) <= set(each.labels):
            yield _endpoint(each)


def _endpoint(each: Endpoint | DnsName) -> EndpointAccount:
    at = str(each.address) if isinstance(each, Endpoint) else f"{each.name}:{each.port}"
    return EndpointAccount(
        at, each.weight, _labels(each.labels), each.locality, _mode(each.tls), _expected(each.tls)
    )


def _labels(labels: Labels) -> dict[str, str]:
    return dict(labels)


def _mode(tls: UpstreamTls | None) -> str:
    return TlsModeName.DISABLE.value if tls is None else tls.mode.value


def _expected(tls: UpstreamTls | None) -> tuple[str, ...]:
    return () if tls is None else tls.subject_alt_names


def balancer_text(cluster: Cluster) -> str:
    """Name how one of them is chosen."""
    spec, key = cluster.balancer, cluster.hash_key
    if cluster.origin is None:
        return PASSTHROUGH
    said = spec.algorithm.value
    if spec.algorithm is Algorithm.RING_HASH and key is not None:
        said = f"{said} by {_hashed(key)}"
    return ", ".join((said, *_more(spec)))


def _hashed(key: HashKey) -> str:
    return " ".join(filter(None, (key.on.value, key.name)))


def _more(spec: BalancerSpec) -> Iterator[str]:
    if spec.slow_start is not None:
        warm = spec.slow_start
        yield f"newcomers from {warm.min_percent:g} % within {warm.window:g} s"
    if spec.panic_percent:
        yield f"all of them with fewer than {spec.panic_percent:g} % healthy"


def _bounds(bounds: Bounds) -> dict[str, float]:
    said = msgspec.structs.asdict(bounds)
    return {name: value for name, value in said.items() if value not in (0, UNBOUNDED)}


def _outlier(spec: OutlierSpec) -> str:
    failures = [
        f"{count} {name}"
        for count, name in (
            (spec.consecutive_5xx_errors, "failures"),
            (spec.consecutive_gateway_errors, "gateway errors"),
            (_apart(spec), "failed connections"),
        )
        if count
    ]
    after = " or ".join(failures) or "nothing"
    times = f"{spec.base_ejection_time:g} s times the number of ejections"
    return (
        f"out after {after} in a row for {times}, at most {spec.max_ejection_percent:g} % at once"
    )


def _apart(spec: OutlierSpec) -> int:
    apart = spec.split_external_local_origin_errors
    return spec.consecutive_local_origin_failures if apart else 0


def _breaker(spec: BreakerSpec) -> str:
    penalty = f"for {spec.penalty.min:g} s, doubled up to {spec.penalty.max:g} s"
    if isinstance(spec.accrual, ConsecutiveFailures):
        return f"opens after {spec.accrual.max_failures} failures in a row {penalty}"
    rate = spec.accrual
    when = f"{rate.percent:g} % of at least {rate.min_requests} requests in {rate.window:g} s"
    return f"opens at failures of {when} {penalty}"


def _budget(spec: RetryBudgetSpec) -> str:
    share = f"{spec.percent:g} % of the requests of {spec.interval:g} s"
    return f"{share}, {spec.min_retries} in {spec.min_interval:g} s always"
