"""Clusters keep over reloads what is still true, and never lose an endpoint because nobody could be asked."""

import random

import pytest
from msgspec.structs import replace

from fakes.clusters import address, cluster, endpoints
from tproxy.model.cluster import Bounds, Cluster, Dns, DnsName, Endpoint, Static
from tproxy.model.outcome import UpstreamError
from tproxy.resilience.balance import Algorithm, BalancerSpec
from tproxy.resilience.breaker import BreakerSpec, ConsecutiveFailures
from tproxy.resilience.outlier import OutlierSpec
from tproxy.resilience.retry_budget import RetryBudgetSpec
from tproxy.stores.clusters import (
    MOST_CLUSTERS,
    MOST_DESTINATIONS,
    UNUSED_SECONDS,
    Clusters,
    LiveCluster,
)
from tproxy.stores.picked import Picked

TURNS = BalancerSpec(Algorithm.ROUND_ROBIN)
NAMES = Dns((DnsName("shop.example", 80),))
BREAKER = BreakerSpec(ConsecutiveFailures(2))
OUTLIER = OutlierSpec(consecutive_5xx_errors=2, max_ejection_percent=100)


def clusters() -> Clusters:
    return Clusters(random.Random(1).random)


def picked(live: LiveCluster, now: float = 0.0, **more: object) -> Picked:
    """Choose, where somebody can be."""
    found = live.pick(now, **more)  # type: ignore[arg-type]
    assert found is not None
    return found


def fail(live: LiveCluster, times: int, now: float = 0.0) -> None:
    """Have so many requests fail."""
    for _ in range(times):
        one = picked(live, now)
        one.answered(503, now)
        one.done()


def test_a_cluster_is_found_again_by_its_spec() -> None:
    book, spec = clusters(), cluster(endpoints(1))
    assert book.of(spec, 0.0) is book.of(spec, 5.0)
    assert book.get(spec.name) is book.of(cluster(endpoints(1)), 9.0, 2)
    assert book.get("other") is None


def test_a_spec_that_says_the_same_is_compared_once() -> None:
    book, again = clusters(), cluster(endpoints(1))
    live = book.of(cluster(endpoints(1)), 0.0, 1)
    kept = live.endpoints[address(1)]
    assert book.of(again, 1.0, 2).spec is again
    assert live.endpoints[address(1)] is kept


@pytest.mark.parametrize(
    ("machine", "before", "after"),
    [
        pytest.param("budget", {}, {}, id="budget stays"),
        pytest.param("budget", {"balancer": TURNS}, {}, id="budget with another balancer"),
        pytest.param("budget", {"outlier": OUTLIER}, {}, id="budget with another detection"),
    ],
)
def test_a_machine_stays_that_nothing_new_is_said_of(
    machine: str, before: dict[str, object], after: dict[str, object]
) -> None:
    book = clusters()
    live = book.of(cluster(endpoints(1), **before), 0.0)
    kept = getattr(live, machine)
    assert book.of(cluster(endpoints(1, 2), **after), 1.0, 2) is live
    assert getattr(live, machine) is kept
    assert list(live.endpoints) == [address(1), address(2)]


def test_a_machine_begins_anew_that_something_new_is_said_of() -> None:
    book = clusters()
    live = book.of(cluster(endpoints(1)), 0.0)
    kept = live.budget
    other = cluster(endpoints(1), retry_budget=RetryBudgetSpec(50), balancer=TURNS)
    book.of(other, 1.0, 2)
    assert live.budget is not kept
    assert picked(live).endpoint.address == address(1)


def test_policies_of_before_change_nothing() -> None:
    book, before = clusters(), cluster(endpoints(1))
    live = book.of(before, 0.0, 1)
    book.of(cluster(endpoints(2)), 1.0, 2)
    assert book.of(before, 2.0, 1) is live
    assert list(live.endpoints) == [address(2)]


def test_ejections_outlast_other_endpoints() -> None:
    book = clusters()
    live = book.of(cluster(endpoints(1, 2), outlier=OUTLIER, balancer=TURNS), 0.0)
    fail(live, 3)
    (bad,) = live.ejected(0.0)
    book.of(cluster(endpoints(1, 2, 3), outlier=OUTLIER, balancer=TURNS), 1.0, 2)
    assert live.ejected(1.0) == {bad}
    assert bad not in {picked(live, 1.0).endpoint.address for _ in range(9)}
    book.of(cluster(endpoints(1, 2, 3), balancer=TURNS), 2.0, 3)
    assert live.ejected(2.0) == set()


