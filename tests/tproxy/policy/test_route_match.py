"""An entry is about what all conditions of one of its matches hold for."""

import pytest
from msgspec.structs import replace

from fakes.destinations import entry, snapshot
from fakes.routes import RATINGS, asked, flow, http, plan, to, virtual
from tproxy.model.http import RequestHead
from tproxy.model.identity import Workload
from tproxy.policy.snapshot import Snapshot
from tproxy.policy.traffic import PASSTHROUGH

CANARY = (("x-canary", "1"),)


def hit(policies: Snapshot, head: RequestHead, *, port: int = 80) -> bool:
    """Whether the one entry decides."""
    found = policies.route(flow(port=port), head)
    if found.cluster == PASSTHROUGH:
        assert found.name == "allow_any"
        return False
    destination = plan(found).destination
    assert destination is not None
    assert (found.name, destination.host) == ("one", RATINGS)
    return True


@pytest.mark.parametrize(
    ("match", "head", "meant"),
    [
        pytest.param("uri: {exact: /a}", asked(path="/a?b=c"), True, id="a path without its query"),
        pytest.param("uri: {exact: /a}", asked(path="/a/"), False, id="another path"),
        pytest.param("uri: {exact: /a}", asked(path="/A"), False, id="a path in another case"),
        pytest.param("uri: {exact: /a}, ignoreUriCase: true", asked(path="/A"), True, id="a path in any case"),
        pytest.param("uri: {prefix: /Foo}, ignoreUriCase: true", asked(path="/fOObar"), True, id="a prefix in any case"),
        pytest.param("uri: {prefix: /foo}", asked(path="/foobar"), True, id="a prefix, and no segment"),
        pytest.param("uri: {prefix: /foo}", asked(path="/fo?o"), False, id="a query is not in the prefix"),
        pytest.param('uri: {regex: "/v[0-9]/.*"}', asked(path="/v1/x?/y"), True, id="an expression"),
        pytest.param('uri: {regex: "v[0-9]"}', asked(path="/v1/x"), False, id="an expression is about the whole"),
        pytest.param('uri: {regex: "(?i)/V1"}, ignoreUriCase: true', asked(path="/v1"), True, id="an expression says its case itself"),
        pytest.param("scheme: {exact: http}", asked(), True, id="the scheme"),
        pytest.param("scheme: {exact: https}", asked(), False, id="another scheme"),
        pytest.param('method: {regex: "GET|HEAD"}', asked(), True, id="a method"),
        pytest.param("method: {exact: get}", asked(), False, id="methods have a case"),
        pytest.param("authority: {exact: reviews}", asked("Reviews:8080"), True, id="an authority without its port"),
        pytest.param('authority: {exact: "reviews:8080"}', asked("Reviews:8080"), True, id="an authority with its port"),
        pytest.param('authority: {exact: "reviews:8081"}', asked("reviews:8080"), False, id="an authority with another port"),
        pytest.param("headers: {x-canary: {exact: '1'}}", asked(headers=CANARY), True, id="a header"),
        pytest.param("headers: {X-Canary: {exact: '1'}}", asked(headers=(("X-CANARY", "1"),)), True, id="headers have no case"),
        pytest.param("headers: {x-canary: {exact: '1'}}", asked(headers=(("x-canary", "2"),)), False, id="another value"),
        pytest.param("headers: {x-canary: {}}", asked(headers=(("x-canary", ""),)), True, id="a header that is there"),
        pytest.param("headers: {x-canary: {}}", asked(), False, id="a header that is not there"),
        pytest.param('headers: {x-canary: {exact: ""}}', asked(headers=CANARY), False, id="an empty value"),
        pytest.param("headers: {a: {exact: 'x, y'}}", asked(headers=(("a", "x"), ("A", "y"))), True, id="a header twice"),
        pytest.param("headers: {a: {prefix: x}, b: {regex: '[yz]'}}", asked(headers=(("a", "xx"), ("b", "z"))), True, id="two headers"),
        pytest.param("headers: {a: {prefix: x}, b: {regex: '[yz]'}}", asked(headers=(("a", "xx"),)), False, id="one of two headers"),
        pytest.param("withoutHeaders: {x-canary: {}}", asked(), True, id="without a header"),
        pytest.param("withoutHeaders: {x-canary: {}}", asked(headers=CANARY), False, id="with what must not be there"),
        pytest.param("withoutHeaders: {x-canary: {exact: '2'}}", asked(headers=CANARY), True, id="without a value"),
        pytest.param("queryParams: {v: {exact: '2'}}", asked(path="/?u=1&v=2&v=3"), True, id="the first of a parameter"),
        pytest.param("queryParams: {v: {exact: '3'}}", asked(path="/?u=1&v=2&v=3"), False, id="not the second of a parameter"),
        pytest.param("queryParams: {v: {exact: ''}}", asked(path="/?v"), True, id="a parameter without a value"),
        pytest.param("queryParams: {v: {}}", asked(path="/?w=1"), False, id="no parameter"),
        pytest.param("queryParams: {v: {}}", asked(path="/v=1"), False, id="no query"),
        pytest.param("port: 80", asked(), True, id="the port that is dialled"),
        pytest.param("port: 81", asked(), False, id="another port"),
        pytest.param("sourceLabels: {app: shop}", asked(), True, id="the workload's label"),
        pytest.param("sourceLabels: {app: shop, version: v2}", asked(), False, id="another workload's label"),
        pytest.param("sourceNamespace: web", asked(), True, id="the workload's namespace"),
        pytest.param("sourceNamespace: db", asked(), False, id="another namespace"),
        pytest.param("gateways: [mesh], name: x, port: 80", asked(), True, id="the mesh"),
        pytest.param("uri: {exact: /a}, method: {exact: GET}", asked(path="/a", method="PUT"), False, id="one field of two"),
    ],
)  # fmt: skip
def test_a_match_is_about_what_all_its_fields_are_about(
    match: str, head: RequestHead, meant: bool
) -> None:
    policies = snapshot(http(f"{{name: one, match: [{{{match}}}], {to('ratings')}}}"))
    assert hit(policies, head) is meant


