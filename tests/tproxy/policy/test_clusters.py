"""Which services there are and who answers for them: Istio's documented outcomes, row by row, on compiled files."""

import pytest

from fakes.destinations import (
    IN_MESH,
    OTHER,
    POD,
    SIDECAR,
    STORE,
    TILL,
    UNNAMED,
    VIP,
    entry,
    files,
    meshed,
    rule,
    secured,
    simple,
    snapshot,
    taken,
)
from tproxy.model.address import Address
from tproxy.model.cluster import (
    Bounds,
    Cluster,
    Dns,
    DnsName,
    Endpoint,
    HashKey,
    HashOn,
    Origin,
    Static,
)
from tproxy.policy.clusters import NOBODY, ClusterBook, Service
from tproxy.resilience.balance import Algorithm, BalancerSpec, SlowStart
from tproxy.resilience.outlier import OutlierSpec
from tproxy.resilience.retry_budget import RetryBudgetSpec

HTTP = "ports: [{number: 80, name: http}]"
SHOP = entry(
    f"hosts: [store, shop.example], {IN_MESH}, addresses: [{VIP}],"
    " ports: [{number: 80, name: http, targetPort: 8080}, {number: 81, name: more}],"
    f" endpoints: [{{address: {POD}, serviceAccount: till, {SIDECAR}}}, {{address: {OTHER}}}]"
)
EXTERNAL = entry(
    f'hosts: ["*.c.example", d.example], addresses: [198.51.100.128/25], {HTTP}', name="x"
)
LOOKED_UP = entry(f"hosts: [dns.example], addresses: [198.51.100.3], resolution: DNS, {HTTP}", name="y")  # fmt: skip


def book(*documents: str) -> ClusterBook:
    """Compile documents, which must be sound."""
    return ClusterBook(snapshot(*documents).destinations)


@pytest.mark.parametrize(
    ("to", "port", "asked", "service"),
    [
        pytest.param(UNNAMED, 80, STORE, Service(STORE, 80), id="a name at a port of its service"),
        pytest.param(UNNAMED, 80, "shop.example", Service("shop.example", 80), id="another name of it"),
        pytest.param(UNNAMED, 8080, STORE, None, id="the endpoints' number is not the service's"),
        pytest.param(UNNAMED, 82, STORE, None, id="a name at another port"),
        pytest.param(UNNAMED, 80, "evil.example", None, id="a name that nobody knows"),
        pytest.param(UNNAMED, 80, "", None, id="no name"),
        pytest.param(UNNAMED, 80, "x" * 300, None, id="a name that nobody can have"),
        pytest.param(UNNAMED, 80, "a.c.example", Service("*.c.example", 80), id="a name that a pattern is about"),
        pytest.param(VIP, 80, "", Service(STORE, 80), id="the service's address"),
        pytest.param(VIP, 80, "evil.example", Service(STORE, 80), id="whatever else is asked for there"),
        pytest.param(VIP, 81, "shop.example", Service("shop.example", 81), id="by the name of it that is asked for"),
        pytest.param(VIP, 8080, "", None, id="the service's address at another port"),
        pytest.param(VIP, 80, "dns.example", Service("dns.example", 80), id="a service's name at the address of another"),
        pytest.param("198.51.100.200", 80, "", Service("*.c.example", 80), id="a network of the service"),
        pytest.param(POD, 8080, "", None, id="an endpoint's own address"),
        pytest.param(POD, 8080, STORE, None, id="by the service's name"),
        pytest.param(POD, 80, STORE, Service(STORE, 80), id="an endpoint at the service's port by its name"),
        pytest.param(POD, 8080, "d.example", None, id="an endpoint by the name of what has none"),
        pytest.param(VIP, 80, "d.example", Service(STORE, 80), id="the address of one by the name of what has no endpoints"),
        pytest.param("198.51.100.200", 80, "d.example", Service("d.example", 80), id="its own by its name"),
        pytest.param("198.51.100.3", 80, "", Service("dns.example", 80), id="the address of what is looked up"),
    ],
)  # fmt: skip
def test_a_name_decides_on_the_service_and_else_its_address(
    to: str, port: int, asked: str, service: Service | None
) -> None:
    assert book(SHOP, EXTERNAL, LOOKED_UP).service(Address(to, port), asked) == service


