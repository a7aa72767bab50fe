"""What may be sent again, why not, and how long to wait before."""

from random import Random

import pytest

from tproxy.resilience.retry import (
    Attempt,
    Failure,
    Outcome,
    RetryOn,
    RetryPolicy,
    Verdict,
    backoff,
    conditions,
    may_retry,
)
from tproxy.resilience.retry_budget import RetryBudget, RetryBudgetSpec

GET = Attempt(number=1, method=b"GET")
POST = Attempt(number=1, method=b"POST")
EVERYTHING = RetryPolicy(retry_on=frozenset(RetryOn))


def asked(words: str, attempts: int = 2) -> RetryPolicy:
    """A policy with a retryOn."""
    retry_on, statuses = conditions(words)
    return RetryPolicy(attempts=attempts, retry_on=retry_on, status_codes=statuses)


def verdict(policy: RetryPolicy, outcome: Outcome, attempt: Attempt = GET) -> Verdict:
    """Decide with all of a budget."""
    return may_retry(policy, outcome, attempt, budget=RetryBudget(RetryBudgetSpec()), now=0.0)


ANSWERS = [
    ("5xx", {500, 501, 502, 503, 504, 599}),
    ("gateway-error", {502, 503, 504}),
    ("retriable-4xx", {409}),
    ("retriable-status-codes,429,418", {429, 418}),
    ("429", {429}),
    ("reset,connect-failure,refused-stream,reset-before-request", set()),
    ("retriable-status-codes", set()),
]
TRIED = {200, 404, 409, 418, 429, 499, 500, 501, 502, 503, 504, 599, 600}


@pytest.mark.parametrize(("words", "retried"), [pytest.param(*row, id=row[0]) for row in ANSWERS])
def test_statuses_meet_the_conditions_that_envoy_documents(words: str, retried: set[int]) -> None:
    policy = asked(words)
    found = {each for each in TRIED if verdict(policy, Outcome(each)) is Verdict.RETRY}
    assert found == retried


@pytest.mark.parametrize(
    ("words", "retried"),
    [
        pytest.param("5xx", "connect-failure reset-before-request refused-stream reset per-try-timeout", id="5xx"),
        pytest.param("gateway-error", "connect-failure reset-before-request refused-stream reset per-try-timeout", id="gateway-error"),
        pytest.param("reset", "connect-failure reset-before-request refused-stream reset per-try-timeout", id="reset"),
        pytest.param("connect-failure", "connect-failure", id="connect-failure"),
        pytest.param("refused-stream", "refused-stream", id="refused-stream"),
        pytest.param("reset-before-request", "connect-failure reset-before-request", id="reset-before-request"),
        pytest.param("retriable-4xx,503,unavailable", "", id="conditions of answers"),
    ],
)  # fmt: skip
def test_failures_meet_the_conditions_that_envoy_documents(words: str, retried: str) -> None:
    policy = asked(words)
    found = [
        each.word for each in Failure if verdict(policy, Outcome(failure=each)) is Verdict.RETRY
    ]
    assert found == retried.split()


@pytest.mark.parametrize(
    ("word", "status"),
    [
        pytest.param("cancelled", 1, id="cancelled"),
        pytest.param("deadline-exceeded", 4, id="deadline exceeded"),
        pytest.param("resource-exhausted", 8, id="resource exhausted"),
        pytest.param("internal", 13, id="internal"),
        pytest.param("unavailable", 14, id="unavailable"),
    ],
)
def test_a_grpc_status_meets_its_word_though_the_call_is_a_post(word: str, status: int) -> None:
    found = [
        code for code in range(17)
        if verdict(asked(word), Outcome(200, grpc_status=code), POST) is Verdict.RETRY
    ]  # fmt: skip
    assert found == [status]
    assert verdict(asked("5xx"), Outcome(200, grpc_status=status)) is Verdict.NOT_COVERED


