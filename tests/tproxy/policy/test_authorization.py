"""Who may do what: Istio's documented outcomes, row by row, on compiled policies."""

import pytest
from msgspec.structs import replace

from tproxy.model.address import Address
from tproxy.model.decision import Decision, Reason
from tproxy.model.flow import Detection, Direction, Flow, Protocol, Sniffed
from tproxy.model.http import Field, Headers, HttpVersion, RequestHead
from tproxy.model.identity import Peer, Workload
from tproxy.policy.compile import compiled
from tproxy.policy.nodes import SourceFile
from tproxy.policy.snapshot import Snapshot

WORKLOAD = Workload("httpbin", "foo", "httpbin", labels={"app": "httpbin", "version": "v1"})
CALLER = Peer("cluster.local", "foo", "a")
FLOW = Flow(
    Direction.INBOUND,
    peer=Address("192.0.2.7", 40000),
    local=Address("192.0.2.1", 15006),
    original_dst=Address("192.0.2.1", 8080),
    sniffed=Sniffed(Protocol.HTTP1, Detection.HTTP11),
    identity=CALLER,
)
PLAINTEXT = replace(FLOW, identity=None)


def policy(spec: str, *, name: str = "p", namespace: str = "foo", annotations: str = "{}") -> str:
    """One AuthorizationPolicy, its spec in YAML's flow style."""
    return (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        f"metadata: {{name: {name}, namespace: {namespace}, annotations: {annotations}}}\nspec: {spec}\n"
    )


def config(spec: str) -> str:
    """A ProxyConfig."""
    return f"apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\nspec: {spec}\n"


def snapshot(*documents: str) -> Snapshot:
    """Compile policies, which must be sound, for the workload."""
    content = "---\n".join(documents).encode()
    result = compiled([SourceFile("p.yaml", content)], 1, WORKLOAD)
    assert isinstance(result, Snapshot), "\n".join(map(str, result))
    return result


def head(
    target: str = "/", *, method: str = "GET", host: str = "httpbin", fields: tuple[Field, ...] = ()
) -> RequestHead:
    """A request."""
    return RequestHead(
        method.encode(),
        b"http",
        host.encode(),
        target.encode(),
        Headers(fields),
        HttpVersion.HTTP11,
    )


def judged(policies: Snapshot, request: RequestHead, flow: Flow = FLOW) -> Decision:
    """What they say."""
    return policies.judge(flow, request)[0]


ALLOW_ALL = "{rules: [{}]}"
DENY_ALL = "{action: DENY, rules: [{}]}"


def to(**operation: object) -> str:
    """Rules with one operation."""
    return f"rules: [{{to: [{{operation: {_flow(operation)}}}]}}]"


def source(**fields: object) -> str:
    """Rules with one source."""
    return f"rules: [{{from: [{{source: {_flow(fields)}}}]}}]"


def when(key: str, **fields: object) -> str:
    """Rules with one condition."""
    return f"rules: [{{when: [{_flow({'key': key, **fields})}]}}]"


def _flow(fields: dict[str, object]) -> str:
    def value(each: object) -> str:
        return (
            "[" + ", ".join(f'"{item}"' for item in each) + "]"
            if isinstance(each, list)
            else f'"{each}"'
        )

    return "{" + ", ".join(f"{name}: {value(each)}" for name, each in fields.items()) + "}"


