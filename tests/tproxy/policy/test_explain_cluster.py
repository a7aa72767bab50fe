"""Who would answer is told to people and to scripts, with what is bounded."""

import click
import msgspec
import pytest

from fakes.destinations import (
    IN_MESH,
    OTHER,
    POD,
    SIDECAR,
    STORE,
    TILL,
    UNNAMED,
    entry,
    rule,
    secured,
    snapshot,
)
from tproxy.cli.account_text import account_text
from tproxy.cli.cluster_text import MOST_SHOWN, cluster_text
from tproxy.model.cluster import Cluster
from tproxy.model.flow import Direction
from tproxy.policy.account import account
from tproxy.policy.explain import Examiner
from tproxy.policy.explain_cluster import ClusterAccount, EndpointAccount, cluster_account
from tproxy.policy.facts import facts_of
from tproxy.policy.schema import CaseRequest
from tproxy.policy.snapshot import Snapshot
from tproxy.policy.traffic import Traffic

HTTP = "ports: [{number: 80, name: http}]"
PAIR = entry(
    f"hosts: [store], {IN_MESH}, {HTTP}, endpoints: [{{address: {POD}, serviceAccount: till, {SIDECAR}}},"
    f" {{address: {OTHER}, weight: 3, locality: eu/a, labels: {{version: v2}}}}]"
)
RULE = rule(
    f"host: {STORE}, trafficPolicy: {{"
    " loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 30s}},"
    " connectionPool: {tcp: {maxConnections: 8, connectTimeout: 500ms}, http: {http1MaxPendingRequests: 4}},"
    " outlierDetection: {consecutiveGatewayErrors: 2, maxEjectionPercent: 50, minHealthPercent: 30,"
    " splitExternalLocalOriginErrors: true}},"
    " subsets: [{name: v2, labels: {version: v2}},"
    " {name: v3, labels: {version: v3}, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 0}}},"
    " {name: hashed, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: X-User}}}}]"
)


def resilient(breaker: str) -> str:
    """A policy that says when a breaker opens."""
    return (
        "apiVersion: tproxy.io/v1alpha1\nkind: ResiliencePolicy\nmetadata: {name: p, namespace: web}\n"
        f"spec: {{host: {STORE}, breaker: {breaker}}}\n"
    )


def cluster(*documents: str, host: str = STORE, subset: str = "") -> Cluster:
    """What answers for a host."""
    traffic = snapshot(*documents).traffic
    assert isinstance(traffic, Traffic)
    return traffic.clusters.cluster(host, 80, subset)


def lines(*documents: str, host: str = STORE, subset: str = "") -> list[str]:
    """What people are told of it."""
    return list(cluster_text(cluster_account(cluster(*documents, host=host, subset=subset))))


BUDGET = "  retry budget: 20 % of the requests of 10 s, 10 in 1 s always"
MESHED = f"    {POD}:80, security.istio.io/tlsMode=istio, TLS ISTIO_MUTUAL, as {TILL}"
SECOND = f"    {OTHER}:80, weight 3, version=v2, in eu/a, no TLS of ours"
TURNS = "  balancer: ROUND_ROBIN, newcomers from 10 % within 30 s, all of them with fewer than 30 % healthy"
BOUNDED = "  bounds: connections 8, pending 4, connect_seconds 0.5"
OUT = "in a row for 30 s times the number of ejections, at most"


@pytest.mark.parametrize(
    ("documents", "host", "subset", "expected"),
    [
        pytest.param([PAIR], STORE, "", ["  endpoints: as policies name them", MESHED, SECOND, "  balancer: LEAST_REQUEST", BUDGET], id="endpoints"),
        pytest.param([PAIR, RULE], STORE, "v2", ["  endpoints with version=v2: as policies name them", SECOND, TURNS, BOUNDED, f"  outlier detection: out after 5 failures or 2 gateway errors or 5 failed connections {OUT} 50 % at once", BUDGET], id="a subset"),
        pytest.param([PAIR, RULE], STORE, "v3", ["  endpoints with version=v3: none, so it is answered with 503", "  balancer: ROUND_ROBIN, newcomers from 10 % within 30 s", BOUNDED, f"  outlier detection: out after nothing {OUT} 10 % at once", BUDGET], id="nobody"),
        pytest.param([PAIR, RULE, resilient("{}")], STORE, "hashed", ["  endpoints: as policies name them", MESHED, SECOND, "  balancer: RING_HASH by header x-user, all of them with fewer than 30 % healthy", BOUNDED, f"  outlier detection: out after 5 failures or 2 gateway errors or 5 failed connections {OUT} 50 % at once", "  breaker: opens after 7 failures in a row for 1 s, doubled up to 60 s", BUDGET], id="a hash and a breaker"),
        pytest.param([PAIR, resilient("{failureRate: {}}")], "b.example", "", ["  endpoints: that these names lead to", "    b.example:80, no TLS of ours", "  balancer: LEAST_REQUEST", BUDGET], id="a name"),
        pytest.param([entry(f"hosts: [a.example], resolution: DNS_ROUND_ROBIN, {HTTP}")], "a.example", "", ["  endpoints: the first that this name leads to at the time", "    a.example:80, no TLS of ours", "  balancer: LEAST_REQUEST", BUDGET], id="names in turn"),
        pytest.param([entry(f"hosts: [a.example], {HTTP}")], "a.example", "", ["  endpoints: the address that is dialled", BUDGET], id="where it was going"),
        pytest.param([PAIR, resilient("{failureRate: {}, penalty: {max: 5s}}")], STORE, "", ["  endpoints: as policies name them", MESHED, SECOND, "  balancer: LEAST_REQUEST", "  breaker: opens at failures of 50 % of at least 20 requests in 10 s for 1 s, doubled up to 5 s", BUDGET], id="a rate"),
    ],
)  # fmt: skip
def test_people_are_told_who_would_answer(
    documents: list[str], host: str, subset: str, expected: list[str]
) -> None:
    assert lines(*documents, host=host, subset=subset) == expected


