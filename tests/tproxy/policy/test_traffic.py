"""The first entry that is about a request decides on its way, and the same request always goes the same way."""

from math import sqrt

import pytest

from fakes.destinations import entry, rule, secured, snapshot
from fakes.routes import RATINGS, REVIEWS, asked, flow, http, plan, to, virtual
from tproxy.model.flow import Direction, Protocol
from tproxy.model.route import (
    DirectResponse,
    HeaderEdits,
    Mirror,
    Plan,
    Redirect,
    Rewrite,
    Route,
)
from tproxy.policy.snapshot import Snapshot
from tproxy.policy.traffic import PASSTHROUGH
from tproxy.resilience.fault import Abort, Delay, FaultSpec
from tproxy.resilience.retry import RetryOn, RetryPolicy

VIP = "198.51.100.7"


def service(host: str, address: str = VIP, port: int = 80, spec: str = "") -> str:
    """A ServiceEntry with endpoints."""
    ports = f"ports: [{{number: {port}, name: http}}]"
    endpoints = f'resolution: STATIC, endpoints: [{{address: "192.0.2.4"{spec}}}]'
    return entry(
        f'hosts: [{host}], addresses: ["{address}"], {ports}, {endpoints}',
        name=host.replace(".", "-"),
        namespace="web",
    )


def identified(number: int) -> tuple[tuple[str, str], ...]:
    """The header that a request is known by."""
    return (("x-request-id", f"id-{number}"),)


def cluster(policies: Snapshot, number: int = 0, host: str = "reviews", port: int = 80) -> str:
    """Where a request goes."""
    return policies.route(flow(port=port), asked(host, headers=identified(number))).cluster


def planned(spec: str, path: str = "/") -> Plan:
    """What an entry has done to a request."""
    return plan(snapshot(http(f"{{{spec}}}")).route(flow(), asked(path=path)))


def test_the_first_entry_that_matches_decides() -> None:
    policies = snapshot(
        http(
            f"{{name: a, match: [{{uri: {{prefix: /a}}}}], {to('ratings')}}}",
            f"{{name: b, match: [{{uri: {{prefix: /a/b}}}}], {to('ratings')}}}",
            f"{{{to('ratings')}}}",
        )
    )
    names = [policies.route(flow(), asked(path=path)).name for path in ("/a/b", "/b")]
    assert names == ["a", "web/v.http[2]"]


def test_what_no_entry_is_about_goes_as_if_there_were_none() -> None:
    routes = http(f"{{match: [{{uri: {{exact: /a}}}}], {to('ratings')}}}")
    assert snapshot(routes).route(flow(), asked()) == Route("allow_any", PASSTHROUGH)
    found = snapshot(routes, service("reviews")).route(flow(VIP), asked())
    assert (found.name, found.cluster) == ("default", f"outbound|80||{REVIEWS}")


def test_a_virtual_service_is_about_the_names_that_it_has() -> None:
    policies = snapshot(
        virtual(f'hosts: ["*.example"], http: [{{name: wide, {to("ratings")}}}]', name="a"),
        virtual(f'hosts: ["*.a.example"], http: [{{name: near, {to("ratings")}}}]', name="b"),
        virtual(f"hosts: [x.a.example, y], http: [{{name: one, {to('ratings')}}}]", name="c"),
    )
    hosts = ("b.example", "b.a.example", "x.a.example:8080", "Y", "y.web", "y.web.svc", "z")
    names = [policies.route(flow(), asked(host)).name for host in hosts]
    assert names == ["wide", "near", "one", "one", "one", "one", "allow_any"]


def test_the_own_namespace_is_nearer_than_others() -> None:
    host = "hosts: [shop.example]"
    policies = snapshot(
        virtual(f"{host}, http: [{{name: own, {to('ratings')}}}]"),
        virtual(f"{host}, http: [{{name: others, {to('ratings')}}}]", namespace="db"),
        virtual(
            f"hosts: [other.example], http: [{{name: others, {to('ratings')}}}]", namespace="x"
        ),
        virtual(
            f'hosts: [private.example], exportTo: ["."], http: [{{name: y, {to("ratings")}}}]',
            namespace="y",
        ),
    )
    hosts = ("shop.example", "other.example", "private.example")
    names = [policies.route(flow(), asked(host)).name for host in hosts]
    assert names == ["own", "others", "allow_any"]


