"""Hold requests to the rates that policies allow, and tell clients what those are."""

import math
from collections.abc import Awaitable, Iterable, Sequence
from typing import assert_never

import trio
from msgspec.structs import replace

from tproxy.filters.rescue import local_reply
from tproxy.model.exchange import Exchange, Handler
from tproxy.model.http import Field, Request, Response
from tproxy.model.outcome import ProxyError, ResponseFlag
from tproxy.model.rate_limit import Advertise, Applied, LimitSpec
from tproxy.resilience.bucket import LeakyBucketSpec, TokenBucketSpec
from tproxy.resilience.concurrency import ConcurrencySpec
from tproxy.resilience.windows import FixedWindowSpec, SlidingWindowSpec
from tproxy.stores.limits import Ledger, Verdict, ask

RATELIMITED = (b"x-envoy-ratelimited", b"true")
"""Envoy's word for clients, and for the proxies of those, that it was a proxy who refused."""


class RateLimits:
    """Refuses what is over a limit, after a wait where one has its turns (deciding); what is under way is counted until its life is over (holding)."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __call__(
        self, forward: Handler, exchange: Exchange, request: Request
    ) -> Awaitable[Response]:
        """Carry the request if all limits let it through."""
        # No coroutine of its own where nothing is limited: this is called for every request.
        if not exchange.limits:
            return forward(exchange, request)
        return self._limited(forward, exchange, request)

    async def _limited(self, forward: Handler, exchange: Exchange, request: Request) -> Response:
        verdict = ask(self._ledger, exchange.limits)
        if not verdict.allowed:
            return _refusal(verdict, exchange, request)
        if verdict.releases:
            request.life.when_over(verdict.release)
        if verdict.delay:
            await trio.sleep(verdict.delay)
        response = await forward(exchange, request)
        fields = _told(exchange.limits, (Advertise.ALWAYS,))
        return _plus(response, fields) if fields else response


def rate_limited() -> ProxyError:
    """Build the error for what is over a limit, in Envoy's words."""
    return ProxyError(ResponseFlag.RATE_LIMITED, "local_rate_limited")


def _refusal(verdict: Verdict, exchange: Exchange, request: Request) -> Response:
    seconds = max(math.ceil(verdict.after), 1)
    fields = _told(exchange.limits, (Advertise.ALWAYS, Advertise.REFUSED))
    retry_after = (b"retry-after", b"%d" % seconds)
    return _plus(local_reply(rate_limited(), request.head), (RATELIMITED, retry_after, *fields))


def _plus(response: Response, fields: Iterable[Field]) -> Response:
    head = response.head
    return replace(response, head=replace(head, headers=head.headers.plus(*fields)))


def _told(limits: Sequence[Applied], when: Sequence[Advertise]) -> tuple[Field, ...]:
    """Write the fields of draft-ietf-httpapi-ratelimit-headers-10; nothing when there is nothing to tell."""
    told = [each for each in limits if not each.limit.shadow and each.limit.advertise in when]
    if not told:
        return ()
    return (
        (b"ratelimit-policy", b", ".join(map(_policy, told))),
        (b"ratelimit", b", ".join(map(_state, told))),
    )


def _policy(applied: Applied) -> bytes:
    limit = applied.limit
    return f'"{limit.short_name}"{_quota(limit.counting.spec)}'.encode()


def _state(applied: Applied) -> bytes:
    grant = applied.grant
    assert grant is not None, "limits are told of once they were asked"
    reset = f";t={math.ceil(grant.after)}" if grant.after else ""
    return f'"{applied.limit.short_name}";r={max(grant.remaining, 0)}{reset}'.encode()


def _quota(spec: LimitSpec) -> str:
    """Write how much is let through in a window; windows are whole seconds."""
    match spec:
        case ConcurrencySpec():
            return f';q={spec.limit};qu="concurrent-requests"'
        case TokenBucketSpec():
            quota, window = float(spec.tokens_per_fill), spec.fill_interval
        case LeakyBucketSpec():
            quota, window = 1.0, 1 / spec.rate
        case FixedWindowSpec() | SlidingWindowSpec():
            quota, window = float(spec.requests), spec.window
        case _:
            assert_never(spec)
    whole = math.ceil(window)
    return f";q={max(math.floor(quota * whole / window), 1)};w={whole}"
