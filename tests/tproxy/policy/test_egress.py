"""What may be reached of that which no policy names."""

import pytest

from fakes.destinations import (
    IN_MESH,
    POD,
    STORE,
    UNNAMED,
    VIP,
    entry,
    head,
    secured,
    simple,
    snapshot,
)
from fakes.routes import virtual
from tproxy.model.address import Address
from tproxy.model.flow import Direction, Flow, Protocol
from tproxy.model.route import DirectResponse, Route
from tproxy.policy.clusters import ClusterBook
from tproxy.policy.snapshot import Snapshot
from tproxy.policy.traffic import Traffic

MODE = "apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\nspec: {{outboundTrafficPolicy: {{mode: {}}}}}\n"
ONLY = MODE.format("REGISTRY_ONLY")
SHOP = entry(
    f"hosts: [store], {IN_MESH}, addresses: [{VIP}], ports: [{{number: 80, name: http, targetPort: 8080}}],"
    f" endpoints: [{{address: {POD}}}]"
)
PORTLESS = entry("hosts: [a.example]", name="f")


def way(policies: Snapshot, to: str, port: int = 80, host: str | None = None) -> Route:
    """The way of a request, or of a connection that is no HTTP."""
    here = Address("192.0.2.1", 1)
    flow = Flow(Direction.OUTBOUND, here, here, Address(to, port))
    return policies.route(flow, None if host is None else head(host))


@pytest.mark.parametrize(
    ("to", "port", "host", "cluster"),
    [
        pytest.param(UNNAMED, 80, None, "BlackHoleCluster", id="an address that nobody names"),
        pytest.param(UNNAMED, 80, "b.example", "BlackHoleCluster", id="a name that nobody knows"),
        pytest.param(UNNAMED, 81, STORE, "BlackHoleCluster", id="a name at another port than its service's"),
        pytest.param(POD, 9, None, "BlackHoleCluster", id="an endpoint at another port than its own"),
        pytest.param(UNNAMED, 9, "a.example", "PassthroughCluster", id="a name of an entry about all ports"),
        pytest.param(POD, 8080, None, "PassthroughCluster", id="an endpoint"),
        pytest.param(VIP, 80, None, f"outbound|80||{STORE}", id="a service's address"),
        pytest.param(UNNAMED, 80, STORE, f"outbound|80||{STORE}", id="a service's name"),
    ],
)  # fmt: skip
def test_only_what_entries_name_is_reached_where_this_is_asked_for(
    to: str, port: int, host: str | None, cluster: str
) -> None:
    assert way(snapshot(SHOP, PORTLESS, ONLY), to, port, host).cluster == cluster


def test_what_leads_nowhere_is_answered_as_in_istio() -> None:
    route = way(snapshot(ONLY), UNNAMED)
    assert route.name == "block_all"
    assert route.plan is not None
    assert route.plan.answer == DirectResponse(502)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        pytest.param("route: [{destination: {host: x.example}}]", "BlackHoleCluster", id="nobody"),
        pytest.param("route: [{destination: {host: b.example}}]", "BlackHoleCluster", id="itself"),
        pytest.param(
            f"route: [{{destination: {{host: {STORE}}}}}]", f"outbound|80||{STORE}", id="known"
        ),
        pytest.param("directResponse: {status: 204}", "", id="our own answer"),
    ],
)
def test_a_route_does_not_lead_to_whom_no_entry_knows(entry: str, expected: str) -> None:
    policies = snapshot(SHOP, PORTLESS, ONLY, virtual(f"hosts: [b.example], http: [{{{entry}}}]"))
    assert way(policies, UNNAMED, 80, "b.example").cluster == expected


def test_a_route_of_somebody_known_leads_anywhere_but_copies_do_not() -> None:
    copied = "mirrors: [{destination: {host: y.example}}, {destination: {host: a.example}}]"
    known = entry(
        f"hosts: [a.example], {IN_MESH}, ports: [{{number: 80, name: http}}],"
        f" endpoints: [{{address: {POD}}}]"
    )
    away = f"hosts: [a.example], http: [{{{copied.replace('a.ex', 'c.ex')}, route: [{{destination: {{host: x.example}}}}]}}]"
    other = known.replace("a.example", "c.example").replace("name: e", "name: f").replace(POD, VIP)
    route = way(snapshot(known, other, ONLY, virtual(away)), UNNAMED, 80, "a.example")
    assert route.cluster == "outbound|80||x.example"
    assert route.plan is not None
    assert [each.cluster.host for each in route.plan.mirrors] == ["c.example"]


@pytest.mark.parametrize("documents", [[], [MODE.format("ALLOW_ANY")], [SHOP]])
def test_everything_is_reached_otherwise(documents: list[str]) -> None:
    assert way(snapshot(*documents), UNNAMED) == Route("allow_any", "PassthroughCluster")


def test_without_entries_and_rules_nothing_is_secured() -> None:
    here = Address(UNNAMED, 80)
    flow = Flow(Direction.OUTBOUND, here, here, here)
    assert Traffic(ClusterBook(), None, "web").route(flow, None, None).tls is None


def test_the_version_that_is_asked_for_is_kept() -> None:
    ports = "ports: [{port: 80, protocol: HTTP, upstreamProtocol: HTTP2}]"
    policies = snapshot(ONLY.replace("spec: {", f"spec: {{{ports}, "))
    assert way(policies, UNNAMED, 80, "a.example").protocol is Protocol.HTTP2


def test_where_no_endpoint_is_chosen_the_address_that_was_dialled_is_secured() -> None:
    outside = entry(
        f'hosts: ["*.c.example"], addresses: [{VIP}], ports: [{{number: 80, name: http}}]'
    )
    route = way(snapshot(outside, secured("*.c.example", "mode: SIMPLE")), VIP, 80, "x.c.example")
    assert route.cluster == "outbound|80||*.c.example"
    assert route.tls == simple("x.c.example")
