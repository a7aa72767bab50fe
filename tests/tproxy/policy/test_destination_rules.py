"""What is wrong with rules about destinations is told with its place and what to do."""

import pytest

from fakes.destinations import WORKLOAD, files, rule, secured, told
from tproxy.model.identity import Workload


def about(tls: str) -> list[str]:
    """What is said of a rule with these fields, without its place and that of its code."""
    found = told(files(secured("a.example", tls)))
    return [each.partition(" ")[2].replace("$.spec.trafficPolicy.", "") for each in found]


MESH = "ISTIO_MUTUAL shows the workload's identity and holds the mesh's roots: leave it out"
WHO = "is nobody who could be there: write spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/NAME"


@pytest.mark.parametrize(
    ("tls", "findings"),
    [
        pytest.param("mode: DISABLE", [], id="nothing"),
        pytest.param("mode: ISTIO_MUTUAL, sni: b.example, subjectAltNames: [spiffe://td/ns/a/sa/b]", [], id="who is there"),
        pytest.param("mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /a, subjectAltNames: [b.example, spiffe://td/ns/a/sa/b]", [], id="files"),
        pytest.param("caCertificates: /a", ["TPX0106 error tls: needs a field 'mode'"], id="no mode"),
        pytest.param("mode: STRICT", ["TPX0106 error tls.mode: invalid enum value 'STRICT', known are DISABLE, SIMPLE, MUTUAL, ISTIO_MUTUAL"], id="another kind's mode"),
        pytest.param("mode: SIMPLE, credentialName: x", ["TPX0103 error tls.credentialName: 'credentialName' is not supported by this version, there are no Secrets: write clientCertificate, privateKey and caCertificates"], id="a Secret"),
        pytest.param("mode: MUTUAL, caCertificates: /a", ["TPX0109 error tls: MUTUAL needs 'clientCertificate': name its file", "TPX0109 error tls: MUTUAL needs 'privateKey': name its file"], id="mutual without files"),
        pytest.param("mode: ISTIO_MUTUAL, clientCertificate: /c", [f"TPX0109 error tls.clientCertificate: {MESH}"], id="the mesh's certificate from a file"),
        pytest.param("mode: ISTIO_MUTUAL, caCertificates: /c", [f"TPX0109 error tls.caCertificates: {MESH}"], id="the mesh's roots from a file"),
        pytest.param("mode: ISTIO_MUTUAL, insecureSkipVerify: true", [f"TPX0109 error tls.insecureSkipVerify: {MESH}"], id="anybody of the mesh"),
        pytest.param("mode: SIMPLE, caCertificates: /a, insecureSkipVerify: true", ["TPX0109 error tls.caCertificates: insecureSkipVerify takes anybody, so nobody would look: leave one out"], id="roots of which nobody is asked"),
        pytest.param("mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [b.example]", ["TPX0109 error tls.subjectAltNames: insecureSkipVerify takes anybody, so nobody would look: leave one out"], id="names that nobody must prove"),
        pytest.param("mode: DISABLE, sni: b.example", ["TPX0222 warning tls.sni: changes nothing with mode DISABLE: leave it out, or change the mode"], id="a name that nobody asks for"),
        pytest.param("mode: SIMPLE, caCertificates: /a, privateKey: /k", ["TPX0222 warning tls.privateKey: changes nothing with mode SIMPLE: leave it out, or change the mode"], id="a key that is not used"),
        pytest.param("mode: ISTIO_MUTUAL, sni: 192.0.2.1", ["TPX0108 error tls.sni: '192.0.2.1' is no name that can be asked for: write a DNS name"], id="an address as SNI"),
        pytest.param('mode: ISTIO_MUTUAL, sni: "*.example"', ["TPX0108 error tls.sni: '*.example' is no name that can be asked for: write a DNS name"], id="a pattern as SNI"),
        pytest.param("mode: ISTIO_MUTUAL, subjectAltNames: [b.example]", [f"TPX0108 error tls.subjectAltNames[0]: 'b.example' {WHO}"], id="a DNS name in the mesh"),
        pytest.param("mode: SIMPLE, caCertificates: /a, subjectAltNames: [b.example, spiffe://td]", [f"TPX0108 error tls.subjectAltNames[1]: 'spiffe://td' {WHO}, or a DNS name"], id="no SPIFFE id"),
        pytest.param("mode: SIMPLE, caCertificates: /a, subjectAltNames: []", ["TPX0106 error tls.subjectAltNames: an empty list would mean anything at all: name what is meant, or leave the field out"], id="nobody"),
        pytest.param('mode: SIMPLE, caCertificates: ""', ["TPX0108 error tls.caCertificates: names no file"], id="an empty file name"),
    ],
)  # fmt: skip
def test_what_a_mode_cannot_mean_is_told(tls: str, findings: list[str]) -> None:
    assert about(tls) == findings


