"""`tproxy policy` as people and scripts see it."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
from click.testing import CliRunner, Result

from tproxy.cli import main

POLICIES = """\
apiVersion: tproxy.io/v1alpha1
kind: ProxyConfig
spec:
  workload: {namespace: my-ns, labels: {app: httpbin}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny-admin, namespace: my-ns}
spec:
  action: DENY
  rules:
  - to: [{operation: {paths: ["/admin*"]}}]
    from: [{source: {notNamespaces: [ops]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: my-ns}
spec:
  rules:
  - from: [{source: {principals: [cluster.local/ns/my-ns/sa/sleep]}}]
    to: [{operation: {methods: [GET], paths: [/get]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: my-ns}
spec: {selector: {matchLabels: {app: web}}, action: DENY, rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: next, namespace: my-ns, annotations: {istio.io/dry-run: "true"}}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/get]}}]}]}
"""
SUITE = """\
apiVersion: tproxy.io/v1alpha1
kind: PolicyTest
metadata: {name: authz}
spec:
  defaults:
    source: {principal: cluster.local/ns/my-ns/sa/sleep}
    port: 8080
  cases:
  - {name: a reader, request: {path: /get}, expect: {verdict: ALLOW, policy: my-ns/readers}}
  - {name: traversal, request: {path: "/get/..//admin"}, expect: {verdict: DENY, normalizedPath: /admin}}
"""
FAILING = "  - {name: 'no #1', request: {path: /put}, expect: {verdict: ALLOW, rule: 0}}\n"


@pytest.fixture
def policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of policies with tests, in the current one so that paths are short."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policies" / "tests").mkdir(parents=True)
    write(Path("policies/authz.yaml"), POLICIES)
    write(Path("policies/tests/authz.yaml"), SUITE)
    return Path("policies")


def write(path: Path, text: str) -> None:
    """Write a file."""
    path.write_text(text, encoding="utf-8")


def policy(*words: str | Path, given: bytes | None = None, colour: bool = False) -> Result:
    """Call `tproxy policy`."""
    return CliRunner().invoke(main, ["policy", *map(str, words)], input=given, color=colour)


def without_verbs(lines: Sequence[str]) -> str:
    """Join lines as they are printed."""
    return "\n".join(lines) + "\n"


WRONG = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a, namespace: my-ns}
spec:
  acton: DENY
"""


def test_check_shows_the_line_and_the_place_of_each_mistake(policies: Path) -> None:
    write(policies / "wrong.yaml", WRONG)
    done = policy("check", policies)
    assert done.exit_code == 1
    assert (
        done.output
        == """\
warning TPX0215 policies/authz.yaml:26:8
  26 | spec: {selector: {matchLabels: {app: web}}, action: DENY, rules: [{}]}
     |        ^
  $.spec.selector: this workload has the labels {'app': 'httpbin'}: not applied

error TPX0103 policies/wrong.yaml:5:3
  5 |   acton: DENY
    |   ^
  $.spec.acton: unknown field 'acton', did you mean 'action'?

3 files: 1 error, 1 warning
"""
    )


def test_check_passes_what_is_sound_and_tells_what_is_worth_a_look(policies: Path) -> None:
    done = policy("check", policies)
    assert done.exit_code == 0
    assert re.search(r"\n2 files: [1-9] warning", done.output)
    write(policies / "authz.yaml", "")
    assert policy("check", policies).output == "2 files, nothing is wrong\n"


def test_check_looks_at_tests_too(policies: Path) -> None:
    write(policies / "tests" / "authz.yaml", SUITE.replace("verdict: DENY", "verdict: NO"))
    done = policy("check", policies)
    assert done.exit_code == 1
    assert "policies/tests/authz.yaml:10:" in done.output


def test_check_writes_a_list_for_scripts(policies: Path) -> None:
    write(policies / "wrong.yaml", WRONG)
    done = policy("check", policies, "--format", "json")
    assert done.exit_code == 1
    assert json.loads(done.output)[1] == {
        "file": "policies/wrong.yaml",
        "line": 5,
        "column": 3,
        "code": "TPX0103",
        "severity": "error",
        "path": "$.spec.acton",
        "message": "unknown field 'acton', did you mean 'action'?",
    }


def test_check_writes_sarif(policies: Path) -> None:
    write(policies / "wrong.yaml", WRONG)
    done = policy("check", policies, "--format", "sarif")
    assert done.exit_code == 1
    (run,) = json.loads(done.output)["runs"]
    assert [each["ruleId"] for each in run["results"]] == ["TPX0215", "TPX0103"]


