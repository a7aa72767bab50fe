"""A log against other policies: what it holds decides, what it does not hold leaves open."""

import json
from typing import Any

import msgspec
import pytest

from tproxy.model.identity import Workload
from tproxy.policy.compile import compiled
from tproxy.policy.explain import Examiner
from tproxy.policy.nodes import SourceFile
from tproxy.policy.replay import (
    EXAMPLES,
    MAX_GROUPS,
    OTHERS,
    NotReplayable,
    Replay,
    described,
    logged,
)
from tproxy.policy.snapshot import Snapshot

OWN = {
    "direction": "inbound",
    "detected_protocol": "http1",
    "original_dst": "192.0.2.1:8080",
    "source_principal": None,
    "authz": None,
}
ENTRY = {
    "method": "GET",
    "path": "/get",
    "protocol": "HTTP/1.1",
    "authority": "httpbin",
    "request_id": "r-1",
    "downstream_remote_address": "192.0.2.7:40000",
}


def line(own: dict[str, object] | None = None, **fields: object) -> bytes:
    """A line of the access log."""
    return json.dumps({**ENTRY, **fields, "tproxy": {**OWN, **(own or {})}}).encode() + b"\n"


def examiner(*specs: str) -> Examiner:
    """Policies, each spec in YAML's flow style."""
    documents = [
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        f"metadata: {{name: p{at}}}\nspec: {spec}\n"
        if spec.startswith("{")
        else spec
        for at, spec in enumerate(specs)
    ]
    files = [SourceFile("p.yaml", "---\n".join(documents).encode())]
    result = compiled(files, 1, Workload("httpbin", "foo"))
    assert isinstance(result, Snapshot), "\n".join(map(str, result))
    return Examiner(result)


def replayed(candidate: Examiner, *lines: bytes, **options: Examiner | bool) -> dict[str, Any]:
    """What comes of a log."""
    replay = Replay(candidate, **options)  # type: ignore[arg-type]
    for each in lines:
        replay.add(each)
    found: dict[str, Any] = json.loads(msgspec.json.encode(described(replay)))
    return found


def to(verdict: Examiner, entry: bytes, **options: Examiner | bool) -> tuple[str, list[str]]:
    """What becomes of one line, ALLOW before, and what is missing."""
    found = replayed(verdict, entry, **options)
    if found["same"]:
        return "ALLOW", []
    (change,) = found["changes"]
    return change["to"]["verdict"], list(change["to"]["missing"])


DENY_ALL = "{action: DENY, rules: [{}]}"
STRICT = (
    "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
    "metadata: {name: m, namespace: foo}\nspec: {mtls: {mode: STRICT}}\n"
)


def deny(fields: str) -> str:
    """DENY by one field."""
    return f"{{action: DENY, rules: [{fields}]}}"


AGENT = deny("{when: [{key: 'request.headers[user-agent]', values: ['curl*']}]}")
TEAM = deny("{when: [{key: 'request.headers[team]', values: [red]}]}")
FORWARDED = deny("{when: [{key: 'request.headers[x-forwarded-for]', values: ['192.0.2.9*']}]}")
REMOTE = deny("{from: [{source: {remoteIpBlocks: [192.0.2.9]}}]}")
PATH = deny("{to: [{operation: {paths: [/get]}}]}")
HOST = deny("{to: [{operation: {hosts: [httpbin]}}]}")
NOBODY = deny("{from: [{source: {notPrincipals: ['*']}}]}")
NAME = deny("{when: [{key: connection.sni, values: [a.example]}]}")


