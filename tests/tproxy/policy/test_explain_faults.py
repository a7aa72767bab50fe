"""An explanation names the faults that are about a request, and what they do to it where that can be known."""

import pytest

from fakes.policies import WORKLOAD, authorization, snapshot
from fakes.routes import http, to
from tproxy.cli.account_text import account_text
from tproxy.model.flow import Direction
from tproxy.policy.account import account
from tproxy.policy.cases import gather, run
from tproxy.policy.explain import Examiner
from tproxy.policy.facts import Facts, facts_of
from tproxy.policy.nodes import SourceFile
from tproxy.policy.schema import CaseProtocol, CaseRequest

ALL = "percentage: 100"
BROKEN = f"{{match: {{paths: [/broken]}}, abort: {{httpStatus: 503, {ALL}}}}}"
RULES = (
    f"{{match: {{paths: [/late]}}, delay: {{fixedDelay: 2s, {ALL}}}, abort: {{httpStatus: 503, {ALL}}}}},"
    f" {{match: {{headers: {{x-test: [reset]}}}}, reset: {{{ALL}}}}},"
    f" {{match: {{hosts: [shop]}}, throttle: {{bytesPerSecond: 10, {ALL}}}}},"
    " {match: {methods: [GET]}, delay: {fixedDelay: 1s, percentage: 0}}"
)


def policy(rules: str, direction: str = "INBOUND", name: str = "p") -> str:
    """One FaultPolicy, its rules in YAML's flow style."""
    return (
        "apiVersion: tproxy.io/v1alpha1\nkind: FaultPolicy\n"
        f"metadata: {{name: {name}, namespace: web}}\n"
        f"spec: {{direction: {direction}, rules: [{rules}]}}\n"
    )


FAULTS = policy(RULES)
OUT = policy(BROKEN, "OUTBOUND", "q")
DENY = authorization("{action: DENY, rules: [{to: [{operation: {paths: [/no]}}]}]}")
ID = {"x-request-id": "a"}