def test_an_entry_is_about_what_one_of_its_matches_is_about() -> None:
    matches = "match: [{uri: {exact: /a}}, {uri: {exact: /b}}]"
    policies = snapshot(http(f"{{name: one, {matches}, {to('ratings')}}}"))
    assert [hit(policies, asked(path=path)) for path in ("/a", "/b", "/c")] == [True, True, False]


def test_an_authority_that_nobody_names_is_none() -> None:
    matches = "match: [{authority: {regex: '.*'}}]"
    service = entry('hosts: [reviews], addresses: ["198.51.100.7"]', namespace="web")
    policies = snapshot(http(f"{{name: one, {matches}, {to('ratings')}}}"), service)
    nobody = policies.route(flow("198.51.100.7"), replace(asked(""), authority=b""))
    assert nobody.name == "default"
    assert policies.route(flow("198.51.100.7"), asked("198.51.100.7")).name == "one"


@pytest.mark.parametrize(
    ("match", "address", "port", "sni", "meant"),
    [
        pytest.param("sniHosts: [reviews.example]", "203.0.113.9", 443, "Reviews.example", True, id="a name"),
        pytest.param('sniHosts: ["*.example"]', "203.0.113.9", 443, "a.example", True, id="a suffix"),
        pytest.param("sniHosts: [reviews.example]", "203.0.113.9", 443, "a.example", False, id="another name"),
        pytest.param("sniHosts: [reviews.example]", "203.0.113.9", 443, "", False, id="no name"),
        pytest.param("sniHosts: [reviews.example], port: 444", "203.0.113.9", 443, "reviews.example", False, id="another port"),
        pytest.param('sniHosts: [reviews.example], destinationSubnets: ["203.0.113.0/24"]', "203.0.113.9", 443, "reviews.example", True, id="a network"),
        pytest.param('sniHosts: [reviews.example], destinationSubnets: ["203.0.113.0/29"]', "203.0.113.9", 443, "reviews.example", False, id="another network"),
    ],
)  # fmt: skip
def test_a_name_that_tls_asks_for_leads_there(
    match: str, address: str, port: int, sni: str, meant: bool
) -> None:
    spec = (
        f'hosts: [reviews.example, "*.example"], tls: [{{match: [{{{match}}}], {to("ratings")}}}]'
    )
    found = snapshot(virtual(spec)).route(flow(address, port, sni=sni))
    name = f"outbound|{port}||{RATINGS}" if meant else PASSTHROUGH
    assert found.cluster == name


@pytest.mark.parametrize(
    ("match", "meant"),
    [
        pytest.param("", True, id="every connection"),
        pytest.param("match: [{port: 3306}],", True, id="a port"),
        pytest.param("match: [{port: 3307}],", False, id="another port"),
        pytest.param("match: [{destinationSubnets: [198.51.100.7]}],", True, id="an address"),
        pytest.param("match: [{sourceLabels: {app: other}}],", False, id="another workload"),
    ],
)
def test_connections_go_by_the_service_whose_address_is_dialled(match: str, meant: bool) -> None:
    service = entry(
        'hosts: [store], addresses: ["198.51.100.7"], ports: [{number: 3306, name: tcp}],'
        ' resolution: STATIC, endpoints: [{address: "192.0.2.4"}]',
        namespace="web",
    )
    policies = snapshot(service, virtual(f"hosts: [store], tcp: [{{{match} {to('ratings')}}}]"))
    found = policies.route(flow("198.51.100.7", 3306))
    other = "outbound|3306||store.web.svc.cluster.local"
    assert found.cluster == (f"outbound|3306||{RATINGS}" if meant else other)
    assert policies.route(flow("198.51.100.8", 3306)).cluster == PASSTHROUGH
    elsewhere = policies.route(flow("198.51.100.7", 3306, sni="elsewhere.example"))
    assert elsewhere.cluster == found.cluster


def test_another_workload_is_told_that_a_match_is_not_for_it() -> None:
    document = http(f"{{match: [{{sourceLabels: {{app: other}}}}], {to('ratings')}}}")
    policies = snapshot(document, workload=Workload("x", "web", "x", labels={"a": "b"}))
    traffic = policies.traffic
    assert traffic is not None
    (routes,) = traffic.routes.every()
    (match,) = routes.http[0].matches
    assert match.left_out == "it is for app=other, this workload has a=b"
