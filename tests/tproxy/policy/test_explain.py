"""Why a verdict is what it is, and that the tools' verdicts are the data path's own."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tproxy.model.address import Address
from tproxy.model.flow import Detection, Direction, Flow, Protocol, Sniffed
from tproxy.model.http import Field, Headers, HttpVersion, RequestHead
from tproxy.model.identity import Peer, Workload
from tproxy.policy.account import account
from tproxy.policy.compile import compiled
from tproxy.policy.explain import Examiner, Explanation, RuleTrace
from tproxy.policy.facts import (
    DESTINATION_IP,
    FORWARDED_FOR,
    HOST,
    METHOD,
    PATH,
    PRINCIPAL,
    REMOTE,
    SOURCE_IP,
    Facts,
)
from tproxy.policy.nodes import SourceFile
from tproxy.policy.secrecy import HIDDEN, secret
from tproxy.policy.snapshot import Snapshot

WORKLOAD = Workload("httpbin", "foo", "httpbin", labels={"app": "httpbin"})
FLOW = Flow(
    Direction.INBOUND,
    peer=Address("192.0.2.7", 40000),
    local=Address("192.0.2.1", 15006),
    original_dst=Address("192.0.2.1", 8080),
    sniffed=Sniffed(Protocol.HTTP1, Detection.HTTP11),
    identity=Peer("cluster.local", "foo", "a"),
)
BYTES = structs.replace(FLOW, sniffed=Sniffed(Protocol.OPAQUE, Detection.TCP))


def policy(spec: str, *, name: str = "p", dry: bool = False, namespace: str = "foo") -> str:
    """One AuthorizationPolicy, its spec in YAML's flow style."""
    notes = '{"istio.io/dry-run": "true"}' if dry else "{}"
    return (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        f"metadata: {{name: {name}, namespace: {namespace}, annotations: {notes}}}\nspec: {spec}\n"
    )


def config(spec: str) -> str:
    """A ProxyConfig."""
    return f"apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\nspec: {spec}\n"


STRICT = (
    "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
    "metadata: {name: m, namespace: foo}\nspec: {mtls: {mode: STRICT}}\n"
)


def snapshot(*documents: str) -> Snapshot:
    """Compile policies, which must be sound."""
    result = compiled([SourceFile("p.yaml", "---\n".join(documents).encode())], 1, WORKLOAD)
    assert isinstance(result, Snapshot), "\n".join(map(str, result))
    return result


def head(target: str = "/", *, method: str = "GET", fields: tuple[Field, ...] = ()) -> RequestHead:
    """A request."""
    return RequestHead(
        method.encode(),
        b"http",
        b"httpbin",
        target.encode(),
        Headers(fields),
        HttpVersion.HTTP11,
    )


def explained(facts: Facts, *documents: str) -> Explanation:
    """What the policies say of it."""
    return Examiner(snapshot(*documents)).explain(facts)


def only_rule(facts: Facts, *documents: str) -> RuleTrace:
    """The trace of the only rule there is."""
    (rule,) = explained(facts, *documents).policies[0].rules
    return rule


READERS = (
    "{rules: [{from: [{source: {namespaces: [foo], notPrincipals: [x/ns/y/sa/z]}}],"
    " to: [{operation: {methods: [GET], paths: [/get, '/status/{*}']}}, {operation: {ports: ['9000']}}],"
    " when: [{key: 'request.headers[X-Team]', notValues: [red]}]}]}"
)


@pytest.mark.parametrize(
    ("facts", "field", "wanted", "seen"),
    [
        pytest.param(Facts(FLOW, head("/put")), "to[0].paths", ("/get", "/status/{*}"), "/put", id="path"),
        pytest.param(Facts(FLOW, head("/get", method="PUT")), "to[0].methods", ("GET",), "PUT", id="method"),
        pytest.param(Facts(structs.replace(FLOW, identity=None), head("/get")), "from[0].namespaces", ("foo",), None, id="nobody"),
        pytest.param(Facts(FLOW, head("/get", fields=((b"x-team", b"red"),))), "when.request.headers[X-Team] notValues", ("red",), "red", id="a condition"),
        pytest.param(Facts(structs.replace(FLOW, identity=Peer("x", "y", "z")), head("/put", method="PUT")), "from[0].notPrincipals", ("x/ns/y/sa/z",), "x/ns/y/sa/z", id="the first of several"),
    ],
)  # fmt: skip
def test_a_rule_says_which_field_failed_first(
    facts: Facts, field: str, wanted: tuple[str, ...], seen: str | None
) -> None:
    rule = only_rule(facts, policy(READERS))
    assert rule.holds is False
    first = rule.missed[0]
    assert (first.field, first.wanted, first.seen, first.line) == (field, wanted, seen, 4)


