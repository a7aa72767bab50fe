"""Send a request again where that is safe and may help."""

from collections import OrderedDict
from collections.abc import Callable
from math import inf

import msgspec
import trio
from msgspec.structs import replace

from tproxy.filters.deadline import Countdown, timed, told
from tproxy.filters.replay import Replay
from tproxy.model.address import Address
from tproxy.model.exchange import Exchange, Handler
from tproxy.model.flow import Direction
from tproxy.model.http import Beside, Life, Request, RequestHead, Response, Work
from tproxy.model.outcome import (
    ProxyError,
    ResponseFlag,
    Unprocessed,
    UpstreamError,
    upstream_late,
)
from tproxy.model.route import Plan
from tproxy.resilience.concurrency import Concurrency
from tproxy.resilience.fraction import Random
from tproxy.resilience.retry import (
    Attempt,
    Failure,
    Outcome,
    RetryPolicy,
    Verdict,
    backoff,
    may_retry,
)
from tproxy.resilience.retry_budget import RetryBudget, RetryBudgetSpec
from tproxy.stores.clusters import Clusters

ATTEMPT_COUNT = b"x-envoy-attempt-count"

MOST_BUDGETS = 1024
"""Routes without a cluster whose budgets are remembered: as many as files are likely to name, and a bound."""

PUSHES_BACK = frozenset((b"x-envoy-overloaded", b"x-envoy-ratelimited"))

FAILURES = {
    ResponseFlag.UPSTREAM_CONNECT: Failure.CONNECT,
    ResponseFlag.UPSTREAM_CLOSED: Failure.RESET,
    ResponseFlag.UPSTREAM_RESET: Failure.RESET,
    ResponseFlag.UPSTREAM_PROTOCOL: Failure.RESET,
    ResponseFlag.UPSTREAM_TIMEOUT: Failure.PER_TRY_TIMEOUT,
}
"""What the rest is, no condition covers."""


class Retry:
    """Makes attempts until one is good enough (repeating). What changes: the budgets of routes without a cluster."""

    def __init__(
        self, clusters: Clusters, replay_bytes: int, random: Random, *, count: Callable[[str], None]
    ) -> None:
        self._clusters = clusters
        self._replay_bytes = replay_bytes
        self._random = random
        self._count = count
        self._budgets: OrderedDict[str, RetryBudget] = OrderedDict()

    async def __call__(self, forward: Handler, exchange: Exchange, request: Request) -> Response:
        """Answer with the last attempt's response."""
        plan = exchange.route.plan
        assert plan is not None
        if exchange.flow.direction is Direction.INBOUND:
            return await forward(exchange, request)
        now = trio.current_time()
        allowance = self._allowance(exchange, plan, now)
        allowance.requested(now)
        tries = _Tries(forward, exchange, request, replay_bytes=self._replay_bytes)
        try:
            while True:
                result = await tries.next(self._random)
                allowance.release()
                verdict = tries.judged(result, allowance)
                if verdict is not Verdict.NOT_COVERED:
                    self._count(verdict)
                if verdict is not Verdict.RETRY:
                    return await tries.settled(result, verdict)
                await tries.discard(result)
        finally:
            allowance.release()

    def _allowance(self, exchange: Exchange, plan: Plan, now: float) -> "_Allowance":
        if plan.destination is None:
            return _Allowance(self._budget(exchange.route.cluster))
        cluster = self._clusters.of(plan.destination, now, exchange.generation)
        return _Allowance(cluster.budget, cluster.retries)

    def _budget(self, name: str) -> RetryBudget:
        budget = self._budgets.pop(name, None) or RetryBudget(RetryBudgetSpec())
        self._budgets[name] = budget
        if len(self._budgets) > MOST_BUDGETS:
            self._budgets.popitem(last=False)
        return budget


class _Allowance:
    """What one request's retries are bounded by. What changes: whether one is under way."""

    __slots__ = ("_budget", "_held", "_under_way")

    def __init__(self, budget: RetryBudget, under_way: Concurrency | None = None) -> None:
        self._budget = budget
        self._under_way = under_way
        """Of the whole cluster; None: without a bound."""
        self._held = False

    def requested(self, now: float) -> None:
        """Count a request that is no retry."""
        self._budget.requested(now)

    def take(self, now: float) -> bool:
        """Begin a retry, if there may be one more; `release` ends it."""
        under_way = self._under_way
        if under_way is None:
            return self._budget.take(now)
        if not (under_way.look().allowed and self._budget.take(now)):
            return False
        self._held = under_way.take().allowed
        return True

    def release(self) -> None:
        """End the retry that is under way, if one is."""
        if self._held and self._under_way is not None:
            self._held = False
            self._under_way.release()


