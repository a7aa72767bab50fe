"""Send copies of requests to whom nobody waits for.

The original must not notice: a copy that is too slow, too large or one too many is given up.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from math import inf
from typing import Self

import trio
from msgspec.structs import replace

from tproxy.model.exchange import Exchange, Handler
from tproxy.model.http import NO_HEADERS, Body, Content, Headers, Request, Response
from tproxy.model.limits import Limits
from tproxy.model.outcome import ProxyError, ResponseFlag
from tproxy.model.route import Mirror, Plan, Route
from tproxy.net.alongside import alongside
from tproxy.net.guard import guarded
from tproxy.net.watched_body import WatchedBody
from tproxy.resilience.fraction import fraction
from tproxy.resilience.retry import NO_RETRY

SHADOW = (b"x-tproxy-shadow", b"1")

SENT, FAILED, OVERFLOW, TOO_LARGE = "sent", "failed", "overflow", "too_large"


class Mirroring:
    """Copies requests (holding). What changes: which copies are under way; somebody must `run` it."""

    def __init__(self, limits: Limits, count: Callable[[str], None]) -> None:
        self._limits = limits
        self._count = count
        self._nursery: trio.Nursery | None = None
        self._active = 0

    async def run(self) -> None:
        """Carry copies until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def __call__(
        self, forward: Handler, exchange: Exchange, request: Request
    ) -> Awaitable[Response]:
        """Carry the request, and begin to carry its copies beside it."""
        plan = exchange.route.plan
        assert plan is not None
        if plan.mirrors and not request.head.asks_tunnel:
            chosen = [each for each in plan.mirrors if _chosen(each, request)]
            for mirror in chosen:
                request = self._copied(mirror, forward, exchange, request)
        return forward(exchange, request)

    def _copied(
        self, mirror: Mirror, forward: Handler, exchange: Exchange, request: Request
    ) -> Request:
        """Begin a copy, and return the request that feeds it."""
        if self._nursery is None or self._active >= self._limits.mirrored:
            self._count(OVERFLOW)
            return request
        self._active += 1
        headers = request.head.headers.plus(SHADOW)
        body: Body = Content()
        original = request
        if not request.body.ended:
            body = shadow = ShadowBody(self._limits.mirrored_bytes, request)
            original = replace(
                request, body=WatchedBody(request.body, part=shadow.feed, ended=shadow.end)
            )
            request.life.when_over(shadow.abandon)
        copy = Request(replace(request.head, headers=headers), body)
        way = replace(exchange, route=_way(mirror, exchange.route))
        sending = self._send(forward, way, copy)
        self._nursery.start_soon(guarded, f"a copy for {mirror.cluster.name}", sending)
        return original

    async def _send(self, forward: Handler, exchange: Exchange, copy: Request) -> None:
        life, result = copy.life, FAILED
        failure: ProxyError | None = None
        try:
            with trio.move_on_after(self._limits.mirrored_seconds) as scope:
                if isinstance(copy.body, ShadowBody):
                    copy.body.given_up = scope.cancel
                await _exchanged(forward, exchange, copy)
                result = SENT
        except ProxyError as error:
            failure = error
        finally:
            if isinstance(copy.body, ShadowBody) and copy.body.overflowed:
                result = TOO_LARGE
            self._active -= 1
            life.end(failure)
            failure = None  # it holds this frame, which must not hold it
            self._count(result)


async def _exchanged(forward: Handler, exchange: Exchange, copy: Request) -> None:
    """Have the copy answered, and drop the answer."""
    async with alongside() as beside:
        response = await forward(exchange, replace(copy, beside=beside))
        async for _ in response.body:
            pass


def _chosen(mirror: Mirror, request: Request) -> bool:
    drawn = fraction(
        request.head.headers.get(b"x-request-id") or b"", b"mirror " + mirror.cluster.name.encode()
    )
    return drawn * 100 < mirror.percent


def _way(mirror: Mirror, route: Route) -> Route:
    cluster = mirror.cluster
    plan = Plan(destination=cluster, retry=NO_RETRY)
    return Route(route.name, cluster.name, route.protocol, cluster.tls, plan=plan)


def _nobody_cares() -> None:
    """Tell nobody."""


def _declared(headers: Headers) -> float:
    length = headers.get(b"content-length")
    return int(length) if length and length.isdigit() else inf


class ShadowBody:
    """A copy of a body: parts wait here for its upstream. What changes: these, and whether more will come."""

    __slots__ = (
        "_due",
        "_held",
        "_most",
        "_news",
        "_original",
        "_parts",
        "_whole",
        "failure",
        "given_up",
        "overflowed",
        "size",
    )

    def __init__(self, most: int, original: Request) -> None:
        self._most = most
        self._original = original.body
        self._due = _declared(original.head.headers)
        """What is to come, where that is known."""
        self.given_up = _nobody_cares
        """Called when it will never be whole, for whoever does not wait for a part."""
        self.overflowed = False
        self._parts: deque[bytes] = deque()
        self._held = 0
        self._whole = False
        self._news = trio.Event()
        self.failure: ProxyError | None = None
        self.size = 0

    def feed(self, part: bytes) -> None:
        """Take a part of the original, if there is room."""
        if self.failure is not None:
            return
        self._parts.append(part)
        self._held += len(part)
        self._due -= len(part)
        if not self._due:
            # An upstream that has all of it may answer, and so end the original, before anybody learns of its end.
            self._whole = True
        if self._held > self._most:
            self.overflowed = True
            self._fail("mirror_too_large")
        self._news.set()

    def end(self) -> None:
        """Know that the original is whole."""
        self._whole = True
        self._news.set()

    def abandon(self, _: ProxyError | None) -> None:
        """Know that the original is over: what has not come of it never will."""
        if not self._whole and self.failure is None:
            self._fail("mirror_abandoned")
            self._news.set()

    def _fail(self, details: str) -> None:
        self._parts.clear()
        self.failure = ProxyError(ResponseFlag.DOWNSTREAM_GONE, details)
        self.given_up()

    @property
    def trailers(self) -> Headers:
        """The original's."""
        return self._original.trailers if self._whole else NO_HEADERS

    @property
    def ready(self) -> bool:
        """Whether the next part, or the end, is at hand without waiting."""
        return bool(self._parts) or self._whole or self.failure is not None

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more, and nothing waits to be pulled."""
        return self._whole and not self._parts and self.failure is None

    def __aiter__(self) -> Self:
        """Give the parts."""
        return self

    async def __anext__(self) -> bytes:
        """Give the next part once it has come."""
        while not self.ready:
            self._news = trio.Event()
            await self._news.wait()
        if self.failure is not None:
            raise self.failure.again()
        if not self._parts:
            raise StopAsyncIteration
        part = self._parts.popleft()
        self._held -= len(part)
        self.size += len(part)
        return part