def test_where_no_endpoint_is_chosen_a_name_changes_nothing_at_the_address_of_others() -> None:
    passing = entry("hosts: [b.example], resolution: STATIC, ports: [{number: 8080, name: http}], endpoints: [{address: 192.0.2.20}]", name="o")  # fmt: skip
    dialled = rule("host: b.example, trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}")
    services, itself = book(SHOP, passing, dialled), Service("b.example", 8080)
    assert services.service(Address(UNNAMED, 8080), "b.example") == itself
    assert services.service(Address("192.0.2.20", 8080), "b.example") == itself
    assert services.service(Address(POD, 8080), "b.example") is None


def test_a_service_without_ports_is_known_by_its_address_at_each() -> None:
    services = book(entry(f"hosts: [a.example], addresses: [{VIP}]"))
    assert services.service(Address(VIP, 9), "") == Service("a.example", 9)
    assert services.service(Address(UNNAMED, 9), "a.example") is None


def test_what_is_known_of_services_is_told() -> None:
    subsets = rule(f"host: {STORE}, subsets: [{{name: v1}}, {{name: v2}}]")
    services = book(SHOP, EXTERNAL, subsets)
    assert services.knows(STORE)
    assert services.knows("a.c.example")
    assert not services.knows("evil.example")
    assert services.ports(STORE) == (80, 81)
    assert services.ports("evil.example") == ()
    assert services.subsets(STORE) == {"v1", "v2"}
    assert services.subsets("shop.example") == {"v1", "v2"}
    assert services.subsets("d.example") == frozenset()
    nothing = ClusterBook()
    assert nothing.service(Address(POD, 80), STORE) is None
    assert nothing.cluster("a.example", 80).origin == Dns((DnsName("a.example", 80),))


TWO = (
    Endpoint(Address(POD, 8080), labels=(("security.istio.io/tlsMode", "istio"),), tls=meshed()),
    Endpoint(Address(OTHER, 8080)),
)


def endpoints(spec: str, **more: str) -> str:
    """A service in the mesh with these endpoints."""
    return entry(f"hosts: [store], {IN_MESH}, {HTTP}, endpoints: [{spec}]", **more)


def looked_up(spec: str, resolution: str = "DNS") -> str:
    """A service whose endpoints are looked up."""
    return entry(f"hosts: [a.example], resolution: {resolution}, {spec}")


NAMED = f"{HTTP}, endpoints: [{{address: B.example, weight: 3, labels: {{zone: x}}}}, {{address: {POD}, ports: {{http: 8080}}}}]"


def bare(origin: Origin | None) -> Origin | None:
    """Without what no rule asked for: tests compare how, and not why."""
    if not isinstance(origin, Static):
        return origin
    return Static(
        tuple(
            Endpoint(
                each.address,
                each.weight,
                each.labels,
                each.locality,
                meshed(each.tls.server_name, *each.tls.subject_alt_names)
                if each.tls and each.tls.automatic
                else each.tls,
            )
            for each in origin.endpoints
        )
    )


