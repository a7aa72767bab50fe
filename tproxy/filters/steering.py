"""Do as the local application asks in Envoy's headers about time-outs and retries, and keep these to ourselves."""

from collections.abc import Awaitable
from dataclasses import replace

from msgspec import structs

from tproxy.model.exchange import Exchange, Handler
from tproxy.model.flow import Direction
from tproxy.model.http import Headers, Request, Response
from tproxy.model.route import Plan
from tproxy.resilience.deadline import parse_milliseconds
from tproxy.resilience.retry import NO_RETRY, RetryOn, RetryPolicy

TIMEOUT = b"x-envoy-upstream-rq-timeout-ms"
PER_TRY_TIMEOUT = b"x-envoy-upstream-rq-per-try-timeout-ms"
MAX_RETRIES = b"x-envoy-max-retries"
RETRY_ON = b"x-envoy-retry-on"
RETRY_GRPC_ON = b"x-envoy-retry-grpc-on"
STATUS_CODES = b"x-envoy-retriable-status-codes"

STEERING = frozenset(
    (
        TIMEOUT,
        PER_TRY_TIMEOUT,
        MAX_RETRIES,
        RETRY_ON,
        RETRY_GRPC_ON,
        STATUS_CODES,
        b"x-envoy-hedge-on-per-try-timeout",
        b"x-envoy-retriable-header-names",
        b"x-envoy-upstream-rq-timeout-alt-response",
    )
)
"""What Envoy takes from requests; the last three ask for what we do not do."""

MOST_RETRIES = 100
"""What an application may ask for: more is a mistake, and each waits up to the back-off's cap."""

_WORDS = {each.word.encode(): each for each in RetryOn}


def steer(forward: Handler, exchange: Exchange, request: Request) -> Awaitable[Response]:
    """Read the headers (deciding); who has a fault injected into what leaves it gets neither time-out nor retry."""
    route = exchange.route
    plan = route.plan
    assert plan is not None
    if exchange.flow.direction is Direction.INBOUND:
        return forward(exchange, request)
    headers = request.head.headers
    if not STEERING.isdisjoint(headers.index):
        plan = structs.replace(
            plan, timeout=_seconds(headers, TIMEOUT, plan.timeout), retry=_retry(plan, headers)
        )
        head = structs.replace(request.head, headers=headers.without(STEERING))
        request = structs.replace(request, head=head)
    if plan.fault is not None:
        # As Istio says of faults on the client's side: what they show would be hidden.
        plan = structs.replace(plan, timeout=0.0, retry=NO_RETRY)
    if plan is not route.plan:
        exchange = structs.replace(exchange, route=structs.replace(route, plan=plan))
    return forward(exchange, request)


def _retry(plan: Plan, headers: Headers) -> RetryPolicy:
    policy = plan.retry
    words = _items(headers, RETRY_ON) + _items(headers, RETRY_GRPC_ON)
    asked = {_WORDS[word] for word in words if word in _WORDS}
    codes = {int(code) for code in _items(headers, STATUS_CODES) if _is_status(code)}
    attempts = policy.attempts or (1 if asked else 0)
    most = headers.get(MAX_RETRIES)
    if attempts and most is not None and most.isdigit() and len(most) < 10:
        attempts = min(int(most), MOST_RETRIES)
    # Where a route retries nothing, its conditions are nobody's wish.
    before = policy.retry_on if policy.attempts else frozenset[RetryOn]()
    return replace(
        policy,
        attempts=attempts,
        per_try_timeout=_seconds(headers, PER_TRY_TIMEOUT, policy.per_try_timeout),
        retry_on=before | asked,
        status_codes=policy.status_codes | codes,
    )


def _seconds(headers: Headers, name: bytes, otherwise: float) -> float:
    """Read a time-out, for which 0 means none."""
    value = headers.get(name)
    if value is None:
        return otherwise
    if value.strip(b"0") == b"":
        return 0.0 if value else otherwise
    return parse_milliseconds(value) or otherwise


def _items(headers: Headers, name: bytes) -> list[bytes]:
    return [each.strip() for each in (headers.get(name) or b"").split(b",")]


def _is_status(code: bytes) -> bool:
    return len(code) == 3 and code.isdigit()
