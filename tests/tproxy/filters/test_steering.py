"""What the application may ask for in Envoy's headers, and what comes of it."""

import pytest

from tproxy.filters.steering import MOST_RETRIES, NO_RETRY, STEERING, steer
from tproxy.model.address import Address
from tproxy.model.exchange import Exchange
from tproxy.model.flow import Direction, Flow
from tproxy.model.http import (
    Content,
    Headers,
    HttpVersion,
    Request,
    RequestHead,
    Response,
    ResponseHead,
)
from tproxy.model.route import Plan, Route
from tproxy.resilience.fault import FaultSpec
from tproxy.resilience.retry import RetryOn, RetryPolicy

HERE = Address("192.0.2.1", 80)
POLICY = RetryPolicy(attempts=2, retry_on=frozenset({RetryOn.RESET}), per_try_timeout=1.0)


async def steered(
    plan: Plan, *fields: tuple[bytes, bytes], direction: Direction = Direction.OUTBOUND
) -> tuple[Plan, Headers]:
    """Give the plan and the fields that are left after `fields` were read."""
    seen: list[tuple[Plan | None, Headers]] = []

    async def forward(exchange: Exchange, request: Request) -> Response:
        seen.append((exchange.route.plan, request.head.headers))
        return Response(ResponseHead(200, Headers(), HttpVersion.HTTP11), Content())

    head = RequestHead(b"GET", b"http", b"shop", b"/", Headers(fields), HttpVersion.HTTP11)
    exchange = Exchange(Flow(direction, HERE, HERE, HERE), Route("r", "c", plan=plan))
    await steer(forward, exchange, Request(head, Content()))
    ((left, headers),) = seen
    assert left is not None
    return left, headers


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param(b"1500", 1.5, id="milliseconds"),
        pytest.param(b"0", 0.0, id="0 is none"),
        pytest.param(b"000", 0.0, id="so is 000"),
        pytest.param(b"", 9.0, id="empty"),
        pytest.param(b"soon", 9.0, id="malformed"),
        pytest.param(b"-1", 9.0, id="negative"),
    ],
)
async def test_a_time_out_is_replaced_by_one_that_can_be_read(value: bytes, seconds: float) -> None:
    plan, _ = await steered(Plan(timeout=9.0), (b"x-envoy-upstream-rq-timeout-ms", value))
    assert plan.timeout == seconds


async def test_per_try_time_outs_are_read_too() -> None:
    asked = (b"X-Envoy-Upstream-Rq-Per-Try-Timeout-Ms", b"250")
    plan, _ = await steered(Plan(retry=POLICY), asked)
    assert plan.retry.per_try_timeout == 0.25


@pytest.mark.parametrize(
    ("policy", "fields", "attempts", "words"),
    [
        pytest.param(
            POLICY,
            {b"retry-on": b"5xx, nonsense"},
            2,
            {RetryOn.RESET, RetryOn.SERVER_ERROR},
            id="more",
        ),
        pytest.param(
            POLICY,
            {b"retry-grpc-on": b"cancelled"},
            2,
            {RetryOn.RESET, RetryOn.CANCELLED},
            id="gRPC",
        ),
        pytest.param(NO_RETRY, {b"retry-on": b"5xx"}, 1, {RetryOn.SERVER_ERROR}, id="from none"),
        pytest.param(NO_RETRY, {b"max-retries": b"3"}, 0, set(), id="for nothing"),
        pytest.param(POLICY, {b"max-retries": b"5"}, 5, {RetryOn.RESET}, id="how many"),
        pytest.param(POLICY, {b"max-retries": b"0"}, 0, {RetryOn.RESET}, id="none at all"),
        pytest.param(POLICY, {b"max-retries": b"many"}, 2, {RetryOn.RESET}, id="malformed"),
        pytest.param(
            POLICY, {b"max-retries": b"999999"}, MOST_RETRIES, {RetryOn.RESET}, id="too many"
        ),
    ],
)
async def test_retries_are_added_to_what_the_route_says(
    policy: RetryPolicy, fields: dict[bytes, bytes], attempts: int, words: set[RetryOn]
) -> None:
    asked = [(b"x-envoy-" + name, value) for name, value in fields.items()]
    plan, _ = await steered(Plan(retry=policy), *asked)
    assert (plan.retry.attempts, plan.retry.retry_on) == (attempts, frozenset(words))


async def test_statuses_are_added_where_they_can_be_read() -> None:
    asked = (b"x-envoy-retriable-status-codes", b"429, 503,5x3,")
    plan, _ = await steered(Plan(retry=POLICY), asked)
    assert plan.retry.status_codes == {429, 503}


async def test_what_steers_is_not_sent_on_and_the_rest_is() -> None:
    fields = [(name, b"1") for name in sorted(STEERING)]
    _, headers = await steered(Plan(), *fields, (b"x-mine", b"1"))
    assert headers.fields == ((b"x-mine", b"1"),)


async def test_without_such_fields_nothing_is_made_anew() -> None:
    plan = Plan(retry=POLICY)
    assert (await steered(plan))[0] is plan


async def test_a_fault_leaves_neither_time_out_nor_retry_whatever_is_asked() -> None:
    faulty = Plan(fault=FaultSpec("f"), timeout=1.0, retry=POLICY)
    plan, _ = await steered(faulty, (b"x-envoy-upstream-rq-timeout-ms", b"5"))
    assert (plan.timeout, plan.retry) == (0.0, NO_RETRY)


async def test_strangers_steer_nothing() -> None:
    asked = (b"x-envoy-max-retries", b"9")
    plan, headers = await steered(Plan(retry=POLICY), asked, direction=Direction.INBOUND)
    assert (plan.retry, headers.fields) == (POLICY, (asked,))
