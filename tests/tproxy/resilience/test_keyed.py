"""A table of limits is bounded, and nobody who is limited gets free while others could be forgotten."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.arrivals import TICK, ticks
from tproxy.resilience.bucket import LeakyBucketSpec, TokenBucketSpec
from tproxy.resilience.grant import Limit, RateSpec
from tproxy.resilience.keyed import KeyedLimits, KeyedSpec, Overflow
from tproxy.resilience.windows import FixedWindowSpec, SlidingWindowSpec

TWO_A_MINUTE = FixedWindowSpec(requests=2, window=60.0)
RATES = [
    pytest.param(TokenBucketSpec(2, 1.0, 3), id="token bucket"),
    pytest.param(LeakyBucketSpec(2.0, 2), id="leaky bucket"),
    pytest.param(FixedWindowSpec(3, 1.0), id="fixed window"),
    pytest.param(SlidingWindowSpec(3, 1.0), id="sliding window"),
]
calls = st.lists(st.tuples(st.sampled_from("abcdef"), ticks), max_size=60)


@pytest.mark.parametrize("rate", RATES)
@given(calls)
def test_with_room_each_key_has_a_machine_of_its_own(
    rate: RateSpec, calls: list[tuple[str, int]]
) -> None:
    limits, now = KeyedLimits(KeyedSpec(rate)), 0.0
    alone: dict[str, Limit] = {}
    for key, gap in calls:
        now += gap * TICK
        alone.setdefault(key, rate.machine(now))
        assert limits.take(key, now) == alone[key].take(now)


@pytest.mark.parametrize("overflow", list(Overflow))
@given(calls, st.integers(1, 4))
def test_there_are_never_more_keys_than_the_bound(
    overflow: Overflow, calls: list[tuple[str, int]], keys: int
) -> None:
    limits, now = KeyedLimits(KeyedSpec(TWO_A_MINUTE, keys, overflow)), 0.0
    for key, gap in calls:
        now += gap
        limits.take(key, now)
        assert len(limits) <= keys
        assert {key for _, _, key in limits._ends} == limits._limited.keys()
        assert len(limits._ends) == len(limits._limited)


@given(calls, st.integers(1, 4))
def test_who_is_limited_stays_so_for_as_long_as_it_was_told_whatever_strangers_come(
    calls: list[tuple[str, int]], keys: int
) -> None:
    limits, now = KeyedLimits(KeyedSpec(TWO_A_MINUTE, keys)), 0.0
    refused_until: dict[str, float] = {}
    for key, gap in calls:
        now += gap / 8
        grant = limits.take(key, now)
        if now < refused_until.get(key, 0.0):
            assert not grant.allowed
        if grant.allowed and key in limits._limited:
            refused_until[key] = now + grant.after


def test_the_one_not_seen_for_longest_is_forgotten_first() -> None:
    limits = KeyedLimits(KeyedSpec(TWO_A_MINUTE, keys=2))
    for key in ("old", "new", "stranger"):
        limits.take(key, 0.0)
    assert limits.take("new", 1.0).remaining == 0
    assert limits.take("old", 1.0).remaining == 1


def test_who_is_limited_outlives_who_came_later() -> None:
    limits = KeyedLimits(KeyedSpec(TWO_A_MINUTE, keys=2))
    limits.take("limited", 0.0)
    limits.take("limited", 0.0)
    for number in range(100):
        assert limits.take(f"stranger {number}", 1.0).remaining == 1
    assert not limits.take("limited", 2.0).allowed
    assert limits.take("limited", 60.0).allowed


def full_of_limited(overflow: Overflow) -> KeyedLimits:
    """A table whose two keys are limited, the first until 60 and the second until 61."""
    limits = KeyedLimits(KeyedSpec(TWO_A_MINUTE, 2, overflow))
    for at, key in enumerate(("first", "second")):
        limits.take(key, at)
        limits.take(key, at)
    return limits


def test_strangers_share_one_machine_while_all_others_are_limited() -> None:
    limits = full_of_limited(Overflow.SHARE)
    assert limits.look("stranger 0", 2.0).allowed
    assert [limits.take(f"stranger {number}", 2.0).allowed for number in range(4)] == [
        True, True, False, False,
    ]  # fmt: skip
    assert not limits.look("stranger 4", 2.0).allowed
    assert not limits.take("first", 3.0).allowed
    assert limits.take("stranger 3", 60.0).allowed, "the first is limited no more and makes room"


def test_or_the_one_whose_limit_ends_first_makes_room() -> None:
    limits = full_of_limited(Overflow.FORGET)
    assert [limits.take("stranger", 2.0).allowed for _ in range(3)] == [True, True, False]
    assert not limits.take("second", 3.0).allowed
    assert limits.take("first", 3.0).allowed, "it was forgotten"


def test_keys_need_no_order() -> None:
    limits = KeyedLimits(KeyedSpec(FixedWindowSpec(1, 60.0), keys=2, overflow=Overflow.FORGET))
    assert all(limits.take(key, 0.0).allowed for key in (None, ("a", 1), 2, "b"))


@pytest.mark.parametrize("overflow", list(Overflow))
@given(calls, st.integers(1, 4))
def test_a_look_says_what_would_be_taken_and_remembers_nobody(
    overflow: Overflow, calls: list[tuple[str, int]], keys: int
) -> None:
    limits, now = KeyedLimits(KeyedSpec(TWO_A_MINUTE, keys, overflow)), 0.0
    for key, gap in calls:
        now += gap
        before = len(limits)
        seen = limits.look(key, now)
        assert len(limits) == before
        assert seen.allowed is limits.take(key, now).allowed