def request(path: str = "/", host: str | None = "web", **headers: str) -> CaseRequest:
    """A request of the workload."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return CaseRequest(path=path, host=host, port=8080, headers=named)


def told(facts: Facts) -> list[str]:
    """What people are told of faults."""
    examiner = Examiner(snapshot(FAULTS, OUT, DENY))
    text = account_text(account(examiner.explain(facts)))
    return [line.strip() for line in text.splitlines() if "faults" in line]


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        pytest.param(request("/x/../late?a", x_request_id="a"), "100 % wait 2 s, 100 % fail with 503; this one: waits 2 s, fails", id="late and failing"),
        pytest.param(request(x_test="reset", x_request_id="a"), "100 % are reset; this one: is reset", id="reset"),
        pytest.param(request(host="shop", x_request_id="a"), "100 % get 10 bytes per second; this one: is slow", id="slow"),
        pytest.param(request(x_request_id="a"), "0 % wait 1 s; this one: unharmed", id="spared"),
        pytest.param(request(), "0 % wait 1 s; this one: not known without an x-request-id", id="without an id"),
    ],
)  # fmt: skip
def test_the_first_rule_about_what_comes_in_is_told(asked: CaseRequest, line: str) -> None:
    (found,) = told(facts_of(asked))
    assert found.startswith("faults of web/p (policies.yaml:4): ")
    assert found.endswith(line)


def test_nothing_is_told_where_no_rule_is_about_it() -> None:
    assert told(facts_of(CaseRequest(path="/x", method="PUT", host="web", port=80))) == []
    assert told(facts_of(CaseRequest(protocol=CaseProtocol.TCP, port=80))) == []
    assert Examiner(snapshot(DENY)).explain(facts_of(request())).faults == ()


def test_what_is_denied_suffers_nothing() -> None:
    assert told(facts_of(request("/no"))) == []


def test_what_is_not_known_is_told_for_each_rule_that_may_be_first() -> None:
    slow, late = told(facts_of(request(host=None, x_request_id="a")))
    open_still = "depend on what is not known: request.host"
    assert slow.endswith(f"100 % get 10 bytes per second; {open_still}")
    assert late.endswith(f"0 % wait 1 s; {open_still}")


def test_where_the_request_itself_is_not_known_any_rule_may_be_about_it() -> None:
    facts = facts_of(request())
    found = told(Facts(facts.flow, None, facts.hidden))
    assert len(found) == 4
    assert all("depend on what is not known: request" in each for each in found)


OWN = http(
    f"{{name: a, match: [{{uri: {{prefix: /a}}}}], {to('ratings')}, fault: {{abort: {{httpStatus: 500, percentage: {{value: 100}}}}}}}}",
    f"{{name: b, match: [{{headers: {{x-b: {{exact: '1'}}}}}}], {to('ratings')}}}",
    hosts="shop",
)


def test_an_entrys_own_faults_win_over_those_of_policies() -> None:
    examiner = Examiner(snapshot(OWN, policy(f"{{delay: {{fixedDelay: 1s, {ALL}}}}}", "OUTBOUND")))
    for path, name in (("/a", "web/v.http[a]"), ("/b", "web/p")):
        facts = facts_of(request(path, "shop", x_request_id="a"), Direction.OUTBOUND)
        (trace,) = examiner.explain(facts).faults
        route = examiner.snapshot.route(facts.flow, facts.head)
        assert (trace.name, trace.missing) == (name, ())
        assert route.plan is not None
        assert route.plan.fault == trace.spec


def test_where_the_way_is_not_known_a_policys_faults_may_not_be_met() -> None:
    examiner = Examiner(snapshot(OWN, OUT))
    facts = facts_of(request("/broken", None), Direction.OUTBOUND)
    (trace,) = examiner.explain(facts).faults
    assert trace.missing == ("request.host",)


def mismatches(expect: str, asked: str, direction: str = "inbound") -> list[tuple[str, str, str]]:
    """What did not come as a case expects."""
    test = (
        "apiVersion: tproxy.io/v1alpha1\nkind: PolicyTest\nspec:\n  cases:\n"
        f"  - {{name: a, direction: {direction}, request: {{port: 8080, {asked}}}, expect: {{{expect}}}}}\n"
    )
    content = f"{FAULTS}---\n{OUT}---\n{OWN}---\n{test}".encode()
    gathered = gather([SourceFile("a", content)], [], WORKLOAD)
    assert gathered.snapshot is not None, "\n".join(map(str, gathered.findings))
    (result,) = run(gathered.snapshot, gathered.tests).results
    return [(each.field, each.expected, each.came) for each in result.mismatches]


KNOWN = "headers: {x-request-id: a}, host: "
UNKNOWN_HOST = "undetermined, it depends on request.host"


@pytest.mark.parametrize(
    ("expect", "asked"),
    [
        pytest.param("faults: [web/p], injected: [abort, delay]", f"{KNOWN} web, path: /late", id="delay and abort"),
        pytest.param("faults: [web/p], injected: [throttle]", f"{KNOWN} shop", id="throttle"),
        pytest.param("injected: [reset]", "headers: {x-request-id: a, x-test: reset}, host: web", id="reset"),
        pytest.param("faults: [web/p], injected: []", f"{KNOWN} web", id="spared"),
        pytest.param("faults: [], injected: []", "method: PUT, host: web", id="none"),
    ],
)  # fmt: skip
def test_a_case_may_expect_faults(expect: str, asked: str) -> None:
    assert mismatches(expect, asked) == []


@pytest.mark.parametrize(
    ("expect", "asked", "direction", "expected"),
    [
        pytest.param("faults: []", f"{KNOWN} web", "inbound", ("faults", "none", "web/p"), id="some were not expected"),
        pytest.param("injected: [delay]", f"{KNOWN} web", "inbound", ("injected", "delay", "none"), id="spared"),
        pytest.param("injected: []", "host: web", "inbound", ("injected", "none", "undetermined, it depends on request.headers[x-request-id]"), id="no id"),
        pytest.param("faults: [web/p]", "path: /", "inbound", ("faults", "web/p", "web/p (perhaps)"), id="not known"),
        pytest.param("injected: []", "path: /", "inbound", ("injected", "none", UNKNOWN_HOST), id="not known whether"),
        pytest.param("faults: []", "path: /", "outbound", ("faults", "none", UNKNOWN_HOST), id="way not known"),
        pytest.param("injected: []", "path: /", "outbound", ("injected", "none", UNKNOWN_HOST), id="way not known, injected"),
        pytest.param("faults: [web/q]", f"{KNOWN} shop, path: /a", "outbound", ("faults", "web/q", "web/v.http[a]"), id="an entry's own"),
    ],
)  # fmt: skip
def test_a_case_fails_where_other_faults_come(
    expect: str, asked: str, direction: str, expected: tuple[str, str, str]
) -> None:
    assert mismatches(expect, asked, direction) == [expected]
