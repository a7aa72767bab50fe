"""Buckets let through what a brute-force model does, and say truly when the next one may come."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.arrivals import TICK, arrivals
from tproxy.resilience.bucket import LeakyBucketSpec, TokenBucketSpec
from tproxy.resilience.grant import Grant, RateSpec

HUNDRED = TokenBucketSpec(tokens_per_fill=100, fill_interval=1.0, max_tokens=200)


class ModelTokens:
    """A bucket that lives through every tick."""

    def __init__(self, per_fill: int, interval: int, most: int) -> None:
        self.per_fill, self.interval, self.most = per_fill, interval, most
        self.tokens, self.tick = most, 0

    def take(self, tick: int) -> bool:
        """Fill until `tick`, and take one if there is one."""
        while self.tick < tick:
            self.tick += 1
            if self.tick % self.interval == 0:
                self.tokens = min(self.most, self.tokens + self.per_fill)
        allowed = self.tokens > 0
        self.tokens -= allowed
        return allowed


@given(arrivals, st.integers(1, 4), st.integers(1, 100), st.integers(1, 6))
def test_a_token_bucket_is_what_a_walk_through_every_tick_finds(
    ticks: list[int], per_fill: int, interval: int, most: int
) -> None:
    model = ModelTokens(per_fill, interval, most)
    machine = TokenBucketSpec(per_fill, interval * TICK, most).machine(0.0)
    for tick in ticks:
        seen, grant = machine.look(tick * TICK), machine.take(tick * TICK)
        assert seen.allowed == grant.allowed == model.take(tick)
        assert grant.remaining == model.tokens


SPECS = st.one_of(
    st.builds(TokenBucketSpec, st.integers(1, 4), st.sampled_from([0.25, 1.0, 3.0]), st.integers(1, 6)),
    st.builds(LeakyBucketSpec, st.sampled_from([0.5, 1.0, 4.0, 16.0]), st.integers(0, 5)),
)  # fmt: skip


@given(SPECS, arrivals)
def test_one_more_is_let_through_exactly_when_a_bucket_said(
    spec: RateSpec, ticks: list[int]
) -> None:
    machine = spec.machine(0.0)
    for tick in ticks:
        grant = machine.take(tick * TICK)
        assert (grant.remaining > 0) == (grant.after == 0.0)
    refused = machine.look(ticks[-1] * TICK if ticks else 0.0)
    moment = (ticks[-1] if ticks else 0) * TICK + refused.after
    if refused.after:
        assert not machine.look(moment - TICK / 2).allowed
    assert machine.look(moment).allowed


def test_a_burst_is_as_large_as_the_bucket_and_a_second_gives_what_a_fill_holds() -> None:
    machine = HUNDRED.machine(50.0)
    assert sum(machine.take(50.0).allowed for _ in range(300)) == 200
    assert machine.take(50.75) == Grant(allowed=False, remaining=0, after=0.25)
    assert sum(machine.take(51.0).allowed for _ in range(300)) == 100


def test_each_fill_adds_to_what_is_left() -> None:
    machine = TokenBucketSpec(tokens_per_fill=2, fill_interval=3.0, max_tokens=10).machine(1.0)
    for _ in range(10):
        machine.take(1.0)
    found = [(at, machine.take(at).remaining) for at in (4.0, 10.0, 12.75, 13.0)]
    assert found == [(4.0, 1), (10.0, 4), (12.75, 3), (13.0, 4)]
    assert [machine.take(13.0).after for _ in range(4)] == [0.0, 0.0, 0.0, 3.0]
    assert machine.look(15.0) == Grant(allowed=False, remaining=0, after=1.0)
    assert machine.look(1000.0).remaining == 10


def test_fills_do_not_drift_with_an_interval_that_floats_cannot_hold() -> None:
    machine = TokenBucketSpec(tokens_per_fill=1, fill_interval=0.1, max_tokens=1).machine(0.0)
    allowed = sum(machine.take(at * 0.05).allowed for at in range(20_000))
    assert abs(allowed - 10_000) <= 1


@given(arrivals, st.sampled_from([1, 2, 4, 16, 64]), st.integers(0, 6))
def test_a_leaky_bucket_gives_the_turns_that_a_list_of_turns_finds(
    ticks: list[int], interval: int, queue: int
) -> None:
    machine = LeakyBucketSpec(64 / interval, queue).machine(0.0)
    turns: list[int] = []
    for tick in ticks:
        turn = max(tick, turns[-1] + interval) if turns else tick
        allowed = turn == tick or sum(each > tick for each in turns) < queue
        seen, grant = machine.look(tick * TICK), machine.take(tick * TICK)
        assert seen.allowed == grant.allowed == allowed
        assert seen.delay == grant.delay == ((turn - tick) * TICK if allowed else 0.0)
        turns += [turn] * allowed


@given(arrivals, st.floats(0.1, 50.0), st.integers(0, 20))
def test_what_leaves_a_leaky_bucket_is_never_closer_than_its_rate(
    ticks: list[int], rate: float, queue: int
) -> None:
    machine = LeakyBucketSpec(rate, queue).machine(0.0)
    grants = [(tick * TICK, machine.take(tick * TICK)) for tick in ticks]
    turns = [at + grant.delay for at, grant in grants if grant.allowed]
    assert all(later - earlier > 1 / rate - 1e-9 for earlier, later in pairwise(turns))
    assert max((grant.delay for _, grant in grants), default=0.0) <= queue / rate + 1e-9


@pytest.mark.parametrize(
    ("queue", "expected"),
    [
        pytest.param(0, [0.0, None, None, None], id="no queue: only who comes alone"),
        pytest.param(2, [0.0, 0.05, 0.1, None], id="two wait, a third does not"),
        pytest.param(10, [0.0, 0.05, 0.1, 0.15], id="all wait in turn"),
    ],
)
def test_a_burst_is_put_in_a_row(queue: int, expected: list[float | None]) -> None:
    machine = LeakyBucketSpec(rate=20.0, queue=queue).machine(7.0)
    grants = [machine.take(7.0) for _ in expected]
    delays = [round(each.delay, 9) if each.allowed else None for each in grants]
    assert delays == expected


def test_a_full_queue_takes_one_more_at_the_next_turn() -> None:
    machine = LeakyBucketSpec(rate=4.0, queue=2).machine(0.0)
    grants = [machine.take(0.0) for _ in range(4)]
    assert [each.remaining for each in grants] == [2, 1, 0, 0]
    assert [each.after for each in grants] == [0.0, 0.0, 0.25, 0.25]
