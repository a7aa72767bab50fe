"""Counts that workers share are what one worker alone would count, whoever asks, dies or comes back."""

from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.arrivals import TICK, ticks
from fakes.policies import rate_limit, snapshot
from tproxy.model.rate_limit import Counting, LimitSpec
from tproxy.policy.snapshot import Snapshot
from tproxy.resilience.bucket import LeakyBucketSpec, TokenBucketSpec
from tproxy.resilience.concurrency import ConcurrencySpec
from tproxy.resilience.keyed import Overflow
from tproxy.resilience.windows import FixedWindowSpec, SlidingWindowSpec
from tproxy.stores.limits import Ledger, OwnLedger, in_force
from tproxy.stores.policy_store import PolicyStore
from tproxy.stores.shared_limits import PARTITIONS, SharedCounts, SharedLedger

RATES = [
    pytest.param(TokenBucketSpec(2, 1.0, 3), id="token bucket"),
    pytest.param(LeakyBucketSpec(2.0, 2), id="leaky bucket"),
    pytest.param(FixedWindowSpec(3, 1.0), id="fixed window"),
    pytest.param(SlidingWindowSpec(3, 1.0), id="sliding window"),
]
POLICIES = PolicyStore(Snapshot(1))
TWO_A_MINUTE = FixedWindowSpec(2, 60.0)
ONE = ConcurrencySpec(1)
NUMBERS = count()
"""Each example has a limit of its own: the memory is that of one test."""


@pytest.fixture
def counts() -> Iterator[SharedCounts]:
    """The memory of three workers."""
    made = SharedCounts(3)
    yield made
    made.close()


def workers(counts: SharedCounts) -> list[SharedLedger]:
    """The ledgers of all workers, in one process."""
    return [SharedLedger(counts, POLICIES, number) for number in range(counts.workers)]


def taken(ledger: Ledger, counting: Counting, key: str, now: float) -> bool:
    """Take one, and hold it against what a look has said."""
    with ledger.turn():
        looked = ledger.look(counting, (key,), now).allowed
        allowed = ledger.take(counting, (key,), now).grant.allowed
    assert looked is allowed
    return allowed


@pytest.mark.parametrize("spec", RATES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("abcdef"), ticks, st.integers(0, 2)), max_size=40))
def test_together_they_count_as_one_alone_would(
    counts: SharedCounts, spec: LimitSpec, calls: list[tuple[str, int, int]]
) -> None:
    together, alone, now = workers(counts), OwnLedger(POLICIES), 100.0
    counting = Counting(name=f"a{next(NUMBERS)}", spec=spec, key=("source.ip",))
    for key, gap, worker in calls:
        now += gap * TICK
        expected = alone.take(counting, (key,), now)
        with together[worker].turn():
            assert together[worker].look(counting, (key,), now).allowed is expected.grant.allowed
            assert together[worker].take(counting, (key,), now) == expected


def test_what_is_under_way_counts_in_all_workers_and_ends_where_it_began(
    counts: SharedCounts,
) -> None:
    first, second, _ = workers(counts)
    counting = Counting(name="a", spec=ConcurrencySpec(2))
    held = [ledger.take(counting, (), 0.0) for ledger in (first, second)]
    assert [each.grant.remaining for each in held] == [1, 0]
    assert not second.look(counting, (), 0.0).allowed
    refused = second.take(counting, (), 0.0)
    assert (refused.grant.allowed, refused.release) == (False, None)
    assert held[0].release is not None
    held[0].release()
    assert second.look(counting, (), 0.0).remaining == 1


def test_the_keys_of_the_limits_in_force_are_counted(counts: SharedCounts) -> None:
    policies = PolicyStore(
        snapshot(
            rate_limit(
                "{name: a, key: source.ip, algorithm: FIXED_WINDOW, requests: 3, window: 90s},"
                " {name: b, algorithm: CONCURRENCY, requests: 3}"
            )
        )
    )
    first, second = (SharedLedger(counts, policies, number) for number in range(2))
    assert first.keys() == {}
    a, b = in_force(policies)
    for ledger, key in ((first, "x"), (second, "y"), (second, "x")):
        assert taken(ledger, a, key, 0.0)
    release = first.take(b, (), 0.0).release
    assert first.keys() == second.keys() == {"web/p/a": 2, "web/p/b": 1}
    assert release is not None
    release()
    assert second.keys() == {"web/p/a": 2, "web/p/b": 0}


