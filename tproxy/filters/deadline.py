"""Bound how long an exchange may take.

A route's time-out begins with the request's end, as Envoy's does: an upload at its sender's pace is no upstream's
fault. A caller's grpc-timeout begins with the request's head, since the caller leaves by then.
"""

from collections.abc import Awaitable
from math import inf
from typing import Self

import trio
from msgspec.structs import replace

from tproxy.model.exchange import Exchange, Handler
from tproxy.model.flow import Direction
from tproxy.model.http import Body, Headers, Life, Request, RequestHead, Response
from tproxy.model.outcome import ProxyError, upstream_late
from tproxy.net.watched_body import WatchedBody
from tproxy.resilience.deadline import grpc_timeout, milliseconds, parse_grpc_timeout

EXPECTED = b"x-envoy-expected-rq-timeout-ms"
GRPC_TIMEOUT = b"grpc-timeout"


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
    if (
        request.body.ended or request.head.asks_tunnel
    ):  # what follows the head is no part of a request
        countdown.begin()
    else:
        request = replace(request, body=WatchedBody(request.body, ended=countdown.begin))
    with countdown.within():
        response = await forward(exchange, request)
        if is_tunnel(request.head, response):
            return response
        return replace(response, body=TimedBody(response.body, countdown))
    raise upstream_late()


def told(head: RequestHead, seconds: float) -> dict[bytes, bytes]:
    """Tell an upstream how long it has, in these headers."""
    if seconds == inf:
        return {}
    fields = {EXPECTED: milliseconds(seconds)}
    if head.is_grpc:
        fields[GRPC_TIMEOUT] = grpc_timeout(seconds)
    return fields


def is_tunnel(head: RequestHead, response: Response) -> bool:
    """Whether a response opens a tunnel."""
    status = response.head.status
    return status == 101 or (status < 300 and head.method == b"CONNECT")


def _asked(head: RequestHead) -> float:
    """Read how long the caller of a gRPC method waits."""
    value = head.headers.get(GRPC_TIMEOUT) if head.is_grpc else None
    seconds = parse_grpc_timeout(value) if value is not None else None
    return inf if seconds is None else seconds


class Countdown:
    """The time that an exchange has. What changes: when it ends, and who is waiting within it."""

    __slots__ = ("_life", "_scope", "_seconds")

    def __init__(self, life: Life, seconds: float) -> None:
        self._life = life
        self._seconds = seconds
        self._scope: trio.CancelScope | None = None

    @property
    def over(self) -> bool:
        """Whether no time is left."""
        return trio.current_time() >= self._life.ends

    def begin(self) -> None:
        """Let it run: the request is whole."""
        life = self._life
        life.ends = min(life.ends, trio.current_time() + self._seconds)
        if self._scope is not None:
            self._scope.deadline = life.ends

    def within(self) -> trio.CancelScope:
        """Make what cancels a block when the time is over, even if it only begins to run meanwhile."""
        self._scope = trio.CancelScope(deadline=self._life.ends)
        return self._scope


class TimedBody:
    """A response's body that has to be pulled in time."""

    __slots__ = ("_body", "_countdown")

    def __init__(self, body: Body, countdown: Countdown) -> None:
        self._body = body
        self._countdown = countdown

    @property
    def size(self) -> int:
        """Bytes pulled so far."""
        return self._body.size

    @property
    def trailers(self) -> Headers:
        """Complete when the body has ended."""
        return self._body.trailers

    @property
    def failure(self) -> ProxyError | None:
        """Why it will never be whole, once that is so."""
        return self._body.failure

    @property
    def ready(self) -> bool:
        """Whether the next part, or the end, is at hand without waiting."""
        return self._body.ready

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more, and nothing waits to be pulled."""
        return self._body.ended

    def __aiter__(self) -> Self:
        """Give the parts."""
        return self

    async def __anext__(self) -> bytes:
        """Pull the next part; too late, there is none, however much has come."""
        if self._countdown.over:
            raise upstream_late()
        if self._body.ready:
            return await self._body.__anext__()
        with self._countdown.within():
            return await self._body.__anext__()
        raise upstream_late()
