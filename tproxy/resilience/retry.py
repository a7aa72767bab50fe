"""Decide whether a request may be sent again, and when; conditions are Envoy's `x-envoy-retry-on` words."""

import re
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import lru_cache
from typing import Protocol

import msgspec

from tproxy.resilience.fraction import Random

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
"""Methods that do once what they do twice: a proxy must not repeat others by itself (RFC 9110, 9.2.2)."""

_STATUS = re.compile(r"[1-5][0-9]{2}")

_DOUBLINGS = 30
"""Of a back-off: any base has met its cap by then."""


class RetryOn(Enum):
    """A condition: its word, the statuses that meet it, and the gRPC status that does."""

    SERVER_ERROR = ("5xx", range(500, 600), None)
    GATEWAY_ERROR = ("gateway-error", range(502, 505), None)
    RESET = ("reset", range(0), None)
    CONNECT_FAILURE = ("connect-failure", range(0), None)
    REFUSED_STREAM = ("refused-stream", range(0), None)
    RESET_BEFORE_REQUEST = ("reset-before-request", range(0), None)
    RETRIABLE_4XX = ("retriable-4xx", range(409, 410), None)
    """409 alone, as in Envoy."""
    RETRIABLE_STATUS_CODES = ("retriable-status-codes", range(0), None)
    """Those that the policy lists."""
    CANCELLED = ("cancelled", range(0), 1)
    DEADLINE_EXCEEDED = ("deadline-exceeded", range(0), 4)
    RESOURCE_EXHAUSTED = ("resource-exhausted", range(0), 8)
    INTERNAL = ("internal", range(0), 13)
    UNAVAILABLE = ("unavailable", range(0), 14)

    def __init__(self, word: str, statuses: range, grpc_status: int | None) -> None:
        self.word = word
        self.statuses = statuses
        self.grpc_status = grpc_status


_NO_ANSWER = frozenset((RetryOn.SERVER_ERROR, RetryOn.GATEWAY_ERROR, RetryOn.RESET))


class Failure(Enum):
    """Why there was no answer: a word, the conditions that it meets, and whether the upstream surely did nothing."""

    CONNECT = (
        "connect-failure",
        _NO_ANSWER | {RetryOn.CONNECT_FAILURE, RetryOn.RESET_BEFORE_REQUEST},
        True,
    )
    UNSENT = ("reset-before-request", _NO_ANSWER | {RetryOn.RESET_BEFORE_REQUEST}, True)
    """The connection ended before any of the request was sent."""
    REFUSED_STREAM = ("refused-stream", _NO_ANSWER | {RetryOn.REFUSED_STREAM}, True)
    RESET = ("reset", _NO_ANSWER, False)
    PER_TRY_TIMEOUT = ("per-try-timeout", _NO_ANSWER, False)
    OVERFLOW = ("overflow", frozenset[RetryOn](), True)
    """A bound of ours: to send it again would go past it again."""

    def __init__(self, word: str, meets: frozenset[RetryOn], unprocessed: bool) -> None:  # noqa: FBT001 - a column
        self.word = word
        self.meets = meets
        self.unprocessed = unprocessed


class Outcome(msgspec.Struct, frozen=True):
    """What an attempt came to."""

    status: int = 0
    grpc_status: int | None = None
    """As the response's head has it: one in trailers comes too late."""
    failure: Failure | None = None
    """Why there is no answer."""
    pushes_back: bool = False
    """Whether the answer says `x-envoy-overloaded` or `x-envoy-ratelimited`: more would make it worse."""


class Attempt(msgspec.Struct, frozen=True):
    """What was sent, and how often."""

    number: int
    """1 for the first."""
    method: bytes
    idempotency_key: bool = False
    """Whether the request has an Idempotency-Key, so that its upstream does it once."""
    replayable: bool = True
    """Whether all of its body is at hand."""


class Budget(Protocol):
    """What bounds retries."""

    def take(self, now: float) -> bool:
        """Count a retry, if there may be one more."""