def test_a_breaker_takes_its_endpoint_out_and_lets_one_probe_through() -> None:
    live = clusters().of(cluster(endpoints(1), breaker=BREAKER), 0.0)
    fail(live, 2)
    assert live.pick(0.5) is None
    probe = picked(live, 5.0)
    assert probe.probes
    assert live.pick(5.0) is None
    probe.answered(200, 5.0)
    assert not probe.probes
    probe.done()
    assert not picked(live, 5.0).probes


def test_a_probe_that_is_given_up_gives_way_to_another() -> None:
    live = clusters().of(cluster(endpoints(1), breaker=BREAKER), 0.0)
    fail(live, 2)
    picked(live, 5.0).done()
    assert picked(live, 5.0).probes


def test_breakers_refuse_even_where_the_balancer_uses_all_it_has() -> None:
    panics = BalancerSpec(Algorithm.ROUND_ROBIN, panic_percent=100)
    live = clusters().of(cluster(endpoints(1, 2), breaker=BREAKER, balancer=panics), 0.0)
    bad = picked(live)
    other = picked(live)
    for one in (bad, picked(live, tried=[other.endpoint.address])):
        one.unreachable(0.0)
        one.done()
    found = {picked(live, 0.1).endpoint.address for _ in range(6)}
    assert found == {other.endpoint.address}
    for _ in range(2):
        fail(live, 1, 0.1)
    assert live.pick(0.2) is None


def test_breakers_begin_anew_with_another_spec() -> None:
    book = clusters()
    live = book.of(cluster(endpoints(1), breaker=BREAKER), 0.0)
    late = picked(live)
    fail(live, 2)
    assert live.pick(0.1) is None
    book.of(cluster(endpoints(1), breaker=BreakerSpec(ConsecutiveFailures(3))), 0.2, 2)
    assert live.pick(0.2) is not None
    late.unreachable(0.3)
    assert live.pick(0.3) is not None


def test_each_is_judged_once_and_over_once() -> None:
    live = clusters().of(cluster(endpoints(1), outlier=OUTLIER), 0.0)
    one = picked(live)
    for _ in range(5):
        one.unreachable(0.0)
        one.answered(503, 0.0)
    one.connected(0.0)
    assert live.ejected(0.0) == set()
    one.done()
    one.done()
    assert (live.active, next(iter(live.members)).total) == (0, 1)


def test_an_endpoint_that_leaves_keeps_what_it_has() -> None:
    book = clusters()
    live = book.of(cluster(endpoints(1)), 0.0)
    one = picked(live)
    book.of(cluster(endpoints(2)), 1.0, 2)
    assert live.active == 1
    one.answered(500, 1.0)
    one.done()
    assert live.active == 0


def test_requests_have_a_bound() -> None:
    live = clusters().of(cluster(endpoints(1), bounds=Bounds(requests=1)), 0.0)
    live.admit()
    one = picked(live)
    with pytest.raises(UpstreamError, match="overflow"):
        live.admit()
    one.done()
    live.admit()


def test_a_subset_has_the_endpoints_with_its_labels() -> None:
    new, old = (Endpoint(address(each), labels=(("version", f"v{each}"),)) for each in (2, 1))
    spec = cluster(Static((new, old)), wanted=(("version", "v2"),))
    assert list(clusters().of(spec, 0.0).endpoints) == [address(2)]


def test_what_was_found_under_a_name_holds_while_nothing_else_is() -> None:
    book = clusters()
    live = book.of(cluster(NAMES), 0.0)
    assert (live.known.is_set(), book.origins) == (False, {NAMES})
    book.found(NAMES, (Endpoint(address(1)),), 1.0)
    assert live.known.is_set()
    book.fail(NAMES, "DNS: timeout", 2.0)
    assert (list(live.endpoints), live.failure) == ([address(1)], "DNS: timeout")
    book.found(NAMES, (Endpoint(address(2)),), 3.0)
    assert (list(live.endpoints), live.failure) == ([address(2)], "")


def test_another_cluster_of_the_same_names_knows_at_once() -> None:
    book = clusters()
    book.of(cluster(NAMES), 0.0)
    book.found(NAMES, (Endpoint(address(1)),), 1.0)
    other = book.of(Cluster(name="other", host="shop.example", port=80, origin=NAMES), 2.0)
    assert list(other.endpoints) == [address(1)]


