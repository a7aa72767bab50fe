"""Run-time state belongs to the value of a spec, so equal specs are one key and cannot change."""

from collections.abc import Callable, Hashable
from dataclasses import FrozenInstanceError, fields

import pytest

from tproxy.resilience.balance import BalancerSpec, SlowStart
from tproxy.resilience.breaker import BreakerSpec, ConsecutiveFailures, FailureRate
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
    with pytest.raises(FrozenInstanceError):
        setattr(one, fields(one)[0].name, None)  # type: ignore[arg-type]
