"""An explanation names the limits that would count a request, as whose, and what it does not know."""

import msgspec
import pytest

from fakes.policies import WORKLOAD, authorization, rate_limit, snapshot
from tproxy.cli.account_text import account_text
from tproxy.model.flow import Direction
from tproxy.policy.account import account
from tproxy.policy.cases import gather, run
from tproxy.policy.explain import Examiner
from tproxy.policy.facts import Facts, facts_of
from tproxy.policy.nodes import SourceFile
from tproxy.policy.schema import CaseProtocol, CaseRequest, CaseSource

TEN = "algorithm: FIXED_WINDOW, requests: 10, window: 1m"
LIMITS = rate_limit(
    f"{{name: all, {TEN}}}, {{name: caller, key: [source.ip, 'request.headers[x-key]'], {TEN}}},"
    f" {{name: users, key: 'request.path[/users/{{*}}]', match: {{paths: ['/users/*'], headers: {{x-key: ['*']}}}}, {TEN}}},"
    " {name: open, per: CONNECTION, algorithm: CONCURRENCY, requests: 9, match: {ports: [8080]}},"
    " {name: bytes, per: CONNECTION, algorithm: BANDWIDTH, bytesPerSecond: 9}"
)
TRIED = rate_limit(f"{{name: t, match: {{hosts: [shop]}}, {TEN}}}", more="mode: SHADOW, ", name="q")
LEAVING = rate_limit(f"{{name: o, {TEN}}}", more="direction: OUTBOUND, ", name="r")
DENY = authorization("{action: DENY, rules: [{to: [{operation: {paths: [/no]}}]}]}")


def told(facts: Facts) -> list[str]:
    """What an explanation says of limits."""
    examiner = Examiner(snapshot(LIMITS, TRIED, LEAVING, DENY))
    text = account_text(account(examiner.explain(facts)))
    return [line.strip() for line in text.splitlines() if line.startswith("  limit ")]


def request(path: str = "/", **said: object) -> CaseRequest:
    """A request of which much is known."""
    known = CaseRequest(
        path=path, host="shop", port=8080, source=CaseSource(ip="192.0.2.7"), headers={}
    )
    return msgspec.structs.replace(known, **said)


ALL = "limit web/p/all (policies.yaml:4) counts this request for all"
CALLER = "limit web/p/caller (policies.yaml:4) counts this request for source.ip 192.0.2.7, request.headers[x-key] (none)"
OPEN = "limit web/p/open (policies.yaml:4) counts this connection for all"
TRIED_TOLD = "limit web/q/t (policies.yaml:9, only tried) counts this request for all"


def test_a_request_is_counted_by_the_limits_that_match_it() -> None:
    assert told(facts_of(request())) == [ALL, CALLER, TRIED_TOLD, OPEN]


def test_a_header_is_never_shown_and_a_path_as_limits_read_it() -> None:
    found = told(facts_of(request("/x/../users/%37?a=b", headers={"x-key": "secret"})))
    assert found[1].endswith("for source.ip 192.0.2.7, request.headers[x-key] (hidden)")
    assert found[2].endswith("for request.path[/users/{*}] 7")
    assert "secret" not in "".join(found)


def test_what_is_denied_only_counts_as_a_connection() -> None:
    assert told(facts_of(request("/no"))) == [OPEN]


def test_a_probe_only_counts_as_a_connection() -> None:
    probes = (
        "apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\n"
        "spec: {probes: [{port: 8080, path: /healthz}]}\n"
    )
    examiner = Examiner(snapshot(probes, LIMITS))
    for path, counted in (("/healthz?x", 1), ("/health", 3)):
        assert len(examiner.explain(facts_of(request(path))).limits) == counted


def test_a_connection_of_bytes_is_counted_as_one() -> None:
    tcp = CaseRequest(port=1, protocol=CaseProtocol.TCP)
    assert told(facts_of(tcp)) == [
        "limit web/p/bytes (policies.yaml:4) counts this connection for all"
    ]


def test_what_leaves_is_counted_by_its_own_limits() -> None:
    (line,) = told(facts_of(request(), Direction.OUTBOUND))
    assert line.startswith("limit web/r/o ")


def test_what_is_not_known_is_told() -> None:
    found = told(facts_of(request(host=None, source=CaseSource())))
    assert found[1].endswith("for source.ip (not known), request.headers[x-key] (none)")
    assert found[2] == (
        "limit web/q/t (policies.yaml:9, only tried) may count it, depending on what is not known: request.host"
    )


def test_where_the_request_itself_is_not_known_so_is_whether_it_counts() -> None:
    facts = facts_of(request())
    found = told(Facts(facts.flow, None, facts.hidden))
    assert found[0] == (
        "limit web/p/all (policies.yaml:4) may count it, depending on what is not known: request"
    )


def test_without_limits_nothing_is_said_of_them() -> None:
    assert Examiner(snapshot(DENY)).explain(facts_of(request())).limits == ()


CASES = [
    pytest.param("[web/p/caller, web/q/t, web/p/open, web/p/all]", None, id="in any order"),
    pytest.param(
        "[]", ("none", "web/p/all, web/p/caller, web/p/open, web/q/t"), id="none were expected"
    ),
]


@pytest.mark.parametrize(("expected", "mismatch"), CASES)
def test_a_case_may_expect_limits(expected: str, mismatch: tuple[str, str] | None) -> None:
    test = (
        "apiVersion: tproxy.io/v1alpha1\nkind: PolicyTest\nspec:\n  cases:\n"
        "  - {name: a, request: {port: 8080, host: shop, source: {ip: 192.0.2.7}},"
        f" expect: {{limits: {expected}}}}}\n"
    )
    content = f"{LIMITS}---\n{TRIED}---\n{test}".encode()
    gathered = gather([SourceFile("a", content)], [], WORKLOAD)
    assert gathered.snapshot is not None
    (result,) = run(gathered.snapshot, gathered.tests).results
    found = [(each.expected, each.came) for each in result.mismatches]
    assert found == ([] if mismatch is None else [mismatch])


def test_what_a_case_expects_is_not_there_while_it_is_not_known() -> None:
    test = (
        "apiVersion: tproxy.io/v1alpha1\nkind: PolicyTest\nspec:\n  cases:\n"
        "  - {name: a, request: {port: 8080}, expect: {limits: [web/q/t]}}\n"
    )
    gathered = gather([SourceFile("a", f"{TRIED}---\n{test}".encode())], [], WORKLOAD)
    assert gathered.snapshot is not None
    (result,) = run(gathered.snapshot, gathered.tests).results
    assert [each.came for each in result.mismatches] == ["web/q/t (perhaps)"]
