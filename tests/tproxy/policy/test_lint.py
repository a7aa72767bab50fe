"""What hardly means what its author thinks is told: where, how bad, and what to do."""

import pytest

from tproxy.model.identity import Workload
from tproxy.policy.compile import compiled
from tproxy.policy.findings import Finding, Severity
from tproxy.policy.nodes import SourceFile
from tproxy.policy.snapshot import Snapshot

WORKLOAD = Workload("httpbin", "foo", "httpbin", labels={"app": "httpbin"})
STRICT = (
    "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: strict}\n"
    "spec: {mtls: {mode: STRICT}}\n"
)
GUARD = (
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: guard}\n"
    "spec: {rules: [{to: [{operation: {ports: ['1']}}]}]}\n"
)
"""An ALLOW that no lint is about."""


def policy(spec: str, *, metadata: str = "{name: p, namespace: foo}") -> str:
    """One AuthorizationPolicy, its spec in line 4."""
    return (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        f"metadata: {metadata}\nspec: {spec}\n"
    )


def authentication(spec: str, *, metadata: str = "{name: m}") -> str:
    """One PeerAuthentication."""
    return (
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
        f"metadata: {metadata}\nspec: {spec}\n"
    )


def config(spec: str) -> str:
    """A ProxyConfig."""
    return (
        f"apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\nmetadata: {{name: c}}\nspec: {spec}\n"
    )


def found(*documents: str, workload: Workload = WORKLOAD) -> tuple[Finding, ...]:
    """Return all findings, of files that are named a, b, …; errors refuse, and nothing else does."""
    files = [SourceFile(n, each.encode()) for n, each in zip("abcd", documents, strict=False)]
    result = compiled(files, 1, workload)
    findings = result.findings if isinstance(result, Snapshot) else result
    refused = any(each.severity is Severity.ERROR for each in findings)
    assert refused is not isinstance(result, Snapshot)
    return findings


def told(*documents: str) -> list[str]:
    """Return the findings about the first file, as they are logged."""
    return [str(each) for each in found(*documents) if each.file == "a"]


def to(values: str, *, action: str = "ALLOW") -> str:
    """A policy with one operation."""
    return policy(f"{{action: {action}, rules: [{{to: [{{operation: {{{values}}}}}]}}]}}")


def source(values: str, *, action: str = "ALLOW") -> str:
    """A policy with one source."""
    return policy(f"{{action: {action}, rules: [{{from: [{{source: {{{values}}}}}]}}]}}")


def when(values: str, *, action: str = "ALLOW") -> str:
    """A policy with one condition."""
    return policy(f"{{action: {action}, rules: [{{when: [{{{values}}}]}}]}}")


TO = "$.spec.rules[0].to[0].operation"
FROM = "$.spec.rules[0].from[0].source"
WHEN = "$.spec.rules[0].when[0]"
PLAIN = (
    "callers on plaintext prove nothing, so this {} none of them: set PeerAuthentication to STRICT"
)
OPEN = 'allows every caller on plaintext, for it proves nothing: set PeerAuthentication to STRICT, or add principals: ["*"]'
SPLIT = "a rule with only `from` beside one with only `to` are two alternatives: if both are meant at once, take the `-` away from the second"
BYTES = "names no ports, so it denies every connection that is not HTTP on any port: add `ports`"
DENIES = "denies just this: what is spelled another way goes through. Safer is to ALLOW what is wanted, or to DENY with the `not…` form"
ALLOWS = "allows all but this: what is spelled another way goes through. Safer is to name what is allowed, or to DENY this in a policy of its own"
LONELY = "the policies about this workload only deny, everything else is open: add one that allows, or set spec.defaultAction to DENY in ProxyConfig"