@pytest.mark.parametrize(
    ("policy", "outcome", "attempt", "expected"),
    [
        pytest.param(RetryPolicy(), Outcome(failure=Failure.CONNECT), POST, Verdict.RETRY, id="by default: not connected"),
        pytest.param(RetryPolicy(), Outcome(failure=Failure.UNSENT), POST, Verdict.RETRY, id="by default: not sent"),
        pytest.param(RetryPolicy(), Outcome(failure=Failure.RESET), GET, Verdict.NOT_COVERED, id="by default no reset"),
        pytest.param(RetryPolicy(), Outcome(503), GET, Verdict.NOT_COVERED, id="by default no answer"),
        pytest.param(EVERYTHING, Outcome(503), POST, Verdict.UNSAFE_METHOD, id="a POST that was answered"),
        pytest.param(EVERYTHING, Outcome(failure=Failure.RESET), POST, Verdict.UNSAFE_METHOD, id="a POST that may have been done"),
        pytest.param(EVERYTHING, Outcome(failure=Failure.PER_TRY_TIMEOUT), POST, Verdict.UNSAFE_METHOD, id="a POST that may be under way"),
        pytest.param(EVERYTHING, Outcome(failure=Failure.REFUSED_STREAM), POST, Verdict.RETRY, id="a POST that was refused unseen"),
        pytest.param(EVERYTHING, Outcome(503), Attempt(1, b"POST", idempotency_key=True), Verdict.RETRY, id="a POST with a key"),
        pytest.param(EVERYTHING, Outcome(503), Attempt(1, b"PATCH"), Verdict.UNSAFE_METHOD, id="PATCH"),
        pytest.param(EVERYTHING, Outcome(503), Attempt(1, b"get"), Verdict.UNSAFE_METHOD, id="methods have a case"),
        *(pytest.param(EVERYTHING, Outcome(503), Attempt(1, method), Verdict.RETRY, id=method.decode())
          for method in (b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE")),
        pytest.param(EVERYTHING, Outcome(503, 14), POST, Verdict.RETRY, id="a gRPC status beside a 503"),
        pytest.param(EVERYTHING, Outcome(503), Attempt(1, b"PUT", replayable=False), Verdict.BODY_TOO_LARGE, id="a body that is gone"),
        pytest.param(EVERYTHING, Outcome(503, pushes_back=True), GET, Verdict.NOT_COVERED, id="overloaded, it says"),
        pytest.param(EVERYTHING, Outcome(failure=Failure.OVERFLOW), GET, Verdict.NOT_COVERED, id="a bound of ours"),
        pytest.param(EVERYTHING, Outcome(200), GET, Verdict.NOT_COVERED, id="a success"),
        pytest.param(EVERYTHING, Outcome(503), Attempt(2, b"GET"), Verdict.RETRY, id="the second of two retries"),
        pytest.param(EVERYTHING, Outcome(503), Attempt(3, b"GET"), Verdict.EXHAUSTED, id="a third"),
        pytest.param(RetryPolicy(attempts=0), Outcome(failure=Failure.CONNECT), GET, Verdict.EXHAUSTED, id="0 disables"),
    ],
)  # fmt: skip
def test_a_verdict_says_why(
    policy: RetryPolicy, outcome: Outcome, attempt: Attempt, expected: Verdict
) -> None:
    assert verdict(policy, outcome, attempt) is expected


def test_only_what_is_sent_again_takes_from_the_budget() -> None:
    budget = RetryBudget(RetryBudgetSpec(min_retries=1))
    for attempt in (POST, Attempt(9, b"GET"), Attempt(1, b"GET", replayable=False)):
        may_retry(EVERYTHING, Outcome(503), attempt, budget=budget, now=0.0)
    verdicts = [may_retry(EVERYTHING, Outcome(503), GET, budget=budget, now=0.0) for _ in range(2)]
    assert verdicts == [Verdict.RETRY, Verdict.BUDGET]


@pytest.mark.parametrize(
    ("words", "unknown"),
    [
        pytest.param("5xx,retriable-headers", "'retriable-headers'", id="a word of Envoy's that is not ours"),
        pytest.param("5XX", "'5XX'", id="words have a case"),
        pytest.param("5xx,,503", "''", id="nothing"),
        pytest.param("600", "'600'", id="no status"),
        pytest.param("5030", "'5030'", id="a long number"),
        pytest.param("\u0665\u0660\u0663", "'\u0665\u0660\u0663'", id="digits that are not ASCII"),
    ],
)  # fmt: skip
def test_unknown_words_are_refused_by_name(words: str, unknown: str) -> None:
    with pytest.raises(ValueError, match=f"retryOn: unknown {unknown}; known are 5xx, gateway"):
        conditions(words)


def test_every_word_is_read_and_spaces_do_not_matter() -> None:
    words = " , ".join(each.word for each in RetryOn)
    assert conditions(words) == (frozenset(RetryOn), frozenset())


@pytest.mark.parametrize(
    ("retry", "most"),
    [
        pytest.param(1, 0.025, id="the first"),
        pytest.param(2, 0.075, id="the second"),
        pytest.param(3, 0.175, id="the third"),
        pytest.param(4, 0.25, id="the fourth meets the cap"),
        pytest.param(5000, 0.25, id="and so do all others"),
    ],
)
def test_a_back_off_is_drawn_evenly_up_to_its_most(retry: int, most: float) -> None:
    random, count = Random(11).random, 10_000
    drawn = [backoff(RetryPolicy(), retry, random) for _ in range(count)]
    assert 0.0 <= min(drawn) < most * 0.01
    assert most * 0.99 < max(drawn) < most
    assert abs(sum(drawn) / count - most / 2) < 5 * most / (12 * count) ** 0.5
