"""Whoever looks into a running proxy sees what policies say of traffic, and how much more there is."""

from fakes.destinations import entry, rule
from fakes.policies import snapshot
from fakes.routes import http, virtual
from tproxy.policy.traffic_described import traffic_described

SHOP = entry(
    "hosts: [shop], ports: [{number: 80, name: http}], resolution: STATIC, endpoints: [{address: 192.0.2.10}]",
    namespace="web",
)
FAULT = (
    "apiVersion: tproxy.io/v1alpha1\nkind: FaultPolicy\nmetadata: {name: f, namespace: web}\n"
    "spec: {direction: OUTBOUND, rules: [{reset: {percentage: 1}}]}\n"
)
BREAKER = (
    "apiVersion: tproxy.io/v1alpha1\nkind: ResiliencePolicy\nmetadata: {name: b, namespace: web}\n"
    "spec: {host: shop, breaker: {consecutiveFailures: 3}}\n"
)
NAME = "shop.web.svc.cluster.local"
OTHER = "other.web.svc.cluster.local"


def test_nothing_is_shown_where_nothing_is_said() -> None:
    kinds = ("virtual_services", "clusters", "fault_policies", "resilience_policies")
    assert traffic_described(snapshot()) == {**{each: [] for each in kinds}, "left_out": {}}


def test_each_policy_is_shown_with_its_place() -> None:
    routes = http(
        "{name: a, match: [{uri: {prefix: /a}}], route: [{destination: {host: other}}], mirror: {host: other, port: {number: 81}}}",
        "{route: [{destination: {host: shop, subset: v1}}]}",
        hosts="shop",
    )
    tcp = virtual(
        "hosts: [db], tcp: [{route: [{destination: {host: db, port: {number: 1}}}]}]", name="t"
    )
    subsets = rule(
        "host: shop, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: v1, labels: {a: b}}]"
    )
    shown = traffic_described(snapshot(SHOP, subsets, routes, tcp, FAULT, BREAKER))
    assert shown["left_out"] == {}
    db, shop = shown["virtual_services"]
    if db["virtual_service"] != "web/t":
        db, shop = shop, db
    assert (shop["virtual_service"], shop["hosts"], shop["entries_left_out"]) == (
        "web/v",
        (NAME,),
        0,
    )
    assert [(each["kind"], each["entry"]) for each in shop["entries"]] == [
        ("http", "a"),
        ("http", "web/v.http[1]"),
    ]
    assert all(each["place"].startswith("policies.yaml:") for each in shop["entries"])
    assert [each["entry"] for each in db["entries"]] == ["web/t.tcp[0]"]
    clusters = {each["cluster"]: (each["origin"], each["balancer"]) for each in shown["clusters"]}
    assert clusters == {
        f"outbound|80||{NAME}": ("STATIC", "RANDOM"),
        f"outbound|80|v1|{NAME}": ("STATIC", "RANDOM"),
        f"outbound|81||{OTHER}": ("DNS", "LEAST_REQUEST"),
        "outbound|1||db.web.svc.cluster.local": ("DNS", "LEAST_REQUEST"),
    }
    (fault,), (endurance,) = shown["fault_policies"], shown["resilience_policies"]
    assert (fault["rule"], fault["direction"]) == ("web/f/0", "outbound")
    assert (endurance["policy"], endurance["host"]) == ("web/b", NAME)


def test_what_is_more_than_a_page_holds_is_counted() -> None:
    entries = "{route: [{destination: {host: shop, port: {number: 80}}}]}"
    first = (
        "{match: [{uri: {prefix: /a}}], route: [{destination: {host: shop, port: {number: 81}}}]}"
    )
    shown = traffic_described(snapshot(http(first, entries), FAULT), most=1)
    assert shown["left_out"] == {"clusters": 1}
    (routes,) = shown["virtual_services"]
    assert (len(routes["entries"]), routes["entries_left_out"]) == (1, 1)
