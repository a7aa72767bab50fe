"""Compiled policies decide as a reader of their description would: rule by rule, value by value."""

import json
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tproxy.model.address import Address
from tproxy.model.flow import Detection, Direction, Flow, Protocol, Sniffed
from tproxy.model.http import Field, Headers, HttpVersion, RequestHead
from tproxy.model.identity import Peer, Workload
from tproxy.policy.authorize import RuleIndex
from tproxy.policy.compile import compiled
from tproxy.policy.nodes import SourceFile
from tproxy.policy.snapshot import Snapshot

WORKLOAD = Workload("httpbin", "foo", "httpbin", labels={"app": "httpbin"})
Rule = dict[str, Any]

# Which values fields ask for, and which ones they exclude: what is both is a mistake of its own.
SOURCES = {
    "principals": (["td/ns/foo/sa/x", "td/ns/b/sa/y", "td/ns/foo/*", "*/sa/y", "*"], ["td/ns/b/*"]),
    "namespaces": (["foo", "b", "b*"], ["*o", "*"]),
    "serviceAccounts": (["x", "b/y", "*/y"], ["b/*", "foo/x"]),
    "ipBlocks": (["192.0.2.1", "192.0.2.0/25", "2001:db8::/32"], ["192.0.2.0/24", "0.0.0.0/0"]),
    "remoteIpBlocks": (["198.51.100.0/24", "192.0.2.1"], ["198.51.100.7", "192.0.2.0/24"]),
}
OPERATIONS = {
    "hosts": (["a.example", "*.example", "A.example:80", "b.*", "*"], ["b.example", "a.example:*"]),
    "ports": (["80", "81"], ["82"]),
    "methods": (["GET", "P*", "*"], ["POST", "GET*"]),
    "paths": (["/a", "/a/*", "*/b", "/a/{*}", "/{*}/b/{**}", "*"], ["/a/b", "/b*", "/a/{*}/c"]),
}
CONDITIONS = {
    "request.headers[X-User]": (["ann", "a*", "*"], ["bob", "ann,bob"]),
    "source.ip": (["192.0.2.1"], ["192.0.2.0/24"]),
    "source.namespace": (["foo"], ["*o"]),
    "destination.port": (["80"], ["82"]),
    "connection.sni": (["a.example"], ["*.example"]),
}


def lists(values: list[str]) -> st.SearchStrategy[list[str]]:
    """Some of the values."""
    return st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True)


def capital(name: str) -> str:
    """A field's name behind `not`."""
    return "not" + name[0].upper() + name[1:]


def parts(table: dict[str, tuple[list[str], list[str]]]) -> st.SearchStrategy[Rule]:
    """A source or an operation: one or two of its fields."""
    fields = [
        *((name, wanted) for name, (wanted, _) in table.items()),
        *((capital(name), excluded) for name, (_, excluded) in table.items()),
    ]
    one = st.sampled_from(fields).flatmap(lambda each: st.tuples(st.just(each[0]), lists(each[1])))
    return st.lists(one, min_size=1, max_size=2).map(dict)


def conditions() -> st.SearchStrategy[Rule]:
    """A condition, with what it wants or excludes."""

    def of(key: str) -> st.SearchStrategy[Rule]:
        wanted, excluded = CONDITIONS[key]
        said = st.one_of(
            st.fixed_dictionaries({"values": lists(wanted)}),
            st.fixed_dictionaries({"notValues": lists(excluded)}),
        )
        return said.map(lambda each: {"key": key, **each})

    return st.sampled_from(sorted(CONDITIONS)).flatmap(of)


RULES = st.fixed_dictionaries(
    {},
    optional={
        "from": st.lists(parts(SOURCES).map(lambda each: {"source": each}), min_size=1, max_size=2),
        "to": st.lists(
            parts(OPERATIONS).map(lambda each: {"operation": each}), min_size=1, max_size=2
        ),
        "when": st.lists(conditions(), min_size=1, max_size=2),
    },
)


@dataclass(frozen=True)
class Policy:
    """One AuthorizationPolicy, as its author thinks of it."""

    action: str
    tried: bool
    rules: list[Rule] | None

    def document(self, name: str) -> dict[str, Any]:
        """The object in a file."""
        spec = {"action": self.action} | ({} if self.rules is None else {"rules": self.rules})
        tried = {"istio.io/dry-run": "true" if self.tried else "false"}
        return {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": name, "namespace": "foo", "annotations": tried},
            "spec": spec,
        }