def test_of_many_endpoints_some_are_listed() -> None:
    many = ", ".join(f"{{address: 198.51.100.{number}}}" for number in range(MOST_SHOWN + 2))
    told = lines(entry(f"hosts: [store], {IN_MESH}, {HTTP}, endpoints: [{many}]"))
    assert told[MOST_SHOWN] == f"    198.51.100.{MOST_SHOWN - 1}:80, no TLS of ours"
    assert told[MOST_SHOWN + 1] == "    and 2 more"


def test_scripts_are_told_too() -> None:
    account = cluster_account(cluster(PAIR, subset=""))
    assert msgspec.convert(msgspec.to_builtins(account), ClusterAccount) == account
    assert (account.origin, account.balancer, account.bounds) == ("STATIC", "LEAST_REQUEST", {})
    assert account.endpoints[1] == EndpointAccount(
        f"{OTHER}:80", 3, {"version": "v2"}, "eu/a", "DISABLE", ()
    )
    dialled = cluster_account(cluster(entry(f"hosts: [a.example], {HTTP}"), host="a.example"))
    assert (dialled.origin, dialled.balancer, dialled.endpoints) == ("PASSTHROUGH", "PASSTHROUGH", ())  # fmt: skip


def explained(policies: Snapshot, host: str, to: str | None = None) -> list[str]:
    """What people are told of a request that leaves, from who would answer on."""
    facts = facts_of(CaseRequest(port=80, host=host, destination_ip=to), Direction.OUTBOUND)
    text = click.unstyle(account_text(account(Examiner(policies).explain(facts))))
    return [line.strip() for line in text.splitlines()[4:]]


SAME = entry(
    f"hosts: [store], {IN_MESH}, {HTTP}, endpoints: [{{address: {POD}, serviceAccount: till, {SIDECAR}}}]"
)
NAMED = f"to: {STORE}, named by db/e (p.yaml:1)"
WHO = (f"asks for: {STORE}", f"accepts: {TILL}")


@pytest.mark.parametrize(
    ("documents", "to", "lines"),
    [
        pytest.param([SAME], None, [NAMED, "TLS: ISTIO_MUTUAL, automatic: a sidecar answers there", *WHO], id="whose address nobody knows"),
        pytest.param([SAME, secured(STORE, "mode: ISTIO_MUTUAL")], UNNAMED, [NAMED, "TLS: ISTIO_MUTUAL, as web/r (p.yaml:9) says", *WHO], id="at the address of nobody"),
        pytest.param([PAIR], UNNAMED, ["TLS: it depends on what is not known: endpoint"], id="whose endpoints are unlike"),
    ],
)  # fmt: skip
def test_a_request_for_a_service_is_told_with_who_would_answer_it(
    documents: list[str], to: str | None, lines: list[str]
) -> None:
    policies = snapshot(*documents)
    who = cluster_text(cluster_account(cluster(*documents)))
    retried = "retries: 2 on connect-failure, reset-before-request"
    expected = [f"cluster: outbound|80||{STORE}", retried, *map(str.strip, who), *lines]
    assert explained(policies, STORE, to) == expected


@pytest.mark.parametrize(
    ("resolution", "lines"),
    [
        pytest.param("DNS", ["to: a.example, named by db/e (p.yaml:1)", "TLS: SIMPLE, as web/r (p.yaml:9) says", "asks for: a.example", "accepts: a.example"], id="names that are looked up"),
        pytest.param("NONE", ["to: a.example", "TLS: SIMPLE, as web/r (p.yaml:9) says", "asks for: a.example", "accepts: a.example"], id="the address that is dialled"),
    ],
)  # fmt: skip
def test_a_service_without_endpoints_is_told_by_its_name(resolution: str, lines: list[str]) -> None:
    documents = (
        entry(f"hosts: [a.example], resolution: {resolution}, {HTTP}"),
        secured("a.example", "mode: SIMPLE"),
    )
    assert explained(snapshot(*documents), "a.example", UNNAMED)[-4:] == lines


def test_of_what_nobody_knows_no_endpoint_is_told() -> None:
    assert explained(snapshot(SAME), "b.example", UNNAMED) == [
        "to: b.example",
        "TLS: none of ours, no rule is about it and no sidecar is known there",
    ]
    only = "apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\nspec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}\n"
    assert explained(snapshot(only), "b.example", UNNAMED)[:2] == [
        "cluster: BlackHoleCluster",
        "answer of ours: 502, 0 bytes",
    ]
