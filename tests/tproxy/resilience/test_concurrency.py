"""So many at once, and never more keys than there is something under way for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tproxy.resilience.concurrency import Concurrency, ConcurrencySpec, KeyedConcurrency
from tproxy.resilience.grant import Grant

TWO = ConcurrencySpec(2)


def test_one_more_comes_in_when_one_ends() -> None:
    limit = Concurrency(TWO)
    assert [limit.take() for _ in range(3)] == [
        Grant(allowed=True, remaining=1, after=0.0),
        Grant(allowed=True, remaining=0, after=1.0),
        Grant(allowed=False, remaining=0, after=1.0),
    ]
    assert not limit.look().allowed
    limit.release()
    assert limit.look() == Grant(allowed=True, remaining=1, after=0.0)
    assert limit.active == 1


def test_to_release_what_was_not_taken_is_our_mistake() -> None:
    with pytest.raises(AssertionError):
        Concurrency(TWO).release()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans())))
def test_keys_do_not_share_and_idle_ones_are_forgotten(steps: list[tuple[str, bool]]) -> None:
    limits, active = KeyedConcurrency(TWO), dict.fromkeys("abc", 0)
    for key, begins in steps:
        if begins:
            allowed = active[key] < 2
            active[key] += allowed
            assert limits.take(key).allowed == allowed
        elif active[key]:
            limits.release(key)
            active[key] -= 1
        assert len(limits) == sum(count > 0 for count in active.values())


def test_each_key_is_told_what_it_has_left() -> None:
    limits = KeyedConcurrency(TWO)
    assert [limits.take("a").remaining, limits.take("a").remaining] == [1, 0]
    assert limits.take("a") == Grant(allowed=False, remaining=0, after=1.0)
    assert limits.take("b").remaining == 1


def test_a_look_at_a_key_begins_nothing() -> None:
    limit = KeyedConcurrency(ConcurrencySpec(1))
    assert limit.look("a").allowed
    limit.take("a")
    assert (limit.look("a").allowed, limit.look("b").allowed, len(limit)) == (False, True, 1)