@pytest.mark.parametrize(
    ("documents", "host", "port", "origin"),
    [
        pytest.param([SHOP], STORE, 80, Static(TWO), id="each endpoint is secured as it is labelled"),
        pytest.param([SHOP], "shop.example", 80, Static(TWO), id="by whichever name of the service"),
        pytest.param([SHOP], STORE, 82, NOBODY, id="nobody at a port that the service has not"),
        pytest.param([SHOP, secured(STORE, "mode: SIMPLE")], STORE, 81, Static((Endpoint(Address(POD, 81), labels=TWO[0].labels, tls=simple(STORE)), Endpoint(Address(OTHER, 81), tls=simple(STORE)))), id="a rule secures all of them"),
        pytest.param([SHOP, secured(STORE, "mode: SIMPLE")], "shop.example", 81, Static((Endpoint(Address(POD, 81), labels=TWO[0].labels, tls=simple("shop.example")), Endpoint(Address(OTHER, 81), tls=simple("shop.example")))), id="a rule about one name is about the others, and the name that is asked for is proven"),
        pytest.param([endpoints(f"{{address: {POD}, weight: 5, locality: eu/a, labels: {{b: c, a: b}}}}, {{address: {OTHER}, weight: 0}}")], STORE, 80, Static((Endpoint(Address(POD, 80), 5, (("a", "b"), ("b", "c")), "eu/a"),)), id="weights and labels, and nothing for a weight of 0"),
        pytest.param([entry(f"hosts: [store], {IN_MESH}, endpoints: [{{address: {POD}}}]")], STORE, 9, Static((Endpoint(Address(POD, 9)),)), id="without ports at any"),
        pytest.param([endpoints(f"{{address: {POD}}}"), endpoints(f"{{address: {OTHER}}}", name="f")], STORE, 80, Static((Endpoint(Address(POD, 80)), Endpoint(Address(OTHER, 80)))), id="several entries of one name are one service"),
        pytest.param([EXTERNAL], "d.example", 80, None, id="NONE has no endpoints"),
        pytest.param([SHOP, rule(f"host: {STORE}, trafficPolicy: {{loadBalancer: {{simple: PASSTHROUGH}}}}")], STORE, 80, None, id="nor has PASSTHROUGH"),
        pytest.param([], "b.example", 80, Dns((DnsName("b.example", 80),)), id="what nobody knows is looked up"),
        pytest.param([SHOP, secured("b.example", "mode: SIMPLE")], "b.example", 80, Dns((DnsName("b.example", 80, tls=simple("b.example")),)), id="and secured as a rule says"),
        pytest.param([looked_up("ports: [{number: 80, name: http, targetPort: 8080}]")], "a.example", 80, Dns((DnsName("a.example", 8080),)), id="a host without endpoints is looked up"),
        pytest.param([looked_up(HTTP, "DNS_ROUND_ROBIN")], "a.example", 80, Dns((DnsName("a.example", 80),), first_only=True), id="in turn"),
        pytest.param([looked_up(NAMED)], "a.example", 80, Dns((DnsName("b.example", 80, 3, (("zone", "x"),)), DnsName(POD, 8080))), id="else its endpoints"),
        pytest.param([looked_up(f"{HTTP}, endpoints: [{{address: {POD}}}]")], "a.example", 80, Static((Endpoint(Address(POD, 80)),)), id="nothing is looked up where all of them are addresses"),
        pytest.param([looked_up(HTTP)], "a.example", 81, Dns(()), id="and no name at a port that the service has not"),
        pytest.param([looked_up(f"{HTTP}, subjectAltNames: [x.example]"), secured("a.example", "mode: SIMPLE")], "a.example", 80, Dns((DnsName("a.example", 80, tls=simple("a.example", "x.example")),)), id="who answers must be whom the entry names"),
        pytest.param([looked_up(f"{HTTP}, endpoints: [{{address: b.example}}]"), secured("a.example", "mode: SIMPLE")], "a.example", 80, Dns((DnsName("b.example", 80, tls=simple("a.example")),)), id="or the host, wherever it is looked up"),
    ],
)  # fmt: skip
def test_endpoints_are_where_entries_say(
    documents: list[str], host: str, port: int, origin: Origin | None
) -> None:
    assert bare(book(*documents).cluster(host, port).origin) == origin


def test_what_asks_for_a_service_meets_who_is_expected_there_and_nobody_else() -> None:
    other = entry(f"hosts: [b.example], {IN_MESH}, {HTTP}, endpoints: [{{address: 192.0.2.20, serviceAccount: desk, {SIDECAR}}}]", name="o")  # fmt: skip
    services = book(SHOP, other)
    for host, address, identity in (
        (STORE, POD, TILL),
        ("b.example", "192.0.2.20", "spiffe://cluster.local/ns/db/sa/desk"),
    ):
        for to in (POD, OTHER, VIP, UNNAMED, "192.0.2.20"):
            service = services.service(Address(to, 80), host)
            assert service == Service(host, 80)
            origin = services.cluster(service.host, service.port).origin
            assert isinstance(origin, Static)
            first = origin.endpoints[0]
            assert first.address.host == address
            assert first.tls is not None
            assert first.tls.subject_alt_names == (identity,)


