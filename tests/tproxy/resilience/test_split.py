"""Destinations get what their weights say, and the same caller the same one."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tproxy.resilience.fraction import fraction
from tproxy.resilience.split import Split

TWENTY_FIVE = [("v1", 25), ("v2", 75)]


@pytest.mark.parametrize(
    ("weighted", "shares"),
    [
        pytest.param(TWENTY_FIVE, {"v1": 0.25, "v2": 0.75}, id="25 and 75"),
        pytest.param([("v1", 1), ("v2", 3)], {"v1": 0.25, "v2": 0.75}, id="any sum"),
        pytest.param([("v1", 0), ("v2", 100)], {"v2": 1.0}, id="0 beside another"),
        pytest.param([("v1", 100), ("v2", 0)], {"v1": 1.0}, id="0 behind another"),
        pytest.param([("v1", 0)], {"v1": 1.0}, id="0 alone gets everything"),
        pytest.param([("v1", 7)], {"v1": 1.0}, id="any weight alone"),
        pytest.param([("a", 1), ("b", 0), ("c", 1)], {"a": 0.5, "c": 0.5}, id="0 between two"),
    ],
)
def test_weights_are_shares(weighted: list[tuple[str, int]], shares: dict[str, float]) -> None:
    split, random, count = Split(weighted), Random(3).random, 5000
    chosen = Counter(split.choose(random()) for _ in range(count))
    assert chosen.keys() == shares.keys()
    for name, share in shares.items():
        assert abs(chosen[name] / count - share) <= 5 * (share * (1 - share) / count) ** 0.5


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=8).filter(any),
    st.floats(0, 1, exclude_max=True),
)
def test_a_walk_along_the_weights_chooses_alike(weights: list[int], where: float) -> None:
    left, walked = where * sum(weights), -1
    for index, weight in enumerate(weights):
        if weight and left < weight:
            walked = index
            break
        left -= weight
    chosen = Split(list(enumerate(weights))).choose(where)
    assert weights[chosen] > 0
    assert chosen == walked or abs(left) < 1e-9


def test_the_last_number_below_1_is_the_last_destinations() -> None:
    assert [Split(TWENTY_FIVE).choose(where) for where in (0.0, 0.2499, 0.25, 1 - 2**-53)] == [
        "v1", "v1", "v2", "v2",
    ]  # fmt: skip


def test_a_caller_keeps_its_destination_and_a_growing_canary_only_gains() -> None:
    callers = [fraction(b"caller %d" % number) for number in range(1000)]
    before = [Split([("canary", 10), ("stable", 90)]).choose(each) for each in callers]
    after = [Split([("canary", 30), ("stable", 70)]).choose(each) for each in callers]
    moved = {(old, new) for old, new in zip(before, after, strict=True) if old != new}
    assert moved == {("stable", "canary")}


@pytest.mark.parametrize(
    "weighted", [pytest.param([], id="none"), pytest.param([("a", 0), ("b", 0)], id="all 0")]
)
def test_a_split_that_nobody_gets_is_our_mistake(weighted: list[tuple[str, int]]) -> None:
    with pytest.raises(AssertionError):
        Split(weighted)
