"""When endpoints are given up and how often is tried again, as files say it."""

import pytest

from fakes.destinations import PLAIN, STORE, WORKLOAD, files, rule, snapshot, told
from tproxy.model.cluster import Cluster
from tproxy.model.identity import Workload
from tproxy.policy.traffic import Traffic
from tproxy.resilience.breaker import BreakerSpec, ConsecutiveFailures, FailureRate, Penalty
from tproxy.resilience.retry_budget import RetryBudgetSpec


def policy(spec: str, *, name: str = "p", namespace: str = "web") -> str:
    """A ResiliencePolicy, its spec in YAML's flow style."""
    return (
        "apiVersion: tproxy.io/v1alpha1\nkind: ResiliencePolicy\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )


def cluster(*documents: str, host: str = STORE, workload: Workload = WORKLOAD) -> Cluster:
    """What answers for a service, the store if no other is named."""
    traffic = snapshot(PLAIN, *documents, workload=workload).traffic
    assert isinstance(traffic, Traffic)
    return traffic.clusters.cluster(host, 80)


def about(spec: str, **names: str) -> str:
    """A policy about the store."""
    return policy(f"host: {STORE}, {spec}", **names)


@pytest.mark.parametrize(
    ("breaker", "expected"),
    [
        pytest.param("{}", BreakerSpec(), id="as Linkerd's is"),
        pytest.param("{consecutiveFailures: 3}", BreakerSpec(ConsecutiveFailures(3)), id="failures in a row"),
        pytest.param("{failureRate: {}}", BreakerSpec(FailureRate()), id="a rate"),
        pytest.param("{failureRate: {percent: 10, minRequests: 5, window: 1m}, penalty: {min: 500ms, max: 2s, jitter: 0}}", BreakerSpec(FailureRate(10.0, 5, 60.0), Penalty(0.5, 2.0, 0.0)), id="a rate and a penalty"),
    ],
)  # fmt: skip
def test_a_breaker_opens_when_the_policy_says(breaker: str, expected: BreakerSpec) -> None:
    assert cluster(about(f"breaker: {breaker}")).breaker == expected


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        pytest.param([], RetryBudgetSpec(), id="GEP-3388's"),
        pytest.param([about("retryBudget: {}")], RetryBudgetSpec(), id="the same said"),
        pytest.param([about("retryBudget: {percent: 50, interval: 20s, minRetryRate: {count: 0, interval: 2s}}")], RetryBudgetSpec(50.0, 20.0, 0, 2.0), id="another"),
        pytest.param([rule(f"host: {STORE}, trafficPolicy: {{retryBudget: {{percent: 5}}}}"), about("retryBudget: {percent: 50}")], RetryBudgetSpec(50.0), id="it wins over the rule's"),
        pytest.param([rule(f"host: {STORE}, trafficPolicy: {{retryBudget: {{percent: 5}}}}"), about("breaker: {}")], RetryBudgetSpec(5.0), id="where it says nothing the rule's holds"),
    ],
)  # fmt: skip
def test_a_retry_budget_is_the_policys_the_rules_or_the_default(
    documents: list[str], expected: RetryBudgetSpec
) -> None:
    assert cluster(*documents).retry_budget == expected


def named(count: int, **names: str) -> str:
    """A policy that can be told from others."""
    return about(f"breaker: {{consecutiveFailures: {count}}}", **names)


ROOTED = Workload("gate", "istio-system", "gate")