@pytest.mark.parametrize(
    ("documents", "findings"),
    [
        pytest.param([policy("{rules: [{to: [{operation: {ports: ['1']}}]}, {from: [{source: {ipBlocks: [192.0.2.1]}}]}]}")], [f"4:53 TPX0201 warning $.spec.rules[1]: {SPLIT}"], id="0201 from after to"),
        pytest.param([policy("{rules: [{from: [{source: {ipBlocks: [192.0.2.1]}}]}, {to: [{operation: {ports: ['1']}}]}]}")], [f"4:61 TPX0201 warning $.spec.rules[1]: {SPLIT}"], id="0201 to after from"),
        pytest.param([to("ports: ['1'], paths: [/a/*/c]")], [f"4:72 TPX0202 error {TO}.paths[0]: '/a/*/c': a `*` may only begin or end a value, elsewhere it would stand for itself"], id="0202 a wildcard in the middle"),
        pytest.param([to("hosts: [ok, '*x*']")], [f"4:62 TPX0202 error {TO}.hosts[1]: '*x*': a `*` may only begin or end a value, elsewhere it would stand for itself"], id="0202 wildcards at both ends"),
        pytest.param([to("paths: ['/a/{id}']")], [f"4:58 TPX0202 warning {TO}.paths[0]: '/a/{{id}}': a name in braces stands for itself, one segment is {{*}}"], id="0202 a named segment"),
        pytest.param([to("methods: [GET]", action="DENY"), GUARD], [f"4:49 TPX0203 warning {TO}.methods: {BYTES}", f"4:49 TPX0205 info {TO}.methods: {DENIES}"], id="0203 and 0205 a DENY by method on every port"),
        pytest.param([when("key: 'request.headers[x]', notValues: [y]", action="DENY"), GUARD], [f"4:66 TPX0203 warning {WHEN}.notValues: {BYTES}"], id="0203 a DENY by header on every port"),
        pytest.param([policy("{action: DENY, rules: [{to: [{operation: {notPaths: [/a]}}], when: [{key: destination.port, values: ['80']}]}]}"), GUARD], [], id="0203 not with a port in a condition"),
        pytest.param([policy("{action: DENY, rules: [{to: [{operation: {notPaths: [/a], ports: ['1']}}, {operation: {ports: ['2']}}]}]}"), GUARD], [], id="0203 not where each has ports"),
        pytest.param([to("paths: [/a], ports: ['3306', '80']"), "", config("{ports: [{port: 3306, protocol: TCP}]}")], [f"4:50 TPX0204 warning {TO}.paths: port 3306 is declared TCP, where there are no requests: it never matches there"], id="0204 a path on bytes"),
        pytest.param([to("notPaths: [/a], ports: ['443']", action="DENY"), GUARD, config("{ports: [{port: 443, protocol: TLS, direction: INBOUND}]}")], [f"4:49 TPX0204 warning {TO}.notPaths: port 443 is declared TLS, where there are no requests: it is about all connections to it"], id="0204 a DENY on TLS"),
        pytest.param([to("paths: [/a], ports: ['443']"), "", config("{ports: [{port: 443, protocol: TLS, direction: OUTBOUND}, {port: 80, protocol: HTTP}]}")], [], id="0204 not of others' ports"),
        pytest.param([to("notPaths: [/admin]")], [f"4:50 TPX0205 warning {TO}.notPaths: {ALLOWS}"], id="0205 an ALLOW of other paths"),
        pytest.param([to("notPorts: ['80']")], [], id="0205 not of what has one spelling"),
        pytest.param([to("notPaths: [/public], ports: ['80']", action="DENY"), GUARD], [], id="0205 not the safe form"),
        pytest.param([source("notPrincipals: [a/ns/b/sa/c]")], [f"4:49 TPX0205 error {FROM}.notPrincipals: {OPEN}"], id="0205 all but one, on plaintext"),
        pytest.param([when("key: source.namespace, notValues: [b]")], [f"4:63 TPX0205 error {WHEN}.notValues: {OPEN}"], id="0205 a condition on plaintext"),
        pytest.param([source("notPrincipals: [a/ns/b/sa/c]"), STRICT], [], id="0205 not where everybody proves it"),
        pytest.param([source("notPrincipals: [a/ns/b/sa/c], namespaces: [b]")], [f"4:79 TPX0206 warning {FROM}.namespaces: {PLAIN.format('allows')}"], id="0205 not beside something proven"),
        pytest.param([source("principals: ['*']")], [f"4:49 TPX0206 warning {FROM}.principals: {PLAIN.format('allows')}"], id="0206 an ALLOW"),
        pytest.param([source("namespaces: [b]", action="DENY"), GUARD], [f"4:48 TPX0206 warning {FROM}.namespaces: {PLAIN.format('denies')}"], id="0206 a DENY"),
        pytest.param([source("serviceAccounts: [b, a/c]", action="AUDIT")], [f"4:49 TPX0206 warning {FROM}.serviceAccounts: {PLAIN.format('marks')}"], id="0206 an AUDIT"),
        pytest.param([when("key: source.principal, values: ['*']")], [f"4:63 TPX0206 warning {WHEN}.values: {PLAIN.format('allows')}"], id="0206 a condition"),
        pytest.param([source("principals: ['*']"), STRICT], [], id="0206 not where it is strict"),
        pytest.param([source("principals: ['*']"), authentication("{selector: {matchLabels: {app: httpbin}}, mtls: {mode: STRICT}, portLevelMtls: {81: {mode: PERMISSIVE}}}")], [f"4:49 TPX0206 warning {FROM}.principals: {PLAIN.format('allows')}"], id="0206 one port is not strict"),
        pytest.param([policy("{rules: [{from: [{source: {principals: ['*']}}], to: [{operation: {ports: ['80']}}]}]}"), authentication("{selector: {matchLabels: {app: httpbin}}, mtls: {mode: STRICT}, portLevelMtls: {81: {mode: PERMISSIVE}}}")], [], id="0206 not of another port"),
        pytest.param([policy("{rules: [{from: [{source: {principals: ['*']}}]}, {from: [{source: {namespaces: [b]}}]}]}")], [f"4:34 TPX0206 warning {FROM}.principals: {PLAIN.format('allows')}"], id="0206 once for a policy"),
        pytest.param([to("hosts: ['a.example:80']")], [f"4:58 TPX0207 warning {TO}.hosts[0]: 'a.example:80' is only about requests that write this port: write 'a.example' for all of them"], id="0207 a host with a port"),
        pytest.param([to("hosts: [a.example, 'a.example:*']")], [], id="0207 not beside the bare one"),
        pytest.param([to("paths: ['/foo*', '/bar/*', '*']")], [f"4:58 TPX0208 warning {TO}.paths[0]: '/foo*' is about '/foox' too: write '/foo' and '/foo/*' if that is not meant", f"4:58 TPX0221 warning {TO}.paths[0]: '/foo*' is included in '*'", f"4:67 TPX0221 warning {TO}.paths[1]: '/bar/*' is included in '*'"], id="0208 a prefix without slash"),
        pytest.param([to("hosts: ['*example.com', '*.example.org', 'a*']")], [f"4:58 TPX0208 warning {TO}.hosts[0]: '*example.com' is about 'xexample.com' too: write '*.example.com' if that is not meant"], id="0208 a suffix without dot"),
        pytest.param([source("principals: ['td/ns/foo*', 'td/*', '*/sa/a', '*a']"), STRICT], [f"4:62 TPX0208 warning {FROM}.principals[0]: 'td/ns/foo*' is about 'td/ns/foox' too: write 'td/ns/foo/*' if that is not meant", f"4:62 TPX0221 warning {FROM}.principals[0]: 'td/ns/foo*' is included in 'td/*'", f"4:84 TPX0221 warning {FROM}.principals[2]: '*/sa/a' is included in '*a'", f"4:94 TPX0208 warning {FROM}.principals[3]: '*a' is about 'xa' too: write '*/a' if that is not meant"], id="0208 parts of principals"),
        pytest.param([to("paths: [/a//b]")], [f"4:58 TPX0209 warning {TO}.paths[0]: '/a//b' never matches, for paths are normalised (MERGE_SLASHES): write '/a/b'"], id="0209 slashes"),
        pytest.param([to("paths: ['/a/../b/*']")], [f"4:58 TPX0209 warning {TO}.paths[0]: '/a/../b/*' never matches, for paths are normalised (MERGE_SLASHES)"], id="0209 dots in a prefix"),
        pytest.param([to("paths: ['/a/.*', '*/..', '*..', '/b/..b/*']")], [f"4:58 TPX0208 warning {TO}.paths[0]: '/a/.*' is about '/a/.x' too: write '/a/.' and '/a/./*' if that is not meant", f"4:67 TPX0209 warning {TO}.paths[1]: '*/..' never matches, for paths are normalised (MERGE_SLASHES)", f"4:67 TPX0221 warning {TO}.paths[1]: '*/..' is included in '*..'"], id="0209 dots that may belong to a name"),
        pytest.param([to("paths: ['/a/./{*}/{**}']")], [f"4:58 TPX0209 warning {TO}.paths[0]: '/a/./{{*}}/{{**}}' never matches, for paths are normalised (MERGE_SLASHES)"], id="0209 dots in a template"),
        pytest.param([to("paths: ['/a?b=c', 'a', '/ä', '/a#b', '{*}/a']")], [f"4:58 TPX0209 warning {TO}.paths[0]: '/a?b=c' never matches: no path holds '?'", f"4:68 TPX0209 warning {TO}.paths[1]: 'a' never matches: a path begins with `/`", f"4:73 TPX0209 warning {TO}.paths[2]: '/ä' never matches: no path holds 'ä'", f"4:79 TPX0209 warning {TO}.paths[3]: '/a#b' never matches: no path holds '#'", f"4:87 TPX0209 warning {TO}.paths[4]: '{{*}}/a' never matches: a path begins with `/`"], id="0209 what is no path"),
        pytest.param([to("paths: ['/a%00']")], [f"4:58 TPX0209 warning {TO}.paths[0]: '/a%00' never matches: such paths are refused"], id="0209 NUL"),
        pytest.param([to("paths: [/a//b]"), "", config("{pathNormalization: NONE}")], [], id="0209 not where paths stay as they are"),
        pytest.param([to("paths: ['/%61dmin']")], [f"4:58 TPX0210 warning {TO}.paths[0]: '/%61dmin' never matches, for paths are normalised (MERGE_SLASHES): write '/admin'"], id="0210 an escape that is decoded"),
        pytest.param([to("paths: ['/a%2Fb', '/a%20b']")], [f"4:58 TPX0210 warning {TO}.paths[0]: '/a%2Fb' is not about '%2f', which most servers take for the same: list both"], id="0210 an escape with two spellings"),
        pytest.param([to("paths: ['/a%2Fb']"), "", config("{pathNormalization: DECODE_AND_MERGE_SLASHES}")], [f"4:58 TPX0209 warning {TO}.paths[0]: '/a%2Fb' never matches, for paths are normalised (DECODE_AND_MERGE_SLASHES): write '/a/b'"], id="0209 a slash that is decoded"),
        pytest.param([policy("{selector: {matchLabels: {app: other}}, rules: [{to: [{operation: {paths: ['/a//b']}}]}]}")], ["4:8 TPX0215 warning $.spec.selector: this workload has the labels {'app': 'httpbin'}: not applied"], id="0215 others, of whom nothing else is told"),
        pytest.param([to("notPaths: [/a], ports: ['1']", action="DENY")], [f"4:8 TPX0219 warning $.spec.action: {LONELY}"], id="0219 nothing but DENY"),
        pytest.param([to("notPaths: [/a], ports: ['1']", action="DENY"), "", config("{defaultAction: DENY}")], [], id="0219 not where the default denies"),
        pytest.param([source("principals: ['spiffe://a/ns/b/sa/c']")], [f"4:62 TPX0220 error {FROM}.principals[0]: 'spiffe://a/ns/b/sa/c' never matches: write it without `spiffe://`"], id="0220 a scheme"),
        pytest.param([to("methods: [GET, GET, HEAD]")], [f"4:65 TPX0221 warning {TO}.methods[1]: 'GET' stands twice in this list"], id="0221 a value twice"),
        pytest.param([to("paths: [/a/b/c, '/a/b/*', '/a/*', '/a/*', '*.js', /b/x.js]")], [f"4:58 TPX0221 warning {TO}.paths[0]: '/a/b/c' is included in '/a/b/*'", f"4:66 TPX0221 warning {TO}.paths[1]: '/a/b/*' is included in '/a/*'", f"4:84 TPX0221 warning {TO}.paths[3]: '/a/*' stands twice in this list", f"4:100 TPX0221 warning {TO}.paths[5]: '/b/x.js' is included in '*.js'"], id="0221 a value that another includes"),
        pytest.param([policy("{rules: [{to: [{operation: {ports: ['1'], methods: [GET]}}, {operation: {methods: [GET], ports: ['1']}}]}]}")], ["4:68 TPX0221 warning $.spec.rules[0].to[1].operation: stands already in this rule: leave one of them out"], id="0221 an alternative twice"),
        pytest.param([policy("{rules: [{to: [{operation: {ports: ['1']}}]}, {to: [{operation: {ports: ['1']}}]}]}")], ["4:53 TPX0221 warning $.spec.rules[1]: adds nothing to $.spec.rules[0]: leave one of them out"], id="0221 a rule twice"),
        pytest.param([policy("{rules: [{to: [{operation: {ports: ['1']}}]}, {}, {}]}")], ["4:16 TPX0221 warning $.spec.rules[0]: adds nothing to $.spec.rules[1]: leave one of them out", "4:57 TPX0221 warning $.spec.rules[2]: adds nothing to $.spec.rules[1]: leave one of them out"], id="0221 rules beside the one about everything"),
        pytest.param([policy("{selector: {}, rules: [{}]}")], ["4:8 TPX0222 warning $.spec.selector: names no labels, so it is about every workload: leave it out, or name them"], id="0222 a selector without labels"),
        pytest.param([policy("{rules: [{}]}", metadata="{name: p, annotations: {sidecar.istio.io/inject: 'true', kubectl.kubernetes.io/x: y}}")], ["3:35 TPX0222 warning $.metadata.annotations.sidecar.istio.io/inject: 'sidecar.istio.io/inject' has no meaning here: leave it out"], id="0222 an annotation of Istio's"),
        pytest.param([policy("{action: AUDIT, rules: [{}]}", metadata="{name: p, annotations: {istio.io/dry-run: 'true'}}")], ["3:35 TPX0222 warning $.metadata.annotations.istio.io/dry-run: AUDIT decides nothing, so there is nothing to try: it is not evaluated"], id="0222 an AUDIT that is tried"),
    ],
)  # fmt: skip
def test_what_hardly_means_what_it_seems_is_told(documents: list[str], findings: list[str]) -> None:
    assert told(*documents) == [f"a:{each}" for each in findings]