def test_a_rule_that_one_field_keeps_from_holding_is_a_near_miss() -> None:
    assert only_rule(Facts(FLOW, head("/put")), policy(READERS)).near_miss
    far = only_rule(Facts(structs.replace(FLOW, identity=None), head("/put")), policy(READERS))
    assert not far.near_miss
    assert [each.field for each in far.missed] == ["from[0].namespaces", "to[0].paths"]


def test_the_alternative_that_came_nearest_is_the_one_that_is_told() -> None:
    other = structs.replace(FLOW, original_dst=Address("192.0.2.1", 9001))
    rule = only_rule(Facts(other, head("/put", method="PUT")), policy(READERS))
    assert [each.field for each in rule.missed] == ["to[1].ports"]
    assert rule.missed[0].seen == "9001"


def test_policies_about_others_are_named_with_why() -> None:
    told = explained(
        Facts(FLOW, head()),
        policy("{action: DENY, rules: [{}], selector: {matchLabels: {app: web}}}", name="b"),
        policy("{rules: [{}]}", name="c", namespace="bar"),
        policy("{rules: [{}]}", name="d"),
    )
    assert [(str(each.policy), each.policy.left_out, each.holds) for each in told.policies] == [
        ("foo/b", "it selects app=web, this workload has app=httpbin", False),
        ("bar/c", "it is about namespace bar, this workload is in foo", False),
        ("foo/d", "", True),
    ]


def test_policies_stand_in_the_order_in_which_they_decide() -> None:
    told = explained(
        Facts(FLOW, head()),
        policy("{action: AUDIT, rules: [{}]}"),
        policy("{rules: [{}]}", name="q"),
        policy("{action: DENY, rules: [{}]}", name="r"),
    )
    assert [each.policy.action for each in told.policies] == ["DENY", "ALLOW", "AUDIT"]
    assert (told.outcome.verdict, told.outcome.audited) == ("DENY", True)


def test_the_path_that_policies_read_is_shown() -> None:
    told = explained(
        Facts(FLOW, head("/get/..//admin?token=1")),
        policy("{action: DENY, rules: [{to: [{operation: {paths: [/adm]}}]}]}"),
    )
    assert told.outcome.path == "/admin"
    assert told.policies[0].rules[0].missed[0].seen == "/admin"


def test_a_path_that_cannot_be_read_is_explained_as_it_is() -> None:
    told = explained(
        Facts(FLOW, head("/a%00b")),
        policy("{rules: [{to: [{operation: {paths: [/a]}}]}]}"),
    )
    assert (told.outcome.verdict, told.outcome.reason) == ("DENY", "ambiguous_path")
    assert told.policies[0].rules[0].missed[0].seen == "/a%00b"


def test_secret_headers_are_never_shown_wherever_they_stand() -> None:
    told = only_rule(
        Facts(FLOW, head(fields=((b"Authorization", b"Bearer abc"),))),
        policy(
            "{rules: [{when: [{key: 'request.headers[authorization]', values: [Bearer xyz]}]}]}"
        ),
    )
    assert told.missed[0].wanted == (HIDDEN,)
    assert told.missed[0].seen == HIDDEN


def test_a_secret_header_that_is_absent_is_said_to_be() -> None:
    rule = policy("{rules: [{when: [{key: 'request.headers[cookie]', values: ['*']}]}]}")
    assert only_rule(Facts(FLOW, head()), rule).missed[0].seen is None


@pytest.mark.parametrize(
    "name",
    ["authorization", "proxy-authorization", "cookie", "x-api-key", "x-csrf-token", "x-session-id"],
)
def test_headers_that_let_somebody_in_are_secret(name: str) -> None:
    assert secret(name)
    assert not secret("x-team")