@pytest.mark.parametrize(
    ("spec", "entry", "verdict", "missing"),
    [
        pytest.param(PATH, line(), "DENY", [], id="path"),
        pytest.param(PATH, line(path="/get?a=b"), "DENY", [], id="path with a query"),
        pytest.param(PATH, line(path="/put"), "ALLOW", [], id="another path"),
        pytest.param(PATH, line(path="/get…"), "UNDETERMINED", ["request.path"], id="a path cut short"),
        pytest.param(PATH, line(path="/get?a…"), "DENY", [], id="a query cut short"),
        pytest.param(PATH, line(path="/get\\xff"), "UNDETERMINED", ["request.path"], id="a path with bytes escaped"),
        pytest.param(HOST, line(), "DENY", [], id="host"),
        pytest.param(HOST, line(authority=None), "ALLOW", [], id="no host"),
        pytest.param(HOST, line(authority="a…"), "UNDETERMINED", ["request.host"], id="a host cut short"),
        pytest.param(AGENT, line(user_agent="curl/8"), "DENY", [], id="user agent"),
        pytest.param(AGENT, line(), "ALLOW", [], id="no user agent"),
        pytest.param(AGENT, line(user_agent="curl, x"), "UNDETERMINED", ["request.headers[user-agent]"], id="perhaps two user agents"),
        pytest.param(TEAM, line(), "UNDETERMINED", ["request.headers[team]"], id="a header that is not logged"),
        pytest.param(FORWARDED, line(x_forwarded_for="192.0.2.9"), "DENY", [], id="forwarded for"),
        pytest.param(FORWARDED, line(x_forwarded_for="192.0.2.9, 192.0.2.8"), "UNDETERMINED", ["request.headers[x-forwarded-for]"], id="perhaps forwarded twice"),
        pytest.param(REMOTE, line(x_forwarded_for="192.0.2.8, 192.0.2.9"), "DENY", [], id="the last address"),
        pytest.param(REMOTE, line(x_forwarded_for="192.0.2.8, 192.0…"), "UNDETERMINED", ["request.headers[x-forwarded-for]"], id="addresses cut short"),
        pytest.param(NOBODY, line(), "DENY", [], id="plaintext"),
        pytest.param(NOBODY, line({"source_principal": "a/ns/b/sa/c"}), "ALLOW", [], id="somebody"),
        pytest.param(NAME, line(method=None, own={"detected_protocol": "tls"}, requested_server_name="a.example"), "DENY", [], id="a server name"),
        pytest.param(NAME, line(method=None, own={"detected_protocol": "tls"}, requested_server_name="a…"), "UNDETERMINED", ["connection.sni"], id="a server name cut short"),
        pytest.param(PATH, line(method=None, own={"detected_protocol": "opaque"}), "DENY", [], id="bytes"),
        pytest.param(DENY_ALL, line({"direction": "outbound"}), "ALLOW", [], id="outbound"),
        pytest.param(DENY_ALL, line({"original_dst": "[2001:db8::1]:80"}), "DENY", [], id="IPv6"),
        pytest.param(STRICT, line(), "DENY", [], id="mutual TLS is demanded"),
    ],
)  # fmt: skip
def test_a_line_decides_by_what_it_holds(
    spec: str, entry: bytes, verdict: str, missing: list[str]
) -> None:
    assert to(examiner(spec), entry) == (verdict, missing)


def unsaid() -> bytes:
    """A line that does not say whether somebody proved who they are."""
    entry = json.loads(line())
    del entry["tproxy"]["source_principal"]
    return json.dumps(entry).encode()


def test_who_asked_is_not_known_unless_the_log_or_somebody_says_so() -> None:
    assert to(examiner(NOBODY), unsaid()) == ("UNDETERMINED", ["source.principal"])
    assert to(examiner(NOBODY), unsaid(), plaintext=True) == ("DENY", [])


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        pytest.param(b"[2026] GET\n", "is no line of the JSON access log", id="text"),
        pytest.param(b"{}\n", "is no line of the JSON access log", id="another log"),
        pytest.param(line(method=None), "tells of no request that could be read", id="unreadable"),
        pytest.param(line({"original_dst": "x"}), "'x' is no address", id="no address"),
        pytest.param(line({"source_principal": "x"}), "'x' is no principal, write TRUST_DOMAIN/ns/NAMESPACE/sa/NAME", id="no principal"),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_asked_about_is_counted_with_why(entry: bytes, why: str) -> None:
    found = replayed(examiner(), entry, entry)
    assert (found["lines"], found["skipped"], found["changes"]) == (2, {why: 2}, [])
    with pytest.raises(NotReplayable):
        logged(entry)


def refused(**own: object) -> bytes:
    """A connection that was refused as it was plaintext."""
    return line(dict(own), method=None, response_code_details="filter_chain_not_found")