@pytest.mark.parametrize(
    ("policies", "request_head", "flow", "allowed"),
    [
        pytest.param([], head(), FLOW, True, id="no policy"),
        pytest.param(["{}"], head(), FLOW, False, id="ALLOW without rules allows nothing"),
        pytest.param([ALLOW_ALL], head(), FLOW, True, id="ALLOW with an empty rule allows all"),
        pytest.param([ALLOW_ALL, DENY_ALL], head(), FLOW, False, id="DENY wins"),
        pytest.param([f"{{action: DENY, {to(paths=['/y'])}}}"], head("/x"), FLOW, True, id="only a DENY, of another path"),
        pytest.param([f"{{action: DENY, {to(paths=['/allow/admin'])}}}", f"{{{to(paths=['/allow*'])}}}"], head("/allow/admin?x=1"), FLOW, False, id="a query is no part of the path"),
        pytest.param([f"{{action: DENY, {to(paths=['/allow/admin'])}}}", f"{{{to(paths=['/allow*'])}}}"], head("/allow?p=v"), FLOW, True, id="a prefix beside a denied path"),
        pytest.param(["{rules: [{to: [{operation: {paths: [/foo]}}]}, {from: [{source: {namespaces: [foo]}}]}]}"], head("/anything"), FLOW, True, id="two rules are alternatives"),
        pytest.param([f"{{{to(paths=['/info*'])}}}"], head("/information"), FLOW, True, id="a prefix is not about segments"),
        pytest.param([f"{{{to(paths=['*.html'])}}}"], head("/a/b.html"), FLOW, True, id="a suffix"),
        pytest.param([f"{{{to(paths=['/status/{*}'])}}}"], head("/status/200"), FLOW, True, id="one segment"),
        pytest.param([f"{{{to(paths=['/status/{*}'])}}}"], head("/status/200/x"), FLOW, False, id="not two segments"),
        pytest.param([f"{{{to(paths=['/a/{*}/b/{**}'])}}}"], head("/a/1/b/2/3"), FLOW, True, id="any number of segments at the end"),
        pytest.param([f"{{{source(principals=['*'])}}}"], head(), PLAINTEXT, False, id="any principal is none on plaintext"),
        pytest.param([f"{{{source(principals=['*'])}}}"], head(), FLOW, True, id="any principal"),
        pytest.param([f"{{{source(principals=['cluster.local/ns/foo/sa/a'])}}}"], head(), FLOW, True, id="a principal"),
        pytest.param([f"{{{source(principals=['cluster.local/ns/foo/sa/b'])}}}"], head(), FLOW, False, id="another principal"),
        pytest.param([f"{{action: DENY, {source(notPrincipals=['*'])}}}"], head(), PLAINTEXT, False, id="DENY whoever proves nothing"),
        pytest.param([f"{{action: DENY, {source(notPrincipals=['*'])}}}"], head(), FLOW, True, id="and nobody else"),
        pytest.param([f"{{action: DENY, {source(notNamespaces=['foo'])}}}"], head(), PLAINTEXT, False, id="no namespace is not foo"),
        pytest.param([f"{{{source(serviceAccounts=['a'])}}}"], head(), FLOW, True, id="a service account of the policy's namespace"),
        pytest.param([f"{{{source(serviceAccounts=['bar/a'])}}}"], head(), FLOW, False, id="a service account of another one"),
        pytest.param([f"{{{source(ipBlocks=['192.0.2.0/29'])}}}"], head(), FLOW, True, id="a network"),
        pytest.param([f"{{{source(notIpBlocks=['192.0.2.7'])}}}"], head(), FLOW, False, id="not an address"),
        pytest.param([f"{{{source(remoteIpBlocks=['198.51.100.1'])}}}"], head(fields=((b"X-Forwarded-For", b"203.0.113.9, 198.51.100.1"),)), FLOW, True, id="the last proxy's word"),
        pytest.param([f"{{{source(remoteIpBlocks=['203.0.113.9'])}}}"], head(fields=((b"X-Forwarded-For", b"203.0.113.9, junk"),)), FLOW, False, id="no address"),
        pytest.param([f"{{{when('request.headers[x-foo]', notValues=['bar'])}}}"], head(), FLOW, True, id="an absent header is not bar"),
        pytest.param([f"{{{when('request.headers[X-Foo]', values=['foo'])}}}"], head(fields=((b"x-FOO", b"foo"),)), FLOW, True, id="header names without case"),
        pytest.param([f"{{{when('request.headers[x-foo]', values=['a,b'])}}}"], head(fields=((b"x-foo", b"a"), (b"X-Foo", b"b"))), FLOW, True, id="repeated headers are one"),
        pytest.param([f"{{{when('request.headers[x-foo]', values=['*'])}}}"], head(fields=((b"x-foo", b""),)), FLOW, False, id="an empty header is nothing"),
        pytest.param([f"{{action: DENY, {to(hosts=['deny.example.com'])}}}"], head(host="DENY.Example.COM"), FLOW, False, id="hosts without case"),
        pytest.param([f"{{action: DENY, {to(hosts=['deny.example.com'])}}}"], head(host="deny.example.com:8080"), FLOW, False, id="hosts without port"),
        pytest.param([f"{{action: DENY, {to(hosts=['deny.example.com'])}}}"], head(host="deny.example.com."), FLOW, False, id="hosts without the root's dot"),
        pytest.param([f"{{{to(hosts=['a.example:80'])}}}"], head(host="a.example:8080"), FLOW, False, id="a host with another port"),
        pytest.param([f"{{{to(hosts=['a.example:80', 'b.example'])}}}"], head(host="b.example:1"), FLOW, True, id="one host with a port beside one without"),
        pytest.param([f"{{{to(hosts=['[2001:db8::1]'])}}}"], head(host="[2001:db8::1]:80"), FLOW, True, id="an IPv6 host without port"),
        pytest.param([f"{{action: DENY, {to(hosts=['*'])}}}"], head(host=""), FLOW, True, id="no host is not any host"),
        pytest.param([f"{{{to(ports=['80'])}}}"], head(), FLOW, False, id="the workload's port, not the service's"),
        pytest.param([f"{{{to(ports=['8080'], methods=['GET', 'HEAD'])}}}"], head(), FLOW, True, id="fields are all meant"),
        pytest.param([f"{{{to(methods=['GET'])}}}"], head("/pkg.Svc/Method", method="POST"), FLOW, False, id="gRPC is POST"),
        pytest.param([f"{{{to(notMethods=['GET', 'HEAD'])}}}"], head(), FLOW, False, id="none of several"),
        pytest.param([f"{{{to(notPaths=['/admin*'])}}}"], head("/admin/x"), FLOW, False, id="not a path"),
        pytest.param(["{action: AUDIT, rules: [{}]}"], head(), FLOW, True, id="AUDIT decides nothing"),
        pytest.param(["{selector: {matchLabels: {app: other}}, action: DENY, rules: [{}]}"], head(), FLOW, True, id="a selector that means others"),
        pytest.param(["{selector: {matchLabels: {app: httpbin, version: v1}}, action: DENY, rules: [{}]}"], head(), FLOW, False, id="a selector"),
        pytest.param([f"{{{when('destination.port', values=['8080'])}}}"], head(), FLOW, True, id="when a port"),
        pytest.param([f"{{{when('source.namespace', values=['foo'])}}}"], head(), FLOW, True, id="when a namespace"),
        pytest.param([f"{{action: DENY, {when('source.principal', notValues=['cluster.local/*'])}}}"], head(), FLOW, True, id="when not a principal"),
        pytest.param([f"{{{when('source.serviceAccount', values=['a'])}}}"], head(), FLOW, True, id="when a service account of the policy's namespace"),
        pytest.param([f"{{action: DENY, {source(remoteIpBlocks=['192.0.2.7'])}}}"], head(fields=((b"x-forwarded-for", b"unknown"),)), FLOW, False, id="who is not told is whoever dialled"),
        pytest.param([f"{{action: DENY, {source(remoteIpBlocks=['198.51.100.1'])}}}"], head(fields=((b"x-forwarded-for", b"::ffff:198.51.100.1"),)), FLOW, False, id="IPv4 written in IPv6"),
        pytest.param([f"{{action: DENY, {source(ipBlocks=['2001:db8::/32'])}}}"], head(), replace(FLOW, peer=Address("2001:db8::7", 1)), False, id="an IPv6 network"),
        pytest.param([f"{{action: DENY, {source(ipBlocks=['0.0.0.0/0'])}}}"], head(), replace(FLOW, peer=Address("2001:db8::7", 1)), True, id="all of IPv4 is none of IPv6"),
        pytest.param([f"{{action: DENY, {to(hosts=['deny.example.com'])}}}"], head(host="deny.example.com:"), FLOW, False, id="hosts without an empty port"),
        pytest.param([f"{{action: DENY, {to(hosts=['deny.example.com'])}}}"], head(host="%64eny%2Eexample.com"), FLOW, False, id="hosts without escapes"),
        pytest.param([f"{{action: DENY, {to(hosts=['a.example:80'])}}}"], head(host="A.example.:080"), FLOW, False, id="a host with a port, in its one form"),
        pytest.param([f"{{action: DENY, {to(hosts=['a.example:8*'])}}}"], head(host="a.example:8080"), FLOW, False, id="a host with some ports"),
        pytest.param([f"{{action: DENY, {to(hosts=['2001:db8::1'.join('[]')])}}}"], head(host="2001:db8::1"), FLOW, True, id="an address without brackets is another host"),
        pytest.param([f"{{{when('source.serviceAccount', values=['foo/a'])}}}"], head(), FLOW, True, id="when a service account"),
        pytest.param([f"{{{when('source.ip', values=['192.0.2.7'])}}}"], head(), FLOW, True, id="when an address"),
        pytest.param([f"{{{when('remote.ip', values=['192.0.2.7'])}}}"], head(), FLOW, True, id="when a remote address, without proxies"),
        pytest.param([f"{{{when('destination.ip', values=['192.0.2.1'])}}}"], head(), FLOW, True, id="when a destination"),
        pytest.param([f"{{{when('connection.sni', values=['a.example'])}}}"], head(), FLOW, False, id="when a server name, and there is none"),
        pytest.param([f"{{action: DENY, {when('connection.sni', values=['A.Example'])}}}"], head(), replace(FLOW, sniffed=Sniffed(Protocol.TLS, Detection.TLS, "a.example")), False, id="when a server name, without case"),
        pytest.param([DENY_ALL], head(), replace(FLOW, direction=Direction.OUTBOUND), True, id="what leaves is not judged"),
    ],
)  # fmt: skip
def test_requests_are_judged_as_istio_documents_it(
    policies: list[str], request_head: RequestHead, flow: Flow, allowed: bool
) -> None:
    documents = [policy(spec, name=f"p{index}") for index, spec in enumerate(policies)]
    assert judged(snapshot(*documents), request_head, flow).allowed is allowed


