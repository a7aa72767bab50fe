"""Requests are spread as the cluster's algorithm says, around whoever is unhealthy, tried or cold."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tproxy.resilience.balance import Algorithm, Balancer, BalancerSpec, SlowStart
from tproxy.resilience.fraction import position

FOUR = {f"192.0.2.{number}:80": 1 for number in range(4)}
A, B, C, D = FOUR
COUNT = 4000
EVERY = pytest.mark.parametrize("algorithm", list(Algorithm))


def balancer(spec: BalancerSpec, weights: dict[str, int] | None = None) -> Balancer[str]:
    """A cluster whose endpoints have been there for a day."""
    made = Balancer[str](spec, Random(42).random)
    made.update(FOUR if weights is None else weights, 0.0)
    return made


def spread(
    balance: Balancer[str], count: int = COUNT, now: float = 86_400.0, *, hold: bool = False
) -> Counter[str]:
    """Send requests one after the other, or, to `hold` them, all at once."""
    picked = Counter[str]()
    for number in range(count):
        endpoint = balance.pick(now, key=position(b"%d" % number))
        assert endpoint is not None
        picked[endpoint] += 1
        if not hold:
            balance.done(endpoint)
    return picked


@EVERY
def test_equal_endpoints_get_equal_shares(algorithm: Algorithm) -> None:
    found = spread(balancer(BalancerSpec(algorithm)))
    slack = 0.1 if algorithm is Algorithm.RING_HASH else 5 * (0.25 * 0.75 / COUNT) ** 0.5
    assert all(abs(found[each] / COUNT - 0.25) < slack for each in FOUR)


@EVERY
def test_shares_follow_weights(algorithm: Algorithm) -> None:
    found = spread(balancer(BalancerSpec(algorithm), {A: 1, B: 3}))
    slack = 0.08 if algorithm is Algorithm.RING_HASH else 5 * (0.25 * 0.75 / COUNT) ** 0.5
    assert abs(found[A] / COUNT - 0.25) < slack


@EVERY
def test_nobody_is_picked_of_none(algorithm: Algorithm) -> None:
    assert balancer(BalancerSpec(algorithm), {}).pick(0.0) is None
    assert balancer(BalancerSpec(algorithm)).pick(0.0, unhealthy=frozenset(FOUR)) is None


@EVERY
@given(
    unhealthy=st.frozensets(st.sampled_from(sorted(FOUR))),
    tried=st.frozensets(st.sampled_from(sorted(FOUR))),
)
def test_the_unhealthy_are_never_picked_and_the_tried_only_when_no_other_is_left(
    algorithm: Algorithm, unhealthy: frozenset[str], tried: frozenset[str]
) -> None:
    balance = balancer(BalancerSpec(algorithm))
    for number in range(10):
        key = position(b"%d" % number)
        picked = balance.pick(0.0, unhealthy=unhealthy, tried=tried, key=key)
        healthy = FOUR.keys() - unhealthy
        assert picked in (healthy - tried or healthy) if healthy else picked is None


@EVERY
def test_with_too_few_healthy_all_are_used(algorithm: Algorithm) -> None:
    balance = balancer(BalancerSpec(algorithm, panic_percent=50.0))
    two, three = frozenset((A, B)), frozenset((A, B, C))
    picked = {balance.pick(0.0, unhealthy=two, key=position(b"%d" % n)) for n in range(200)}
    assert picked == {C, D}, "half are enough"
    picked = {balance.pick(0.0, unhealthy=three, key=position(b"%d" % n)) for n in range(200)}
    assert picked == set(FOUR)


@EVERY
def test_endpoints_come_and_go(algorithm: Algorithm) -> None:
    balance = balancer(BalancerSpec(algorithm))
    assert balance.pick(0.0) in FOUR
    balance.update({"new": 1}, 1.0)
    assert balance.pick(2.0) == "new"
    balance.update({}, 3.0)
    assert balance.pick(4.0) is None


def test_who_recovers_is_picked_again() -> None:
    balance = balancer(BalancerSpec(Algorithm.ROUND_ROBIN))
    sick = frozenset((A,))
    assert A not in {balance.pick(0.0, unhealthy=sick) for _ in range(8)}
    assert A in {balance.pick(0.0) for _ in range(4)}


def test_requests_are_counted_until_they_are_done_though_the_endpoint_left() -> None:
    balance = balancer(BalancerSpec(Algorithm.RANDOM), {A: 1})
    assert [balance.pick(0.0), balance.pick(0.0)] == [A, A]
    balance.update({B: 1}, 1.0)
    assert balance.active(A) == 2
    balance.done(A)
    balance.done(A)
    assert (balance.active(A), balance.active(B)) == (0, 0)


def test_a_weight_of_0_is_our_mistake() -> None:
    with pytest.raises(AssertionError):
        balancer(BalancerSpec(), {A: 0})


def test_the_least_loaded_of_two_keeps_loads_close_where_chance_does_not() -> None:
    even, count = {str(number): 1 for number in range(100)}, 10_000
    random = spread(balancer(BalancerSpec(Algorithm.RANDOM), even), count, hold=True)
    least = spread(balancer(BalancerSpec(Algorithm.LEAST_REQUEST), even), count, hold=True)
    assert max(random.values()) - 100 > 20
    assert max(least.values()) - 100 <= 4, "log log n, and not a root of the load"


def test_loads_that_last_follow_weights() -> None:
    found = spread(balancer(BalancerSpec(), {A: 1, B: 3}), 1000, hold=True)
    assert abs(found[A] - 250) <= 3


@pytest.mark.parametrize(
    ("weights", "most"),
    [
        pytest.param({A: 1, B: 1}, 1, id="of two"),
        pytest.param({A: 5, B: 1}, 5, id="of two, although it is heavy"),
        pytest.param(FOUR, 1, id="of four"),
    ],
)
def test_one_that_hangs_gets_next_to_nothing(weights: dict[str, int], most: int) -> None:
    balance = balancer(BalancerSpec(), weights)
    picked = [balance.pick(0.0)]
    for _ in range(1000):
        picked.append(balance.pick(0.0))
        if picked[-1] is not None and picked[-1] != A:
            balance.done(picked[-1])
    assert picked.count(A) <= most + 1


def test_one_that_outweighs_all_others_by_far_gets_nearly_all() -> None:
    assert spread(balancer(BalancerSpec(), {A: 1, B: 1_000_000}))[A] <= 1


def test_the_cold_are_picked_when_the_warm_are_not_healthy() -> None:
    balance = balancer(BalancerSpec(slow_start=SlowStart(60.0)), {A: 1})
    balance.update({A: 1, B: 1, C: 1}, 1000.0)
    sick = frozenset((A,))
    picked = Counter(balance.pick(1000.0, unhealthy=sick) for _ in range(1000))
    assert picked.keys() == {B, C}
    assert abs(picked[B] - 500) < 100


def test_an_update_without_a_change_changes_no_turns() -> None:
    updated, left = (balancer(BalancerSpec(Algorithm.ROUND_ROBIN)) for _ in range(2))
    sick = frozenset((A,))
    for _ in range(10):
        updated.update(dict(FOUR), 5.0)
        assert updated.pick(5.0, unhealthy=frozenset([A])) == left.pick(5.0, unhealthy=sick)


def test_a_key_stays_with_its_endpoint_and_without_a_key_all_are_picked() -> None:
    balance = balancer(BalancerSpec(Algorithm.RING_HASH))
    for number in range(100):
        key = position(b"user %d" % number)
        assert balance.pick(0.0, key=key) == balance.pick(0.0, key=key)
    assert {balance.pick(0.0) for _ in range(200)} == set(FOUR)


@pytest.mark.parametrize(
    ("age", "share"),
    [
        pytest.param(0.0, 0.1, id="joining: the least"),
        pytest.param(3.0, 0.1, id="still"),
        pytest.param(15.0, 0.25, id="a quarter of the window"),
        pytest.param(30.0, 0.5, id="half"),
        pytest.param(60.0, 1.0, id="all"),
        pytest.param(1e6, 1.0, id="long ago"),
    ],
)
def test_weight_grows_over_the_window(age: float, share: float) -> None:
    assert SlowStart(window=60.0).share(age) == share


def test_a_window_begins_with_a_second_as_envoys_does() -> None:
    assert SlowStart(window=4.0).share(0.0) == 0.25


@pytest.mark.parametrize(
    ("algorithm", "age", "share"),
    [
        pytest.param(Algorithm.ROUND_ROBIN, 0.0, 0.1 / 3.1, id="turns of one that joins"),
        pytest.param(Algorithm.ROUND_ROBIN, 30.0, 0.5 / 3.5, id="turns after half the window"),
        pytest.param(Algorithm.ROUND_ROBIN, 60.0, 0.25, id="turns after all of it"),
        pytest.param(Algorithm.LEAST_REQUEST, 0.0, 0.1 / 3.1, id="draws for one that joins"),
        pytest.param(Algorithm.LEAST_REQUEST, 30.0, 0.5 / 3.5, id="draws after half the window"),
        pytest.param(Algorithm.LEAST_REQUEST, 60.0, 0.25, id="draws after all of it"),
        pytest.param(Algorithm.RANDOM, 0.0, 0.25, id="not with RANDOM"),
    ],
)
def test_who_joins_gets_more_and_more(algorithm: Algorithm, age: float, share: float) -> None:
    spec = BalancerSpec(algorithm, SlowStart(window=60.0))
    balance = balancer(spec, {A: 1, B: 1, C: 1})
    balance.update(FOUR, 1000.0)
    found = spread(balance, now=1000.0 + age)[D] / COUNT
    assert abs(found - share) <= 5 * (share * (1 - share) / COUNT) ** 0.5


@pytest.mark.parametrize("age", [0.0, 30.0, 60.0])
def test_who_are_equally_cold_cost_no_more_draws_than_the_warm(age: float) -> None:
    random, draws = Random(9).random, Counter[str]()

    def counted() -> float:
        draws["all"] += 1
        return random()

    balance = Balancer[str](BalancerSpec(slow_start=SlowStart(60.0)), counted)
    balance.update(FOUR, 500.0)
    draws.clear()
    for _ in range(100):
        balance.pick(500.0 + age)
    assert draws["all"] == 100 * 4, "two endpoints, and whether each is warm enough"


def test_who_all_join_at_once_share_alike() -> None:
    balance = Balancer[str](BalancerSpec(slow_start=SlowStart(60.0)), Random(1).random)
    balance.update(FOUR, 500.0)
    found = spread(balance, now=500.0)
    assert all(abs(found[each] / COUNT - 0.25) < 5 * (0.25 * 0.75 / COUNT) ** 0.5 for each in FOUR)
