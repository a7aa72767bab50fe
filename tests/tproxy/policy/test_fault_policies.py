"""Faults mean exactly what policies say, or are refused with every mistake and its place."""

from typing import Any

import pytest
from msgspec.structs import replace

from fakes.policies import WORKLOAD, snapshot
from tproxy.model.address import Address
from tproxy.model.flow import Direction, Flow
from tproxy.model.http import Headers, HttpVersion, RequestHead
from tproxy.model.route import Plan, Route
from tproxy.policy.compile import compiled
from tproxy.policy.faults import FaultBook
from tproxy.policy.nodes import SourceFile
from tproxy.resilience.fault import ACTIVE_FAULTS, Abort, Delay, FaultSpec, Throttle
from tproxy.resilience.retry import RetryPolicy

HERE, THERE = Address("192.0.2.1", 80), Address("192.0.2.2", 40000)
FLOW = Flow(Direction.INBOUND, THERE, HERE, HERE)
OUT = Flow(Direction.OUTBOUND, THERE, HERE, HERE)
HEAD = RequestHead(b"GET", b"http", b"shop", b"/a?b", Headers(), HttpVersion.HTTP11)
LATE = "delay: {percentage: 10, fixedDelay: 2s}"


def faults(rules: str, *, more: str = "", name: str = "p", namespace: str = "web") -> str:
    """One FaultPolicy, its rules in YAML's flow style."""
    direction = "" if "direction" in more else "direction: INBOUND, "
    return (
        "apiVersion: tproxy.io/v1alpha1\nkind: FaultPolicy\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\n"
        f"spec: {{{direction}{more}rules: [{rules}]}}\n"
    )


def chosen(*documents: str, flow: Flow = FLOW, head: RequestHead = HEAD) -> FaultSpec | None:
    """What a request suffers."""
    plan = snapshot(*documents).route(flow, head).plan
    return plan.fault if plan else None


@pytest.mark.parametrize(
    ("rule", "spec"),
    [
        pytest.param(LATE, FaultSpec("web/p/0", Delay(2.0, 10.0)), id="delay"),
        pytest.param(
            "abort: {percentage: 0.5, httpStatus: 503}",
            FaultSpec("web/p/0", abort=Abort(503, percent=0.5)),
            id="abort",
        ),
        pytest.param(
            "abort: {percentage: 100, grpcStatus: UNAVAILABLE}",
            FaultSpec("web/p/0", abort=Abort(grpc_status=14, percent=100.0)),
            id="abort of gRPC",
        ),
        pytest.param("reset: {percentage: 1}", FaultSpec("web/p/0", reset=1.0), id="reset"),
        pytest.param(
            "throttle: {percentage: 1, bytesPerSecond: 10KiB}",
            FaultSpec("web/p/0", throttle=Throttle(10240, 1.0)),
            id="throttle",
        ),
    ],
)
def test_each_fault_is_what_is_written(rule: str, spec: FaultSpec) -> None:
    assert chosen(faults(f"{{{rule}}}")) == spec
    assert spec.max_active == ACTIVE_FAULTS


def test_a_policy_bounds_how_many_are_under_way() -> None:
    spec = chosen(faults(f"{{{LATE}}}", more="maxActive: 5, "))
    assert spec is not None
    assert spec.max_active == 5


@pytest.mark.parametrize(
    ("match", "head", "holds"),
    [
        pytest.param("methods: [GET]", {}, True, id="its method"),
        pytest.param("methods: [POST]", {}, False, id="another method"),
        pytest.param("paths: [/a]", {}, True, id="its path"),
        pytest.param("paths: [/a]", {"path": b"//a"}, True, id="its path in another form"),
        pytest.param("paths: [/a]", {"path": b"/a%00"}, False, id="a path of no safe reading"),
        pytest.param("paths: [/x*]", {}, False, id="another path"),
        pytest.param("hosts: [shop]", {}, True, id="its host"),
        pytest.param("headers: {x-user: [me]}", {}, False, id="no such header"),
        pytest.param(
            "headers: {X-User: [me]}",
            {"headers": Headers(((b"x-user", b"me"),))},
            True,
            id="header",
        ),
        pytest.param("methods: [GET], paths: [/x]", {}, False, id="all are meant"),
    ],
)
def test_a_rule_is_about_what_it_matches(match: str, head: dict[str, Any], holds: bool) -> None:
    found = chosen(faults(f"{{match: {{{match}}}, {LATE}}}"), head=replace(HEAD, **head))
    assert (found is not None) is holds


def test_the_first_rule_holds_and_policies_come_in_the_order_of_their_names() -> None:
    get = f"{{match: {{methods: [GET]}}, {LATE}}}"
    late = faults(f"{get}, {{reset: {{percentage: 1}}}}", name="b")
    other = faults("{match: {methods: [PUT]}, reset: {percentage: 2}}", name="a")
    for documents in ((late, other), (other, late)):
        assert chosen(*documents) == FaultSpec("web/b/0", Delay(2.0, 10.0))
        assert chosen(*documents, head=replace(HEAD, method=b"DELETE")) == FaultSpec(
            "web/b/1", reset=1.0
        )
        assert chosen(*documents, head=replace(HEAD, method=b"PUT")) == FaultSpec(
            "web/a/0", reset=2.0
        )