POLICIES = st.one_of(
    st.builds(Policy, st.just("ALLOW"), st.booleans(), st.none() | st.lists(RULES, max_size=3)),
    st.builds(
        Policy,
        st.sampled_from(["DENY", "AUDIT"]),
        st.booleans(),
        st.lists(RULES, min_size=1, max_size=2),
    ),
)
FLOWS = st.builds(
    Flow,
    st.just(Direction.INBOUND),
    peer=st.sampled_from([Address("192.0.2.1", 9), Address("192.0.2.200", 9), Address("2001:db8::1", 9)]),
    local=st.just(Address("192.0.2.9", 15006)),
    original_dst=st.sampled_from([80, 81, 82]).map(lambda port: Address("192.0.2.9", port)),
    sniffed=st.sampled_from(["", "a.example"]).map(
        lambda name: Sniffed(Protocol.OPAQUE, Detection.TCP, name)
    ),
    identity=st.sampled_from([None, Peer("td", "foo", "x"), Peer("td", "b", "y")]),
)  # fmt: skip
FIELDS: list[tuple[Field, ...]] = [
    (),
    ((b"x-user", b"ann"),),
    ((b"X-User", b"ann"), (b"x-USER", b"bob")),
    ((b"X-User", b""),),
    ((b"X-Forwarded-For", b"192.0.2.1, 198.51.100.7"),),
    ((b"X-Forwarded-For", b"junk"),),
]
HEADS = st.builds(
    RequestHead,
    st.sampled_from([b"GET", b"POST", b"PUT"]),
    st.just(b"http"),
    st.sampled_from([b"a.example", b"A.example:80", b"b.example.", b"b.test", b""]),
    st.sampled_from([b"/", b"/a", b"/a?q=/b", b"/a/b", b"/a/b/", b"/x/b/c/d", b"/a/x/c", b"/a/"]),
    st.sampled_from(FIELDS).map(Headers),
    st.just(HttpVersion.HTTP11),
)

HTTP = ("hosts", "methods", "paths", "request.headers")


def is_http(name: str) -> bool:
    """Whether a field is about requests only."""
    return name.startswith(HTTP)


def text_matches(pattern: str, value: str) -> bool:
    """Exact, `p*`, `*s`, or `*` for what is present and not empty."""
    if pattern == "*":
        return value != ""
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    return value.endswith(pattern[1:]) if pattern.startswith("*") else value == pattern


def path_matches(pattern: str, value: str) -> bool:
    """Segment by segment where there is a template."""
    if "{" not in pattern:
        return text_matches(pattern, value)
    wanted, there = pattern.split("/"), value.split("/")
    if wanted[-1] == "{**}":
        wanted, there = wanted[:-1], there[: len(wanted) - 1] if len(there) >= len(wanted) else []
    return len(wanted) == len(there) and all(
        (bool(is_) if want == "{*}" else is_ == want)
        for want, is_ in zip(wanted, there, strict=True)
    )


def host_matches(pattern: str, value: str) -> bool:
    """Without case and the root's dot, and without the port unless one is asked for."""
    pattern, value = pattern.lower(), value.lower().removesuffix(".")
    return text_matches(pattern, value if ":" in pattern else value.partition(":")[0])


def in_network(block: str, value: str) -> bool:
    """Whether an address is in a network of its family."""
    address, network = ip_address(value), ip_network(block)
    return address.version == network.version and address in network


def values_of(name: str, flow: Flow, head: RequestHead | None) -> str | None:
    """What a field is about; None where it is absent."""
    connection = {
        "ipBlocks": flow.peer.host,
        "source.ip": flow.peer.host,
        "ports": str(flow.original_dst.port),
        "destination.port": str(flow.original_dst.port),
        "connection.sni": flow.sniffed.server_name or None,
    }
    if name in connection:
        return connection[name]
    if name in ("principals", "namespaces", "source.namespace", "serviceAccounts"):
        return proven_value(name, flow.identity) if flow.identity else None
    return request_value(name, flow, head)


def proven_value(name: str, peer: Peer) -> str:
    """The same of who dials."""
    if name == "principals":
        return f"{peer.trust_domain}/ns/{peer.namespace}/sa/{peer.service_account}"
    if name == "serviceAccounts":
        return f"{peer.namespace}/{peer.service_account}"
    return peer.namespace