@pytest.mark.parametrize(
    ("spec", "port", "allowed"),
    [
        pytest.param(f"{{{to(ports=['9000', '9001'])}}}", 9000, True, id="an allowed port"),
        pytest.param(f"{{{to(ports=['9000', '9001'])}}}", 9002, False, id="a port that nobody allows"),
        pytest.param(f"{{{to(ports=['9000'], methods=['GET'])}}}", 9000, False, id="ALLOW of methods allows no bytes"),
        pytest.param(f"{{action: DENY, {to(ports=['9000'], methods=['GET'])}}}", 9000, False, id="DENY of methods denies bytes"),
        pytest.param(f"{{action: DENY, {to(ports=['9000'], methods=['GET'])}}}", 9001, True, id="on its port only"),
        pytest.param(f"{{action: DENY, {to(paths=['/admin'])}}}", 9001, False, id="DENY of paths denies bytes everywhere"),
        pytest.param(f"{{action: DENY, {when('request.headers[a]', values=['b'])}}}", 9001, False, id="DENY of headers too"),
        pytest.param(f"{{{source(ipBlocks=['192.0.2.0/24'])}}}", 9001, True, id="a network"),
    ],
)  # fmt: skip
def test_connections_are_judged_by_what_they_have(spec: str, port: int, allowed: bool) -> None:
    flow = replace(FLOW, original_dst=Address("192.0.2.1", port))
    assert snapshot(policy(spec)).admit(flow).allowed is allowed


