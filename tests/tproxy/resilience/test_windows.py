"""Windows let through what a list of timestamps says, and a sliding one keeps the bound that it states."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.arrivals import TICK, arrivals
from tproxy.resilience.grant import Grant
from tproxy.resilience.windows import FixedWindowSpec, SlidingWindowSpec


@given(arrivals, st.integers(1, 5), st.integers(1, 150))
def test_a_fixed_window_is_what_a_list_of_timestamps_finds(
    ticks: list[int], requests: int, window: int
) -> None:
    machine = FixedWindowSpec(requests, window * TICK).machine(0.0)
    inside: list[int] = []
    for tick in ticks:
        if inside and tick - inside[0] >= window:
            inside = []
        allowed = len(inside) < requests
        inside += [tick] * allowed
        seen, grant = machine.look(tick * TICK), machine.take(tick * TICK)
        full = len(inside) == requests
        after = (inside[0] + window - tick) * TICK if full else 0.0
        assert seen.allowed == allowed
        assert grant == Grant(allowed, requests - len(inside), after)


def test_twice_as_many_may_come_around_the_end_of_a_fixed_window() -> None:
    machine = FixedWindowSpec(requests=10, window=60.0).machine(0.0)
    machine.take(0.0)
    assert sum(machine.take(59.0).allowed for _ in range(20)) == 9
    assert sum(machine.take(60.0).allowed for _ in range(20)) == 10


@given(arrivals, st.integers(1, 6), st.sampled_from([16, 64, 128]))
def test_a_sliding_window_is_what_its_two_counters_estimate(
    ticks: list[int], requests: int, window: int
) -> None:
    machine = SlidingWindowSpec(requests, window * TICK).machine(0.0)
    allowed: list[int] = []
    for tick in ticks:
        part, inside = divmod(tick, window)
        before = sum(each // window == part - 1 for each in allowed)
        count = sum(each // window == part for each in allowed)
        expected = before * (1 - inside / window) + count + 1 <= requests
        seen, grant = machine.look(tick * TICK), machine.take(tick * TICK)
        assert seen.allowed == grant.allowed == expected
        allowed += [tick] * expected


@given(arrivals, st.integers(1, 6), st.sampled_from([16, 64, 128]))
def test_a_sliding_window_errs_by_no_more_than_it_states(
    ticks: list[int], requests: int, window: int
) -> None:
    machine = SlidingWindowSpec(requests, window * TICK).machine(0.0)
    allowed = [tick for tick in ticks if machine.take(tick * TICK).allowed]
    for end in allowed:
        part, inside = divmod(end, window)
        before = sum(each // window == part - 1 for each in allowed)
        true = sum(end - window < each <= end for each in allowed)
        assert true <= requests + before * inside / window
        assert true < 2 * requests or requests == true == 1


@given(arrivals, st.integers(1, 6), st.sampled_from([1.0, 2.0, 7.5]))
def test_one_more_is_let_through_when_a_sliding_window_said(
    ticks: list[int], requests: int, window: float
) -> None:
    machine = SlidingWindowSpec(requests, window).machine(0.0)
    now, after = 0.0, 0.0
    for tick in ticks:
        now = tick * TICK
        grant = machine.take(now)
        after = grant.after
        assert (grant.remaining > 0) == (after == 0.0)
    if after > TICK:
        assert not machine.look(now + after - TICK / 2).allowed
    assert machine.look(now + after + 1e-9).allowed


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        pytest.param(5, 50, id="half of it: all"),
        pytest.param(10, 100, id="just as much: all"),
        pytest.param(40, 100, id="four times: what is allowed"),
    ],
)
def test_an_even_rate_gets_what_a_sliding_window_allows(rate: int, expected: int) -> None:
    machine = SlidingWindowSpec(requests=10, window=1.0).machine(0.0)
    allowed = sum(machine.take(number / rate).allowed for number in range(10 * rate))
    assert abs(allowed - expected) <= 10


def test_cloudflares_own_example() -> None:
    """42 requests in the last minute, a quarter of this one gone, 18 in it: an estimate of 49.5."""
    machine = SlidingWindowSpec(requests=50, window=60.0).machine(0.0)
    assert all(machine.take(30.0).allowed for _ in range(42))
    assert all(machine.take(75.0).allowed for _ in range(18))
    refused = machine.look(75.0)
    assert (refused.allowed, refused.remaining) == (False, 0)
    assert refused.after == pytest.approx(60 * 0.5 / 42)


def test_after_two_silent_windows_nothing_counts() -> None:
    machine = SlidingWindowSpec(requests=2, window=1.0).machine(0.0)
    assert [machine.take(0.5).allowed for _ in range(3)] == [True, True, False]
    assert machine.look(2.0) == Grant(allowed=True, remaining=2, after=0.0)