def test_rules_about_requests_allow_no_bytes_and_deny_them_all() -> None:
    spec = "rules: [{to: [{operation: {methods: [GET], ports: ['8080']}}]}]"
    allow = only_rule(Facts(BYTES), policy(f"{{{spec}}}"))
    assert (allow.holds, allow.missed[0].field, allow.near_miss) == (False, "methods", False)
    assert only_rule(Facts(BYTES), policy(f"{{action: DENY, {spec}}}")).holds is True


def test_plaintext_is_refused_before_any_policy_is_asked() -> None:
    plain = Facts(structs.replace(FLOW, identity=None), head())
    told = explained(plain, STRICT, policy("{rules: [{}]}"))
    assert (told.outcome.verdict, told.outcome.reason) == ("DENY", "plaintext_on_strict_port")
    assert explained(Facts(FLOW, head()), STRICT).outcome.allowed
    unknown = explained(replace(plain, hidden=frozenset((PRINCIPAL,))), STRICT)
    assert (unknown.outcome.verdict, unknown.outcome.missing) == ("UNDETERMINED", (PRINCIPAL,))


def test_what_leaves_is_not_judged() -> None:
    flow = structs.replace(FLOW, direction=Direction.OUTBOUND)
    told = explained(Facts(flow, head("/a?b")), policy("{action: DENY, rules: [{}]}")).outcome
    assert (told.verdict, told.reason, told.path) == ("ALLOW", "outbound", "/a")
    assert (
        explained(Facts(structs.replace(BYTES, direction=Direction.OUTBOUND))).outcome.path is None
    )


def test_an_http_connection_whose_requests_are_not_known_is_undetermined() -> None:
    assert explained(Facts(FLOW)).outcome.missing == ("request",)


DENY_RED = "{action: DENY, rules: [{when: [{key: 'request.headers[team]', values: [red]}]}]}"
ALLOW_GREEN = "{rules: [{when: [{key: 'request.headers[team]', values: [green]}]}]}"
NO_HEADER = frozenset[str]()


@pytest.mark.parametrize(
    ("documents", "facts", "verdict", "missing"),
    [
        pytest.param([policy(DENY_RED)], Facts(FLOW, head(), headers=NO_HEADER), "UNDETERMINED", ("request.headers[team]",), id="may be denied"),
        pytest.param([policy(DENY_RED), policy("{}", name="q")], Facts(FLOW, head(), headers=NO_HEADER), "DENY", (), id="denied this way or that"),
        pytest.param([policy(DENY_RED), policy("{action: DENY, rules: [{}]}", name="q")], Facts(FLOW, head(), headers=NO_HEADER), "DENY", (), id="denied by another rule"),
        pytest.param([policy(ALLOW_GREEN)], Facts(FLOW, head(), headers=NO_HEADER), "UNDETERMINED", ("request.headers[team]",), id="may be allowed"),
        pytest.param([policy(ALLOW_GREEN), policy("{rules: [{}]}", name="q")], Facts(FLOW, head(), headers=NO_HEADER), "ALLOW", (), id="allowed by another rule"),
        pytest.param([policy(DENY_RED, dry=True)], Facts(FLOW, head(), headers=NO_HEADER), "ALLOW", (), id="only a dry run depends on it"),
        pytest.param([config("{defaultAction: DENY}"), policy("{action: AUDIT, rules: [{when: [{key: 'request.headers[team]', values: [red]}]}]}")], Facts(FLOW, head(), headers=NO_HEADER), "DENY", (), id="only an audit depends on it"),
        pytest.param([policy("{rules: [{when: [{key: 'request.headers[team]', values: [green]}], to: [{operation: {methods: [PUT]}}]}]}")], Facts(FLOW, head(), headers=NO_HEADER), "DENY", (), id="another field fails surely"),
        pytest.param([policy("{rules: [{from: [{source: {remoteIpBlocks: [192.0.2.7]}}]}]}")], Facts(FLOW, head(), headers=NO_HEADER), "UNDETERMINED", (FORWARDED_FOR,), id="proxies on the way"),
        pytest.param([policy("{rules: [{from: [{source: {remoteIpBlocks: [192.0.2.7]}}]}]}")], Facts(FLOW, head(), headers=frozenset((REMOTE,))), "ALLOW", (), id="no proxies on the way"),
        pytest.param([policy("{rules: [{from: [{source: {remoteIpBlocks: [192.0.2.7]}}]}]}")], Facts(FLOW, head(), frozenset((SOURCE_IP,))), "UNDETERMINED", (SOURCE_IP,), id="no proxies, and whoever dialled"),
        pytest.param([policy("{rules: [{from: [{source: {remoteIpBlocks: [192.0.2.7]}}]}]}")], Facts(FLOW, head(fields=((b"x-forwarded-for", b"192.0.2.7"),)), frozenset((SOURCE_IP,))), "ALLOW", (), id="a proxy's word"),
        pytest.param([policy("{rules: [{from: [{source: {remoteIpBlocks: [192.0.2.7]}}]}]}")], Facts(BYTES, None, frozenset((SOURCE_IP,))), "UNDETERMINED", (SOURCE_IP,), id="bytes have no proxies"),
        pytest.param([policy("{rules: [{to: [{operation: {paths: [/]}}]}]}")], Facts(FLOW, head(), frozenset((PATH,))), "UNDETERMINED", (PATH,), id="path"),
        pytest.param([config("{probes: [{port: 8080, path: /}]}"), policy("{}")], Facts(FLOW, head(), frozenset((PATH,))), "UNDETERMINED", (PATH,), id="it may be a probe"),
        pytest.param([config("{probes: [{port: 81, path: /}]}"), policy("{}")], Facts(FLOW, head(), frozenset((PATH,))), "DENY", (), id="a probe elsewhere"),
        pytest.param([config("{probes: [{port: 8080, path: /}]}"), policy(ALLOW_GREEN)], Facts(FLOW, head(), headers=NO_HEADER), "ALLOW", (), id="a probe"),
        pytest.param([policy(ALLOW_GREEN), policy("{rules: [{to: [{operation: {paths: [/x]}}]}]}", name="q")], Facts(FLOW, head("/%00"), headers=NO_HEADER), "DENY", (), id="a path that cannot be read"),
    ],
)  # fmt: skip
def test_what_is_not_known_leaves_open_only_what_depends_on_it(
    documents: list[str], facts: Facts, verdict: str, missing: tuple[str, ...]
) -> None:
    outcome = explained(facts, *documents).outcome
    assert (outcome.verdict, outcome.missing) == (verdict, missing)