def test_the_decision_names_its_rule_and_where_it_stands() -> None:
    policies = snapshot(
        policy(ALLOW_ALL, name="readers"),
        policy(
            "{action: DENY, rules: [{to: [{operation: {paths: [/x]}}]}, {to: [{operation: {paths: [/y]}}]}]}",
            name="deny-y",
        ),
    )
    denied = judged(policies, head("/y"))
    assert denied.reason is Reason.DENY_MATCH
    assert denied.details == "rbac_access_denied_matched_policy[ns[foo]-policy[deny-y]-rule[1]]"
    assert denied.rule is not None
    assert (denied.rule.file, denied.rule.line) == ("p.yaml", 9)
    nothing = judged(snapshot(policy("{}")), head())
    assert (nothing.reason, nothing.details) == (
        Reason.NO_ALLOW_MATCH,
        "rbac_access_denied_matched_policy[none]",
    )


def test_the_root_namespace_is_about_everybody() -> None:
    policies = snapshot(policy(ALLOW_ALL), policy(DENY_ALL, name="root", namespace="istio-system"))
    assert not judged(policies, head()).allowed
    moved = snapshot(config("{rootNamespace: bar}"), policy(DENY_ALL, namespace="bar"))
    assert not judged(moved, head()).allowed


def test_an_audit_is_a_mark_on_a_request_that_goes_on() -> None:
    decision = judged(snapshot(policy("{action: AUDIT, rules: [{}]}")), head())
    assert decision.allowed
    assert str(decision.audited_by) == "ns[foo]-policy[p]-rule[0]"


@pytest.mark.parametrize(
    ("default", "allowed", "reason"),
    [
        pytest.param("ALLOW", True, Reason.DEFAULT, id="allow"),
        pytest.param("AUDIT", True, Reason.AUDITED_DEFAULT, id="audit"),
        pytest.param("DENY", False, Reason.DEFAULT, id="deny"),
    ],
)
def test_the_default_decides_where_no_policy_allows(
    default: str, allowed: bool, reason: Reason
) -> None:
    decision = judged(snapshot(config(f"{{defaultAction: {default}}}")), head())
    assert (decision.allowed, decision.reason) == (allowed, reason)


DRY = '{"istio.io/dry-run": "true"}'


