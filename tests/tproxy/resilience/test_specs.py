"""Run-time state belongs to the value of a spec, so equal specs are one key and cannot change."""

from collections.abc import Callable, Hashable

import pytest

from tproxy.resilience.balance import BalancerSpec, SlowStart
from tproxy.resilience.breaker import BreakerSpec, ConsecutiveFailures, FailureRate, Penalty
from tproxy.resilience.bucket import LeakyBucketSpec, TokenBucketSpec
from tproxy.resilience.concurrency import ConcurrencySpec
from tproxy.resilience.fault import Abort, Delay, FaultSpec
from tproxy.resilience.keyed import KeyedSpec
from tproxy.resilience.outlier import OutlierSpec
from tproxy.resilience.retry import RetryPolicy, conditions
from tproxy.resilience.retry_budget import RetryBudgetSpec
from tproxy.resilience.windows import FixedWindowSpec, SlidingWindowSpec

SPECS: list[Callable[[], Hashable]] = [
    lambda: TokenBucketSpec(100, 1.0, 200),
    lambda: LeakyBucketSpec(20.0, 10),
    lambda: FixedWindowSpec(10, 60.0),
    lambda: SlidingWindowSpec(10, 60.0),
    lambda: ConcurrencySpec(5),
    lambda: KeyedSpec(TokenBucketSpec(100, 1.0, 200)),
    lambda: BreakerSpec(ConsecutiveFailures(3)),
    lambda: BreakerSpec(FailureRate(10.0)),
    lambda: OutlierSpec(consecutive_gateway_errors=3),
    lambda: RetryPolicy(retry_on=conditions("5xx,reset")[0]),
    lambda: RetryBudgetSpec(percent=10.0),
    lambda: BalancerSpec(slow_start=SlowStart(30.0)),
    lambda: FaultSpec("slow", Delay(2.0, 0.1), Abort(503, percent=1.0)),
]


@pytest.mark.parametrize("make", SPECS, ids=lambda make: type(make()).__name__)
def test_equal_specs_are_one_key_and_cannot_change(make: Callable[[], Hashable]) -> None:
    one, other = make(), make()
    assert one is not other
    assert {one: "state"}[other] == "state"
    with pytest.raises(AttributeError):
        setattr(one, type(one).__match_args__[0], None)  # type: ignore[attr-defined]


WRONG = [
    pytest.param(lambda: TokenBucketSpec(0, 1.0, 200), id="no tokens"),
    pytest.param(lambda: TokenBucketSpec(1, 0.0, 200), id="no time between fills"),
    pytest.param(lambda: TokenBucketSpec(1, 1.0, 0), id="no bucket"),
    pytest.param(lambda: LeakyBucketSpec(0.0, 10), id="no rate"),
    pytest.param(lambda: LeakyBucketSpec(1.0, -1), id="less than no queue"),
    pytest.param(lambda: FixedWindowSpec(0, 60.0), id="nothing in a window"),
    pytest.param(lambda: SlidingWindowSpec(10, 0.0), id="no window"),
    pytest.param(lambda: ConcurrencySpec(0), id="nothing at once"),
    pytest.param(lambda: KeyedSpec(FixedWindowSpec(1, 1.0), keys=0), id="no keys"),
    pytest.param(lambda: ConsecutiveFailures(0), id="no failures"),
    pytest.param(lambda: FailureRate(window=0.0), id="no window to rate"),
    pytest.param(lambda: Penalty(min=2.0, max=1.0), id="a penalty above the most"),
    pytest.param(lambda: OutlierSpec(interval=0.0), id="no interval"),
    pytest.param(lambda: RetryBudgetSpec(interval=0.0), id="no interval of a budget"),
    pytest.param(lambda: SlowStart(0.0), id="no time to warm up"),
    pytest.param(lambda: SlowStart(1.0, min_percent=0.0), id="nothing to begin with"),
]


@pytest.mark.parametrize("make", WRONG)
def test_specs_that_mean_nothing_are_our_mistake(make: Callable[[], Hashable]) -> None:
    with pytest.raises(AssertionError):
        make()
