"""Rules about destinations that are sound and hardly mean what their author thinks."""

import pytest

from fakes.destinations import (
    EXTERNAL,
    IN_MESH,
    MESHED,
    OTHER,
    STORE,
    VIP,
    entry,
    files,
    rule,
    secured,
    told,
)

HTTPS = entry(
    "hosts: [a.example], ports: [{number: 443, name: tls, protocol: HTTPS}, {number: 80, name: http, protocol: HTTP}]"
)
TWICE = (
    "p.yaml:8 TPX0225 warning $.spec.trafficPolicy: wraps port 443 of p.yaml:1 in SIMPLE TLS,"
    " and what is there is HTTPS already: leave that port out"
)
PARTLY = rule(
    "host: a.example, trafficPolicy: {tls: {mode: SIMPLE, caCertificates: /a},"
    " portLevelSettings: [{port: {number: 443}, tls: {mode: DISABLE}}]}"
)


@pytest.mark.parametrize(
    ("documents", "findings"),
    [
        pytest.param([secured("a.example", "mode: SIMPLE")], ["TPX0214 info $.spec.trafficPolicy.tls: names no caCertificates, so the roots of the system vouch for whoever answers"], id="the system's roots"),
        pytest.param([secured("a.example", "mode: SIMPLE, insecureSkipVerify: true")], ["TPX0214 warning $.spec.trafficPolicy.tls.insecureSkipVerify: whoever answers is believed, so nothing is proven: name caCertificates"], id="anybody"),
        pytest.param([secured("a.example", "mode: SIMPLE, caCertificates: /a")], [], id="roots of one's own"),
        pytest.param([secured("*", "mode: ISTIO_MUTUAL")], ["TPX0224 warning $.spec.host: is about every connection that leaves, to the Internet and in TLS of the application's too: name the hosts, as *.svc.cluster.local"], id="everything"),
        pytest.param([secured("*", "mode: DISABLE")], [], id="nothing about everything"),
        pytest.param([MESHED, secured("a.example", "mode: DISABLE")], ["TPX0223 info $.spec.host: no ServiceEntry names a.example: the rule is about requests that ask for it, and about nothing else"], id="a name of no entry"),
        pytest.param([MESHED, secured(STORE, "mode: DISABLE")], [], id="a name of one"),
        pytest.param([MESHED, secured("*.local", "mode: DISABLE")], [], id="a pattern about one"),
        pytest.param([EXTERNAL, secured("*.c.example", "mode: DISABLE")], [], id="the same pattern"),
        pytest.param([secured("a.example", "mode: DISABLE")], [], id="a name without any entry"),
        pytest.param([HTTPS, PARTLY], [], id="plaintext but for one port"),
        pytest.param([HTTPS, secured("a.example", "mode: ISTIO_MUTUAL")], [], id="TLS inside mutual TLS of the mesh"),
        pytest.param([HTTPS, secured("b.example", "mode: DISABLE")], ["TPX0223 info $.spec.host: no ServiceEntry names b.example: the rule is about requests that ask for it, and about nothing else"], id="another host"),
        pytest.param([HTTPS, rule("host: a.example")], [], id="no TLS"),
    ],
)  # fmt: skip
def test_a_rule_that_hardly_means_this_is_told(documents: list[str], findings: list[str]) -> None:
    assert [each.partition(" ")[2] for each in told(files(*documents))] == findings


PAIR = entry(
    f"hosts: [store], {IN_MESH}, endpoints: [{{address: {VIP}, labels: {{version: v1, app: x}}}}, {{address: {OTHER}}}]",
    name="pair",
)
LOOKED_UP = entry("hosts: [a.example], resolution: DNS, ports: [{number: 80, name: http}]")
LABELLED = entry(
    "hosts: [a.example], resolution: DNS, ports: [{number: 80, name: http}],"
    " endpoints: [{address: x.example, labels: {a: b}}]"
)
DIALLED = "changes nothing, for connections go where they were going (resolution NONE)"


def about_store(spec: str) -> str:
    """A rule about a service."""
    return rule(f"host: {STORE}, {spec}")


@pytest.mark.parametrize(
    ("documents", "findings"),
    [
        pytest.param([PAIR, about_store("subsets: [{name: v1, labels: {version: v1}}, {name: all}]")], [], id="subsets with endpoints"),
        pytest.param([PAIR, about_store("subsets: [{name: v2, labels: {version: v2}}]")], ["TPX0226 warning $.spec.subsets[0].labels: no endpoint has the labels {'version': 'v2'}: what is sent to 'v2' is answered with 503"], id="a subset without endpoints"),
        pytest.param([PAIR, about_store("trafficPolicy: {outlierDetection: {}}")], ["TPX0227 warning $.spec.trafficPolicy.outlierDetection: 10 % of 2 endpoints is nobody: set maxEjectionPercent to 50 or more"], id="nobody can be ejected"),
        pytest.param([PAIR, about_store("trafficPolicy: {outlierDetection: {maxEjectionPercent: 50}}")], [], id="somebody can"),
        pytest.param([EXTERNAL, rule("host: a.example, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: v1, labels: {a: b}}]")], [f"TPX0222 warning $.spec.trafficPolicy.loadBalancer: {DIALLED}", f"TPX0222 warning $.spec.subsets[0].labels: {DIALLED}"], id="no endpoint is chosen"),
        pytest.param([EXTERNAL, PAIR, rule('host: "*.example", subsets: [{name: v1, labels: {a: b}}]')], [f"TPX0222 warning $.spec.subsets[0].labels: {DIALLED}"], id="a pattern about that"),
        pytest.param([EXTERNAL, PAIR, rule('host: "*", subsets: [{name: v1, labels: {a: b}}]')], [], id="some of many may have it"),
        pytest.param([PAIR, rule('host: "*.local", trafficPolicy: {outlierDetection: {}}')], [], id="some services may have enough"),
        pytest.param([rule("host: a.example, subsets: [{name: v1, labels: {a: b}}]")], ["TPX0226 warning $.spec.subsets[0].labels: no endpoint has the labels {'a': 'b'}: what is sent to 'v1' is answered with 503"], id="nobody knows the endpoints"),
        pytest.param([LOOKED_UP, rule("host: a.example, subsets: [{name: v1, labels: {a: b}}, {name: all}]")], ["TPX0226 warning $.spec.subsets[0].labels: no endpoint has the labels {'a': 'b'}: what is sent to 'v1' is answered with 503"], id="names that are looked up have no labels"),
        pytest.param([LABELLED, rule("host: a.example, subsets: [{name: v1, labels: {a: b}}]")], [], id="names with labels"),
        pytest.param([PAIR, about_store("trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}, subsets: [{name: v1, labels: {a: b}}]")], ["TPX0222 warning $.spec.subsets[0].labels: changes nothing, for connections go where they were going (PASSTHROUGH)"], id="the rule chooses none"),
    ],
)  # fmt: skip
def test_a_rule_that_endpoints_leave_without_effect_is_told(
    documents: list[str], findings: list[str]
) -> None:
    assert [each.partition(" ")[2] for each in told(files(*documents))] == findings


def test_tls_within_tls_is_told_with_the_port() -> None:
    found = told(files(HTTPS, secured("a.example", "mode: SIMPLE, caCertificates: /a")))
    assert [each.partition(" ")[2] for each in found] == [TWICE.partition(" ")[2]]