@pytest.mark.parametrize(
    ("enforced", "tried", "allowed", "if_enforced"),
    [
        pytest.param([], [DENY_ALL], True, False, id="would deny"),
        pytest.param([], ["{}"], True, False, id="would allow nothing"),
        pytest.param(["{}"], [ALLOW_ALL], False, True, id="would allow"),
        pytest.param([ALLOW_ALL], [f"{{{to(paths=['/get'])}}}"], True, True, id="changes nothing"),
        pytest.param([], [ALLOW_ALL, DENY_ALL], True, False, id="all of them together"),
    ],
)
def test_dry_run_policies_are_asked_together_and_change_nothing(
    enforced: list[str], tried: list[str], allowed: bool, if_enforced: bool
) -> None:
    policies = snapshot(
        *(policy(spec, name=f"e{at}") for at, spec in enumerate(enforced)),
        *(policy(spec, name=f"t{at}", annotations=DRY) for at, spec in enumerate(tried)),
    )
    decision = judged(policies, head("/x"))
    assert (decision.allowed, decision.allowed_if_enforced) == (allowed, if_enforced)


def test_a_probe_passes_whatever_policies_say() -> None:
    policies = snapshot(config("{probes: [{port: 8080, path: /healthz}]}"), policy(DENY_ALL))
    assert judged(policies, head("/healthz?verbose=1")).reason is Reason.PROBE
    assert not judged(policies, head("/healthz/x")).allowed
    elsewhere = replace(FLOW, original_dst=Address("192.0.2.1", 81))
    assert not judged(policies, head("/healthz"), elsewhere).allowed


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        pytest.param("/get/..//admin", b"/admin", id="dots and slashes"),
        pytest.param("/%61dmin?x=/..", b"/admin?x=/..", id="escapes"),
        pytest.param("/admin", None, id="plain"),
    ],
)
def test_what_is_judged_is_what_is_sent(target: str, sent: bytes | None) -> None:
    policies = snapshot(policy(f"{{action: DENY, {to(paths=['/admin'])}}}"))
    decision, path = policies.judge(FLOW, head(target))
    assert not decision.allowed
    assert path == sent


def test_paths_pass_untouched_where_no_policy_reads_them() -> None:
    policies = snapshot(policy(f"{{action: DENY, {to(paths=['/admin'], ports=['81'])}}}"))
    decision, path = policies.judge(FLOW, head("/a/../admin"))
    assert (decision.allowed, path) == (True, None)
    there = replace(FLOW, original_dst=Address("192.0.2.1", 81))
    assert not policies.judge(there, head("/a/../admin"))[0].allowed


def test_a_path_that_ends_early_for_some_is_refused() -> None:
    policies = snapshot(policy(f"{{action: DENY, {to(paths=['/admin'])}}}"))
    assert judged(policies, head("/admin%00x")).reason is Reason.AMBIGUOUS_PATH


def authentication(spec: str, *, name: str = "m", namespace: str = "foo") -> str:
    """One PeerAuthentication."""
    return (
        "apiVersion: security.istio.io/v1beta1\nkind: PeerAuthentication\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )


@pytest.mark.parametrize(
    ("documents", "port", "demanded"),
    [
        pytest.param([], 8080, False, id="nothing said"),
        pytest.param([authentication("{mtls: {mode: STRICT}}")], 8080, True, id="namespace"),
        pytest.param([authentication("{mtls: {mode: STRICT}}", namespace="istio-system"), authentication("{mtls: {mode: PERMISSIVE}}")], 8080, False, id="narrower than the root"),
        pytest.param([authentication("{selector: {matchLabels: {app: httpbin}}, mtls: {mode: STRICT}, portLevelMtls: {9100: {mode: DISABLE}}}")], 9100, False, id="a port"),
        pytest.param([authentication("{selector: {matchLabels: {app: httpbin}}, mtls: {mode: STRICT}, portLevelMtls: {9100: {mode: UNSET}}}")], 9100, True, id="an unset port inherits"),
        pytest.param([authentication("{selector: {matchLabels: {app: httpbin}}, mtls: {mode: UNSET}}"), authentication("{mtls: {mode: STRICT}}", name="n")], 8080, True, id="unset inherits"),
        pytest.param([authentication("{selector: {matchLabels: {app: other}}, mtls: {mode: STRICT}}")], 8080, False, id="others"),
    ],
)  # fmt: skip
def test_plaintext_is_refused_where_proof_is_demanded(
    documents: list[str], port: int, demanded: bool
) -> None:
    policies = snapshot(*documents)
    flow = replace(PLAINTEXT, original_dst=Address("192.0.2.1", port))
    assert policies.must_prove_itself(flow) is demanded
    assert not policies.must_prove_itself(replace(flow, identity=CALLER))
    assert not policies.must_prove_itself(replace(flow, direction=Direction.OUTBOUND))