def test_what_a_dry_run_or_an_audit_would_do_is_left_open_too() -> None:
    facts = Facts(FLOW, head(), headers=NO_HEADER)
    assert (
        explained(facts, policy(DENY_RED, dry=True)).outcome.verdict_if_enforced == "UNDETERMINED"
    )
    audit = policy(DENY_RED.replace("DENY", "AUDIT"))
    assert explained(facts, audit).outcome.audited is None


SPECS = [
    "{action: DENY, rules: [{to: [{operation: {paths: [/a*]}}]}]}",
    "{action: DENY, rules: [{to: [{operation: {methods: [PUT], hosts: [h1]}}]}]}",
    "{action: DENY, rules: [{from: [{source: {notNamespaces: [foo]}}]}]}",
    "{rules: [{from: [{source: {ipBlocks: [192.0.2.7]}}]}, {to: [{operation: {paths: [/b]}}]}]}",
    "{rules: [{when: [{key: 'request.headers[t]', values: [x]}, {key: destination.ip, values: [192.0.2.1]}]}]}",
    "{action: AUDIT, rules: [{to: [{operation: {notMethods: [GET]}}]}]}",
    "{}",
]
VALUES: dict[str, list[object]] = {
    PRINCIPAL: [None, Peer("cluster.local", "foo", "a"), Peer("cluster.local", "bar", "b")],
    SOURCE_IP: ["192.0.2.7", "192.0.2.8"],
    DESTINATION_IP: ["192.0.2.1", "192.0.2.2"],
    HOST: [b"h1", b"h2"],
    METHOD: [b"GET", b"PUT"],
    PATH: [b"/a", b"/b", b"/x/../ab"],
    "request.headers[t]": [None, b"x"],
}


