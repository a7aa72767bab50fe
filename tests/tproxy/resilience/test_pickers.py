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
def test_at_every_moment_everybody_is_close_to_its_share(
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
    drawn = Counter(draws.endpoints[draws.draw()] for _ in range(count))
    for each, weight in weights.items():
        share = weight / sum(weights.values())
        assert abs(drawn[each] / count - share) <= 5 * (share * (1 - share) / count) ** 0.5


@pytest.mark.parametrize("besides", ["a", "b", "c"])
def test_another_is_drawn_in_proportion_to_the_others(besides: str) -> None:
    weights, count = {"a": 50, "b": 10, "c": 30}, 5000
    draws = Draws(weights, Random(6).random)
    index = draws.endpoints.index(besides)
    drawn = Counter(draws.endpoints[draws.draw_other(index)] for _ in range(count))
    others = {each: weight for each, weight in weights.items() if each != besides}
    assert drawn.keys() == others.keys()
    for each, weight in others.items():
        share = weight / sum(others.values())
        assert abs(drawn[each] / count - share) <= 5 * (share * (1 - share) / count) ** 0.5


@pytest.mark.parametrize("where", [0.0, 0.5, 1 - 2**-53])
def test_another_is_drawn_at_the_ends_of_what_may_be_drawn(where: float) -> None:
    draws = Draws({"a": 10**9, "b": 1}, lambda: where)
    assert [draws.draw_other(0), draws.draw_other(1)] == [1, 0]


def test_draws_without_the_tried_keep_the_others_proportion() -> None:
    draws = Draws({"a": 50, "b": 10, "c": 30}, Random(5).random).without({"a"})
    drawn = Counter(draws.endpoints[draws.draw()] for _ in range(5000))
    assert drawn.keys() == {"b", "c"}
    assert abs(drawn["c"] / 5000 - 0.75) < 5 * (0.75 * 0.25 / 5000) ** 0.5
    assert draws.without({"b", "c"}) is draws