def test_another_cluster_of_names_that_nobody_knows_is_told_at_once() -> None:
    book = clusters()
    book.of(cluster(NAMES), 0.0)
    book.fail(NAMES, "DNS: timeout", 1.0)
    other = book.of(Cluster(name="other", host="shop.example", port=80, origin=NAMES), 2.0)
    assert (other.known.is_set(), other.failure) == (True, "DNS: timeout")
    book.found(NAMES, (Endpoint(address(1)),), 3.0)
    third = book.of(Cluster(name="third", host="shop.example", port=80, origin=NAMES), 4.0)
    assert (list(third.endpoints), third.failure) == ([address(1)], "")
    book.fail(NAMES, "DNS: timeout", 5.0)
    book.sweep(UNUSED_SECONDS + 5)
    assert (list(book), book.origins) == ([], set())


def test_nothing_holds_that_policies_name_no_more() -> None:
    book = clusters()
    live = book.of(cluster(endpoints(1)), 0.0)
    book.of(cluster(NAMES), 1.0, 2)
    assert not live.known.is_set()
    book.fail(NAMES, "DNS: nxdomain", 2.0)
    assert live.known.is_set()
    assert (live.pick(2.0), live.failure) == (None, "DNS: nxdomain")


def test_the_original_destination_has_machines_too() -> None:
    live = clusters().of(cluster(None, outlier=OUTLIER, wanted=(("version", "v1"),)), 0.0)
    here, there = Endpoint(address(1)), Endpoint(address(2))
    for _ in range(2):
        one = live.ask(here, 0.0)
        assert one is not None
        one.unreachable(0.0)
        one.done()
    assert live.ask(here, 1.0) is None
    assert live.ask(there, 1.0) is not None
    assert live.ask(here, 31.0) is not None


def test_original_destinations_are_forgotten_when_they_are_many() -> None:
    live = clusters().of(cluster(None, breaker=BREAKER), 0.0)
    held = live.ask(Endpoint(address(1)), 0.0)
    for port in range(MOST_DESTINATIONS + 5):
        one = live.ask(Endpoint(replace(address(2), port=port)), 0.0)
        assert one is not None
        one.done()
    assert len(live.members) <= MOST_DESTINATIONS
    assert held is not None
    assert address(1) in live.endpoints


def test_a_breaker_refuses_the_original_destination() -> None:
    live = clusters().of(cluster(None, breaker=BREAKER), 0.0)
    for _ in range(2):
        one = live.ask(Endpoint(address(1)), 0.0)
        assert one is not None
        one.unreachable(0.0)
        one.done()
    assert live.ask(Endpoint(address(1)), 0.1) is None


def test_clusters_go_that_nothing_is_sent_to() -> None:
    book = clusters()
    used = book.of(cluster(endpoints(1)), 0.0)
    held = picked(used, 0.0)
    book.of(Cluster(name="other", host="o.example", port=80, origin=NAMES), 0.0)
    book.found(NAMES, (Endpoint(address(1)),), 0.0)
    book.sweep(UNUSED_SECONDS)
    assert len(list(book)) == 2
    book.sweep(UNUSED_SECONDS + 1)
    assert (list(book), book.origins) == ([used], set())
    held.done()
    book.sweep(UNUSED_SECONDS + 1)
    assert list(book) == []


def test_clusters_have_a_bound() -> None:
    book = clusters()
    for number in range(MOST_CLUSTERS + 2):
        spec = Cluster(name=f"{number}", host="x", port=1, origin=endpoints(1))
        book.of(spec, float(number > 2))
    book.sweep(1.0)
    assert len(list(book)) == MOST_CLUSTERS
    assert book.get("0") is None


def test_the_same_endpoints_in_another_order_change_nothing() -> None:
    book = clusters()
    live = book.of(cluster(NAMES), 0.0)
    first, second = (Endpoint(address(each)) for each in (1, 2))
    book.found(NAMES, (first, second), 0.0)
    book.fail(NAMES, "DNS: timeout", 1.0)
    book.found(NAMES, (replace(second), replace(first)), 2.0)
    assert all(live.endpoints[each.address] is each for each in (first, second))
    assert live.failure == ""
    book.found(NAMES, (first, replace(second, weight=2)), 3.0)
    assert live.endpoints[second.address].weight == 2
