"""A breaker opens on what its accrual says, probes with one request, and doubles its penalty."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tproxy.resilience.breaker import (
    PROBE_SECONDS,
    Breaker,
    BreakerSpec,
    ConsecutiveFailures,
    FailureRate,
    Penalty,
    State,
)

STEADY = BreakerSpec(ConsecutiveFailures(3), Penalty(min=1.0, max=60.0, jitter=0.0))


def no_jitter() -> float:
    """Draw the least that there is."""
    return 0.0


def breaker(spec: BreakerSpec = STEADY) -> Breaker:
    """A closed breaker without jitter."""
    return Breaker(spec, no_jitter)


def state(broken: Breaker) -> State:
    """Look again: type checkers take it that a state stays what it was."""
    return broken.state


def fail(broken: Breaker, now: float, times: int = 1) -> None:
    """Let requests through that fail."""
    for _ in range(times):
        term = broken.admit(now)
        assert term is not None
        broken.failed(term, now)


def succeed(whole: Breaker, now: float) -> None:
    """Let a request through that succeeds."""
    term = whole.admit(now)
    assert term is not None
    whole.succeeded(term, now)


def test_it_opens_at_the_last_of_its_failures_in_a_row() -> None:
    broken = breaker()
    fail(broken, 0.0, times=2)
    succeed(broken, 0.0)
    fail(broken, 0.0, times=2)
    assert (state(broken), broken.after(0.0)) == (State.CLOSED, 0.0)
    fail(broken, 0.0)
    assert (state(broken), broken.after(0.25)) == (State.OPEN, 0.75)
    assert broken.admit(0.999) is None


def test_linkerds_default_is_seven() -> None:
    broken = breaker(BreakerSpec())
    fail(broken, 0.0, times=6)
    assert state(broken) is State.CLOSED
    fail(broken, 0.0)
    assert state(broken) is State.OPEN


def test_after_the_penalty_exactly_one_request_probes() -> None:
    broken = breaker()
    fail(broken, 0.0, times=3)
    assert [broken.admit(1.0) is not None for _ in range(5)] == [True, False, False, False, False]
    assert (state(broken), broken.after(1.0)) == (State.HALF_OPEN, 0.0)


def test_each_probe_that_fails_doubles_the_wait_up_to_the_most() -> None:
    broken, now, waits = breaker(), 0.0, []
    fail(broken, now, times=3)
    for _ in range(8):
        waits.append(broken.after(now))
        now += waits[-1]
        fail(broken, now)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_a_probe_that_succeeds_closes_it_and_the_penalty_begins_anew() -> None:
    broken = breaker()
    fail(broken, 0.0, times=3)
    fail(broken, 1.0)
    succeed(broken, 3.0)
    assert state(broken) is State.CLOSED
    fail(broken, 4.0, times=2)
    assert state(broken) is State.CLOSED, "failures from before it opened are forgotten"
    fail(broken, 4.0)
    assert broken.after(4.0) == 1.0


@pytest.mark.parametrize("verdict", ["succeeded", "failed"])
def test_what_was_under_way_when_it_opened_changes_nothing(verdict: str) -> None:
    broken = breaker()
    straggler = broken.admit(0.0)
    assert straggler is not None
    fail(broken, 0.0, times=3)
    getattr(broken, verdict)(straggler, 0.5)
    assert (state(broken), broken.after(0.5)) == (State.OPEN, 0.5)
    probe = broken.admit(1.0)
    getattr(broken, verdict)(straggler, 1.0)
    assert state(broken) is State.HALF_OPEN
    assert probe is not None
    broken.succeeded(probe, 1.0)
    getattr(broken, verdict)(straggler, 1.0)
    fail(broken, 1.0, times=2)
    assert state(broken) is State.CLOSED


def test_a_probe_without_a_verdict_gives_its_place_to_another() -> None:
    broken = breaker()
    closed = broken.admit(0.0)
    assert closed is not None
    broken.abandoned(closed)
    assert state(broken) is State.CLOSED
    fail(broken, 0.0, times=3)
    first = broken.admit(1.0)
    assert first is not None
    broken.abandoned(first)
    second = broken.admit(1.0)
    assert second is not None
    assert broken.admit(1.0) is None
    broken.failed(first, 1.0)
    broken.abandoned(first)
    assert state(broken) is State.HALF_OPEN, "the first speaks for nobody any more"
    broken.succeeded(second, 1.0)
    assert state(broken) is State.CLOSED


@pytest.mark.parametrize("speaks", [pytest.param(0, id="first"), pytest.param(1, id="second")])
def test_a_probe_of_which_nobody_hears_does_not_keep_others_from_probing(speaks: int) -> None:
    broken = breaker()
    fail(broken, 0.0, times=3)
    first = broken.admit(1.0)
    late = 1.0 + PROBE_SECONDS
    assert (broken.refuses(late - 0.1), broken.admit(late - 0.1)) == (True, None)
    assert not broken.refuses(late)
    second = broken.admit(late)
    assert broken.admit(late) is None
    term = (first, second)[speaks]
    assert term is not None
    broken.succeeded(term, late)
    assert state(broken) is State.CLOSED


def test_a_penalty_is_up_to_half_longer_evenly_and_never_above_the_most() -> None:
    penalty, random = Penalty(min=1.0, max=60.0, jitter=0.5), Random(7).random
    drawn = [penalty.jittered(10.0, random) for _ in range(10_000)]
    assert 10.0 <= min(drawn) < 10.05
    assert 14.95 < max(drawn) < 15.0
    assert abs(sum(drawn) / len(drawn) - 12.5) < 5 * 5 / (12 * len(drawn)) ** 0.5
    assert all(penalty.jittered(50.0, random) <= 60.0 for _ in range(1000))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["admit", "succeeded", "failed", "abandoned"]), st.integers(0, 3)
        ),
        max_size=19,  # no longer than a probe may take
    )
)
def test_there_is_never_more_than_one_probe_and_never_none_for_ever(
    steps: list[tuple[str, int]],
) -> None:
    broken, now = breaker(), 0.0
    under_way: list[tuple[int, State]] = []
    for step, gap in steps:
        now += gap / 2
        if step == "admit":
            term = broken.admit(now)
            under_way += [(term, broken.state)] if term is not None else []
        elif under_way:
            term, _ = under_way.pop(gap % len(under_way))
            broken.abandoned(term) if step == "abandoned" else getattr(broken, step)(term, now)
        probes = [each for _, each in under_way if each is State.HALF_OPEN]
        assert len(probes) == (state(broken) is State.HALF_OPEN)
    for term, _ in under_way:
        broken.abandoned(term)
    assert broken.admit(now + 60.0) is not None


RATE = FailureRate(percent=50.0, min_requests=4, window=10.0)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        pytest.param("fff", State.CLOSED, id="too few to tell"),
        pytest.param("ffff", State.OPEN, id="all"),
        pytest.param("sssf", State.CLOSED, id="a quarter"),
        pytest.param("ssff", State.OPEN, id="half, which is the percentage"),
        pytest.param("sssfff", State.OPEN, id="half of more"),
        pytest.param("ffss", State.CLOSED, id="half, told by a success"),
    ],
)
def test_a_failure_rate_needs_enough_requests(verdicts: str, expected: State) -> None:
    broken = breaker(BreakerSpec(RATE))
    for verdict in verdicts:
        fail(broken, 1.0) if verdict == "f" else succeed(broken, 1.0)
    assert state(broken) is expected


def test_a_failure_rate_is_that_of_its_window() -> None:
    broken = breaker(BreakerSpec(RATE))
    fail(broken, 0.0, times=3)
    fail(broken, 10.0, times=3)
    assert state(broken) is State.CLOSED
    fail(broken, 10.0)
    assert state(broken) is State.OPEN
    succeed(broken, 11.0)
    fail(broken, 11.0, times=3)
    assert state(broken) is State.CLOSED, "the window is empty after a probe"


def test_a_breaker_says_whether_it_would_let_anything_through() -> None:
    breaker = Breaker(BreakerSpec(ConsecutiveFailures(1), Penalty(jitter=0)), lambda: 0.0)
    assert (breaker.closed, breaker.refuses(0.0)) == (True, False)
    breaker.failed(breaker.admit(0.0) or 0, 0.0)
    assert (breaker.closed, breaker.refuses(0.5), breaker.refuses(1.0)) == (False, True, False)
    assert breaker.admit(1.0) is not None
    assert breaker.refuses(1.0)