def test_a_request_without_a_name_that_is_known_goes_by_its_address() -> None:
    policies = snapshot(service("reviews"), http(f"{{name: one, {to('ratings')}}}"))
    assert policies.route(flow(VIP), asked("nobody.example")).name == "one"
    assert policies.route(flow(VIP), asked("198.51.100.7")).name == "one"
    assert policies.route(flow(), asked("nobody.example")).name == "allow_any"


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        pytest.param("ports: [{number: 80, name: http}], ", ["one", "allow_any"], id="ports"),
        pytest.param("", ["one", "one"], id="no ports"),
    ],
)
def test_a_virtual_service_is_about_the_ports_of_its_service(
    ports: str, expected: list[str]
) -> None:
    named = entry(
        f"hosts: [reviews], {ports}resolution: STATIC, endpoints: [{{address: 192.0.2.4}}]",
        namespace="web",
    )
    policies = snapshot(named, http(f"{{name: one, {to('ratings')}}}"))
    names = [policies.route(flow(port=port), asked()).name for port in (80, 9090)]
    assert names == expected


POOL = "connectionPool: {http: {http2MaxRequests: 3}}"


def test_what_rules_say_of_a_name_without_an_entry_holds_where_it_was_going() -> None:
    spec = f"trafficPolicy: {{{POOL}, tls: {{mode: SIMPLE}}}}"
    policies = snapshot(rule(f"host: api.example, {spec}"))
    route = policies.route(flow(port=443), asked("api.example"))
    found = plan(route).destination
    assert found is not None
    assert (route.name, route.cluster) == ("default", "original|443||api.example")
    assert (found.origin, found.bounds.requests) == (None, 3)
    assert route.tls == found.tls
    assert route.tls is not None
    assert route.tls.server_name == "api.example"
    assert policies.route(flow(), asked("other.example")) == Route("allow_any", PASSTHROUGH)


def test_a_resilience_policy_holds_for_a_name_without_an_entry() -> None:
    policy = (
        "apiVersion: tproxy.io/v1alpha1\nkind: ResiliencePolicy\n"
        "metadata: {name: p, namespace: web}\nspec: {host: api.example, breaker: {}}\n"
    )
    found = plan(snapshot(policy).route(flow(), asked("api.example"))).destination
    assert found is not None
    assert found.breaker is not None
    assert (found.origin, found.tls) == (None, None)


def test_a_route_to_the_very_name_without_an_entry_uses_what_rules_say_of_it() -> None:
    itself = http(f"{{name: one, {to('api.example')}}}", hosts="api.example, b.example")
    policies = snapshot(rule(f"host: api.example, trafficPolicy: {{{POOL}}}"), itself)
    ways = [policies.route(flow(), asked(host)) for host in ("api.example", "b.example")]
    assert [each.cluster for each in ways] == [
        "original|80||api.example",
        "outbound|80||api.example",
    ]


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        pytest.param("exact: Shop.Example", "shop.EXAMPLE", id="exact"),
        pytest.param("prefix: Shop", "shop.example", id="prefix"),
        pytest.param("regex: '(?i)Shop[.].*'", "SHOP.example", id="regex"),
    ],
)
def test_authorities_are_compared_in_any_case(authority: str, host: str) -> None:
    routes = http(
        f"{{name: one, match: [{{authority: {{{authority}}}}}], {to('ratings')}}}",
        hosts="shop.example",
    )
    assert snapshot(routes).route(flow(), asked(host)).name == "one"


@pytest.mark.parametrize(
    ("form", "path", "name"),
    [
        pytest.param("MERGE_SLASHES", "/x/../admin//a", "admin", id="dots and slashes"),
        pytest.param("MERGE_SLASHES", "/%61dmin/a?b", "admin", id="escapes"),
        pytest.param("MERGE_SLASHES", "/admin%00", "all", id="no safe reading"),
        pytest.param("NONE", "/x/../admin/a", "all", id="as they are"),
        pytest.param("MERGE_SLASHES", "/adm", "all", id="another"),
    ],
)
def test_paths_are_compared_in_their_normal_form(form: str, path: str, name: str) -> None:
    config = (
        f"apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\nspec: {{pathNormalization: {form}}}\n"
    )
    admin = f"{{name: admin, match: [{{uri: {{prefix: /admin}}}}], {to('ratings')}}}"
    rest = f"{{name: all, match: [{{uri: {{prefix: /}}}}], {to('ratings')}}}"
    assert snapshot(config, http(admin, rest)).route(flow(), asked(path=path)).name == name