def test_an_end_that_comes_late_is_not_taken_for_another_limits(counts: SharedCounts) -> None:
    first, second, _ = workers(counts)
    old = Counting(name="old", spec=ONE)
    release = first.take(old, (), 0.0).release
    limits = [Counting(name=str(each), spec=ONE) for each in range(PARTITIONS)]
    for now, counting in enumerate(limits, 1):
        assert first.take(counting, (), float(now)).grant.allowed
    assert release is not None
    release()
    assert not any(second.look(each, (), 200.0).allowed for each in limits)


def test_what_a_dead_worker_had_under_way_is_over_when_its_successor_comes(
    counts: SharedCounts,
) -> None:
    first, second, _ = workers(counts)
    counting = Counting(name="a", spec=ConcurrencySpec(2), key=("source.ip",))
    rate = Counting(name="b", spec=TWO_A_MINUTE, key=("source.ip",))
    for ledger in (first, second):
        ledger.take(counting, ("x",), 0.0)
    first.take(counting, ("y",), 0.0)
    first.take(rate, ("x",), 0.0)
    again = SharedLedger(counts, POLICIES, 0)
    assert again.look(counting, ("x",), 0.0).remaining == 1
    assert again.look(counting, ("y",), 0.0).remaining == 2
    assert again.take(rate, ("x",), 1.0).grant.remaining == 0


def test_an_end_that_comes_after_all_was_forgotten_changes_nothing(counts: SharedCounts) -> None:
    first, second, _ = workers(counts)
    counting = Counting(name="a", spec=ONE)
    release = first.take(counting, (), 0.0).release
    assert release is not None
    counts.forget(0)
    assert second.take(counting, (), 0.0).grant.allowed
    release()
    assert not first.look(counting, (), 0.0).allowed


def test_a_stranger_takes_the_place_of_who_was_not_seen_for_longest_and_is_not_limited(
    counts: SharedCounts,
) -> None:
    ledger = workers(counts)[0]
    counting = Counting(name="a", spec=TWO_A_MINUTE, key=("source.ip",), keys=3)
    for now, key in enumerate("aabc"):
        assert taken(ledger, counting, key, float(now))
    assert taken(ledger, counting, "d", 4.0)
    # `a` is limited and stays; `b` was forgotten for `d`, so that it comes as a stranger in `c`'s place.
    assert not taken(ledger, counting, "a", 5.0)
    assert ledger.look(counting, ("b",), 5.0).remaining == 2


def full(counts: SharedCounts, overflow: Overflow) -> tuple[SharedLedger, Counting]:
    """A ledger of two keys, both of them limited, `a` for less long."""
    ledger = workers(counts)[0]
    counting = Counting(name="a", spec=TWO_A_MINUTE, key=("source.ip",), keys=2, overflow=overflow)
    for now, key in enumerate("aabb"):
        assert taken(ledger, counting, key, float(now))
    return ledger, counting


def test_strangers_share_one_count_when_all_are_limited(counts: SharedCounts) -> None:
    ledger, counting = full(counts, Overflow.SHARE)
    assert [taken(ledger, counting, key, 5.0) for key in "cde"] == [True, True, False]
    assert not taken(ledger, counting, "a", 6.0)


def test_who_is_limited_for_the_shortest_time_is_forgotten_where_that_is_wanted(
    counts: SharedCounts,
) -> None:
    ledger, counting = full(counts, Overflow.FORGET)
    assert taken(ledger, counting, "c", 5.0)
    assert not taken(ledger, counting, "b", 5.0)


def test_nothing_that_is_under_way_is_forgotten(counts: SharedCounts) -> None:
    ledger = workers(counts)[0]
    counting = Counting(name="a", spec=ONE, key=("source.ip",), keys=2)
    held = [ledger.take(counting, (key,), 0.0) for key in "abc"]
    assert all(each.grant.allowed for each in held)
    assert not ledger.take(counting, ("d",), 0.0).grant.allowed
    for each in held:
        assert each.release is not None
        each.release()
    assert ledger.take(counting, ("d",), 0.0).grant.allowed


def test_the_limit_that_was_not_used_for_longest_gives_way_to_another(
    counts: SharedCounts,
) -> None:
    first, second, _ = workers(counts)
    limits = [Counting(name=str(each), spec=TWO_A_MINUTE) for each in range(PARTITIONS + 1)]
    for now, counting in enumerate(limits):
        assert first.take(counting, (), float(now)).grant.remaining == 1
    assert second.look(limits[1], (), 200.0).remaining == 2
    assert second.look(limits[-1], (), 130.0).remaining == 1
    assert first.look(limits[0], (), 201.0).remaining == 2
