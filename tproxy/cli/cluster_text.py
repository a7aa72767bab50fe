"""A cluster for people: who would answer, how one is chosen, and what is bounded."""

from collections.abc import Iterator

from tproxy.policy.explain_cluster import PASSTHROUGH, ClusterAccount, EndpointAccount

MOST_SHOWN = 20
"""Endpoints that are listed: more say nothing more."""

_WHERE = {
    "STATIC": "as policies name them",
    "DNS": "that these names lead to",
    "DNS_ROUND_ROBIN": "the first that this name leads to at the time",
    PASSTHROUGH: "the address that is dialled",
}


def cluster_text(cluster: ClusterAccount) -> Iterator[str]:
    """Write all of it, line by line."""
    labels = ", ".join(f"{key}={value}" for key, value in cluster.labels.items())
    wanted = f" with {labels}" if labels else ""
    yield f"  endpoints{wanted}: {_where(cluster)}"
    for each in cluster.endpoints[:MOST_SHOWN]:
        yield f"    {_endpoint(each)}"
    if len(cluster.endpoints) > MOST_SHOWN:
        yield f"    and {len(cluster.endpoints) - MOST_SHOWN} more"
    if cluster.origin != PASSTHROUGH:
        yield f"  balancer: {cluster.balancer}"
    if cluster.bounds:
        said = (f"{name} {value:g}" for name, value in cluster.bounds.items())
        yield f"  bounds: {', '.join(said)}"
    if cluster.outlier:
        yield f"  outlier detection: {cluster.outlier}"
    if cluster.breaker:
        yield f"  breaker: {cluster.breaker}"
    yield f"  retry budget: {cluster.retry_budget}"


def _where(cluster: ClusterAccount) -> str:
    nobody = cluster.origin != PASSTHROUGH and not cluster.endpoints
    return "none, so it is answered with 503" if nobody else _WHERE[cluster.origin]


def _endpoint(each: EndpointAccount) -> str:
    words = [each.at]
    if each.weight != 1:
        words.append(f"weight {each.weight}")
    words.extend(f"{key}={value}" for key, value in each.labels.items())
    if each.locality:
        words.append(f"in {each.locality}")
    words.append("no TLS of ours" if each.tls == "DISABLE" else f"TLS {each.tls}")
    if each.expected:
        words.append(f"as {' or '.join(each.expected)}")
    return ", ".join(words)
