"""Make requests late or fail on purpose."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable

import trio
from msgspec.structs import replace

from tproxy.filters.answer import grpc_status
from tproxy.filters.slow_body import SlowBody
from tproxy.model.exchange import Exchange, Handler
from tproxy.model.http import Request, RequestHead, Response, opens_tunnel
from tproxy.model.outcome import Dropped, ProxyError, ResponseFlag
from tproxy.resilience.fault import Abort, Faults, FaultSpec, Injection

MOST_SPECS = 1024
"""Policies whose faults are counted: more than files are likely to name, and a bound."""


class Fault:
    """Injects what plans say (deciding). What changes: each policy's faults that are under way, which reloads keep."""

    def __init__(self, count: Callable[[str], None]) -> None:
        self._count = count
        self._faults: OrderedDict[FaultSpec, Faults] = OrderedDict()

    def __call__(
        self, forward: Handler, exchange: Exchange, request: Request
    ) -> Awaitable[Response]:
        """Wait, fail, do both, or neither."""
        plan = exchange.route.plan
        assert plan is not None
        if plan.fault is None:
            return forward(exchange, request)
        return self._injected(self._of(plan.fault), forward, exchange, request)

    async def _injected(
        self, faults: Faults, forward: Handler, exchange: Exchange, request: Request
    ) -> Response:
        injection = self._begun(faults, request)
        if injection is None:
            return await forward(exchange, request)
        try:
            await self._suffer(injection, request)
        except BaseException:
            faults.ended()
            raise
        if not injection.bytes_per_second:
            faults.ended()
            return await forward(exchange, request)
        self._note("throttle", ResponseFlag.DELAYED, request)
        request.life.when_over(lambda _: faults.ended())
        response = await forward(exchange, request)
        return replace(response, body=SlowBody(response.body, injection.bytes_per_second))

    def _begun(self, faults: Faults, request: Request) -> Injection | None:
        overflowed = faults.overflowed
        injection = faults.begin(request.head.headers.get(b"x-request-id") or b"")
        if faults.overflowed > overflowed:
            self._count("overflow")
        return injection

    async def _suffer(self, injection: Injection, request: Request) -> None:
        if injection.delay:
            self._note("delay", ResponseFlag.DELAYED, request)
            await trio.sleep(injection.delay)
        if injection.reset:
            self._count("reset")
            raise Dropped(ResponseFlag.FAULT_INJECTED, "fault_filter_reset")
        if injection.abort is not None:
            self._count("abort")
            raise aborted(injection.abort, request.head)

    def _note(self, kind: str, flag: ResponseFlag, request: Request) -> None:
        self._count(kind)
        if flag not in request.life.marks:
            request.life.marks += (flag,)

    def _of(self, spec: FaultSpec) -> Faults:
        faults = self._faults.pop(spec, None) or Faults(spec)
        self._faults[spec] = faults
        if len(self._faults) > MOST_SPECS:
            self._faults.popitem(last=False)
        return faults


def aborted(abort: Abort, head: RequestHead) -> ProxyError:
    """Build the error that answers a request; who asks for a gRPC status and meets HTTP gets 200, as from Envoy."""
    status = 200 if abort.grpc_status is not None else abort.status
    if opens_tunnel(head, status):
        status = ResponseFlag.FAULT_INJECTED.http_status
    error = ProxyError(ResponseFlag.FAULT_INJECTED, "fault_filter_abort", status=status)
    error.grpc_status = grpc_status(status) if abort.grpc_status is None else abort.grpc_status
    return error