class Verdict(StrEnum):
    """Whether to send again, and why not: the `result` of retries in metrics."""

    RETRY = "done"
    NOT_COVERED = "not_covered"
    """No condition of the policy's is met."""
    EXHAUSTED = "exhausted"
    """All attempts were made: URX."""
    UNSAFE_METHOD = "unsafe_method"
    BODY_TOO_LARGE = "body_too_large"
    BUDGET = "budget"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A route's retries. The default repeats only what no upstream has seen: more has to be asked for."""

    attempts: int = 2
    """Beyond the first; 0 disables."""
    per_try_timeout: float = 0.0
    """0 is no bound but the route's."""
    retry_on: frozenset[RetryOn] = frozenset(
        (RetryOn.CONNECT_FAILURE, RetryOn.RESET_BEFORE_REQUEST)
    )
    status_codes: frozenset[int] = frozenset()
    """What RETRIABLE_STATUS_CODES means."""
    base: float = 0.025
    """Of the back-off: Envoy's 25 ms."""
    cap: float = 0.25
    """Of the back-off: Envoy's ten times the base."""

    def covers(self, outcome: Outcome) -> bool:
        """Whether an outcome meets a condition."""
        if outcome.pushes_back:
            return False
        if outcome.failure is not None:
            return not self.retry_on.isdisjoint(outcome.failure.meets)
        listed = _statuses(self.retry_on, self.status_codes)
        return outcome.status in listed or self.names_grpc_status(outcome)

    def names_grpc_status(self, outcome: Outcome) -> bool:
        """Whether an outcome meets a condition of gRPC's."""
        status = outcome.grpc_status
        return status is not None and any(status == each.grpc_status for each in self.retry_on)


@lru_cache(maxsize=1024)
def _statuses(retry_on: frozenset[RetryOn], status_codes: frozenset[int]) -> frozenset[int]:
    """List all statuses that conditions mean: every answer is held against them."""
    listed = status_codes if RetryOn.RETRIABLE_STATUS_CODES in retry_on else frozenset[int]()
    return listed.union(*(each.statuses for each in retry_on))


NO_RETRY = RetryPolicy(attempts=0)


def conditions(words: str) -> tuple[frozenset[RetryOn], frozenset[int]]:
    """Read a retryOn: words, and statuses as Istio allows them, separated by commas."""
    known = {each.word: each for each in RetryOn}
    met, statuses = set(), set()
    for word in (each.strip() for each in words.split(",")):
        if word in known:
            met.add(known[word])
        elif _STATUS.fullmatch(word):
            statuses.add(int(word))
            met.add(RetryOn.RETRIABLE_STATUS_CODES)
        else:
            raise ValueError(
                f"retryOn: unknown {word!r}; known are {', '.join(known)} and statuses"
            )
    return frozenset(met), frozenset(statuses)


def may_retry(
    policy: RetryPolicy, outcome: Outcome, attempt: Attempt, *, budget: Budget, now: float
) -> Verdict:
    """Decide whether to send again; only a RETRY takes from the budget."""
    if not policy.covers(outcome):
        return Verdict.NOT_COVERED
    if attempt.number > policy.attempts:
        return Verdict.EXHAUSTED
    if not _may_repeat(policy, outcome, attempt):
        return Verdict.UNSAFE_METHOD
    if not attempt.replayable:
        return Verdict.BODY_TOO_LARGE
    return Verdict.RETRY if budget.take(now) else Verdict.BUDGET


def backoff(policy: RetryPolicy, retry: int, random: Random) -> float:
    """Draw how long to wait before a retry, 1 being the first: up to (2^N - 1) times the base, and to the cap."""
    return min(((1 << min(retry, _DOUBLINGS)) - 1) * policy.base, policy.cap) * random()


def _may_repeat(policy: RetryPolicy, outcome: Outcome, attempt: Attempt) -> bool:
    """Whether twice is as good as once: every gRPC call is a POST, so who names a gRPC status answers for it."""
    unprocessed = outcome.failure is not None and outcome.failure.unprocessed
    known = attempt.method in IDEMPOTENT or attempt.idempotency_key
    return unprocessed or known or policy.names_grpc_status(outcome)