def test_a_cluster_is_the_same_object_while_policies_are_and_equal_when_they_are_read_again() -> (
    None
):
    documents = (SHOP, rule(f"host: {STORE}, subsets: [{{name: v1, labels: {{version: v1}}}}]"))
    services, again = book(*documents), book(*documents)
    for subset in ("", "v1"):
        cluster = services.cluster(STORE, 80, subset)
        assert services.cluster(STORE, 80, subset) is cluster
        assert again.cluster(STORE, 80, subset) == cluster
        assert again.cluster(STORE, 80, subset) is not cluster


def test_policies_say_where_a_services_endpoints_are_rather_than_what_is_discovered() -> None:
    written = files(endpoints(f"{{address: {POD}}}"))
    discovered = files(endpoints(f"{{address: {OTHER}}}", name="f"), discovered=True)
    services = ClusterBook(taken(written, discovered).destinations)
    assert services.cluster(STORE, 80).origin == Static((Endpoint(Address(POD, 80)),))


def test_an_entry_for_another_namespace_is_not_read() -> None:
    private = entry(f'hosts: [store], {HTTP}, exportTo: ["."]')
    assert not book(private).knows(STORE)
    own = entry(f'hosts: [store], {HTTP}, exportTo: ["."]', namespace="web")
    assert book(own).knows("store.web.svc.cluster.local")


SETTINGS = rule(
    f"host: {STORE}, trafficPolicy: {{"
    " loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 1m, minimumPercent: 20}},"
    " connectionPool: {tcp: {maxConnections: 3, connectTimeout: 500ms}, http: {http1MaxPendingRequests: 4,"
    " http2MaxRequests: 5, maxRequestsPerConnection: 6, maxRetries: 7, idleTimeout: 1h}},"
    " outlierDetection: {consecutive5xxErrors: 3, consecutiveGatewayErrors: 2, interval: 1s, baseEjectionTime: 2s,"
    " maxEjectionPercent: 50, minHealthPercent: 30, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 4},"
    " retryBudget: {percent: 40},"
    " portLevelSettings: [{port: {number: 81}, loadBalancer: {simple: RANDOM}}]},"
    " subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: LEAST_CONN},"
    " portLevelSettings: [{port: {number: 81}, retryBudget: {percent: 10}}]}}, {name: all}]"
)
BOUNDS = Bounds(3, 4, 5, 7, 6, 0.5, 3600.0)
OUTLIER = OutlierSpec(
    3,
    2,
    split_external_local_origin_errors=True,
    consecutive_local_origin_failures=4,
    interval=1.0,
    base_ejection_time=2.0,
    max_ejection_percent=50.0,
    min_health_percent=30.0,
)
WARM = BalancerSpec(Algorithm.ROUND_ROBIN, SlowStart(60.0, 20.0), panic_percent=30.0)
PLAINLY = BalancerSpec()


def managed(cluster: Cluster) -> tuple[object, ...]:
    """How a cluster's endpoints are used."""
    budget = cluster.retry_budget
    return cluster.balancer, cluster.bounds, cluster.outlier, budget, cluster.wanted


@pytest.mark.parametrize(
    ("port", "subset", "expected"),
    [
        pytest.param(80, "", (WARM, BOUNDS, OUTLIER, RetryBudgetSpec(40.0), ()), id="what holds for all"),
        pytest.param(81, "", (BalancerSpec(Algorithm.RANDOM), Bounds(), None, RetryBudgetSpec(), ()), id="a port inherits nothing"),
        pytest.param(80, "v1", (BalancerSpec(panic_percent=30.0), BOUNDS, OUTLIER, RetryBudgetSpec(40.0), (("version", "v1"),)), id="a subset replaces part by part"),
        pytest.param(81, "v1", (PLAINLY, Bounds(), None, RetryBudgetSpec(10.0), (("version", "v1"),)), id="a subset's port inherits nothing"),
        pytest.param(81, "all", (BalancerSpec(Algorithm.RANDOM), Bounds(), None, RetryBudgetSpec(), ()), id="a subset that says nothing is as the others are"),
    ],
)  # fmt: skip
def test_the_nearest_part_of_a_rule_decides(
    port: int, subset: str, expected: tuple[object, ...]
) -> None:
    cluster = book(SHOP, SETTINGS).cluster(STORE, port, subset)
    assert managed(cluster) == expected
    assert cluster.name == f"outbound|{port}|{subset}|{STORE}"


