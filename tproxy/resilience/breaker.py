"""Stop asking an upstream that fails, and find out with one request at a time whether it has recovered.

Closed passes requests, open refuses them, half-open passes one, and one more whenever nobody has heard of the last for
long. A verdict counts only in the term in which its request was let through: what was under way when the breaker opened
neither closes it nor opens it again.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tproxy.resilience.fraction import Random
from tproxy.resilience.rolling import Rolling

PROBE_SECONDS = 30.0
"""How long to wait for a probe's verdict before one more request probes: a stream that says nothing may last for days."""


class State(StrEnum):
    """What a breaker does with requests."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Accrual(Protocol):
    """Tells from verdicts whether it is too much. What changes: what it remembers of them."""

    def succeeded(self, now: float) -> None:
        """Take a success."""

    def failed(self, now: float) -> bool:
        """Take a failure, and say whether the breaker has to open."""


@dataclass(frozen=True, slots=True)
class ConsecutiveFailures:
    """So many failures without a success between them: Linkerd's default is 7."""

    max_failures: int = 7

    def __post_init__(self) -> None:
        assert self.max_failures > 0, "a breaker opens on failures"

    def machine(self) -> Accrual:
        """Begin with no failure."""
        return _Row(self)


@dataclass(frozen=True, slots=True)
class FailureRate:
    """So many percent of the requests in a window, once there were enough to tell."""

    percent: float = 50.0
    min_requests: int = 20
    window: float = 10.0

    def __post_init__(self) -> None:
        assert min(self.percent, self.window) > 0, "a rate has a window and is not 0"

    def machine(self) -> Accrual:
        """Begin with no request."""
        return _Rate(self)


@dataclass(frozen=True, slots=True)
class Penalty:
    """How long a breaker stays open: doubled after each probe that fails, and up to `jitter` of it more, never above `max`.

    Linkerd's defaults.
    """

    min: float = 1.0
    max: float = 60.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        assert 0 < self.min <= self.max, "a breaker stays open for a while"

    def after(self, base: float) -> float:
        """Double a penalty."""
        return min(2 * base, self.max)

    def jittered(self, base: float, random: Random) -> float:
        """Keep those that opened together from probing together."""
        return min(base + base * self.jitter * random(), self.max)


@dataclass(frozen=True, slots=True)
class BreakerSpec:
    """When to open, and for how long."""

    accrual: ConsecutiveFailures | FailureRate = ConsecutiveFailures()
    penalty: Penalty = Penalty()


class Breaker:
    """One upstream's. What changes: the state, the penalty, and the term that verdicts belong to."""

    __slots__ = ("_accrual", "_base", "_random", "_spec", "_term", "_until", "state")

    def __init__(self, spec: BreakerSpec, random: Random) -> None:
        self._spec = spec
        self._random = random
        self._accrual = spec.accrual.machine()
        self._term = 0
        self._base = 0.0
        self._until = 0.0
        """Nothing passes before, unless closed: for the penalty, or for as long as a probe may take."""
        self.state = State.CLOSED

    def admit(self, now: float) -> int | None:
        """Let a request through in the term that is returned; None refuses it.

        `succeeded`, `failed` or `abandoned` is owed for every term: without it a probe would be the last one.
        """
        if self.state is State.CLOSED:
            return self._term
        if now < self._until:
            return None
        self._until = now + PROBE_SECONDS
        if self.state is State.OPEN:
            self._enter(State.HALF_OPEN)
        return self._term

    def succeeded(self, term: int, now: float) -> None:
        """Take a success: a probe's closes the breaker."""
        if term != self._term:
            return
        if self.state is State.CLOSED:
            self._accrual.succeeded(now)
            return
        self._enter(State.CLOSED)
        self._accrual = self._spec.accrual.machine()

    def failed(self, term: int, now: float) -> None:
        """Take a failure: a probe's doubles the penalty."""
        if term != self._term:
            return
        if self.state is State.HALF_OPEN:
            self._open(now, self._spec.penalty.after(self._base))
        elif self._accrual.failed(now):
            self._open(now, self._spec.penalty.min)

    def abandoned(self, term: int) -> None:
        """Take it that a request ended without a verdict: another may probe in its place."""
        if term == self._term and self.state is State.HALF_OPEN:
            self._until = 0.0
            self._enter(State.OPEN)

    @property
    def closed(self) -> bool:
        """Whether everything passes."""
        return self.state is State.CLOSED

    def refuses(self, now: float) -> bool:
        """Whether `admit` would let nothing through."""
        return self.state is not State.CLOSED and now < self._until

    def after(self, now: float) -> float:
        """Say in how many seconds a request may be let through; 0 while that depends on a probe."""
        return max(self._until - now, 0.0) if self.state is State.OPEN else 0.0

    def _open(self, now: float, base: float) -> None:
        self._base = base
        self._until = now + self._spec.penalty.jittered(base, self._random)
        self._enter(State.OPEN)

    def _enter(self, state: State) -> None:
        self.state = state
        self._term += 1


class _Row:
    """What changes: the failures since the last success."""

    __slots__ = ("_failures", "_spec")

    def __init__(self, spec: ConsecutiveFailures) -> None:
        self._spec = spec
        self._failures = 0

    def succeeded(self, now: float) -> None:  # noqa: ARG002 - rates need it
        self._failures = 0

    def failed(self, now: float) -> bool:  # noqa: ARG002
        self._failures += 1
        return self._failures >= self._spec.max_failures


class _Rate:
    """What changes: the requests and the failures of the window."""

    __slots__ = ("_failures", "_requests", "_spec")

    def __init__(self, spec: FailureRate) -> None:
        self._spec = spec
        self._requests = Rolling(spec.window)
        self._failures = Rolling(spec.window)

    def succeeded(self, now: float) -> None:
        self._requests.add(now)

    def failed(self, now: float) -> bool:
        self._requests.add(now)
        self._failures.add(now)
        requests = self._requests.total(now)
        failures = self._failures.total(now)
        return requests >= self._spec.min_requests and (
            100 * failures >= self._spec.percent * requests
        )