def test_colours_are_for_terminals_and_for_those_who_want_them(
    policies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in policy("check", policies, colour=True).output
    assert "\x1b[" not in policy("check", policies).output
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in policy("check", policies, colour=True).output


def test_a_long_line_is_shown_around_its_place(policies: Path) -> None:
    write(
        policies / "wrong.yaml",
        WRONG.replace(
            "\n  acton", f" {{selector: {{matchLabels: {{a: {'x' * 60}}}}}, acton"
        ).replace("DENY", f"DENY, rules: [{'x' * 200}]}}"),
    )
    lines = policy("check", policies).output.splitlines()
    shown, caret = lines[6], lines[7]
    assert len(shown) < 120
    assert shown[caret.index("^") :].startswith("acton")


def test_a_file_that_cannot_be_read_has_no_line_to_show(policies: Path) -> None:
    (policies / "wrong.yaml").symlink_to("nowhere")
    done = policy("check", policies)
    assert done.exit_code == 1
    assert "policies/wrong.yaml:1:1\n  $: is no regular file, or a link to none\n" in done.output


def test_what_a_file_says_does_not_steer_the_terminal(policies: Path) -> None:
    write(policies / "wrong.yaml", WRONG.replace("acton:", '"\\e[2J":'))
    assert "\x1b" not in policy("check", policies).output


def test_whose_sidecar_it_is_can_be_said(policies: Path) -> None:
    write(policies / "authz.yaml", POLICIES.partition("---\n")[2])
    assert "--namespace" in policy("check", policies).output
    done = policy("check", policies, "--namespace", "my-ns", "--label", "app=web")
    assert done.exit_code == 0
    assert "TPX0215" not in done.output


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["check", "nowhere"], id="no directory"),
        pytest.param(["check", "policies", "--label", "app"], id="no label"),
        pytest.param(["check", "policies", "--format", "xml"], id="no format"),
        pytest.param(["test", "policies", "--tests", "empty"], id="no tests"),
        pytest.param(["explain"], id="nothing to explain"),
        pytest.param(["explain", "policies", "--last-denied"], id="two things to explain"),
        pytest.param(["explain", "policies"], id="no port"),
        pytest.param(["explain", "policies", "--port", "80", "--path", "get"], id="no path"),
        pytest.param(["explain", "policies", "--port", "80", "--method", "get"], id="no method"),
        pytest.param(["explain", "policies", "--port", "80", "--principal", "me"], id="no principal"),
        pytest.param(["explain", "policies", "--port", "80", "--principal", "a/ns/b/sa/c", "--plaintext"], id="somebody and nobody"),
        pytest.param(["explain", "policies", "--request", "two.yaml"], id="two requests"),
        pytest.param(["explain", "policies", "--request", "wrong.yaml"], id="no request"),
        pytest.param(["diff", "--candidate", "policies"], id="no log"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_no_finding(policies: Path, words: list[str]) -> None:
    Path("empty").mkdir()
    write(Path("two.yaml"), "port: 80\n---\nport: 81\n")
    write(Path("wrong.yaml"), "prt: 80\n")
    assert policies.is_dir()
    assert policy(*words).exit_code == 2


PASSED = """\
authz (policies/tests/authz.yaml)
  ok    a reader
  ok    traversal

2 cases, 0 failed
3 of 3 rules (100 %) matched in some case
"""
FAILED = """\
authz (policies/tests/authz.yaml)
  ok    a reader
  ok    traversal
  FAIL  no #1 (line 11)
        verdict: expected ALLOW, came DENY
        rule: expected 0, came none
        | DENY GET /put to port 8080
        |   some policy allows something, and no rule allows this
        |   who asks: cluster.local/ns/my-ns/sa/sleep; from an address not known
        |   with all dry-run policies in force: DENY
        |
        | DENY my-ns/deny-admin (policies/authz.yaml:6)
        |   rule 0 does not match, for one field only (policies/authz.yaml:12)
        |     to[0].paths (line 12) fails: one of /admin* is wanted, it is /put
        |
        | DENY my-ns/web (policies/authz.yaml:23)
        |   is not about this workload: it selects app=web, this workload has app=httpbin
        |
        | DENY my-ns/next (policies/authz.yaml:28, dry run)
        |   rule 0 does not match, for one field only (policies/authz.yaml:31)
        |     to[0].paths (line 31) fails: one of /get is wanted, it is /put
        |
        | ALLOW my-ns/readers (policies/authz.yaml:15)
        |   rule 0 does not match, for one field only (policies/authz.yaml:20)
        |     to[0].paths (line 21) fails: one of /get is wanted, it is /put

3 cases, 1 failed
3 of 3 rules (100 %) matched in some case
"""


def test_test_tells_of_each_case_and_of_why_it_failed(policies: Path) -> None:
    done = policy("test", policies)
    assert (done.exit_code, done.output) == (0, PASSED)
    write(policies / "tests" / "authz.yaml", SUITE + FAILING)
    done = policy("test", policies)
    assert (done.exit_code, done.output) == (1, FAILED)


def test_test_finds_tests_where_it_is_told_to(policies: Path) -> None:
    (policies / "tests").rename("elsewhere")
    assert policy("test", policies).exit_code == 2
    assert policy("test", policies, "--tests", "elsewhere").exit_code == 0


def test_test_demands_that_rules_are_covered(policies: Path) -> None:
    write(policies / "tests" / "authz.yaml", SUITE.rpartition("  - ")[0])
    done = policy("test", policies, "--min-coverage", "67")
    assert done.exit_code == 1
    assert "  never: rule 0 of my-ns/deny-admin (policies/authz.yaml:12)\n" in done.stdout
    assert done.stderr == "coverage is 67 %, and 67 % are demanded\n"
    assert policy("test", policies, "--min-coverage", "66").exit_code == 0


def test_test_refuses_policies_that_the_sidecar_would_refuse(policies: Path) -> None:
    write(policies / "wrong.yaml", WRONG)
    done = policy("test", policies)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "TPX0103" in done.stderr


def test_test_speaks_tap(policies: Path) -> None:
    write(policies / "tests" / "authz.yaml", SUITE + FAILING)
    assert (
        policy("test", policies, "--format", "tap").output
        == r"""TAP version 14
1..3
ok 1 - authz: a reader
ok 2 - authz: traversal
not ok 3 - authz: no \#1
  ---
  verdict: {"expected": "ALLOW", "came": "DENY"}
  rule: {"expected": "0", "came": "none"}
  ...
"""
    )


def test_test_writes_junit(policies: Path) -> None:
    write(policies / "tests" / "authz.yaml", SUITE + FAILING)
    suites = Xml.fromstring(policy("test", policies, "--format", "junit").output)
    cases = list(suites.iter("testcase"))
    assert (suites.attrib["tests"], suites.attrib["failures"]) == ("3", "1")
    assert [each.attrib["name"] for each in cases] == ["a reader", "traversal", "no #1"]
    (failure,) = cases[2]
    assert failure.attrib["message"].startswith("verdict: expected ALLOW, came DENY")
    assert "it is /put" in (failure.text or "")


def test_test_writes_json(policies: Path) -> None:
    told = json.loads(policy("test", policies, "--format", "json").output)
    assert [each["passed"] for each in told["cases"]] == [True, True]
    assert told["cases"][0]["explanation"]["policy"] == "my-ns/readers"
    assert told["coverage"] == {"rules": 3, "percent": 100.0, "unmatched": []}


def explained(*words: str, given: bytes | None = None) -> str:
    """What `explain` prints."""
    done = policy("explain", "policies", *words, given=given)
    assert done.exit_code == 0, done.output
    return done.output


EXPLAINED = """\
DENY GET /admin to port 8080
  rule 0 of my-ns/deny-admin matches (policies/authz.yaml:12)
  who asks: nobody, as the connection is plaintext; from 192.0.2.7
  path as it was sent: /get/..//admin
  host: httpbin
  with all dry-run policies in force: DENY

DENY my-ns/deny-admin (policies/authz.yaml:6)
  rule 0 matches (policies/authz.yaml:12)

DENY my-ns/web (policies/authz.yaml:23)
  is not about this workload: it selects app=web, this workload has app=httpbin

DENY my-ns/next (policies/authz.yaml:28, dry run)
  rule 0 does not match, for one field only (policies/authz.yaml:31)
    to[0].paths (line 31) fails: one of /get is wanted, it is /admin

ALLOW my-ns/readers (policies/authz.yaml:15)
  rule 0 does not match (policies/authz.yaml:20)
    from[0].principals (line 20) fails: one of cluster.local/ns/my-ns/sa/sleep is wanted, there is none
    and so does to[0].paths
"""
ASKED = ("--plaintext", "--port", "8080", "--host", "httpbin", "--source-ip", "192.0.2.7")


@pytest.mark.usefixtures("policies")
def test_explain_names_every_policy_and_what_failed() -> None:
    assert explained("--path", "/get/..//admin?a=b", *ASKED) == EXPLAINED


@pytest.mark.usefixtures("policies")
def test_explain_takes_a_request_from_a_file_and_options_over_it() -> None:
    given = b'{"path": "/put", "port": 8080, "host": "httpbin", "source": {"principal": null}}'
    words = ("--request", "-", "--path", "/get/..//admin", "--source-ip", "192.0.2.7")
    assert explained(*words, given=given) == EXPLAINED


@pytest.mark.usefixtures("policies")
def test_explain_says_what_it_would_have_to_know() -> None:
    told = explained("--port", "8080", "--path", "/get")
    assert "it depends on what is not known: source.principal" in told
    assert "from[0].principals (line 20) depends on source.principal, which is not known" in told
    assert "with all dry-run policies in force: DENY" in told


@pytest.mark.usefixtures("policies")
def test_explain_tells_of_bytes() -> None:
    told = explained("--port", "3306", "--protocol", "tcp", "--source-namespace", "ops")
    assert "DENY inbound opaque connection to port 3306" in told
    assert "paths (line 21) is about HTTP" not in told
    assert "methods (line 21) is about HTTP, and this connection is none" in told


def test_explain_tells_of_marks_and_of_policies_without_rules(policies: Path) -> None:
    audit = "spec: {action: AUDIT, rules: [{}]}\n---\n"
    begin = WRONG.partition("spec")[0]
    write(
        policies / "authz.yaml", f"{begin}{audit}{begin.replace('name: a', 'name: b')}spec: {{}}\n"
    )
    told = explained("--namespace", "my-ns", *ASKED)
    assert "  marked by ns[my-ns]-policy[a]-rule[0]\n" in told
    assert "  has no rules, so nothing matches\n" in told


@pytest.mark.usefixtures("policies")
def test_what_a_request_says_does_not_steer_the_terminal() -> None:
    told = explained("--path", "/\x1b[2J", *ASKED)
    assert "\x1b" not in told
    assert "it is /\\x1b[2J\n" in told


@pytest.mark.usefixtures("policies")
def test_explain_refuses_a_request_that_is_no_yaml() -> None:
    done = policy("explain", "policies", "--request", "-", given=b"{a: ")
    assert done.exit_code == 2
    assert "TPX0102" in done.stderr


@pytest.mark.usefixtures("policies")
def test_explain_writes_json() -> None:
    told = json.loads(explained("--path", "/get", *ASKED, "--format", "json"))
    assert (told["verdict"], told["reason"]) == ("DENY", "no_allow_match")
    (readers,) = [each for each in told["policies"] if each["policy"] == "my-ns/readers"]
    assert readers["rules"][0]["near_miss"] is True
    assert readers["rules"][0]["missed"][0]["field"] == "from[0].principals"


def test_explain_never_prints_a_secret(policies: Path) -> None:
    rule = "{when: [{key: 'request.headers[authorization]', values: [Bearer s3cret]}]}"
    write(policies / "authz.yaml", WRONG.partition("spec")[0] + f"spec: {{rules: [{rule}]}}\n")
    words = ("--namespace", "my-ns", "--header", "Authorization=Bearer 0ther", *ASKED)
    for form in ("human", "json"):
        told = explained(*words, "--format", form)
        assert "s3cret" not in told
        assert "0ther" not in told
        assert "(hidden)" in told


def entry(path: str, request_id: str, **authz: object) -> str:
    """A line of the access log."""
    own = {
        "direction": "inbound",
        "detected_protocol": "http1",
        "original_dst": "192.0.2.1:8080",
        "source_principal": None,
        "authz": authz or None,
    }
    line = {
        "method": "GET",
        "path": path,
        "protocol": "HTTP/1.1",
        "authority": "httpbin",
        "request_id": request_id,
        "downstream_remote_address": "192.0.2.7:40000",
        "tproxy": own,
    }
    return json.dumps(line) + "\n"


LOG = (
    entry("/users/1", "r-1")
    + entry("/users/2", "r-2")
    + entry("/admin", "r-3", verdict="DENY", reason="deny_match", policy="my-ns/deny-admin", rule=0)
    + "junk\n\n"
)


def test_diff_groups_what_would_change(policies: Path) -> None:
    write(Path("access.jsonl"), LOG)
    done = policy("diff", "--candidate", policies, "--log", "access.jsonl")
    assert done.exit_code == 0
    assert (
        done.output
        == """\
2 x GET /users/{*}: ALLOW -> DENY
    was: default
    now: no_allow_match
    as r-1, r-2
4 lines: 1 as before, 2 changed, 0 undetermined, 1 skipped
  1 skipped: is no line of the JSON access log
"""
    )


def test_diff_leaves_open_what_the_log_does_not_hold(policies: Path) -> None:
    spec = "spec: {rules: [{when: [{key: 'request.headers[team]', values: [red]}]}]}\n"
    write(policies / "authz.yaml", WRONG.partition("spec")[0] + spec)
    write(Path("access.jsonl"), LOG)
    done = policy("diff", "--candidate", policies, "--log", "access.jsonl", "--namespace", "my-ns")
    assert "2 x GET /users/{*}: ALLOW -> UNDETERMINED\n" in done.output
    assert "    now: depends on request.headers[team], which the log does not hold\n" in done.output
    assert "4 lines: 0 as before, 0 changed, 3 undetermined, 1 skipped\n" in done.output


def test_diff_compares_two_directories(policies: Path) -> None:
    Path("open").mkdir()
    words = ("diff", "--candidate", policies, "--current", "open", "--log", "-", "--format", "json")
    told = json.loads(policy(*words, given=LOG.encode()).output)
    assert [(each["count"], each["to"]["verdict"]) for each in told["changes"]] == [
        (2, "DENY"),
        (1, "DENY"),
    ]


def test_diff_says_what_it_could_not_tell_apart(policies: Path) -> None:
    rules = (
        entry("/get", "r", verdict="DENY", reason="deny_match", policy="a/b", rule=at)
        for at in range(2001)
    )
    Path("open").mkdir()
    write(Path("access.jsonl"), "".join(rules))
    assert policies.is_dir()
    done = policy("diff", "--candidate", "open", "--log", "access.jsonl")
    assert done.output.endswith(
        "  1 more changed or undetermined, of kinds that are not told apart\n"
    )


def test_diff_says_that_ways_are_not_compared(policies: Path) -> None:
    write(Path("access.jsonl"), LOG.replace('"inbound"', '"outbound"', 1))
    done = policy("diff", "--candidate", policies, "--log", "access.jsonl")
    assert done.output.splitlines()[-2:] == [
        "  1 of them outbound, which no policy judges: which way they go is not compared",
        "  1 skipped: is no line of the JSON access log",
    ]


def test_diff_passes_over_lines_without_end(policies: Path) -> None:
    write(Path("access.jsonl"), f"{'x' * 200_000}\n{entry('/users/1', 'r-1')}{'y' * 70_000}")
    done = policy("diff", "--candidate", policies, "--log", "access.jsonl")
    assert "  2 skipped: is too long for one of the access log\n" in done.output
    assert done.output.startswith("1 x GET /users/{*}")


ENTRY = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: store, namespace: my-ns}
spec: {hosts: [store], addresses: [192.0.2.10]}
"""


ROUTES = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: store, namespace: my-ns}
spec:
  hosts: [store]
  http:
  - {name: canary, match: [{headers: {x-canary: {}}}], route: [{destination: {host: store-v2}}]}
  - {route: [{destination: {host: store}}], timeout: 2s}
"""