def test_without_a_rule_the_least_loaded_is_asked_and_nothing_bounded() -> None:
    assert managed(book(SHOP).cluster(STORE, 80)) == (
        BalancerSpec(Algorithm.LEAST_REQUEST),
        Bounds(),
        None,
        RetryBudgetSpec(),
        (),
    )


@pytest.mark.parametrize("documents", [pytest.param([SHOP], id="no rule"), pytest.param([SHOP, SETTINGS], id="a rule")])  # fmt: skip
def test_nobody_answers_for_a_subset_that_no_rule_defines(documents: list[str]) -> None:
    assert book(*documents).cluster(STORE, 80, "v9").origin == NOBODY


def test_a_subsets_tls_is_its_own() -> None:
    subset = "subsets: [{name: v1, trafficPolicy: {tls: {mode: DISABLE}}}]"
    services = book(SHOP, rule(f"host: {STORE}, trafficPolicy: {{tls: {{mode: SIMPLE}}}}, {subset}"))  # fmt: skip
    for name, expected in (("", simple(STORE)), ("v1", None)):
        origin = services.cluster(STORE, 80, name).origin
        assert isinstance(origin, Static)
        assert {each.tls for each in origin.endpoints} == {expected}


@pytest.mark.parametrize(
    ("hashed", "key", "size"),
    [
        pytest.param("httpHeaderName: X-User", HashKey(HashOn.HEADER, "x-user"), 1024, id="a header"),
        pytest.param("httpCookie: {name: c, ttl: 10s, path: /a}", HashKey(HashOn.COOKIE, "c", 10.0, "/a"), 1024, id="a cookie that is set"),
        pytest.param("httpCookie: {name: c, ttl: 0s}", HashKey(HashOn.COOKIE, "c", 0.0), 1024, id="a session's cookie"),
        pytest.param("httpCookie: {name: c}", HashKey(HashOn.COOKIE, "c"), 1024, id="a cookie of the application's"),
        pytest.param("useSourceIp: true", HashKey(HashOn.SOURCE_IP), 1024, id="who asks"),
        pytest.param("httpQueryParameterName: q, minimumRingSize: 64", HashKey(HashOn.QUERY, "q"), 64, id="a query parameter"),
        pytest.param("useSourceIp: true, ringHash: {minimumRingSize: 32}, minimumRingSize: 64", HashKey(HashOn.SOURCE_IP), 32, id="the ring's size in both places"),
        pytest.param("useSourceIp: true, ringHash: {}", HashKey(HashOn.SOURCE_IP), 1024, id="a ring of no stated size"),
    ],
)  # fmt: skip
def test_what_is_hashed_is_what_the_rule_names(hashed: str, key: HashKey, size: int) -> None:
    policy = f"trafficPolicy: {{loadBalancer: {{consistentHash: {{{hashed}}}}}}}"
    cluster = book(SHOP, rule(f"host: {STORE}, {policy}")).cluster(STORE, 80)
    assert cluster.hash_key == key
    assert cluster.balancer == BalancerSpec(Algorithm.RING_HASH, min_ring_size=size)


@pytest.mark.parametrize(
    ("simple_name", "algorithm"),
    [
        pytest.param("UNSPECIFIED", Algorithm.LEAST_REQUEST, id="unspecified"),
        pytest.param("LEAST_REQUEST", Algorithm.LEAST_REQUEST, id="the least loaded"),
        pytest.param("LEAST_CONN", Algorithm.LEAST_REQUEST, id="by its old name"),
        pytest.param("ROUND_ROBIN", Algorithm.ROUND_ROBIN, id="in turn"),
        pytest.param("RANDOM", Algorithm.RANDOM, id="by lot"),
    ],
)
def test_simple_load_balancers_are_istios(simple_name: str, algorithm: Algorithm) -> None:
    policy = f"trafficPolicy: {{loadBalancer: {{simple: {simple_name}, warmupDurationSecs: 5s}}}}"
    cluster = book(SHOP, rule(f"host: {STORE}, {policy}")).cluster(STORE, 80)
    assert cluster.balancer == BalancerSpec(algorithm, SlowStart(5.0))