@pytest.mark.parametrize(
    ("spec", "finding"),
    [
        pytest.param('host: "a b"', "TPX0108 error $.spec.host: 'a b' is no name of a service: write a DNS name, `*.suffix` or `*`", id="no host"),
        pytest.param('host: "a.*"', "TPX0108 error $.spec.host: 'a.*' is no name of a service: write a DNS name, `*.suffix` or `*`", id="a star at the end"),
        pytest.param(f'host: "{"a" * 64}.example"', f"TPX0108 error $.spec.host: '{'a' * 64}.example' is no name of a service: write a DNS name, `*.suffix` or `*`", id="a long label"),
        pytest.param('host: a.example, exportTo: ["*", "."]', "TPX0109 error $.spec.exportTo: several words contradict each other: write one", id="everybody and nobody else"),
        pytest.param("host: a.example, exportTo: [x]", "TPX0106 error $.spec.exportTo[0]: invalid enum value 'x', known are *, .", id="a namespace by name"),
        pytest.param("host: a.example, trafficPolicy: {portLevelSettings: [{port: {number: 1}}, {port: {number: 1}}]}", "TPX0109 error $.spec.trafficPolicy.portLevelSettings[1].port: port 1 is set already in portLevelSettings[0]", id="a port twice"),
        pytest.param("host: a.example, trafficPolicy: {portLevelSettings: [{port: {number: 0}}]}", "TPX0106 error $.spec.trafficPolicy.portLevelSettings[0].port.number: expected `int` >= 1", id="port 0"),
        pytest.param("host: a.example, trafficPolicy: {portLevelSettings: [{port: {number: 1}, tls: {mode: ISTIO_MUTUAL, caCrl: /r}}]}", f"TPX0109 error $.spec.trafficPolicy.portLevelSettings[0].tls.caCrl: {MESH}", id="a port's TLS"),
        pytest.param("host: a.example, subsets: [{name: v1}, {name: v1}]", "TPX0109 error $.spec.subsets[1].name: 'v1' is that of subsets[0] already: name one of them otherwise", id="a subset twice"),
        pytest.param("host: a.example, subsets: [{name: v1, trafficPolicy: {portLevelSettings: [{port: {number: 1}}, {port: {number: 1}}]}}]", "TPX0109 error $.spec.subsets[0].trafficPolicy.portLevelSettings[1].port: port 1 is set already in portLevelSettings[0]", id="a subset's port twice"),
        pytest.param("host: a.example, subsets: [{name: v1, trafficPolicy: {tls: {mode: ISTIO_MUTUAL, caCrl: /r}}}]", f"TPX0109 error $.spec.subsets[0].trafficPolicy.tls.caCrl: {MESH}", id="a subset's TLS"),
        pytest.param("host: a.example, trafficPolicy: {portLevelSettings: [{port: {number: 1}, connectionPool: {tcp: {connectTimeout: 0s}}}]}", "TPX0108 error $.spec.trafficPolicy.portLevelSettings[0].connectionPool.tcp.connectTimeout: '0s' is no time at all: write a longer one, or leave the field out", id="a port's time"),
        pytest.param("host: a.example, workloadSelector: {}", "TPX0222 warning $.spec.workloadSelector: names no labels, so it is about every workload: leave it out, or name them", id="a selector of everybody"),
        pytest.param("host: a.example, workloadSelector: {matchLabels: {app: x}}", "TPX0215 warning $.spec.workloadSelector: this workload has the labels {'app': 'shop'}: not applied", id="a selector of others"),
        pytest.param('host: a.example, workloadSelector: {matchLabels: {app: "*"}}', "TPX0108 error $.spec.workloadSelector.matchLabels.app: 'app: *' is no label in Kubernetes, and selectors have no wildcards", id="a wildcard"),
    ],
)  # fmt: skip
def test_what_a_rule_cannot_mean_is_told(spec: str, finding: str) -> None:
    found = told(files(rule(spec)))
    assert finding in [each.partition(" ")[2] for each in found]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("host: store", "host: STORE.web.svc.cluster.local", id="one host, spelled in two ways"),
        pytest.param('host: "*"', 'host: "*", exportTo: ["."]', id="for everybody and for some"),
        pytest.param("host: a.example, workloadSelector: {matchLabels: {app: shop}}", "host: a.example, workloadSelector: {matchLabels: {tier: a}}", id="both select the workload"),
        pytest.param("host: a.example, workloadSelector: {matchLabels: {x: y}}", "host: a.example, workloadSelector: {matchLabels: {x: y}}", id="both select the same others"),
    ],
)  # fmt: skip
def test_two_rules_about_the_same_connections_are_refused(one: str, other: str) -> None:
    workload = Workload("shop", "web", labels={"app": "shop", "tier": "a"})
    found = told(files(rule(one), rule(other, name="s")), workload=workload)
    message = "is about the same connections as p.yaml:1, and neither is older: merge them"
    assert f"p.yaml:9:8 TPX0109 error $.spec.host: {message}" in found


