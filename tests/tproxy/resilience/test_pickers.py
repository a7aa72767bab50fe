"""Turns are exact and evenly spread, draws are in proportion."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tproxy.resilience.pickers import Draws, RoundRobin

weights = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9), min_size=1)


def whole(endpoint: str, now: float) -> float:  # noqa: ARG001
    """All of the weight, always."""
    return 1.0


def turns(weights: dict[str, int], seed: int = 0) -> RoundRobin[str]:
    """A round robin that begins anywhere."""
    return RoundRobin(weights, whole, Random(seed).random)


@given(weights, st.integers(0, 1000))
def test_in_each_round_everybody_gets_its_weight(weights: dict[str, int], seed: int) -> None:
    machine = turns(weights, seed)
    for _ in range(3):
        round_ = Counter(machine.pick(0.0, ()) for _ in range(sum(weights.values())))
        assert round_ == weights


@given(weights, st.integers(0, 1000), st.integers(1, 100))
def test_nobody_is_ever_more_than_two_turns_from_its_share(
    weights: dict[str, int], seed: int, picks: int
) -> None:
    machine, total = turns(weights, seed), sum(weights.values())
    picked = Counter(machine.pick(0.0, ()) for _ in range(picks))
    slack = 1 + max(weight / total for weight in weights.values()) * len(weights)
    for each, weight in weights.items():
        assert abs(picked[each] - picks * weight / total) <= slack


def test_the_heavy_one_is_not_picked_in_a_row() -> None:
    machine = turns({"a": 5, "b": 4, "c": 1})
    picked = "".join(machine.pick(0.0, ()) for _ in range(100))
    assert "aaaa" not in picked
    assert "bbbb" not in picked


def test_rounds_begin_anywhere() -> None:
    begun = Counter(turns(dict.fromkeys("abcd", 1), seed).pick(0.0, ()) for seed in range(400))
    assert all(50 < count < 150 for count in begun.values())


def test_who_was_tried_is_passed_over_and_stays_due() -> None:
    machine = turns(dict.fromkeys("abc", 1))
    first, second, third = (machine.pick(0.0, ()) for _ in range(3))
    assert machine.pick(0.0, {first, second}) == third
    assert [machine.pick(0.0, ()), machine.pick(0.0, ())] == [first, second]
    assert machine.pick(0.0, set("abc")) in set("abc"), "when all were, one is tried again"
    assert Counter(machine.pick(0.0, ()) for _ in range(300)).total() == 300


def test_a_share_of_a_weight_is_a_share_of_the_turns() -> None:
    machine = RoundRobin(
        {"new": 1, "old": 1}, lambda each, _: 0.25 if each == "new" else 1.0, Random(0).random
    )
    assert Counter(machine.pick(0.0, ()) for _ in range(1000))["new"] == pytest.approx(200, abs=2)


@pytest.mark.parametrize(
    "weights",
    [
        pytest.param({"a": 1, "b": 1, "c": 1}, id="equal"),
        pytest.param({"a": 1, "b": 10, "c": 89}, id="unequal"),
        pytest.param({"a": 5}, id="alone"),
    ],
)
def test_draws_are_in_proportion(weights: dict[str, int]) -> None:
    draws, count = Draws(weights, Random(5).random), 5000
    drawn = Counter(draws.draw() for _ in range(count))
    for each, weight in weights.items():
        share = weight / sum(weights.values())
        assert abs(drawn[each] / count - share) <= 5 * (share * (1 - share) / count) ** 0.5


def test_draws_without_the_tried_keep_the_others_proportion() -> None:
    draws = Draws({"a": 50, "b": 10, "c": 30}, Random(5).random)
    drawn = Counter(draws.without({"a"}).draw() for _ in range(10_000))
    assert drawn.keys() == {"b", "c"}
    assert abs(drawn["c"] / 10_000 - 0.75) < 5 * (0.75 * 0.25 / 10_000) ** 0.5
    assert draws.without(set("abc")) is draws