class _Result(msgspec.Struct, frozen=True):
    """What an attempt came to: one of the two."""

    response: Response | None = None
    error: UpstreamError | None = None

    @property
    def upstream(self) -> Address | None:
        """Who was asked."""
        told_by = self.response or self.error
        return told_by.upstream if told_by else None

    @property
    def outcome(self) -> Outcome:
        """Say it in the words of policies."""
        if self.response is None:
            return Outcome(failure=_failure(self.error))
        head = self.response.head
        status = head.headers.get(b"grpc-status")
        grpc_status = int(status) if status and status.isdigit() and len(status) < 3 else None
        pushes_back = not PUSHES_BACK.isdisjoint(head.headers.index)
        return Outcome(head.status, grpc_status, pushes_back=pushes_back)


def _failure(error: UpstreamError | None) -> Failure | None:
    if isinstance(error, Unprocessed):
        return Failure.REFUSED_STREAM
    return FAILURES.get(error.flag) if error else None


class _Tries:
    """One request's attempts, of which one at a time is under way. What changes: which, and who was met."""

    def __init__(
        self, forward: Handler, exchange: Exchange, request: Request, *, replay_bytes: int
    ) -> None:
        plan = exchange.route.plan
        assert plan is not None
        self._policy: RetryPolicy = plan.retry
        self._timeout = plan.timeout or inf
        self._forward = forward
        self._exchange = exchange
        self._request = request
        body = request.body
        self._replay = (
            Replay(body, replay_bytes) if plan.retry.attempts and not body.ended else None
        )
        self._number = 0
        self._life: Life
        """The present attempt's."""
        self._work: list[Beside]
        """What the present attempt has going on beside it."""

    async def next(self, random: Random) -> _Result:
        """Make one more attempt, after a while."""
        if self._number:
            await trio.sleep(backoff(self._policy, self._number, random))
        self._number += 1
        self._request.life.attempts = self._number
        self._life, self._work = Life(), []
        try:
            return _Result(response=await self._asked())
        except UpstreamError as error:
            return _Result(error=error)
        except ProxyError as error:
            self._life.end(error)
            raise
        except BaseException:
            late = trio.current_time() >= self._request.life.ends
            self._life.end(upstream_late() if late else None)
            raise

    def judged(self, result: _Result, allowance: _Allowance) -> Verdict:
        """Decide whether to try again."""
        if not self._policy.attempts:
            return Verdict.NOT_COVERED
        outcome = result.outcome
        if not self._policy.covers(outcome):
            return Verdict.NOT_COVERED
        head = self._request.head
        attempt = Attempt(
            self._number,
            head.method,
            idempotency_key=b"idempotency-key" in head.headers,
            replayable=self._replay is None or self._replay.possible,
        )
        now = trio.current_time()
        return may_retry(self._policy, outcome, attempt, budget=allowance, now=now)

    async def discard(self, result: _Result) -> None:
        """End an attempt: nothing may pull the body any more when the next one begins."""
        if self._replay is not None:
            # In the turn in which it was found possible: an upload that is due to run does so before it is cancelled.
            self._replay.promise()
        for work in self._work:
            work.cancel()
        try:
            for work in self._work:
                await work.wait()
        finally:
            self._life.end(result.error)
        if result.upstream is not None:
            tried = (*self._exchange.tried, result.upstream)
            self._exchange = replace(self._exchange, tried=tried)

    async def settled(self, result: _Result, verdict: Verdict) -> Response:
        """Answer with what the last attempt came to; over the budget that is 503, whatever it was."""
        life = self._request.life
        if self._replay is not None:
            self._replay.settle()
        if verdict is Verdict.BUDGET:
            await self.discard(result)
            life.marks += (result.error.flag,) if result.error else ()
            details = "upstream_reset_before_response_started{overflow}"
            raise UpstreamError(ResponseFlag.OVERFLOW, details)
        if verdict is Verdict.EXHAUSTED:
            life.marks += (ResponseFlag.RETRIES_EXHAUSTED,)
        if result.response is None:
            assert result.error is not None
            self._life.end(result.error)
            raise result.error.again()
        life.when_over(self._life.end)
        return result.response

    async def _asked(self) -> Response:
        exchange = replace(self._exchange, attempt=self._number)
        request = replace(
            self._request,
            head=self._head(),
            body=self._replay.copy() if self._replay else self._request.body,
            life=self._life,
            beside=self._beside,
        )
        seconds = self._policy.per_try_timeout
        if not seconds:
            return await self._forward(exchange, request)
        countdown = Countdown(self._life, seconds)
        request = timed(request, countdown)
        with countdown.within():
            return await self._forward(exchange, request)
        raise upstream_late("upstream_per_try_timeout")

    def _head(self) -> RequestHead:
        head = self._request.head
        fields = {ATTEMPT_COUNT: b"%d" % self._number, **told(head, self._left())}
        return replace(head, headers=head.headers.with_values(fields))

    def _left(self) -> float:
        """Say how long an upstream has."""
        ends = self._request.life.ends
        left = ends if ends == inf else ends - trio.current_time()
        return min(left, self._timeout, self._policy.per_try_timeout or inf)

    def _beside(self, work: Work) -> Beside:
        beside = self._request.beside(work)
        self._work.append(beside)
        return beside
