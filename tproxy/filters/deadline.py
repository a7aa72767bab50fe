"""Bound how long an exchange may take.

A route's time-out begins with the request's end, as Envoy's does: an upload at its sender's pace is no upstream's
fault. While the sender waits for the upstream to ask for the body (Expect: 100-continue), that is the upstream's time,
too. A caller's grpc-timeout begins with the request's head, since the caller leaves by then.
"""

from collections.abc import Awaitable
from functools import partial
from math import inf

import trio
from msgspec.structs import replace

from tproxy.model.exchange import Exchange, Handler
from tproxy.model.flow import Direction
from tproxy.model.http import (
    Body,
    Life,
    Request,
    RequestHead,
    Response,
    ResponseHead,
    opens_tunnel,
)
from tproxy.model.outcome import upstream_late
from tproxy.net.watched_body import WatchedBody
from tproxy.resilience.deadline import grpc_timeout, milliseconds, parse_grpc_timeout

EXPECTED = b"x-envoy-expected-rq-timeout-ms"
GRPC_TIMEOUT = b"grpc-timeout"

CONTINUE = 100


def deadline(forward: Handler, exchange: Exchange, request: Request) -> Awaitable[Response]:
    """Answer the application in time, or not at all; a tunnel, once it is open, may stay (holding)."""
    plan = exchange.route.plan
    assert plan is not None
    if exchange.flow.direction is Direction.INBOUND:
        return forward(exchange, request)
    asked = _asked(request.head)
    if not plan.timeout and asked == inf:
        return forward(exchange, request)
    if asked != inf:
        request.life.ends = trio.current_time() + asked
    return _in_time(Countdown(request.life, plan.timeout or inf), forward, exchange, request)


async def _in_time(
    countdown: "Countdown", forward: Handler, exchange: Exchange, request: Request
) -> Response:
    request = timed(request, countdown)
    with countdown.within():
        response = await forward(exchange, request)
        if opens_tunnel(request.head, response.head.status):
            return response
        return replace(
            response, body=WatchedBody(response.body, pull=partial(countdown.pulled, response.body))
        )
    raise upstream_late()


def timed(request: Request, countdown: "Countdown") -> Request:
    """Have the time run once the request is whole, and while its sender waits for the upstream."""
    # What follows the head of what asks for a tunnel is no part of a request.
    if request.body.ended or request.head.asks_tunnel:
        countdown.begin()
        return request
    if not request.head.awaits_continue:
        return replace(request, body=WatchedBody(request.body, ended=countdown.begin))
    return _held_back(request, countdown)


def _held_back(request: Request, countdown: "Countdown") -> Request:
    """Have the time run until the upstream asks for the body, or its sender sends it unasked."""
    countdown.begin()

    def part(_: bytes) -> None:
        countdown.pause()

    body = WatchedBody(request.body, ended=countdown.begin, part=part)

    async def inform(head: ResponseHead) -> None:
        if head.status == CONTINUE and not body.whole:
            countdown.pause()
        await request.inform(head)

    return replace(request, body=body, inform=inform)


def told(head: RequestHead, seconds: float) -> dict[bytes, bytes]:
    """Tell an upstream how long it has, in these headers."""
    if seconds == inf:
        return {}
    fields = {EXPECTED: milliseconds(seconds)}
    if head.is_grpc:
        fields[GRPC_TIMEOUT] = grpc_timeout(seconds)
    return fields


def _asked(head: RequestHead) -> float:
    """Read how long the caller of a gRPC method waits."""
    value = head.headers.get(GRPC_TIMEOUT) if head.is_grpc else None
    seconds = parse_grpc_timeout(value) if value is not None else None
    return inf if seconds is None else seconds


class Countdown:
    """The time that an exchange has. What changes: when it ends, and who is waiting within it."""

    __slots__ = ("_life", "_patience", "_scope", "_seconds")

    def __init__(self, life: Life, seconds: float) -> None:
        self._life = life
        self._patience = life.ends
        """When it ends at the latest, whether or not it runs."""
        self._seconds = seconds
        self._scope: trio.CancelScope | None = None

    @property
    def over(self) -> bool:
        """Whether no time is left."""
        return trio.current_time() >= self._life.ends

    def begin(self) -> None:
        """Let it run, from its beginning: it is the upstream's turn."""
        self._ends(min(self._patience, trio.current_time() + self._seconds))

    def pause(self) -> None:
        """Let it run no more: it is the sender's turn."""
        self._ends(self._patience)

    def _ends(self, when: float) -> None:
        self._life.ends = when
        if self._scope is not None:
            self._scope.deadline = when

    def within(self) -> trio.CancelScope:
        """Make what cancels a block when the time is over, even if it only begins to run meanwhile."""
        self._scope = trio.CancelScope(deadline=self._life.ends)
        return self._scope

    async def pulled(self, body: Body) -> bytes:
        """Pull a part of a response in time; too late, there is none, however much has come."""
        if self.over:
            raise upstream_late()
        if body.ready:
            return await body.__anext__()
        with self.within():
            return await body.__anext__()
        raise upstream_late()
