"""Cases expect ways, and what nobody knows never passes."""

import pytest

from fakes.destinations import WORKLOAD, entry, rule
from fakes.routes import http, to
from tproxy.policy.cases import Gathered, gather, run
from tproxy.policy.nodes import SourceFile

SPLIT = (
    "{name: all, route: [{destination: {host: reviews, subset: v1}, weight: 90},"
    " {destination: {host: reviews-v2}, weight: 10}]}"
)
CANARY = f"{{name: canary, match: [{{headers: {{x-canary: {{exact: '1'}}}}}}], {to('reviews', subset='v2', port='{number: 9080}')}}}"
HERE = f"{{name: here, match: [{{uri: {{exact: /here}}}}], {to('reviews')}}}"
MOVED = "{name: moved, match: [{uri: {exact: /old}}], redirect: {uri: /new}}"
SUBSETS = rule("host: reviews, subsets: [{name: v1}, {name: v2}]")
POLICIES = "---\n".join((SUBSETS, http(CANARY, HERE, MOVED, SPLIT)))
DEFAULTS = "{host: reviews, port: 80}"


def gathered(case: str, direction: str = "outbound") -> Gathered:
    """Policies and one case, from its request on."""
    text = (
        "apiVersion: tproxy.io/v1alpha1\nkind: PolicyTest\nmetadata: {name: t}\nspec:\n"
        f"  defaults: {DEFAULTS}\n  cases:\n  - {{name: c, direction: {direction}, {case}}}\n"
    )
    files = [SourceFile("p.yaml", POLICIES.encode())]
    return gather(files, [SourceFile("t.yaml", text.encode())], WORKLOAD)


def mismatches(case: str) -> list[str]:
    """What came otherwise."""
    found = gathered(case)
    assert found.snapshot is not None, "\n".join(map(str, found.findings))
    (result,) = run(found.snapshot, found.tests).results
    return [f"{each.field}: {each.expected}, {each.came}" for each in result.mismatches]


IN = "request: {headers: {x-canary: '1'}}"
KNOWN = "request: {headers: {x-request-id: a}}"


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(f"{IN}, expect: {{route: canary, destination: {{host: reviews, subset: v2, port: 9080}}}}", id="an entry by its name"),
        pytest.param(f"{IN}, expect: {{route: 0, cluster: outbound|9080|v2|reviews.web.svc.cluster.local}}", id="an entry by its number"),
        pytest.param("expect: {route: all, weights: {v1: 90, reviews-v2.web.svc.cluster.local: 10}}", id="weights without an id"),
        pytest.param(f"{KNOWN}, expect: {{route: all, destination: {{subset: v1}}}}", id="a draw with an id"),
        pytest.param("request: {path: /here}, expect: {destination: {host: reviews, subset: '', port: 80}, cluster: PassthroughCluster}", id="where it was going"),
        pytest.param("request: {path: /old}, expect: {route: moved, status: 301, cluster: none}", id="an answer of ours"),
        pytest.param("request: {host: elsewhere.example}, expect: {route: none, destination: {host: elsewhere.example, subset: ''}}", id="nobody's"),
    ],
)  # fmt: skip
def test_a_way_that_is_expected_passes(case: str) -> None:
    assert mismatches(case) == []


UNDRAWN = "undetermined, it depends on request.headers[x-request-id]"


@pytest.mark.parametrize(
    ("case", "came"),
    [
        pytest.param(f"{IN}, expect: {{route: all}}", ["route: all, canary"], id="another entry"),
        pytest.param(f"{IN}, expect: {{route: 3}}", ["route: 3, 0"], id="another number"),
        pytest.param(f"{IN}, expect: {{destination: {{host: ratings, subset: v1, port: 80}}}}", ["destination.host: ratings.web.svc.cluster.local, reviews.web.svc.cluster.local", "destination.subset: v1, v2", "destination.port: 80, 9080"], id="another destination"),
        pytest.param("expect: {destination: {subset: v1}}", [f"destination.subset: v1, {UNDRAWN}"], id="a draw without an id"),
        pytest.param("expect: {cluster: a}", [f"cluster: a, {UNDRAWN}"], id="a cluster without an id"),
        pytest.param("expect: {weights: {v1: 50}}", ["weights: v1: 50, reviews-v2.web.svc.cluster.local: 10, v1: 90"], id="other weights"),
        pytest.param("request: {path: /old}, expect: {status: 302, weights: {v1: 1}}", ["weights: v1: 1, none", "status: 302, 301"], id="another status"),
        pytest.param("request: {path: /old}, expect: {destination: {host: reviews}}", ["destination.host: reviews.web.svc.cluster.local, none"], id="no destination of an answer"),
        pytest.param("request: {path: /here}, expect: {status: 301}", ["status: 301, none"], id="no answer of ours"),
    ],
)  # fmt: skip
def test_another_way_fails(case: str, came: list[str]) -> None:
    assert mismatches(case) == came