def test_a_service_of_another_namespace_is_known_by_two_labels() -> None:
    named = entry(
        "hosts: [store.db.svc.cluster.local], ports: [{number: 80, name: http}],"
        " resolution: STATIC, endpoints: [{address: 192.0.2.4}]"
    )
    whole = "outbound|80||store.db.svc.cluster.local"
    assert cluster(snapshot(named), host="store.db") == whole
    assert cluster(snapshot(named), host="other.db") == PASSTHROUGH
    wide = named.replace("store.db.svc", '"*.svc').replace("local]", 'local"]')
    assert cluster(snapshot(wide), host="store.db") == PASSTHROUGH
    short = virtual(f"hosts: [store.db], http: [{{{to('ratings')}}}]")
    assert cluster(snapshot(named, short), host="store.db") == f"outbound|80||{RATINGS}"


def test_a_service_of_connections_has_no_say_on_requests() -> None:
    policies = snapshot(
        service("reviews"), virtual(f"hosts: [reviews], tcp: [{{{to('ratings')}}}]")
    )
    assert policies.route(flow(VIP), asked()).name == "default"
    assert policies.route(flow(VIP)).name == "web/v.tcp[0]"


def test_what_comes_in_is_not_led() -> None:
    policies = snapshot(http(f"{{{to('ratings')}}}"))
    inbound = flow()
    inbound = type(inbound)(Direction.INBOUND, inbound.peer, inbound.local, inbound.original_dst)
    assert policies.route(inbound, asked()).cluster == "inbound|80||"


def test_one_way_is_chosen_once() -> None:
    policies = snapshot(http(f"{{{to('ratings')}}}"))
    assert policies.route(flow(), asked()) is policies.route(flow(), asked(path="/other"))


def test_all_names_of_a_pattern_go_one_way_but_that_where_it_leads() -> None:
    policies = snapshot(virtual(f'hosts: ["*.example"], http: [{{{to("a.example")}}}]'))
    one, two, itself = (policies.route(flow(), asked(f"{each}.example")) for each in "bca")
    assert one is two
    assert (one.cluster, itself.cluster) == ("outbound|80||a.example", PASSTHROUGH)


def test_policies_that_say_the_same_share_no_routes() -> None:
    secure = rule("host: '*', trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}")
    texts = (service("reviews"), http(f"{{{to('ratings')}}}", hosts="ratings"), secure)
    before, after = snapshot(*texts), snapshot(*texts)
    for host, to_address in (("reviews", VIP), ("ratings", "203.0.113.9"), ("x.y", "203.0.113.9")):
        routes = [each.route(flow(to_address), asked(host)) for each in (before, after, after)]
        assert routes[0] == routes[1]
        assert routes[0] is not routes[1]
        assert routes[1] is routes[2]


def test_an_upstream_is_asked_in_the_version_of_its_port() -> None:
    ports = "{port: 80, protocol: HTTP, upstreamProtocol: HTTP2, direction: OUTBOUND}"
    config = f"apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\nspec: {{ports: [{ports}]}}\n"
    direct = "{match: [{uri: {exact: /a}}], directResponse: {status: 204}}"
    policies = snapshot(config, http(direct, f"{{{to('ratings')}}}"))
    for path in ("/a", "/b"):
        assert policies.route(flow(), asked(path=path)).protocol is Protocol.HTTP2


# Destinations


@pytest.mark.parametrize(
    ("port", "dialled", "expected"),
    [
        pytest.param("9080", 80, 9080, id="the one that is written"),
        pytest.param("", 8080, 8080, id="the one that is dialled"),
    ],
)
def test_a_destination_has_a_port(port: str, dialled: int, expected: int) -> None:
    more = {"port": f"{{number: {port}}}"} if port else {}
    policies = snapshot(http(f"{{{to('ratings', **more)}}}"))
    assert cluster(policies, port=dialled) == f"outbound|{expected}||{RATINGS}"


def test_a_destination_of_one_port_has_that() -> None:
    policies = snapshot(service("ratings", port=9080), http(f"{{{to('ratings')}}}"))
    assert cluster(policies) == f"outbound|9080||{RATINGS}"