def test_rules_about_one_host_that_select_different_workloads_are_no_contradiction() -> None:
    one = rule("host: a.example, workloadSelector: {matchLabels: {app: x}}")
    other = rule("host: a.example, workloadSelector: {matchLabels: {app: y}}", name="s")
    assert [each.split()[1] for each in told(files(one, other))] == ["TPX0215", "TPX0215"]


NAMELESS = "nobody said in which namespace this workload is"
LABELLESS = "nobody said which labels this workload has"


@pytest.mark.parametrize(
    ("text", "workload", "said"),
    [
        pytest.param(rule("host: a.example"), Workload(), [NAMELESS], id="a rule's namespace"),
        pytest.param(rule("host: store").replace(", namespace: web", ""), Workload(), [NAMELESS], id="a short name's namespace"),
        pytest.param(rule("host: a.example").replace(", namespace: web", ""), Workload(), [], id="neither"),
        pytest.param(rule('host: "*"').replace(", namespace: web", ""), Workload(), [], id="everything"),
        pytest.param(rule("host: a.example, workloadSelector: {matchLabels: {a: b}}"), Workload(namespace="web"), [LABELLESS], id="labels"),
        pytest.param(rule('host: a.example, exportTo: ["."]', namespace="db"), WORKLOAD, ["is for workloads of db, this one is in web: not read"], id="for others"),
        pytest.param(rule("host: a.example", namespace="db"), WORKLOAD, [], id="for everybody"),
    ],
)  # fmt: skip
def test_whose_rule_it_is_must_be_known(text: str, workload: Workload, said: list[str]) -> None:
    found = told(files(text), workload=workload)
    assert len(found) == len(said)
    assert all(words in each for words, each in zip(said, found, strict=True))


SOON = "'soon' is no duration, write `500ms`, `3s` or `1m`"
NO_TIME = "'0s' is no time at all: write a longer one, or leave the field out"
POINTER = "is not supported by this version,"


