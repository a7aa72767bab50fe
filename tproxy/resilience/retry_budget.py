"""Keep retries from making an overload worse: they may only be so much of what is asked anyway."""

from dataclasses import dataclass

from tproxy.resilience.rolling import Rolling


@dataclass(frozen=True, slots=True)
class RetryBudgetSpec:
    """As GEP-3388 has it, with its defaults."""

    percent: float = 20.0
    """Of the requests in the interval, retries not counted."""
    interval: float = 10.0
    min_retries: int = 10
    """Always allowed in each min_interval, so that retries work where there are few requests."""
    min_interval: float = 1.0

    def __post_init__(self) -> None:
        assert min(self.interval, self.min_interval) > 0, "intervals are not 0"


class RetryBudget:
    """One cluster's. What changes: how many requests and retries there were lately."""

    __slots__ = ("_requests", "_retries", "_spec", "_spell")

    def __init__(self, spec: RetryBudgetSpec) -> None:
        self._spec = spec
        self._requests = Rolling(spec.interval)
        self._retries = Rolling(spec.interval)
        self._spell = Rolling(spec.min_interval)

    def requested(self, now: float) -> None:
        """Count a request that is no retry."""
        self._requests.add(now)

    def take(self, now: float) -> bool:
        """Count a retry, if there may be one more."""
        allowed = self._spell.total(now) < self._spec.min_retries or self._in_proportion(now)
        if allowed:
            self._spell.add(now)
            self._retries.add(now)
        return allowed

    def _in_proportion(self, now: float) -> bool:
        retries = self._retries.total(now) + 1
        return 100 * retries <= self._spec.percent * self._requests.total(now)