@pytest.mark.parametrize(
    ("destination", "stays"),
    [
        pytest.param(to("reviews"), True, id="whom it asks for"),
        pytest.param(to("reviews", port="{number: 80}"), True, id="at the port that is dialled"),
        pytest.param(to("reviews", port="{number: 81}"), False, id="at another port"),
        pytest.param(to("reviews", subset="v1"), False, id="a part of it"),
        pytest.param(to("ratings"), False, id="another host"),
    ],
)
def test_whom_nobody_knows_is_where_the_application_dials(destination: str, stays: bool) -> None:
    subset = rule("host: reviews, subsets: [{name: v1, labels: {version: v1}}]")
    found = snapshot(http(f"{{{destination}}}"), subset).route(flow(), asked())
    assert (plan(found).destination is None) is stays
    assert (found.cluster == PASSTHROUGH) is stays


def test_a_service_that_is_known_is_where_its_entry_says() -> None:
    policies = snapshot(service("reviews"), http(f"{{{to('reviews')}}}"))
    assert cluster(policies) == f"outbound|80||{REVIEWS}"


def test_what_goes_where_it_was_going_is_secured_as_that_is() -> None:
    policies = snapshot(http(f"{{name: one, {to('reviews')}}}"), secured("reviews", "mode: SIMPLE"))
    found = policies.route(flow(), asked())
    assert found.name == "one"
    assert found.tls is not None
    assert found.tls.server_name == REVIEWS
    assert policies.route(flow(), asked()) is found


def test_a_service_without_endpoints_is_secured_as_the_address_that_is_dialled() -> None:
    open_ended = entry('hosts: [a.example], addresses: ["198.51.100.7"]', namespace="web")
    routes = virtual(f"hosts: [a.example], http: [{{{to('a.example')}}}]")
    policies = snapshot(open_ended, routes, secured("a.example", "mode: SIMPLE"))
    found = policies.route(flow(VIP), asked("a.example"))
    assert found.tls is not None
    assert found.tls.server_name == "a.example"


# Shares


def split(*weights: int, name: str = "") -> str:
    """An entry with destinations d0, d1, …"""
    shares = ", ".join(
        f"{{destination: {{host: d{at}}}, weight: {weight}}}" for at, weight in enumerate(weights)
    )
    return f"{{{name}route: [{shares}]}}"


def parts(policies: Snapshot, count: int) -> list[float]:
    """Which part of so many requests each destination gets."""
    found = [cluster(policies, number).split("|")[3] for number in range(count)]
    return [found.count(f"d{at}.web.svc.cluster.local") / count for at in range(3)]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        pytest.param((25, 75), (0.25, 0.75, 0), id="percent"),
        pytest.param((1, 1, 2), (0.25, 0.25, 0.5), id="of any sum"),
        pytest.param((0, 5), (0, 1, 0), id="none beside another"),
        pytest.param((0,), (1, 0, 0), id="none alone"),
        pytest.param((7,), (1, 0, 0), id="alone"),
    ],
)
def test_destinations_get_their_weights(
    weights: tuple[int, ...], expected: tuple[float, ...]
) -> None:
    count = 2000
    found = parts(snapshot(http(split(*weights))), count)
    for part, wanted in zip(found, expected, strict=True):
        # Five standard deviations: of the same ids, always the same.
        assert abs(part - wanted) <= 5 * sqrt(wanted * (1 - wanted) / count)


def test_the_same_request_goes_the_same_way_after_a_reload() -> None:
    before = snapshot(http(split(1, 1, name="name: canary, ")))
    first = f"{{match: [{{uri: {{exact: /x}}}}], {to('ratings')}}}"
    after = snapshot(http(first, split(1, 1, name="name: canary, ")))
    ways = [cluster(before, number) for number in range(100)]
    assert ways == [cluster(after, number) for number in range(100)]
    assert len(set(ways)) == 2


def test_entries_draw_independently() -> None:
    first = snapshot(http(split(1, 1, name="name: a, ")))
    second = snapshot(http(split(1, 1, name="name: b, ")))
    both = [(cluster(first, number), cluster(second, number)) for number in range(200)]
    assert len(set(both)) == 4


def test_a_request_without_an_id_goes_some_way() -> None:
    policies = snapshot(http(split(1, 1)))
    assert policies.route(flow(), asked()) is policies.route(flow(), asked())


