"""What a VirtualService cannot mean is said at its place, and nothing of it is used."""

import pytest

from fakes.destinations import entry, rule, snapshot
from fakes.routes import findings, http, to, virtual
from tproxy.model.identity import Workload

SOMEBODY = Workload()


def errors(*documents: str, workload: Workload | None = None) -> list[str]:
    """Codes, paths and messages of the mistakes."""
    told = findings(*documents) if workload is None else findings(*documents, workload=workload)
    parts = (each.split(" ", 3) for each in told)
    return [
        f"{code} {path} {message}" for code, severity, path, message in parts if severity == "error"
    ]


GOOD = to("ratings")


@pytest.mark.parametrize(
    ("spec", "finding"),
    [
        pytest.param("hosts: [reviews]", "TPX0109 $.spec: leads nowhere: write http, tls or tcp", id="no entries"),
        pytest.param('hosts: ["*"], http: [{%s}]', "TPX0108 $.spec.hosts[0]: '*' is no name of a service: write a DNS name, or `*.suffix`", id="every host"),
        pytest.param("hosts: [192.0.2.1], http: [{%s}]", "TPX0108 $.spec.hosts[0]: '192.0.2.1' is no name of a service: write a DNS name, or `*.suffix`", id="an address"),
        pytest.param('hosts: ["a*b"], http: [{%s}]', "TPX0108 $.spec.hosts[0]: 'a*b' is no name of a service: write a DNS name, or `*.suffix`", id="a wildcard within"),
        pytest.param('hosts: [a], exportTo: ["*", "."], http: [{%s}]', "TPX0109 $.spec.exportTo: several words contradict each other: write one", id="for everybody and not"),
        pytest.param("hosts: [a], gateways: [edge], http: [{%s}]", "TPX0106 $.spec.gateways[0]: invalid enum value 'edge', known are mesh", id="a gateway"),
        pytest.param("hosts: [a], http: [{corsPolicy: {}, %s}]", "TPX0103 $.spec.http[0].corsPolicy: 'corsPolicy' is not supported by this version, answer in the application, or set response headers", id="what is not built"),
        pytest.param("hosts: [a], http: [{delegate: {name: x}}]", "TPX0103 $.spec.http[0].delegate: 'delegate' is not supported by this version, write the other's entries here", id="a delegate"),
        pytest.param("hosts: [a], http: [{match: [{}], %s}]", "TPX0108 $.spec.http[0].match[0]: says nothing: leave match out where all is meant", id="an empty match"),
        pytest.param("hosts: [a], http: [{match: [{name: x}], %s}]", "TPX0108 $.spec.http[0].match[0]: says nothing: leave match out where all is meant", id="a match with a name alone"),
        pytest.param("hosts: [a], tcp: [{match: [{}], %s}]", "TPX0108 $.spec.tcp[0].match[0]: says nothing: leave match out where all is meant", id="an empty match of connections"),
        pytest.param('hosts: [a], tcp: [{match: [{destinationSubnets: ["192.0.2.1/24"]}], %s}]', "TPX0108 $.spec.tcp[0].match[0].destinationSubnets[0]: 192.0.2.1/24 has host bits set", id="half a network"),
        pytest.param("hosts: [a.example], tls: [{match: [{sniHosts: [b.example]}], %s}]", "TPX0108 $.spec.tls[0].match[0].sniHosts[0]: 'b.example' is none of $.spec.hosts: name it there too", id="another's name"),
        pytest.param('hosts: ["*.example"], tls: [{match: [{sniHosts: ["a b"]}], %s}]', "TPX0108 $.spec.tls[0].match[0].sniHosts[0]: 'a b' is none of $.spec.hosts: name it there too", id="no name"),
        pytest.param("hosts: [a], http: [{route: [{destination: {host: b}}, {destination: {host: c}, weight: 0}]}]", "TPX0108 $.spec.http[0].route: no destination has a weight, so none gets anything: write weight", id="no weights"),
        pytest.param("hosts: [a], http: [{route: [{destination: {host: b}, weight: -1}]}]", "TPX0106 $.spec.http[0].route[0].weight: expected `int` >= 0", id="less than nothing"),
        pytest.param('hosts: [a], http: [{route: [{destination: {host: "*.b"}}]}]', "TPX0108 $.spec.http[0].route[0].destination.host: '*.b' is no name of a service: write a DNS name", id="a pattern as destination"),
        pytest.param("hosts: [a], http: [{mirror: {host: 192.0.2.1}, %s}]", "TPX0108 $.spec.http[0].mirror.host: '192.0.2.1' is no name of a service: write a DNS name", id="an address as mirror"),
        pytest.param("hosts: [a], http: [{mirrors: [{destination: {host: 192.0.2.1}}], %s}]", "TPX0108 $.spec.http[0].mirrors[0].destination.host: '192.0.2.1' is no name of a service: write a DNS name", id="an address among mirrors"),
        pytest.param("hosts: [a], tls: [{match: [{sniHosts: [a.web.svc.cluster.local]}], route: [{destination: {host: _}}, {destination: {host: '-'}, weight: 1}]}]", "TPX0108 $.spec.tls[0].route[1].destination.host: '-' is no name of a service: write a DNS name", id="no name as destination of TLS"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused(spec: str, finding: str) -> None:
    assert errors(virtual(spec.replace("%s", GOOD))) == [finding]


@pytest.mark.parametrize(
    ("entry", "finding"),
    [
        pytest.param("name: a", "$.spec.http[0]: does nothing: write route, redirect or directResponse", id="nothing"),
        pytest.param("%s, redirect: {uri: /}", "$.spec.http[0].redirect: contradicts 'route': leave one of them out", id="a route and a redirect"),
        pytest.param("redirect: {uri: /}, directResponse: {status: 200}", "$.spec.http[0].directResponse: contradicts 'redirect': leave one of them out", id="two answers"),
        pytest.param("redirect: {uri: /}, rewrite: {uri: /}", "$.spec.http[0].rewrite: nobody is asked, as the answer is ours: leave it out", id="a redirect rewritten"),
        pytest.param("directResponse: {status: 200}, timeout: 1s", "$.spec.http[0].timeout: nobody is asked, as the answer is ours: leave it out", id="an answer in time"),
        pytest.param("directResponse: {status: 200}, mirrors: [{destination: {host: a}}]", "$.spec.http[0].mirrors: nobody is asked, as the answer is ours: leave it out", id="an answer mirrored"),
        pytest.param("%s, timeout: soon", "$.spec.http[0].timeout: 'soon' is no duration, write `500ms`, `3s` or `1m`", id="no duration"),
        pytest.param("%s, timeout: 2h", "$.spec.http[0].timeout: '2h' must be 1ms to 60m", id="too long"),
        pytest.param("%s, retries: {attempts: 1, perTryTimeout: 0s}", "$.spec.http[0].retries.perTryTimeout: '0s' must be 1ms to 60m", id="no time for a try"),
        pytest.param("%s, retries: {attempts: 1, backoff: 0.1ms}", "$.spec.http[0].retries.backoff: '0.1ms' must be 1ms to 60m", id="no pause"),
        pytest.param("%s, retries: {attempts: 1, retryOn: often}", "$.spec.http[0].retries.retryOn: retryOn: unknown 'often'; known are", id="no condition"),
        pytest.param("%s, retries: {attempts: 1, retryIgnorePreviousHosts: false}", "$.spec.http[0].retries.retryIgnorePreviousHosts: a retry goes to another endpoint where there is one: leave it out", id="the same endpoint again"),
        pytest.param("%s, fault: {}", "$.spec.http[0].fault: does nothing: write delay or abort", id="no fault"),
        pytest.param("%s, fault: {delay: {fixedDelay: 0s}}", "$.spec.http[0].fault.delay.fixedDelay: '0s' must be 1ms to 60m", id="no delay"),
        pytest.param("%s, fault: {abort: {}}", "$.spec.http[0].fault.abort: write one of httpStatus and grpcStatus", id="no status"),
        pytest.param("%s, fault: {abort: {httpStatus: 503, grpcStatus: INTERNAL}}", "$.spec.http[0].fault.abort: write one of httpStatus and grpcStatus", id="two statuses"),
        pytest.param("%s, fault: {abort: {grpcStatus: BROKEN}}", "$.spec.http[0].fault.abort.grpcStatus: 'BROKEN' is no gRPC status of a failure: write UNAVAILABLE, or 14", id="no name of a status"),
        pytest.param("%s, fault: {abort: {grpcStatus: '17'}}", "$.spec.http[0].fault.abort.grpcStatus: '17' is no gRPC status of a failure: write UNAVAILABLE, or 14", id="no number of a status"),
        pytest.param("%s, mirror: {host: a}, mirrors: [{destination: {host: a}}]", "$.spec.http[0].mirrors: contradicts 'mirror': write all of them into mirrors", id="two kinds of mirrors"),
        pytest.param("%s, mirrorPercentage: {value: 1}", "$.spec.http[0].mirrorPercentage: is that of 'mirror', which there is none of: leave it out", id="a share of no mirror"),
        pytest.param("redirect: {}", "$.spec.http[0].redirect: leads to where it is: write uri, authority, port or scheme", id="a redirect in a circle"),
        pytest.param("redirect: {uri: new}", "$.spec.http[0].redirect.uri: 'new' is no path: it begins with a slash, and holds no spaces", id="a redirect to no path"),
        pytest.param("redirect: {uri: '/%REQ(x)%/y'}", "$.spec.http[0].redirect.uri: '%REQ(x)%' would be sent as it is: nothing is put in its place here", id="a redirect that Envoy would fill in"),
        pytest.param("redirect: {authority: '%REQ(x)%'}", "$.spec.http[0].redirect.authority: '%REQ(x)%' is no authority", id="an authority that Envoy would fill in"),
        pytest.param("redirect: {authority: 'a b'}", "$.spec.http[0].redirect.authority: 'a b' is no authority: write a name, and a port if it needs one", id="a redirect to nobody"),
        pytest.param("redirect: {uri: /a, redirectCode: 305}", "$.spec.http[0].redirect.redirectCode: 305 is none of 301, 302, 303, 307 and 308", id="another status"),
        pytest.param("%s, rewrite: {}", "$.spec.http[0].rewrite: does nothing: write uri, authority or uriRegexRewrite", id="nothing rewritten"),
        pytest.param("%s, rewrite: {uri: '/a?b'}", "$.spec.http[0].rewrite.uri: '/a?b' is no path: it begins with a slash, and has no query", id="a query rewritten"),
        pytest.param("%s, rewrite: {uri: /, uriRegexRewrite: {match: a, rewrite: b}}", "$.spec.http[0].rewrite.uriRegexRewrite: contradicts 'uri': leave one of them out", id="two paths"),
        pytest.param("%s, rewrite: {uriRegexRewrite: {match: '(', rewrite: b}}", "$.spec.http[0].rewrite.uriRegexRewrite: is no RE2 expression: missing ): (", id="no expression rewritten"),
        pytest.param("%s, rewrite: {uriRegexRewrite: {match: a, rewrite: '\\1'}}", "$.spec.http[0].rewrite.uriRegexRewrite: '\\\\1' is no group of the expression: write \\1, or \\\\ for \\", id="no group"),
        pytest.param("%s, rewrite: {uriRegexRewrite: {match: a, rewrite: 'a b'}}", "$.spec.http[0].rewrite.uriRegexRewrite.rewrite: holds what no path holds", id="no path"),
        pytest.param("directResponse: {status: 200, body: {}}", "$.spec.http[0].directResponse.body: write one of string and bytes", id="no body"),
        pytest.param("directResponse: {status: 200, body: {bytes: '%'}}", "$.spec.http[0].directResponse.body.bytes: is no base64", id="no octets"),
        pytest.param("match: [{uri: {}}], %s", "$.spec.http[0].match[0].uri: says nothing: write exact, prefix or regex", id="no text"),
        pytest.param("match: [{uri: {exact: /a, prefix: /b}}], %s", "$.spec.http[0].match[0].uri: says several things: write one of exact, prefix and regex", id="two texts"),
        pytest.param("match: [{uri: {prefix: ''}}], %s", "$.spec.http[0].match[0].uri.prefix: is what every text begins with: leave it out", id="any beginning"),
        pytest.param("match: [{uri: {regex: '('}}], %s", "$.spec.http[0].match[0].uri.regex: is no RE2 expression: missing ): (", id="no expression"),
        pytest.param("match: [{authority: {regex: 'Shop\\\\S+'}}], %s", "$.spec.http[0].match[0].authority.regex: has capitals, and authorities are compared in small letters: write (?i) before", id="an authority in capitals"),
        pytest.param("match: [{headers: {':path': {}}}], %s", "$.spec.http[0].match[0].headers.:path: ':path' is no name of a header", id="a pseudo-header"),
        pytest.param("match: [{headers: {':authority': {}}}], %s", "$.spec.http[0].match[0].headers.:authority: ':authority' is no header here: write authority", id="the authority as a header"),
        pytest.param("match: [{headers: {Host: {}}}], %s", "$.spec.http[0].match[0].headers.Host: 'Host' is no header here: write authority", id="the host as a header"),
        pytest.param("match: [{withoutHeaders: {connection: {}}}], %s", "$.spec.http[0].match[0].withoutHeaders.connection: 'connection' is about one connection, and never part of a request here", id="a header of one hop"),
        pytest.param("match: [{queryParams: {'a=b': {}}}], %s", "$.spec.http[0].match[0].queryParams.a=b: 'a=b' is no name of a query parameter", id="no parameter"),
        pytest.param("%s, headers: {request: {set: {host: a}}}", "$.spec.http[0].headers.request.set.host: 'host' is no header here: write rewrite", id="another host"),
        pytest.param("%s, headers: {request: {add: {content-length: '1'}}}", "$.spec.http[0].headers.request.add.content-length: 'content-length' says how a message is carried, and is not the policy's to say", id="another length"),
        pytest.param("%s, headers: {response: {remove: ['a b']}}", "$.spec.http[0].headers.response.remove[0]: 'a b' is no name of a header", id="no header"),
        pytest.param('%s, headers: {request: {set: {a: "b\\nc: d"}}}', "$.spec.http[0].headers.request.set.a: is no value of a header: it has one line of ASCII, and no spaces around it", id="two lines"),
        pytest.param("%s, headers: {request: {set: {a: '%REQ(b)%'}}}", "$.spec.http[0].headers.request.set.a: '%REQ(b)%' would be sent as it is: nothing is put in its place here", id="what Envoy would fill in"),
        pytest.param("%s, headers: {request: {add: {a: x, A: 'y'}}}", "$.spec.http[0].headers.request.add.A: is 'a' in another case: write it once", id="the same header twice"),
        pytest.param("route: [{destination: {host: a}, headers: {request: {set: {':path': /}}}}]", "$.spec.http[0].route[0].headers.request.set.:path: ':path' is no header here: write rewrite", id="a destination's header"),
    ],
)  # fmt: skip
def test_an_entry_that_means_nothing_is_refused(entry: str, finding: str) -> None:
    (told,) = errors(http(f"{{{entry.replace('%s', GOOD)}}}"))
    assert told.startswith(f"TPX0108 {finding}")


def test_two_about_one_host_contradict_each_other() -> None:
    entries = f"http: [{{{GOOD}}}]"
    message = "p.yaml:1 is about reviews.web.svc.cluster.local already, and neither is older: put them into one"
    first, second = (
        virtual(f"hosts: [reviews], {entries}"),
        f"hosts: [a, reviews.web.svc.cluster.local], {entries}",
    )
    assert errors(first, virtual(second, name="w")) == [f"TPX0212 $.spec.hosts: {message}"]
    db = [virtual(f"hosts: [a.b], {entries}", name=name, namespace=name) for name in ("x", "y")]
    assert errors(*db) == [
        "TPX0212 $.spec.hosts: p.yaml:1 is about a.b already, and neither is older: put them into one"
    ]
    assert errors(db[0], virtual(f"hosts: [a.b], {entries}")) == []
    assert errors(virtual(f"hosts: [a, a.web.svc.cluster.local], {entries}")) == []


def test_one_that_is_for_others_is_not_read() -> None:
    document = virtual(
        f'hosts: [a.b], exportTo: ["."], http: [{{{to("a", subset="v")}}}]', namespace="db"
    )
    assert (
        findings(document, document.replace("name: v", "name: w"))
        == [
            "TPX0110 info $.metadata.namespace: is for workloads of db, this one is in web: not read"
        ]
        * 2
    )


def test_nobody_can_tell_whose_it_is_without_a_namespace() -> None:
    told = errors(virtual(f"hosts: [a.b], http: [{{{to('c.d')}}}]"), workload=SOMEBODY)
    assert [each.partition(":")[0] for each in told] == ["TPX0109 $.metadata.namespace"]
    bare = virtual(
        "hosts: [a.b], http: [{match: [{sourceLabels: {a: b}, sourceNamespace: c}], route: [{destination: {host: d}}]}]"
    )
    bare = bare.replace(", namespace: web", "")
    told = errors(bare, workload=SOMEBODY)
    assert [each.partition(": ")[0] for each in told] == [
        "TPX0109 $.spec.http[0].match[0].sourceLabels",
        "TPX0109 $.spec.http[0].match[0].sourceNamespace",
        "TPX0109 $.spec.http[0].route[0].destination.host",
    ]


def test_a_subset_that_nobody_defines_is_refused() -> None:
    mirrored = "mirror: {host: ratings, subset: v9}, mirrors: []"
    document = http(f"{{{to('ratings', subset='v2')}, {mirrored}}}")
    unknown = "no DestinationRule defines 'v2' of ratings.web.svc.cluster.local"
    assert errors(document) == [
        f"TPX0213 $.spec.http[0].route[0].destination.subset: {unknown}: write it into its subsets",
        f"TPX0213 $.spec.http[0].mirror.subset: {unknown.replace('v2', 'v9')}: write it into its subsets",
    ]
    subsets = rule(
        "host: ratings, subsets: [{name: v1, labels: {v: v1}}, {name: v9, labels: {v: v9}}]"
    )
    assert errors(document, subsets) == [
        f"TPX0213 $.spec.http[0].route[0].destination.subset: {unknown}, known are v1, v9: write it into its subsets"
    ]


def test_a_port_that_a_service_does_not_have_is_refused() -> None:
    service = entry(
        "hosts: [ratings], resolution: STATIC, ports: [{number: 80, name: a}, {number: 90, name: b}],"
        " endpoints: [{address: 192.0.2.4}]",
        namespace="web",
    )
    ports = [f"{{{to('ratings', port=f'{{number: {number}}}')}}}" for number in (80, 81)]
    assert errors(service, http(*ports)) == [
        "TPX0228 $.spec.http[1].route[0].destination.port: ratings.web.svc.cluster.local has no port"
        " 81, known are 80, 90: write one of these"
    ]


def test_another_service_without_endpoints_gets_no_copies_and_no_requests() -> None:
    service = entry("hosts: [ratings, reviews]", namespace="web")
    here = f"{{mirror: {{host: reviews}}, {to('reviews')}}}"
    assert findings(service, http(here)) == [
        "TPX0221 warning $.spec.http[0].mirror: gets the requests themselves, and copies of them beside"
    ]
    away = http(f"{{mirror: {{host: ratings}}, {to('ratings', port='{number: 80}')}}}")
    assert [each.partition(": ")[0] for each in findings(service, away)] == [
        "TPX0109 error $.spec.http[0].mirror.host",
        "TPX0222 warning $.spec.http[0].route[0].destination.host",
    ]


def test_all_versions_of_the_kind_are_read() -> None:
    for version in ("v1", "v1beta1", "v1alpha3"):
        text = http(f"{{{GOOD}}}").replace(
            "networking.istio.io/v1", f"networking.istio.io/{version}"
        )
        assert snapshot(text).traffic is not None


def test_what_is_sound_is_taken_whole() -> None:
    store = entry('hosts: [store], addresses: ["198.51.100.7"]', namespace="web")
    spec = (
        'hosts: [store, "*.example"], exportTo: ["*"], gateways: [mesh],'
        f" http: [{{match: [{{uri: {{prefix: /}}}}], {GOOD}, retries: {{attempts: 2, retryOn: 'reset,503', backoff: 25ms,"
        " retryIgnorePreviousHosts: true}, timeout: 0s, headers: {request: {set: {a: 'b, c'}}},"
        " mirrors: [{destination: {host: m, port: {number: 1}}, percentage: {value: 100}}]}],"
        f' tls: [{{match: [{{sniHosts: ["a.example"], port: 443, destinationSubnets: ["2001:db8::/32"]}}], {GOOD}}}],'
        f" tcp: [{{{GOOD}}}]"
    )
    assert findings(virtual(spec), store) == []