@pytest.mark.parametrize(
    ("documents", "workload", "count"),
    [
        pytest.param([named(1), named(2, namespace="db"), named(3, namespace="istio-system")], WORKLOAD, 1, id="the workload's namespace first"),
        pytest.param([named(2, namespace="db"), named(3, namespace="istio-system")], WORKLOAD, 2, id="then the service's"),
        pytest.param([named(3, namespace="istio-system"), named(4, namespace="x")], WORKLOAD, 3, id="then the root's"),
        pytest.param([named(4, namespace="x")], WORKLOAD, None, id="and no other"),
        pytest.param([named(2, namespace="db"), named(3, namespace="istio-system")], ROOTED, 2, id="the root's own is asked last there too"),
    ],
)  # fmt: skip
def test_the_nearest_namespace_decides(
    documents: list[str], workload: Workload, count: int | None
) -> None:
    found = cluster(*documents, workload=workload).breaker
    assert found == (None if count is None else BreakerSpec(ConsecutiveFailures(count)))


def test_patterns_and_hosts_that_nobody_names_are_meant_too() -> None:
    everything = policy('host: "*.example", breaker: {}')
    assert cluster(everything, host="a.example").breaker == BreakerSpec()
    assert cluster(everything).breaker is None


SOON = "'soon' is no duration, write `500ms`, `3s` or `1m`"
NO_TIME = "'0s' is no time at all: write a longer one"


@pytest.mark.parametrize(
    ("spec", "findings"),
    [
        pytest.param('host: "a b", breaker: {}', ["TPX0108 error $.spec.host: 'a b' is no name of a service: write a DNS name, `*.suffix` or `*`"], id="no host"),
        pytest.param("host: a.example, breaker: {consecutiveFailures: 0}", ["TPX0106 error $.spec.breaker.consecutiveFailures: expected `int` >= 1"], id="no failure"),
        pytest.param("host: a.example, breaker: {failureRate: {percent: 0}}", ["TPX0106 error $.spec.breaker.failureRate.percent: expected `float` > 0.0"], id="no rate"),
        pytest.param("host: a.example, breaker: {failureRate: {window: 0s}}", [f"TPX0108 error $.spec.breaker.failureRate.window: {NO_TIME}"], id="no window"),
        pytest.param("host: a.example, breaker: {consecutiveFailures: 1, failureRate: {}}", ["TPX0109 error $.spec.breaker: consecutiveFailures and failureRate open it both: leave one out"], id="two reasons"),
        pytest.param("host: a.example, breaker: {penalty: {min: 2s, max: 1s}}", ["TPX0109 error $.spec.breaker.penalty.min: 2s at first is more than 1s at most"], id="no growth"),
        pytest.param("host: a.example, breaker: {penalty: {min: 0s, max: soon}}", [f"TPX0108 error $.spec.breaker.penalty.min: {NO_TIME}", f"TPX0108 error $.spec.breaker.penalty.max: {SOON}"], id="no penalty"),
        pytest.param("host: a.example, retryBudget: {interval: 0s, minRetryRate: {interval: soon}}", [f"TPX0108 error $.spec.retryBudget.interval: {NO_TIME}", f"TPX0108 error $.spec.retryBudget.minRetryRate.interval: {SOON}"], id="no intervals"),
        pytest.param("host: a.example", ["TPX0222 warning $.spec: says nothing: write breaker or retryBudget"], id="nothing"),
    ],
)  # fmt: skip
def test_what_a_policy_cannot_mean_is_told(spec: str, findings: list[str]) -> None:
    assert [each.partition(" ")[2] for each in told(files(policy(spec)))] == findings


def test_two_policies_about_one_host_are_refused() -> None:
    found = told(files(about("breaker: {}"), about("retryBudget: {}", name="q")))
    message = "is about the same host as p.yaml:1, and neither is older: merge them"
    assert found == [f"p.yaml:9:8 TPX0109 error $.spec.host: {message}"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(policy("host: a.example, breaker: {}"), id="its namespace"),
        pytest.param(policy("host: store, breaker: {}").replace(", namespace: web", ""), id="a short name's"),
    ],
)  # fmt: skip
def test_whose_policy_it_is_must_be_known(text: str) -> None:
    (found,) = told(files(text), workload=Workload())
    assert "nobody said in which namespace this workload is" in found