def test_connections_are_drawn_by_who_dials() -> None:
    tcp = f"hosts: [store], tcp: [{split(1, 1)}]"
    policies = snapshot(service("store"), virtual(tcp))
    ways = [policies.route(flow(VIP, source=port)).cluster for port in range(1, 100)]
    assert len(set(ways)) == 2
    assert ways == [policies.route(flow(VIP, source=port)).cluster for port in range(1, 100)]


# What is done


def test_an_entry_that_says_nothing_more_does_nothing_more() -> None:
    found = planned(to("reviews"))
    assert found == Plan()


def test_timeouts_and_retries_are_what_an_entry_says() -> None:
    retries = "retries: {attempts: 3, perTryTimeout: 500ms, retryOn: '503,reset', backoff: 10ms}"
    found = planned(f"{to('reviews')}, timeout: 3s, {retries}")
    conditions = frozenset((RetryOn.RESET, RetryOn.RETRIABLE_STATUS_CODES))
    assert found.timeout == 3.0
    assert found.retry == RetryPolicy(3, 0.5, conditions, frozenset((503,)), 0.01, 0.1)


def test_retries_are_cautious_unless_told_otherwise() -> None:
    found = planned(f"{to('reviews')}, timeout: 0s, retries: {{attempts: 1}}")
    assert found.timeout == 0
    assert found.retry == RetryPolicy(attempts=1)


def test_faults_leave_no_timeout_and_no_retries() -> None:
    delay = "delay: {fixedDelay: 2s, percentage: {value: 0.1}}"
    abort = "abort: {httpStatus: 503}"
    found = planned(
        f"name: f, {to('reviews')}, timeout: 3s, retries: {{attempts: 2}}, fault: {{{delay}, {abort}}}"
    )
    assert found.fault == FaultSpec("web/v.http[f]", Delay(2.0, 0.1), Abort(503, None, 0.0))
    assert found.timeout == 0
    assert found.retry.attempts == 0


@pytest.mark.parametrize(("status", "number"), [("UNAVAILABLE", 14), ('"7"', 7)])
def test_calls_fail_by_their_own_statuses(status: str, number: int) -> None:
    fault = f"fault: {{abort: {{grpcStatus: {status}, percentage: {{value: 50}}}}}}"
    found = planned(f"{to('reviews')}, {fault}")
    assert found.fault == FaultSpec("web/v.http[0]", None, Abort(0, number, 50.0))


@pytest.mark.parametrize(
    ("match", "prefix"),
    [
        pytest.param("", b"/", id="every path"),
        pytest.param("match: [{uri: {prefix: /a}}],", b"/a", id="a prefix"),
        pytest.param("match: [{uri: {exact: /b}}, {uri: {prefix: /a/b}}],", b"/a/b", id="the prefix that matched"),
        pytest.param("match: [{uri: {exact: /a/b}}],", None, id="a whole path"),
        pytest.param("match: [{uri: {regex: /a/b}}],", None, id="an expression"),
        pytest.param("match: [{method: {exact: GET}}],", b"/", id="nothing of paths"),
    ],
)  # fmt: skip
def test_what_was_matched_is_replaced(match: str, prefix: bytes | None) -> None:
    rewrite = "rewrite: {uri: /new, authority: x.example}"
    found = planned(f"{match} {to('reviews')}, {rewrite}", "/a/b")
    assert found.rewrite == Rewrite(b"/new", prefix, "", "", b"x.example")
    redirect = planned(f"{match} redirect: {{uri: '%PREFIX()%/new'}}", "/a/b")
    assert redirect.answer == Redirect(301, path=b"/new", prefix=prefix)


def test_expressions_are_replaced_wherever_they_are() -> None:
    rewrite = r"rewrite: {uriRegexRewrite: {match: '^/a/(.*)$', rewrite: '/\1'}}"
    found = planned(f"{to('reviews')}, {rewrite}")
    assert found.rewrite == Rewrite(None, None, "^/a/(.*)$", r"/\1", None)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        pytest.param("redirect: {uri: /new, redirectCode: 308}", Redirect(308, path=b"/new"), id="a path"),
        pytest.param("redirect: {scheme: https, authority: a.example, port: 8443}", Redirect(301, b"https", b"a.example", 8443), id="a place"),
        pytest.param("directResponse: {status: 503}", DirectResponse(503), id="a status"),
        pytest.param("directResponse: {status: 200, body: {string: ok}}", DirectResponse(200, b"ok"), id="a text"),
        pytest.param("directResponse: {status: 200, body: {bytes: AAE=}}", DirectResponse(200, b"\0\1"), id="octets"),
    ],
)  # fmt: skip
def test_an_answer_of_ours_needs_no_cluster(said: str, answer: Redirect | DirectResponse) -> None:
    found = snapshot(http(f"{{{said}}}")).route(flow(), asked())
    assert (found.cluster, plan(found).answer, plan(found).destination) == ("", answer, None)