@pytest.mark.parametrize(
    ("policy", "findings"),
    [
        pytest.param("loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}", ["TPX0109 error loadBalancer: simple and consistentHash choose endpoints both: leave one out"], id="two ways to choose"),
        pytest.param("loadBalancer: {consistentHash: {}}", ["TPX0109 error loadBalancer.consistentHash: needs one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName"], id="nothing to hash"),
        pytest.param("loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: a}}", ["TPX0109 error loadBalancer.consistentHash: needs one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName"], id="two things to hash"),
        pytest.param("loadBalancer: {consistentHash: {httpCookie: {name: a, ttl: soon}}}", [f"TPX0108 error loadBalancer.consistentHash.httpCookie.ttl: {SOON}"], id="a cookie's life"),
        pytest.param("loadBalancer: {consistentHash: {httpCookie: {name: a, ttl: 0s}}}", [], id="a session's cookie"),
        pytest.param("loadBalancer: {consistentHash: {httpCookie: {name: a}}}", [], id="a cookie of the application's"),
        pytest.param("loadBalancer: {consistentHash: {useSourceIp: true, maglev: {}}}", [f"TPX0103 error loadBalancer.consistentHash.maglev: 'maglev' {POINTER} write ringHash"], id="maglev"),
        pytest.param("loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 16385}}}", ["TPX0106 error loadBalancer.consistentHash.ringHash.minimumRingSize: expected `int` <= 16384"], id="a large ring"),
        pytest.param("loadBalancer: {localityLbSetting: {}}", [f"TPX0103 error loadBalancer.localityLbSetting: 'localityLbSetting' {POINTER} endpoints are not told apart by where they are"], id="localities"),
        pytest.param("loadBalancer: {warmup: {duration: 0s}}", [f"TPX0108 error loadBalancer.warmup.duration: {NO_TIME}"], id="no warm-up"),
        pytest.param("loadBalancer: {warmup: {duration: 1s, aggression: 2}}", ["TPX0106 error loadBalancer.warmup.aggression: expected `float` <= 1.0"], id="an aggression"),
        pytest.param("loadBalancer: {warmup: {duration: 1s, minimumPercent: 0}}", ["TPX0106 error loadBalancer.warmup.minimumPercent: expected `float` > 0.0"], id="nothing for newcomers"),
        pytest.param("loadBalancer: {warmup: {duration: 1s}, warmupDurationSecs: 1s}", ["TPX0109 error loadBalancer.warmupDurationSecs: is said by warmup too: leave this one out"], id="warm-up in two forms"),
        pytest.param("loadBalancer: {simple: RANDOM, warmup: {duration: 1s}}", ["TPX0222 warning loadBalancer.warmup: changes nothing but with ROUND_ROBIN and LEAST_REQUEST"], id="a warm-up of no effect"),
        pytest.param("loadBalancer: {consistentHash: {useSourceIp: true}, warmupDurationSecs: 1s}", ["TPX0222 warning loadBalancer.warmupDurationSecs: changes nothing but with ROUND_ROBIN and LEAST_REQUEST"], id="one in the old form"),
        pytest.param("connectionPool: {tcp: {maxConnections: 0}}", ["TPX0106 error connectionPool.tcp.maxConnections: expected `int` >= 1"], id="no connections"),
        pytest.param("connectionPool: {tcp: {maxConnections: -1}}", ["TPX0106 error connectionPool.tcp.maxConnections: expected `int` >= 1"], id="fewer than none"),
        pytest.param("connectionPool: {tcp: {connectTimeout: soon}, http: {idleTimeout: 0s}}", [f"TPX0108 error connectionPool.tcp.connectTimeout: {SOON}", f"TPX0108 error connectionPool.http.idleTimeout: {NO_TIME}"], id="no times"),
        pytest.param("connectionPool: {tcp: {idleTimeout: 1s}}", [f"TPX0103 error connectionPool.tcp.idleTimeout: 'idleTimeout' {POINTER} write --limit tcp_idle_seconds=SECONDS"], id="idle bytes"),
        pytest.param("connectionPool: {http: {h2UpgradePolicy: UPGRADE}}", [f"TPX0103 error connectionPool.http.h2UpgradePolicy: 'h2UpgradePolicy' {POINTER} write upstreamProtocol of spec.ports in ProxyConfig"], id="an upgrade"),
        pytest.param("outlierDetection: {interval: 0s}", [f"TPX0108 error outlierDetection.interval: {NO_TIME}"], id="no interval"),
        pytest.param("outlierDetection: {baseEjectionTime: soon}", [f"TPX0108 error outlierDetection.baseEjectionTime: {SOON}"], id="no ejection"),
        pytest.param("outlierDetection: {consecutiveErrors: 1}", [f"TPX0103 error outlierDetection.consecutiveErrors: 'consecutiveErrors' {POINTER} write consecutive5xxErrors or consecutiveGatewayErrors"], id="errors of any kind"),
        pytest.param("outlierDetection: {maxEjectionPercent: 101}", ["TPX0106 error outlierDetection.maxEjectionPercent: expected `float` <= 100.0"], id="more than all"),
        pytest.param("retryBudget: {minRetryConcurrency: 3}", [f"TPX0103 error retryBudget.minRetryConcurrency: 'minRetryConcurrency' {POINTER} write minRetryRate in a ResiliencePolicy"], id="a budget by concurrency"),
        pytest.param("loadBalancer: {simple: LEAST_CONN}, connectionPool: {}, outlierDetection: {}, retryBudget: {percent: 0}", [], id="what is sound"),
    ],
)  # fmt: skip
def test_what_connections_cannot_mean_is_told(policy: str, findings: list[str]) -> None:
    found = told(files(rule(f"host: a.example, trafficPolicy: {{{policy}}}")))
    prefix = "$.spec.trafficPolicy."
    assert [each.partition(" ")[2].replace(prefix, "") for each in found] == findings