def test_a_connection_that_was_refused_as_plaintext_stays_refused_or_is_open() -> None:
    assert replayed(examiner(STRICT), refused())["same"] == 1
    (change,) = replayed(examiner(), refused())["changes"]
    assert change["from"]["reason"] == "plaintext_on_strict_port"
    assert change["to"]["missing"] == ["request"]
    assert change["request"] == "connection to port 8080"


def test_what_left_is_counted_as_what_no_policy_judges() -> None:
    found = replayed(examiner(DENY_ALL), line({"direction": "outbound"}), line({"authz": AUTHZ}))
    assert (found["same"], found["outbound"]) == (2, 1)


AUTHZ = {"verdict": "DENY", "reason": "deny_match", "policy": "foo/p", "rule": 2}


def test_changes_are_grouped_by_verdict_rule_and_pattern_of_path() -> None:
    entries = [
        line(path=f"/users/{number}/posts", request_id=f"r-{number}")
        for number in range(EXAMPLES + 2)
    ]
    found = replayed(examiner(DENY_ALL), *entries, line({"authz": AUTHZ}))
    assert found["same"] == 1
    assert found["changes"] == [
        {
            "from": {"verdict": "ALLOW", "reason": "default", "rule": None, "missing": []},
            "to": {"verdict": "DENY", "reason": "deny_match", "rule": "foo/p0[0]", "missing": []},
            "request": "GET /users/{*}/posts",
            "count": EXAMPLES + 2,
            "examples": ["r-0", "r-1", "r-2"],
        }
    ]


def test_the_most_frequent_change_comes_first_and_names_the_rule_that_was() -> None:
    found = replayed(
        examiner(),
        line({"authz": AUTHZ}, path="/a", request_id=None),
        *[line({"authz": {**AUTHZ, "policy": None, "rule": None, "reason": "no_allow_match"}})] * 2,
    )
    assert [(each["count"], each["from"]["rule"]) for each in found["changes"]] == [
        (2, None),
        (1, "foo/p[2]"),
    ]
    assert found["changes"][1]["examples"] == []


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        pytest.param("/a/123", "GET /a/{*}", id="a number"),
        pytest.param("/a/6f1c2a9e-94a5-4e0b-8c64-0d4f3f2f7d11", "GET /a/{*}", id="a UUID"),
        pytest.param("/a/0123456789abcdef", "GET /a/{*}", id="a hash"),
        pytest.param("/feedfacecafe", "GET /feedfacecafe", id="a word"),
        pytest.param("/a/b/c/d/e/f/g", "GET /a/b/c/d/e/{**}", id="a long one"),
    ],
)
def test_paths_that_differ_in_a_name_are_of_one_pattern(path: str, pattern: str) -> None:
    (change,) = replayed(examiner(DENY_ALL), line(path=path))["changes"]
    assert change["request"] == pattern


def test_a_log_of_scanned_paths_does_not_fill_the_memory() -> None:
    entries = [line(path=f"/x{number}") for number in range(MAX_GROUPS + 5)]
    found = replayed(examiner(DENY_ALL), *entries, entries[0])
    assert (len(found["changes"]), found["ungrouped"]) == (MAX_GROUPS + 1, 0)
    others, first, *_ = found["changes"]
    assert (others["request"], others["count"], others["to"]["rule"]) == (OTHERS, 5, "foo/p0[0]")
    assert (first["request"], first["count"]) == ("GET /x0", 2)


def test_a_log_of_made_up_rules_does_not_fill_the_memory_either() -> None:
    names = range(2 * MAX_GROUPS + 5)
    found = replayed(examiner(), *(line({"authz": {**AUTHZ, "rule": name}}) for name in names))
    assert (len(found["changes"]), found["ungrouped"]) == (2 * MAX_GROUPS, 5)


def test_policies_can_be_compared_with_others_instead_of_with_what_was_decided() -> None:
    found = replayed(examiner(DENY_ALL), line({"authz": AUTHZ}), current=examiner())
    (change,) = found["changes"]
    assert (change["from"]["verdict"], change["to"]["verdict"]) == ("ALLOW", "DENY")