def request_value(name: str, flow: Flow, head: RequestHead | None) -> str | None:
    """The same of a request."""
    if name == "remoteIpBlocks":
        told = head.headers.get(b"x-forwarded-for") if head else None
        last = told.decode().split(",")[-1].strip() if told else "junk"
        return flow.peer.host if last == "junk" else last
    if head is None:
        return None
    if name == "hosts":
        return head.authority.decode() or None
    if name == "methods":
        return head.method.decode()
    if name == "paths":
        return head.path.decode().partition("?")[0]
    users = [value.decode() for key, value in head.headers if key.lower() == b"x-user"]
    return ",".join(users) if users else None


def value_matches(name: str, pattern: str, value: str) -> bool:
    """Whether one value of a field matches."""
    if name == "paths":
        return path_matches(pattern, value)
    if name == "hosts":
        return host_matches(pattern, value)
    if name in ("ipBlocks", "remoteIpBlocks", "source.ip"):
        return in_network(pattern, value)
    if name == "serviceAccounts" and "/" not in pattern:
        pattern = f"foo/{pattern}"
    return text_matches(pattern, value)


def field_holds(
    name: str, patterns: list[str], flow: Flow, head: RequestHead | None, *, negative: bool
) -> bool:
    """Values are alternatives; `notX` is the opposite; what is absent matches nothing."""
    value = values_of(name, flow, head)
    matches = value is not None and any(value_matches(name, each, value) for each in patterns)
    return matches is not negative


def flat(said: Rule) -> list[tuple[str, list[str], bool]]:
    """A source's, operation's or condition's fields: name, values, whether they are excluded."""
    if "key" in said:
        negative = "notValues" in said
        return [(said["key"], said["notValues" if negative else "values"], negative)]
    return [
        (name[3].lower() + name[4:], values, True) if name.startswith("not") else (name, values, False)
        for name, values in said.items()
    ]  # fmt: skip


def rule_holds(rule: Rule, flow: Flow, head: RequestHead | None, *, narrow: bool) -> bool:
    """From AND to AND when; without a request a rule that allows never does by what only requests have."""
    alternatives = [
        [flat(each["source"]) for each in rule.get("from", ())],
        [flat(each["operation"]) for each in rule.get("to", ())],
        [[said for each in rule["when"] for said in flat(each)]] if "when" in rule else [],
    ]
    every = [said for part in alternatives for fields in part for said in fields]
    if head is None and narrow and any(is_http(name) for name, _, _ in every):
        return False
    return all(
        any(
            all(
                field_holds(name, values, flow, head, negative=negative)
                for name, values, negative in fields
                if head is not None or not is_http(name)
            )
            for fields in part
        )
        for part in alternatives
        if part
    )


def verdict(policies: list[Policy], default: str, flow: Flow, head: RequestHead | None) -> bool:
    """Any DENY denies; without an ALLOW policy the default decides; else some ALLOW must match."""

    def some(action: str) -> bool:
        return any(
            rule_holds(rule, flow, head, narrow=action == "ALLOW")
            for each in policies
            if each.action == action
            for rule in each.rules or ()
        )

    if some("DENY"):
        return False
    if not any(each.action == "ALLOW" for each in policies):
        return default != "DENY"
    return some("ALLOW")


STRICT = {
    "apiVersion": "security.istio.io/v1",
    "kind": "PeerAuthentication",
    "metadata": {"name": "strict"},
    "spec": {"mtls": {"mode": "STRICT"}},
}


def snapshot(policies: list[Policy], default: str = "ALLOW") -> Snapshot:
    """Compile policies, in a file of one document in a line each."""
    config = {
        "apiVersion": "tproxy.io/v1alpha1",
        "kind": "ProxyConfig",
        "spec": {"defaultAction": default},
    }
    documents = [config, STRICT, *(each.document(f"p{at}") for at, each in enumerate(policies))]
    content = "\n---\n".join(map(json.dumps, documents)).encode()
    result = compiled([SourceFile("p", content)], 1, WORKLOAD)
    assert isinstance(result, Snapshot), "\n".join(map(str, result))
    return result


@pytest.mark.slow
@given(
    st.lists(POLICIES, max_size=5),
    st.sampled_from(["ALLOW", "AUDIT", "DENY"]),
    st.lists(st.tuples(FLOWS, st.none() | HEADS), min_size=1, max_size=8),
)
def test_decisions_are_those_of_the_description(
    policies: list[Policy], default: str, asked: list[tuple[Flow, RequestHead | None]]
) -> None:
    compiled_policies = snapshot(policies, default)
    enforced = [each for each in policies if not each.tried]
    audits = [each for each in enforced if each.action == "AUDIT"]
    for flow, head in asked:
        decision = (
            compiled_policies.admit(flow)
            if head is None
            else compiled_policies.judge(flow, head)[0]
        )
        assert decision.allowed is verdict(enforced, default, flow, head)
        assert (decision.audited_by is not None) is any(
            rule_holds(rule, flow, head, narrow=False)
            for each in audits
            for rule in each.rules or ()
        )
        tried = verdict(policies, default, flow, head) if enforced != policies else None
        assert decision.allowed_if_enforced is tried