def test_explain_tells_the_way_to_scripts(policies: Path) -> None:
    write(policies / "routes.yaml", ROUTES)
    asked = ("--direction", "outbound", "--port", "80", "--host", "store", "--format", "json")
    names = ("--namespace", "my-ns", "--label", "app=x")
    route = json.loads(policy("explain", policies, *asked, *names).output)["route"]
    assert (route["policy"], route["entry"]) == ("my-ns/store", "my-ns/store.http[1]")
    assert (route["cluster"], route["plan"]["timeout"]) == ("PassthroughCluster", 2.0)
    assert [each["entry"] for each in route["passed"]] == ["canary"]
    canary = policy("explain", policies, *asked, *names, "--header", "x-canary=1").output
    assert json.loads(canary)["route"]["cluster"] == "outbound|80||store-v2.my-ns.svc.cluster.local"


def test_explain_knows_of_endpoints_beside_the_policies(policies: Path) -> None:
    Path("endpoints").mkdir()
    write(Path("endpoints/pods.yaml"), ENTRY)
    beside = ("--endpoints", "endpoints")
    asked = ("--direction", "outbound", "--port", "80", "--destination-ip", "192.0.2.10")
    names = ("--namespace", "my-ns", "--label", "app=x")
    said = policy("explain", policies, *asked, *names, *beside).output
    assert "to: store.my-ns.svc.cluster.local, named by my-ns/store (endpoints/pods.yaml:1)" in said
    write(Path("endpoints/pods.yaml"), POLICIES)
    refused = policy("check", policies, *names, *beside)
    assert refused.exit_code == 1
    assert "endpoints are ServiceEntry objects only" in refused.output