def test_a_way_of_which_too_little_is_known_fails() -> None:
    expect = "expect: {route: all, weights: {v1: 90}, status: 200, destination: {host: reviews}, cluster: a}"
    text = (
        "apiVersion: tproxy.io/v1alpha1\nkind: PolicyTest\nspec:\n"
        f"  cases: [{{name: c, direction: outbound, request: {{port: 80}}, {expect}}}]\n"
    )
    files = [SourceFile("p.yaml", POLICIES.encode())]
    found = gather(files, [SourceFile("t.yaml", text.encode())], WORKLOAD)
    assert found.snapshot is not None
    (result,) = run(found.snapshot, found.tests).results
    assert {each.came for each in result.mismatches} == {"undetermined, it depends on request.host"}
    assert len(result.mismatches) == 5


def test_without_policies_there_is_one_way() -> None:
    text = (
        "apiVersion: tproxy.io/v1alpha1\nkind: PolicyTest\nspec:\n  cases: [{name: c, direction: outbound,"
        " request: {port: 80, host: a.b}, expect: {route: none, cluster: PassthroughCluster, destination: {host: a.b}}}]\n"
    )
    found = gather([], [SourceFile("t.yaml", text.encode())], WORKLOAD)
    assert found.snapshot is not None
    (result,) = run(found.snapshot, found.tests).results
    assert result.passed


ONLY = (
    "apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\n"
    "spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}\n"
)
BY_ADDRESS = entry(
    'hosts: [a.example], addresses: ["198.51.100.7"], ports: [{number: 80, name: http}]'
)


def came(policies: str, case: str) -> dict[str, str]:
    """What came otherwise, of a case with these policies."""
    text = (
        "apiVersion: tproxy.io/v1alpha1\nkind: PolicyTest\nmetadata: {name: t}\nspec:\n"
        f"  cases: [{{name: c, direction: outbound, {case}}}]\n"
    )
    found = gather(
        [SourceFile("p.yaml", policies.encode())], [SourceFile("t.yaml", text.encode())], WORKLOAD
    )
    assert found.snapshot is not None, "\n".join(map(str, found.findings))
    (result,) = run(found.snapshot, found.tests).results
    return {each.field: each.came for each in result.mismatches}


EVIL = "expect: {status: 200, destination: {host: evil.example, port: 80}}"


def test_what_goes_nowhere_has_no_destination() -> None:
    case = f"request: {{host: evil.example, port: 80, destinationIp: 203.0.113.9}}, {EVIL}"
    assert came(ONLY, case) == {
        "destination.host": "none",
        "destination.port": "none",
        "status": "502",
    }


@pytest.mark.parametrize(
    "routes",
    [
        pytest.param([], id="nothing is said"),
        pytest.param([http(HERE, hosts="evil.example")], id="no entry matches"),
        pytest.param([http(f"{{{to('x.example')}}}", hosts="evil.example")], id="to nobody"),
    ],
)
def test_where_an_address_decides_that_is_not_known_nothing_passes(routes: list[str]) -> None:
    policies = "---\n".join((ONLY, BY_ADDRESS, *routes))
    found = came(policies, f"request: {{host: evil.example, port: 80, path: /x}}, {EVIL}")
    assert set(found.values()) == {"undetermined, it depends on destination.ip"}


def test_weights_of_one_name_are_told_apart_or_added() -> None:
    other = rule("host: ratings, subsets: [{name: v1}]", name="s")
    shares = "{destination: {host: reviews, subset: v1}, weight: 50}, {destination: {host: ratings, subset: v1}, weight: 10}"
    more = "{destination: {host: reviews, subset: v1}, weight: 20}, {destination: {host: a.b, port: {number: 1}}, weight: 15}, {destination: {host: a.b}, weight: 5}"
    policies = "---\n".join((SUBSETS, other, http(f"{{route: [{shares}, {more}]}}")))
    found = came(policies, "request: {host: reviews, port: 80}, expect: {weights: {v1: 10}}")
    assert found["weights"] == (
        "a.b: 5, a.b:1: 15, ratings.web.svc.cluster.local/v1: 10,"
        " reviews.web.svc.cluster.local/v1: 70"
    )


@pytest.mark.parametrize(
    ("expect", "field"),
    [("{route: a}", "route"), ("{destination: {subset: a}}", "destination"), ("{weights: {a: 1}}", "weights"), ("{cluster: a}", "cluster"), ("{status: 301}", "status")],
)  # fmt: skip
def test_what_comes_in_has_no_way(expect: str, field: str) -> None:
    found = gathered(f"expect: {expect}", "inbound")
    assert found.snapshot is None
    assert [each.message for each in found.findings] == [
        f"{field} is about connections to upstreams: set direction to outbound"
    ]


def test_an_empty_destination_could_never_fail() -> None:
    (found,) = gathered("expect: {destination: {}}").findings
    assert found.message == "expects nothing, so it could never fail"