@pytest.mark.slow
@given(
    st.lists(RULES, min_size=1, max_size=12),
    st.lists(st.tuples(FLOWS, st.none() | HEADS), min_size=1, max_size=8),
)
def test_the_rule_that_is_looked_up_is_the_first_that_holds(
    rules: list[Rule], asked: list[tuple[Flow, RequestHead | None]]
) -> None:
    policies = snapshot([Policy("DENY", tried=False, rules=rules)]).authorizer.enforced.deny
    for flow, head in asked:
        index = policies.bytes if head is None else policies.requests
        assert index.first(flow, head) is next(
            (rule for rule in index.rules if rule.holds(flow, head)), None
        )


MANY = 300
FLOW = Flow(
    Direction.INBOUND,
    peer=Address("192.0.2.1", 9),
    local=Address("192.0.2.9", 15006),
    original_dst=Address("192.0.2.9", 80),
    identity=Peer("td", "foo", "x"),
)
HEAD = RequestHead(b"GET", b"http", b"team7.example", b"/team7/x", Headers(), HttpVersion.HTTP11)


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param('{to: [{operation: {paths: ["/team%d/x"]}}]}', id="paths"),
        pytest.param('{to: [{operation: {paths: ["/team%d/*"]}}]}', id="prefixes of paths"),
        pytest.param('{to: [{operation: {paths: ["/team%d/{*}"]}}]}', id="templates of paths"),
        pytest.param('{to: [{operation: {hosts: ["*team%d.example"]}}]}', id="suffixes of hosts"),
        pytest.param('{to: [{operation: {hosts: [team%d.example], paths: ["/*"]}}]}', id="hosts, for a path that all of them have"),
        pytest.param('{from: [{source: {principals: ["td/ns/n%d/*"]}}]}', id="prefixes of principals"),
        pytest.param('{from: [{source: {serviceAccounts: ["n%d/x"]}}], to: [{operation: {methods: [GET]}}]}', id="service accounts, for a method that all of them have"),
        pytest.param('{from: [{source: {ipBlocks: ["2001:db8:%d::/48"]}}]}', id="networks"),
        pytest.param('{when: [{key: source.principal, values: ["td/ns/n%d/sa/x"]}]}', id="conditions"),
        pytest.param('{to: [{operation: {paths: ["/team%d/*"]}}, {operation: {paths: ["/t/team%d"]}}]}', id="alternatives"),
    ],
)  # fmt: skip
def test_rules_that_cannot_hold_are_not_looked_at(rule: str) -> None:
    rules = ", ".join(rule.replace("%d", str(at)) for at in range(MANY))
    document = (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        f"metadata: {{name: p}}\nspec: {{action: DENY, rules: [{rules}]}}\n"
    )
    strict = f"---\n{json.dumps(STRICT)}\n"
    result = compiled([SourceFile("p", (document + strict).encode())], 1, WORKLOAD)
    assert isinstance(result, Snapshot)
    index = result.authorizer.enforced.deny.requests
    looked_at = [place for places in index.candidates(FLOW, HEAD) for place in places]
    assert looked_at in ([], [7])


def test_headers_are_asked_for_rule_by_rule() -> None:
    """Each name of a header would have to be looked up on every request."""
    rules = [{"when": [{"key": f"request.headers[x-{at}]", "values": ["a"]}]} for at in range(3)]
    index = snapshot([Policy("DENY", tried=False, rules=rules)]).authorizer.enforced.deny.requests
    assert list(index.candidates(FLOW, HEAD)) == [[0, 1, 2]]


def test_alternatives_without_a_value_in_common_are_always_looked_at_in_order() -> None:
    first: Rule = {"to": [{"operation": {"ports": ["80"]}}, {"operation": {"methods": ["GET"]}}]}
    second: Rule = {"to": [{"operation": {"ports": ["80"]}}]}
    for rules in ([first, second], [second, first]):
        policies = snapshot([Policy("DENY", tried=False, rules=rules)])
        index = policies.authorizer.enforced.deny.requests
        assert index.first(FLOW, HEAD) is index.rules[0]


def test_no_rules_are_no_answer() -> None:
    assert RuleIndex(()).first(replace(FLOW, identity=None), HEAD) is None