def made(values: dict[str, object], hidden: frozenset[str]) -> Facts:
    """A request of these values, some of them not to be known."""
    flow = Flow(
        Direction.INBOUND,
        Address(str(values[SOURCE_IP]), 1),
        FLOW.local,
        Address(str(values[DESTINATION_IP]), 8080),
        FLOW.sniffed,
        identity=values[PRINCIPAL],  # type: ignore[arg-type]
    )
    header = values["request.headers[t]"]
    request = RequestHead(
        values[METHOD],  # type: ignore[arg-type]
        b"http",
        values[HOST],  # type: ignore[arg-type]
        values[PATH],  # type: ignore[arg-type]
        Headers(() if header is None else ((b"T", header),)),  # type: ignore[arg-type]
        HttpVersion.HTTP11,
    )
    return Facts(flow, request, hidden)


@given(
    st.lists(st.tuples(st.sampled_from(SPECS), st.booleans()), max_size=4),
    st.fixed_dictionaries({name: st.sampled_from(each) for name, each in VALUES.items()}),
    st.sets(st.sampled_from(sorted(VALUES)), max_size=3).map(frozenset),
)
def test_a_verdict_in_spite_of_gaps_is_the_data_paths_however_they_are_filled(
    specs: list[tuple[str, bool]], values: dict[str, object], hidden: frozenset[str]
) -> None:
    policies = snapshot(
        *(policy(spec, name=f"p{at}", dry=dry) for at, (spec, dry) in enumerate(specs))
    )
    outcome = Examiner(policies).decide(made(values, hidden))
    verdicts, tried = set(), set()
    for filling in product(*(VALUES[name] for name in hidden)):
        facts = made({**values, **dict(zip(hidden, filling, strict=True))}, frozenset())
        assert facts.head is not None
        decision, _ = policies.judge(facts.flow, facts.head)
        verdicts.add(decision.allowed)
        tried.add(decision.allowed_if_enforced)
    if outcome.allowed is not None:
        assert verdicts == {outcome.allowed}
    if outcome.verdict_if_enforced in ("ALLOW", "DENY"):
        assert tried == {outcome.verdict_if_enforced == "ALLOW"}
    if not hidden:
        assert outcome.allowed is not None


@given(
    st.lists(st.sampled_from(SPECS), max_size=4),
    st.fixed_dictionaries({name: st.sampled_from(each) for name, each in VALUES.items()}),
)
def test_the_rule_that_decides_is_the_first_that_is_shown_to_hold(
    specs: list[str], values: dict[str, object]
) -> None:
    facts = made(values, frozenset())
    told = explained(facts, *(policy(spec, name=f"p{at}") for at, spec in enumerate(specs)))
    holding = [
        rule.rule
        for trace in told.policies
        for rule in trace.rules
        if rule.holds and trace.policy.action.value == told.outcome.verdict
    ]
    assert told.outcome.rule == (holding[0] if holding else None)


def test_an_account_tells_who_asks_and_keeps_queries_to_itself() -> None:
    told = account(
        explained(Facts(FLOW, head("/a?token=x")), policy("{action: AUDIT, rules: [{}]}"))
    )
    assert told.request.path == "/a"
    assert told.request.identity == told.request.principal == "cluster.local/ns/foo/sa/a"
    assert told.audited_by == "ns[foo]-policy[p]-rule[0]"
    assert (told.policy, told.rule, told.place) == (None, None, None)
    denied = account(explained(Facts(BYTES), policy("{action: DENY, rules: [{}]}")))
    assert (denied.policy, denied.rule, denied.place) == ("foo/p", 0, "p.yaml:4")
    assert (denied.request.method, denied.request.path, denied.request.host) == (None, None, None)


@pytest.mark.parametrize(
    ("hidden", "identity", "address"),
    [
        pytest.param(frozenset[str](), "nobody, as the connection is plaintext", "192.0.2.7", id="plaintext"),
        pytest.param(frozenset((PRINCIPAL, SOURCE_IP)), "not known, nothing was said of it", None, id="unknown"),
    ],
)  # fmt: skip
def test_an_account_says_why_nobody_asks(
    hidden: frozenset[str], identity: str, address: str | None
) -> None:
    told = account(explained(Facts(structs.replace(FLOW, identity=None), head(), hidden)))
    assert (told.request.identity, told.request.source_ip) == (identity, address)


def test_an_account_names_the_fields_that_failed() -> None:
    told = account(explained(Facts(FLOW, head("/put")), policy(READERS)))
    (missed,) = told.policies[0].rules[0].missed
    assert (missed.field, missed.negative, missed.seen) == ("to[0].paths", False, "/put")