def test_each_direction_has_its_own() -> None:
    document = faults(f"{{{LATE}}}", more="direction: OUTBOUND, ")
    assert chosen(document) is None
    assert chosen(document, flow=OUT) is not None
    assert snapshot(document).route(OUT, None).plan is None


@pytest.mark.parametrize(
    ("more", "namespace", "holds"),
    [
        pytest.param("selector: {matchLabels: {app: shop}}, ", "web", True, id="its labels"),
        pytest.param("selector: {matchLabels: {app: till}}, ", "web", False, id="other labels"),
        pytest.param("", "istio-system", True, id="the root namespace"),
        pytest.param("", "other", False, id="another namespace"),
    ],
)
def test_a_policy_is_about_whom_it_selects(more: str, namespace: str, holds: bool) -> None:
    document = faults(f"{{{LATE}}}", more=more, namespace=namespace)
    assert (chosen(document) is not None) is holds


def test_a_route_with_faults_is_made_once_by_policies_that_say_so() -> None:
    route = Route("r", "c")
    books = [snapshot(faults(f"{{{LATE}}}")).faults for _ in range(2)]
    ways = [each.way(route, FLOW, HEAD) for each in books if each is not None for _ in range(2)]
    assert [way is ways[0] for way in ways] == [True, True, False, False]
    assert books[0] == books[1]


def test_a_route_keeps_all_else_that_it_does_and_faults_of_its_own() -> None:
    book = snapshot(faults(f"{{{LATE}}}")).faults
    assert isinstance(book, FaultBook)
    own = Route("r", "c", plan=Plan(fault=FaultSpec("own")))
    assert book.way(own, FLOW, HEAD) is own
    timed = Route("r", "c", plan=Plan(timeout=3.0, retry=RetryPolicy(attempts=5)))
    plan = book.way(timed, FLOW, HEAD).plan
    assert plan is not None
    assert (plan.timeout, plan.retry.attempts, plan.fault is not None) == (3.0, 5, True)
    plain = book.way(Route("r", "c"), FLOW, HEAD).plan
    assert plain is not None
    assert plain.retry.attempts == 0


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        pytest.param("{}", "does nothing: write delay, abort, reset or throttle", id="nothing"),
        pytest.param("{delay: {fixedDelay: 1s}}", "percentage", id="a delay of nobody"),
        pytest.param("{delay: {percentage: 101, fixedDelay: 1s}}", "100", id="more than all"),
        pytest.param("{delay: {percentage: 1, fixedDelay: 1d}}", "'1d' is no duration", id="unit"),
        pytest.param("{delay: {percentage: 1, fixedDelay: 0s}}", "above 0", id="no delay"),
        pytest.param("{delay: {percentage: 1, fixedDelay: 2h}}", "at most 60m", id="too long"),
        pytest.param("{abort: {percentage: 1}}", "one of httpStatus and grpcStatus", id="neither"),
        pytest.param(
            "{abort: {percentage: 1, httpStatus: 503, grpcStatus: UNKNOWN}}", "one of", id="both"
        ),
        pytest.param("{abort: {percentage: 1, httpStatus: 99}}", "200", id="no status"),
        pytest.param(
            "{abort: {percentage: 1, grpcStatus: UNAVAILBLE}}", "did you mean", id="misspelt"
        ),
        pytest.param("{abort: {percentage: 1, grpcStatus: OK}}", "is an error", id="no error"),
        pytest.param("{throttle: {percentage: 1, bytesPerSecond: 0}}", "nothing through", id="0"),
        pytest.param("{throttle: {percentage: 1, bytesPerSecond: 1GB}}", "is no size", id="size"),
        pytest.param(f"{{match: {{}}, {LATE}}}", "is empty", id="an empty match"),
        pytest.param(f"{{match: {{methods: [get]}}, {LATE}}}", "get", id="a method"),
        pytest.param(
            f"{{match: {{headers: {{'a b': [x]}}}}, {LATE}}}", "no name of a header", id="a header"
        ),
        pytest.param(
            f"{{match: {{headers: {{host: [x]}}}}, {LATE}}}", "operation.hosts", id="Host"
        ),
        pytest.param(f"{{match: {{ports: [80]}}, {LATE}}}", "unknown field", id="an unknown field"),
    ],
)
def test_what_has_no_meaning_is_refused(rule: str, message: str) -> None:
    files = [SourceFile("faults.yaml", faults(rule).encode())]
    findings = compiled(files, 1, WORKLOAD)
    assert isinstance(findings, tuple), "it was taken"
    assert any(message in str(finding) for finding in findings), "\n".join(map(str, findings))