NAME = "is no name in Kubernetes: use a-z, 0-9 and `-`"


@pytest.mark.parametrize(
    ("documents", "findings"),
    [
        pytest.param([policy("{rules: [{}]}", metadata="{name: Mine, namespace: foo}")], [f"3:12 TPX0108 error $.metadata.name: 'Mine' {NAME}"], id="a name in upper case"),
        pytest.param([policy("{rules: [{}]}", metadata="{name: 'p]-rule[0', namespace: foo}")], [f"3:12 TPX0108 error $.metadata.name: 'p]-rule[0' {NAME}"], id="a name that would forge a log"),
        pytest.param([policy("{rules: [{}]}", metadata="{name: a.b-c, namespace: a.b}")], ["3:25 TPX0108 error $.metadata.namespace: 'a.b' " + NAME, "3:25 TPX0110 info $.metadata.namespace: is about a.b, this workload is in foo: not read"], id="a namespace with a dot"),
        pytest.param([config("{rootNamespace: Istio}")], [f"4:8 TPX0108 error $.spec.rootNamespace: 'Istio' {NAME}"], id="a root namespace"),
        pytest.param([policy("{rules: [{}]}", metadata="{name: p}") + "---\n" + policy("{rules: [{}]}")], ["8:12 TPX0109 error $.metadata.name: a second AuthorizationPolicy foo/p, the first is a:1: name one of them otherwise"], id="a policy twice"),
        pytest.param([authentication("{}", metadata="{name: p, namespace: bar}") + "---\n" + authentication("{mtls: {}}", metadata="{name: p}")], ["3:21 TPX0110 info $.metadata.namespace: is about bar, this workload is in foo: not read"], id="one name in two namespaces"),
        pytest.param([policy("{rules: [{}]}", metadata="{name: p, annotations: {istio.io/dryrun: 'true'}}")], ["3:35 TPX0108 error $.metadata.annotations.istio.io/dryrun: 'istio.io/dryrun': did you mean the annotation 'istio.io/dry-run'? This policy would be in force"], id="a misspelt dry run"),
        pytest.param([policy("{rules: [{}]}", metadata="{name: p, labels: {istio.io/dry-run: 'true'}}")], ["3:30 TPX0108 error $.metadata.labels.istio.io/dry-run: 'istio.io/dry-run' is an annotation, not one of the labels: this policy would be in force"], id="a dry run as label"),
        pytest.param([authentication("{}", metadata="{name: p, annotations: {istio.io/dry-run: 'true'}}")], ["3:35 TPX0108 error $.metadata.annotations.istio.io/dry-run: 'istio.io/dry-run': only an AuthorizationPolicy can be tried, this PeerAuthentication would be in force"], id="a dry run of an authentication"),
        pytest.param([policy("{rules: [{}]}", metadata="{name: p, annotations: {istio.io/dry-run: 'yes'}}")], ["3:35 TPX0108 error $.metadata.annotations.istio.io/dry-run: 'yes' is not true or false"], id="a dry run that is neither"),
        pytest.param([policy("{selector: {matchLabels: {app: '*'}}, rules: [{}]}")], ["4:8 TPX0215 warning $.spec.selector: this workload has the labels {'app': 'httpbin'}: not applied", "4:33 TPX0108 error $.spec.selector.matchLabels.app: 'app: *' is no label in Kubernetes, and selectors have no wildcards"], id="a wildcard in a selector"),
        pytest.param([to("paths: [/a, /b], notPaths: [/b]")], [f"4:62 TPX0109 error {TO}.paths[1]: '/b' is excluded at once, so it never matches", f"4:67 TPX0205 warning {TO}.notPaths: {ALLOWS}"], id="wanted and excluded"),
        pytest.param([policy("{rules: [{from: [{source: {namespaces: [a]}}], when: [{key: source.namespace, notValues: [a]}]}]}"), STRICT], [f"4:47 TPX0109 error {FROM}.namespaces[0]: 'a' is excluded at once, so it never matches"], id="wanted, and excluded by a condition"),
        pytest.param([when("key: destination.port, values: ['1'], notValues: ['1', '2']")], [f"4:72 TPX0109 error {WHEN}.values[0]: '1' is excluded at once, so it never matches"], id="a condition against itself"),
        pytest.param([policy("{action: DENY}")], ["4:1 TPX0108 error $.spec: DENY without rules has no effect, name what it is about"], id="a DENY without rules"),
        pytest.param([to("")], [f"4:38 TPX0108 error {TO}: is empty, which would mean anything at all: say what is meant"], id="an empty operation"),
        pytest.param([config("{probes: [{port: 80, path: /a}, {port: 80, path: /a}]}")], ["4:39 TPX0109 error $.spec.probes[1]: is declared already in $.spec.probes[0], leave one of them out"], id="a probe twice"),
        pytest.param([config("{probes: [{port: 80, path: /a}], ports: [{port: 80, protocol: TCP}]}")], ["4:18 TPX0109 error $.spec.probes[0].port: port 80 is declared TCP, where there are no requests"], id="a probe of bytes"),
        pytest.param([config("{probes: [{port: 80, path: /a}], ports: [{port: 80, protocol: TCP, direction: OUTBOUND}]}")], [], id="a probe beside others' bytes"),
        pytest.param([config("{probes: [{port: 80, path: '/a?b'}, {port: 80, path: '/a*'}, {port: 80, path: /a/../b}]}")], ["4:28 TPX0108 error $.spec.probes[0].path: '/a?b' never matches: no path holds '?'", "4:54 TPX0108 error $.spec.probes[1].path: '/a*': write one whole path, there are no wildcards here", "4:79 TPX0108 error $.spec.probes[2].path: '/a/../b' never matches, for paths are normalised (MERGE_SLASHES): write '/b'"], id="probes that no request is"),
        pytest.param([source("principals: [ok, foo/bar]")], [f"4:62 TPX0108 error {FROM}.principals[0]: 'ok' is no principal, write TRUST_DOMAIN/ns/NAMESPACE/sa/NAME", f"4:66 TPX0108 error {FROM}.principals[1]: 'foo/bar' is no principal, write TRUST_DOMAIN/ns/NAMESPACE/sa/NAME"], id="what is no principal"),
        pytest.param([source("namespaces: [cluster.local/ns/foo/sa/a, foo/a, Foo, '', '/']")], [f"4:62 TPX0108 error {FROM}.namespaces[0]: 'cluster.local/ns/foo/sa/a' is no namespace, write it alone: 'foo'", f"4:89 TPX0108 error {FROM}.namespaces[1]: 'foo/a' is no namespace, write it alone: 'foo'", f"4:96 TPX0108 error {FROM}.namespaces[2]: 'Foo' is no namespace, write it alone: 'Foo'", f"4:101 TPX0108 error {FROM}.namespaces[3]: an empty value matches nothing", f"4:105 TPX0108 error {FROM}.namespaces[4]: '/' is no namespace, write it alone: 'foo'"], id="what is no namespace"),
        pytest.param([source("namespaces: [team-*, '*-team', '*', a-b, a-]"), STRICT], [f"4:90 TPX0108 error {FROM}.namespaces[4]: 'a-' is no namespace, write it alone: 'a-'"], id="wildcards in namespaces"),
        pytest.param([source("serviceAccounts: [a/b/c, '*b', '*/b', '*', 'b*']"), STRICT], [f"4:67 TPX0108 error {FROM}.serviceAccounts[0]: 'a/b/c' is no service account, write NAMESPACE/NAME or */NAME", f"4:74 TPX0108 error {FROM}.serviceAccounts[1]: '*b' is no service account, write NAMESPACE/NAME or */NAME"], id="what is no service account"),
        pytest.param([source("ipBlocks: [192.0.2.1/24, '::ffff:192.0.2.0/120', here]")], [f"4:60 TPX0108 error {FROM}.ipBlocks[0]: 192.0.2.1/24 has host bits set: write an address or a network as 192.0.2.0/24", f"4:74 TPX0108 error {FROM}.ipBlocks[1]: ::ffff:c000:200/120 is IPv4 written in IPv6, which no connection has: write an address or a network as 192.0.2.0/24", f"4:98 TPX0108 error {FROM}.ipBlocks[2]: 'here' does not appear to be an IPv4 or IPv6 network: write an address or a network as 192.0.2.0/24"], id="what is no network"),
        pytest.param([to("ports: ['0', '65536', 'http', '080']")], [f"4:{column} TPX0108 error {TO}.ports[{at}]: '{value}' is no port, write one from 1 to 65535" for at, (column, value) in enumerate(((58, "0"), (63, "65536"), (72, "http"), (80, "080")))], id="what is no port"),
        pytest.param([to("methods: [get, 'G T']")], [f"4:60 TPX0108 error {TO}.methods[0]: 'get' is no method, write one in upper case as GET", f"4:65 TPX0108 error {TO}.methods[1]: 'G T' is no method, write one in upper case as GET"], id="what is no method"),
        pytest.param([to("hosts: ['http://a.example', a.example/x, '2001:db8::1', 'bücher.example']")], [f"4:{column} TPX0108 error {TO}.hosts[{at}]: '{value}' is no host: write a name, or an address (IPv6 in brackets), and at most a port" for at, (column, value) in enumerate(((58, "http://a.example"), (78, "a.example/x"), (91, "2001:db8::1"), (106, "bücher.example")))], id="what is no host"),
        pytest.param([to("paths: ['/a/{*}b', '/{**}/{*}', '/{*}/*', '']")], [f"4:58 TPX0108 error {TO}.paths[0]: '/a/{{*}}b': {{*}} and {{**}} must be whole segments", f"4:69 TPX0108 error {TO}.paths[1]: '/{{**}}/{{*}}': {{**}} must be the last operator", f"4:82 TPX0108 error {TO}.paths[2]: '/{{*}}/*': a template has no other `*`", f"4:92 TPX0108 error {TO}.paths[3]: an empty value matches nothing"], id="what is no template"),
        pytest.param([when("key: 'request.headers[Host]', values: [a]")], [f"4:40 TPX0108 error {WHEN}.key: 'request.headers[Host]': HTTP/2 has none, write operation.hosts"], id="Host as a header"),
        pytest.param([when("key: 'request.headers[upgrade]', values: [a]")], [f"4:40 TPX0108 error {WHEN}.key: 'request.headers[upgrade]': never seen, it is about one connection"], id="a header of one hop"),
        pytest.param([when("key: source.principle, values: [a]")], [f"4:40 TPX0108 error {WHEN}.key: unknown key 'source.principle', did you mean 'source.principal'?"], id="a misspelt key"),
        pytest.param([when("key: request.auth.claims, values: [a]")], [f"4:40 TPX0108 error {WHEN}.key: unknown key 'request.auth.claims', known are request.headers[NAME], source.ip, remote.ip, source.namespace, source.principal, source.serviceAccount, destination.ip, destination.port, connection.sni"], id="an unknown key"),
        pytest.param([when("key: destination.port, values: ['0'], notValues: [x]")], [f"4:72 TPX0108 error {WHEN}.values[0]: '0' is no port, write one from 1 to 65535", f"4:90 TPX0108 error {WHEN}.notValues[0]: 'x' is no port, write one from 1 to 65535"], id="what a condition cannot be about"),
        pytest.param([when("key: source.ip")], [f"4:39 TPX0108 error {WHEN}: needs `values` or `notValues`"], id="a condition without values"),
        pytest.param([authentication("{selector: {matchLabels: {app: httpbin}}, portLevelMtls: {080: {}, 65536: {}, '٣': {}}}")], [f"4:{column} TPX0108 error $.spec.portLevelMtls.{port}: '{port}' is no port" for column, port in ((65, "080"), (74, "65536"), (85, "٣"))], id="authentication of what is no port"),
        pytest.param([authentication("{portLevelMtls: {80: {mode: STRICT}}}")], ["4:8 TPX0109 error $.spec.portLevelMtls: needs a selector: ports are a workload's"], id="authentication of ports of nobody"),
        pytest.param([authentication("{}") + "---\n" + authentication("{mtls: {mode: STRICT}}", metadata="{name: n}")], ["9:1 TPX0109 error $.spec: is about the same workloads as a:1, and neither is older: merge them"], id="two authentications at one level"),
        pytest.param([authentication("{selector: {matchLabels: {app: httpbin}}}") + "---\n" + authentication("{selector: {matchLabels: {app: httpbin}}}", metadata="{name: n, namespace: istio-system}")], ["9:1 TPX0109 error $.spec: is about the same workloads as a:1, and neither is older: merge them"], id="two authentications of one workload"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_or_told_at_its_place(
    documents: list[str], findings: list[str]
) -> None:
    assert told(*documents) == [f"a:{each}" for each in findings]


@pytest.mark.parametrize(
    ("workload", "finding"),
    [
        pytest.param(Workload(), "a:3:21 TPX0109 error $.metadata.namespace: nobody said in which namespace this workload is", id="no namespace"),
        pytest.param(Workload(namespace="foo"), "a:4:8 TPX0109 error $.spec.selector: nobody said which labels this workload has", id="no labels"),
    ],
)  # fmt: skip
def test_a_policy_is_not_passed_over_because_nobody_said_whose_sidecar_this_is(
    workload: Workload, finding: str
) -> None:
    (only,) = found(
        policy("{selector: {matchLabels: {app: a}}, rules: [{}]}", metadata="{name: p, namespace: foo}"),
        workload=workload,
    )  # fmt: skip
    assert str(only).startswith(finding)


def test_warnings_stay_with_the_snapshot_they_warn_of() -> None:
    result = compiled([SourceFile("a", to("paths: ['/foo*']").encode())], 1, WORKLOAD)
    assert isinstance(result, Snapshot)
    assert [each.code for each in result.findings] == ["TPX0208"]
