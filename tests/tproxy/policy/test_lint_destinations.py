"""Rules about destinations that are sound and hardly mean what their author thinks."""

import pytest

from fakes.destinations import EXTERNAL, MESHED, STORE, entry, files, rule, secured, told

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


def test_tls_within_tls_is_told_with_the_port() -> None:
    found = told(files(HTTPS, secured("a.example", "mode: SIMPLE, caCertificates: /a")))
    assert [each.partition(" ")[2] for each in found] == [TWICE.partition(" ")[2]]
