"""Retries are a share of requests, and always so many in a second."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.arrivals import TICK
from tproxy.resilience.retry_budget import RetryBudget, RetryBudgetSpec


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        pytest.param(0, 10, id="none asked: the least"),
        pytest.param(50, 10, id="50 asked: a fifth is the least"),
        pytest.param(100, 20, id="100 asked: a fifth"),
        pytest.param(1000, 200, id="1000 asked: a fifth"),
    ],
)
def test_a_fifth_of_the_requests_may_be_retried_and_at_least_ten_in_a_second(
    requests: int, expected: int
) -> None:
    budget = RetryBudget(RetryBudgetSpec())
    for _ in range(requests):
        budget.requested(5.0)
    assert sum(budget.take(5.0) for _ in range(500)) == expected


def test_ten_more_may_be_retried_each_second() -> None:
    budget = RetryBudget(RetryBudgetSpec())
    allowed = [sum(budget.take(second) for _ in range(50)) for second in (0.0, 1.0, 2.0)]
    assert allowed == [10, 10, 10]


def test_requests_count_for_an_interval() -> None:
    budget = RetryBudget(RetryBudgetSpec(min_retries=0))
    for _ in range(100):
        budget.requested(0.0)
    assert sum(budget.take(8.0) for _ in range(50)) == 20
    assert not budget.take(10.0)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 64)), max_size=200))
def test_a_list_of_timestamps_allows_alike(steps: list[tuple[bool, int]]) -> None:
    spec = RetryBudgetSpec(percent=25.0, interval=10.0, min_retries=2, min_interval=1.25)
    budget, tick = RetryBudget(spec), 0
    requests, retries = list[int](), list[int]()
    for is_retry, gap in steps:
        tick += gap
        if not is_retry:
            budget.requested(tick * TICK)
            requests.append(tick)
            continue
        parts, second = tick // 64, tick // 8
        lately = sum(parts - each // 64 < 10 for each in requests)
        retried = sum(parts - each // 64 < 10 for each in retries)
        at_once = sum(second - each // 8 < 10 for each in retries)
        allowed = at_once < 2 or retried + 1 <= lately / 4
        retries += [tick] * allowed
        assert budget.take(tick * TICK) is allowed
