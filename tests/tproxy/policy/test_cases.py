"""Cases: what they ask, what they expect, what is wrong with them."""

import pytest

from tproxy.model.decision import Reason
from tproxy.model.flow import Protocol
from tproxy.model.identity import Peer, Workload
from tproxy.policy.cases import Gathered, Report, gather, run
from tproxy.policy.compile import compiled
from tproxy.policy.facts import Facts, facts_of, filled
from tproxy.policy.nodes import SourceFile
from tproxy.policy.schema import CaseProtocol, CaseReason, CaseRequest, CaseSource
from tproxy.policy.snapshot import Snapshot

POLICIES = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: foo}
spec:
  rules:
  - from: [{source: {principals: [cluster.local/ns/foo/sa/a]}}]
    to: [{operation: {methods: [GET], paths: [/get]}}]
  - to: [{operation: {ports: ["9000"]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: foo}
spec: {action: DENY, rules: [{to: [{operation: {methods: [PUT]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: others, namespace: foo}
spec: {selector: {matchLabels: {app: web}}, action: DENY, rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: tried, namespace: foo, annotations: {"istio.io/dry-run": "true"}}
spec: {action: DENY, rules: [{to: [{operation: {ports: ["9000"]}}]}]}
"""
WORKLOAD = Workload("httpbin", "foo", labels={"app": "httpbin"})
DEFAULTS = (
    "{source: {principal: cluster.local/ns/foo/sa/a, ip: 192.0.2.7}, port: 8080, host: httpbin}"
)


def suite(*cases: str, defaults: str = DEFAULTS) -> SourceFile:
    """A test of these cases, each in YAML's flow style."""
    listed = "".join(f"  - {case}\n" for case in cases)
    text = f"apiVersion: tproxy.io/v1alpha1\nkind: PolicyTest\nmetadata: {{name: t}}\nspec:\n  defaults: {defaults}\n  cases:\n{listed}"
    return SourceFile("t.yaml", text.encode())


def gathered(*beside: SourceFile, policies: str = POLICIES) -> Gathered:
    """Policies and tests."""
    files = [SourceFile("p.yaml", policies.encode())]
    return gather(files, beside, WORKLOAD)


def ran(*cases: str, defaults: str = DEFAULTS) -> Report:
    """What comes of cases that must be sound."""
    found = gathered(suite(*cases, defaults=defaults))
    assert found.snapshot is not None, "\n".join(map(str, found.findings))
    return run(found.snapshot, found.tests)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param("{name: c, request: {path: /get}, expect: {verdict: ALLOW, policy: foo/readers, rule: 0, reason: allow_match}}", id="allowed"),
        pytest.param("{name: c, request: {path: /get, method: PUT}, expect: {verdict: DENY, policy: foo/deny}}", id="denied"),
        pytest.param("{name: c, request: {path: /x/../get}, expect: {verdict: ALLOW, normalizedPath: /get}}", id="normalised"),
        pytest.param("{name: c, request: {path: /get, source: {principal: null}}, expect: {verdict: DENY, reason: no_allow_match}}", id="plaintext"),
        pytest.param("{name: c, request: {path: /get, source: {namespace: foo, serviceAccount: a}}, expect: {verdict: ALLOW}}", id="a namespace's account"),
        pytest.param("{name: c, request: {path: /get, source: {namespace: bar}}, expect: {verdict: DENY}}", id="another namespace"),
        pytest.param("{name: c, request: {protocol: tcp, port: 9000}, expect: {verdict: DENY, policy: foo/deny, audited: false}}", id="bytes, which DENY widens to"),
        pytest.param("{name: c, request: {port: 9000}, expect: {verdict: ALLOW, rule: 1, dryRunVerdict: DENY}}", id="dry run"),
        pytest.param("{name: c, request: {protocol: grpc, path: /p.S/M}, expect: {verdict: DENY, reason: no_allow_match}}", id="gRPC is POST"),
        pytest.param("{name: c, direction: outbound, request: {path: /x}, expect: {verdict: ALLOW}}", id="outbound"),
    ],
)  # fmt: skip
def test_a_case_passes_when_all_comes_as_expected(case: str) -> None:
    (result,) = ran(case).results
    assert result.mismatches == ()
    assert (result.test, result.name, result.file, result.line) == ("t", "c", "t.yaml", 7)


def test_a_case_fails_with_what_was_expected_and_what_came() -> None:
    report = ran(
        "{name: c, request: {path: /put}, expect: {verdict: ALLOW, policy: foo/readers, rule: 0, audited: true}}",
        "{name: d, request: {path: /get}, expect: {verdict: ALLOW}}",
    )
    assert [(each.field, each.expected, each.came) for each in report.results[0].mismatches] == [
        ("verdict", "ALLOW", "DENY"),
        ("policy", "foo/readers", "none"),
        ("rule", "0", "none"),
        ("audited", "true", "false"),
    ]
    assert (report.failed, report.results[1].passed) == (1, True)


def test_a_case_that_leaves_out_what_a_policy_reads_fails_as_undetermined() -> None:
    (result,) = ran(
        "{name: c, request: {path: /get}, expect: {verdict: DENY}}", defaults="{port: 8080}"
    ).results
    assert result.mismatches[0].came == "UNDETERMINED"
    assert result.explanation.outcome.missing == ("source.principal",)


def test_coverage_tells_which_rules_no_case_matched() -> None:
    report = ran("{name: c, request: {path: /get}, expect: {verdict: ALLOW}}")
    assert [str(rule) for rule in report.coverage.unmatched] == [
        "ns[foo]-policy[readers]-rule[1]",
        "ns[foo]-policy[deny]-rule[0]",
        "ns[foo]-policy[tried]-rule[0]",
    ]
    assert (report.coverage.rules, report.coverage.percent) == (4, 25.0)


def test_no_rules_are_all_of_them() -> None:
    found = gathered(suite("{name: c, expect: {verdict: ALLOW}}"), policies="")
    assert found.snapshot is not None
    assert run(found.snapshot, found.tests).coverage.percent == 100.0


@pytest.mark.parametrize(
    ("case", "finding"),
    [
        pytest.param("{name: c, expect: {}}", "7:15 TPX0108 error $.spec.cases[0].expect: expects nothing, so it could never fail", id="expects nothing"),
        pytest.param("{name: c, expect: {tls: {}}}", "7:15 TPX0108 error $.spec.cases[0].expect: expects nothing, so it could never fail", id="expects nothing of TLS"),
        pytest.param("{name: c, expect: {tls: {mode: SIMPLE}}}", "7:15 TPX0108 error $.spec.cases[0].expect: tls is about connections to upstreams: set direction to outbound", id="TLS of what comes in"),
        pytest.param("{name: c, request: {source: {ip: here}}, expect: {rule: 0}}", "7:34 TPX0108 error $.spec.cases[0].request.source.ip: 'here' is no address", id="no address"),
        pytest.param("{name: c, request: {destinationIp: here}, expect: {rule: 0}}", "7:25 TPX0108 error $.spec.cases[0].request.destinationIp: 'here' is no address", id="no destination"),
        pytest.param("{name: c, request: {source: {principal: me}}, expect: {rule: 0}}", "7:34 TPX0108 error $.spec.cases[0].request.source.principal: 'me' is no principal, write TRUST_DOMAIN/ns/NAMESPACE/sa/NAME", id="no principal"),
        pytest.param("{name: c, request: {source: {principal: a/ns/b/sa/c, namespace: b}}, expect: {rule: 0}}", "7:25 TPX0108 error $.spec.cases[0].request.source: a principal says namespace and service account already", id="twice the namespace"),
        pytest.param("{name: c, request: {source: {serviceAccount: b}}, expect: {rule: 0}}", "7:25 TPX0108 error $.spec.cases[0].request.source: a service account is one of a namespace: name it", id="no namespace"),
        pytest.param("{name: c, request: {protocol: tcp, host: a}, expect: {rule: 0}}", "7:40 TPX0108 error $.spec.cases[0].request.host: a connection of protocol tcp has no host", id="HTTP in TCP"),
        pytest.param("{name: c, request: {path: get}, expect: {rule: 0}}", "7:31 TPX0106 error $.spec.cases[0].request.path: expected `str` matching regex '^/'", id="no path"),
        pytest.param("{name: c, expect: {verdcit: DENY}}", "7:24 TPX0103 error $.spec.cases[0].expect.verdcit: unknown field 'verdcit', did you mean 'verdict'?", id="misspelt"),
        pytest.param("{name: c, expect: {rule: 0}}\n  - {name: c, expect: {rule: 0}}", "8:6 TPX0109 error $.spec.cases[1].name: there is a case 'c' already, in $.spec.cases[0]", id="the same name"),
    ],
)  # fmt: skip
def test_a_case_that_cannot_be_run_is_refused_at_its_place(case: str, finding: str) -> None:
    found = gathered(suite(case))
    assert found.snapshot is None
    errors = [str(each) for each in found.findings if each.severity == "error"]
    assert errors == [f"t.yaml:{finding}"]


def test_a_case_without_a_port_is_refused() -> None:
    found = gathered(suite("{name: c, expect: {verdict: DENY}}", defaults="{}"))
    assert "which port?" in str(found.findings[-1])


def test_policies_among_tests_are_refused_since_they_would_not_be_in_force() -> None:
    found = gathered(SourceFile("t.yaml", POLICIES.partition("---")[0].encode()))
    assert "is not in force here" in str(found.findings[-1])


def test_tests_among_the_policies_are_run_and_do_not_reach_the_data_path() -> None:
    content = suite("{name: c, request: {path: /get}, expect: {verdict: ALLOW}}").content
    file = SourceFile("p.yaml", POLICIES.encode() + b"---\n" + content)
    assert isinstance(compiled([file], 1, WORKLOAD), Snapshot)
    found = gather([file], (), WORKLOAD)
    assert len(found.tests) == 1
    wrong = SourceFile("p.yaml", content.replace(b"expect", b"expects"))
    assert isinstance(compiled([wrong], 1), tuple)


def test_mistakes_in_policies_are_told_once() -> None:
    found = gathered(suite("{name: c, expect: {verdict: DENY}}"), policies="kind: Pod\n")
    assert [str(each.code) for each in found.findings] == ["TPX0107"]
    assert found.snapshot is None


def test_reasons_are_those_of_the_data_path() -> None:
    assert {each.value for each in CaseReason} == {each.value for each in Reason}


def facts(**fields: object) -> Facts:
    """The facts of a request to port 80."""
    return facts_of(CaseRequest(port=80, **fields))  # type: ignore[arg-type]


def test_a_request_has_what_it_usually_has_unless_it_says_otherwise() -> None:
    usual, grpc = facts(), facts(protocol=CaseProtocol.GRPC)
    assert usual.head is not None
    assert grpc.head is not None
    assert (usual.head.method, usual.head.path, usual.flow.protocol) == (b"GET", b"/", "http1")
    assert (grpc.head.method, grpc.flow.protocol, grpc.head.is_grpc) == (b"POST", "http2", True)
    own = facts(protocol=CaseProtocol.GRPC, headers={"content-type": "application/grpc+proto"})
    assert own.head is not None
    assert len(own.head.headers) == 1


def test_a_connection_with_a_server_name_is_tls() -> None:
    assert facts(protocol=CaseProtocol.TCP, sni="a.example").flow.protocol is Protocol.TLS
    assert facts(protocol=CaseProtocol.TCP).flow.protocol is Protocol.OPAQUE


def test_what_nobody_said_is_not_known() -> None:
    assert facts().hidden == {
        "source.principal",
        "source.ip",
        "destination.ip",
        "request.host",
    }
    said = facts(
        host="a", destination_ip="192.0.2.1", source=CaseSource(principal=None, ip="2001:db8::1")
    )
    assert said.hidden == frozenset()
    assert said.flow.peer.host == "2001:db8::1"


def test_a_case_is_filled_from_its_defaults_part_by_part() -> None:
    defaults = CaseRequest(
        port=80,
        path="/a",
        headers={"X-A": "1", "x-b": "1"},
        source=CaseSource(principal="a/ns/b/sa/c", ip="192.0.2.7"),
    )
    case = filled(
        CaseRequest(path="/b", headers={"x-a": "2"}, source=CaseSource(namespace="d")), defaults
    )
    assert (case.port, case.path, case.headers) == (80, "/b", {"x-a": "2", "x-b": "1"})
    assert facts_of(case).flow.identity == Peer("cluster.local", "d", "default")
    assert case.source.ip == "192.0.2.7"


SECURED = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: partner, namespace: foo}
spec: {host: a.example, trafficPolicy: {tls: {mode: SIMPLE, caCertificates: /a, subjectAltNames: [y.example, x.example]}}}
"""


def outbound(expect: str) -> Report:
    """What comes of a request to a host with a rule."""
    case = f"{{name: c, direction: outbound, request: {{host: a.example}}, expect: {expect}}}"
    found = gathered(suite(case), policies=SECURED)
    assert found.snapshot is not None, "\n".join(map(str, found.findings))
    return run(found.snapshot, found.tests)


@pytest.mark.parametrize(
    ("expect", "mismatches"),
    [
        pytest.param("{verdict: ALLOW, tls: {mode: SIMPLE, sni: a.example, subjectAltNames: [x.example, y.example]}}", [], id="as expected"),
        pytest.param("{tls: {mode: DISABLE}}", [("tls.mode", "DISABLE", "SIMPLE")], id="another mode"),
        pytest.param('{tls: {sni: ""}}', [("tls.sni", "none", "a.example")], id="another name"),
        pytest.param("{tls: {subjectAltNames: [z.example]}}", [("tls.subjectAltNames", "z.example", "x.example, y.example")], id="somebody else"),
    ],
)  # fmt: skip
def test_a_case_may_expect_how_a_connection_is_secured(
    expect: str, mismatches: list[tuple[str, str, str]]
) -> None:
    (result,) = outbound(expect).results
    assert [(each.field, each.expected, each.came) for each in result.mismatches] == mismatches


def test_a_connection_that_is_not_secured_has_no_names() -> None:
    case = "{name: c, direction: outbound, request: {host: b.example}, expect: {tls: {mode: DISABLE, sni: '', subjectAltNames: []}}}"
    found = gathered(suite(case), policies=SECURED)
    assert found.snapshot is not None
    assert run(found.snapshot, found.tests).failed == 0