def test_headers_of_a_destination_are_edited_before_those_of_the_entry() -> None:
    own = "headers: {request: {set: {A: own, b: own}, add: {c: own, d: own}, remove: [E]}}"
    whole = "headers: {request: {set: {a: whole}, remove: [c]}, response: {add: {x: 'y'}}}"
    found = planned(f"route: [{{destination: {{host: ratings}}, {own}}}], {whole}")
    assert found.request_headers == HeaderEdits(
        frozenset((b"c", b"e")), ((b"b", b"own"), (b"a", b"whole")), ((b"d", b"own"),)
    )
    assert found.response_headers == HeaderEdits(add=((b"x", b"y"),))


def test_headers_that_are_not_edited_are_left_alone() -> None:
    found = planned(f"{to('ratings')}, headers: {{request: {{}}, response: {{remove: [x]}}}}")
    assert found.request_headers is None
    assert found.response_headers == HeaderEdits(frozenset((b"x",)))


def test_copies_go_to_clusters_even_of_whom_nobody_knows() -> None:
    policies = snapshot(http(f"{{{to('reviews')}, mirror: {{host: reviews}}}}"))
    (mirror,) = plan(policies.route(flow(), asked())).mirrors
    assert (mirror.cluster.name, mirror.percent) == (f"outbound|80||{REVIEWS}", 100.0)


@pytest.mark.parametrize(
    ("said", "copies"),
    [
        pytest.param("mirror: {host: ratings}, mirrorPercentage: {value: 5}", [(RATINGS, 5.0)], id="one"),
        pytest.param("mirrors: [{destination: {host: ratings}}, {destination: {host: a.b}, percentage: {value: 0.5}}]", [(RATINGS, 100.0), ("a.b", 0.5)], id="several"),
    ],
)  # fmt: skip
def test_copies_are_sent_to_whom_an_entry_names(said: str, copies: list[tuple[str, float]]) -> None:
    mirrors: tuple[Mirror, ...] = planned(f"{to('reviews')}, {said}").mirrors
    assert [(each.cluster.host, each.percent) for each in mirrors] == copies


@pytest.mark.parametrize(
    ("documents", "way"),
    [
        pytest.param((), to("b.example"), id="another host"),
        pytest.param((secured("a.example", "mode: SIMPLE"),), to("b.example"), id="of two rules"),
        pytest.param((), to("b.example", subset="s"), id="a subset"),
    ],
)
def test_where_no_endpoint_is_chosen_the_route_is_secured_as_whom_it_leads_to(
    documents: tuple[str, ...], way: str
) -> None:
    entries = [
        entry(f"hosts: [{each}.example], ports: [{{number: 80, name: http}}]", name=each)
        for each in ("a", "b")
    ]
    told = rule(
        "host: b.example, trafficPolicy: {tls: {mode: SIMPLE}},"
        " subsets: [{name: s, labels: {}, trafficPolicy: {tls: {mode: SIMPLE, sni: s.example}}}]",
        name="b",
    )
    policies = snapshot(*entries, told, *documents, http(f"{{{way}}}", hosts="a.example"))
    tls = policies.route(flow(), asked("a.example")).tls
    assert tls is not None
    assert tls.server_name == ("s.example" if "subset" in way else "b.example")


def test_an_address_that_an_entry_names_is_secured_by_it_wherever_a_route_leads() -> None:
    named = entry(
        f"hosts: [a.example], addresses: [{VIP}], ports: [{{number: 80, name: http}}]", name="a"
    )
    other = entry("hosts: [b.example], ports: [{number: 80, name: http}]", name="b")
    told = secured("b.example", "mode: SIMPLE", name="b")
    way = http(f"{{{to('b.example')}}}", hosts="a.example")
    policies = snapshot(named, other, told, secured("a.example", "mode: SIMPLE"), way)
    tls = policies.route(flow(VIP), asked("a.example")).tls
    assert tls is not None
    assert tls.server_name == "a.example"
