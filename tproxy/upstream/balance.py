"""Choose the endpoint of a cluster for each attempt of a request, and have its machines learn how that ended."""

import os
from collections.abc import Awaitable

import trio
from msgspec.structs import replace

from tproxy.model.cluster import Cluster, Endpoint
from tproxy.model.exchange import Exchange, Handler
from tproxy.model.flow import Protocol
from tproxy.model.http import Request, Response
from tproxy.model.limits import Limits
from tproxy.model.outcome import ProxyError, ResponseFlag, UpstreamError
from tproxy.net.watched_body import WatchedBody
from tproxy.stores.clusters import Clusters, LiveCluster
from tproxy.stores.picked import Picked
from tproxy.upstream.affinity import affinity

GRPC_FAILURES = {b"2": 500, b"4": 504, b"12": 501, b"13": 500, b"14": 503, b"15": 500}
"""The gRPC statuses that speak against an endpoint, and what they are in HTTP: Envoy's table for outlier detection."""

OURS = (ResponseFlag.OVERFLOW, ResponseFlag.NO_HEALTHY_UPSTREAM)
"""What we refuse, and what so says nothing of the endpoint."""

_LIMITS = Limits()


class Balance:
    """A `Handler` that sends what has a cluster to one of its endpoints (holding)."""

    def __init__(self, clusters: Clusters, forward: Handler, limits: Limits = _LIMITS) -> None:
        self._clusters = clusters
        self._forward = forward
        self._limits = limits

    def __call__(self, exchange: Exchange, request: Request) -> Awaitable[Response]:
        """Answer with an endpoint's response, or with that of whom the connection was going to."""
        plan = exchange.route.plan
        if plan is None or plan.destination is None:
            return self._forward(exchange, request)
        return self._balanced(plan.destination, exchange, request)

    async def _balanced(self, spec: Cluster, exchange: Exchange, request: Request) -> Response:
        cluster = self._clusters.of(spec, trio.current_time(), exchange.generation)
        await known(cluster, self._limits)
        await self._enter(spec, exchange, request)
        cluster.admit()
        belongs = affinity(spec.hash_key, exchange.flow, request.head, _new_value)
        picked = pick(cluster, exchange, belongs.key)
        asked = _Asked(picked, request)
        request.life.when_over(asked.over)
        try:
            response = await self._forward(replace(exchange, endpoint=picked.endpoint), request)
        except ProxyError as error:
            error.upstream = picked.endpoint.address
            asked.failed(error)
            raise
        response = asked.answered(response)
        if belongs.cookie is None:
            return response
        head = replace(response.head, headers=response.head.headers.plus(belongs.cookie))
        return replace(response, head=head)

    async def _enter(self, spec: Cluster, exchange: Exchange, request: Request) -> None:
        """Wait for a connection where only so many may be: before the choice, which is the better the later it is."""
        protocol = exchange.route.protocol or exchange.flow.protocol
        room = None
        if protocol is not Protocol.HTTP2:
            room = self._clusters.rooms.of(spec.name, spec.bounds)
        if room is not None:
            await room.enter()
            request.life.when_over(room.left)


async def known(cluster: LiveCluster, limits: Limits) -> None:
    """Wait for the first look for a cluster's endpoints, for no longer than dialling one of them might take."""
    if cluster.known.is_set():
        return
    with trio.move_on_after(cluster.spec.bounds.connect_seconds or limits.connect_seconds):
        await cluster.known.wait()
    if not cluster.known.is_set():
        raise unhealthy("its endpoints are not found yet")


def pick(cluster: LiveCluster, exchange: Exchange, key: int | None = None) -> Picked:
    """Choose an endpoint, or refuse; `done` is owed for it."""
    now, spec = trio.current_time(), cluster.spec
    if spec.origin is None:
        picked = cluster.ask(Endpoint(exchange.flow.original_dst, tls=exchange.route.tls), now)
    else:
        picked = cluster.pick(now, tried=exchange.tried, key=key)
    if picked is None:
        raise unhealthy("" if cluster.members else cluster.failure)
    return picked


def unhealthy(cause: str) -> UpstreamError:
    """Build the error for a cluster without an endpoint that may be asked."""
    return UpstreamError(ResponseFlag.NO_HEALTHY_UPSTREAM, "no_healthy_upstream", cause=cause)


class _Asked:
    """One attempt. What changes: what is known of its answer."""

    __slots__ = ("_picked", "_request", "_response", "_status")

    def __init__(self, picked: Picked, request: Request) -> None:
        self._picked = picked
        self._request = request
        self._response: Response | None = None
        self._status = 0
        """What its head says."""

    def answered(self, response: Response) -> Response:
        """Take the response's head: what is bad already is told at once, and what a breaker waits for.

        It may wait for no more of gRPC than the first that comes after the head: the end of a stream may be days away.
        """
        self._response = response
        self._status = status = _status(response)
        if status < 500 and not self._picked.probes:
            return response
        if status < 500 and self._request.head.is_grpc:
            return replace(response, body=WatchedBody(response.body, part=self._spoke))
        self._picked.answered(status, trio.current_time())
        return response

    def _spoke(self, _: bytes) -> None:
        self._picked.answered(self._status, trio.current_time())

    def failed(self, error: ProxyError) -> None:
        """Take it that there is no response."""
        if _upstreams_fault(error):
            self._picked.unreachable(trio.current_time())

    def over(self, failure: ProxyError | None) -> None:
        """End the attempt; a response counts as good only once it is whole, or its downstream has left it."""
        if failure is not None:
            self.failed(failure)
        if self._response is not None:
            status = self._status
            if self._request.head.is_grpc:
                told = self._response.body.trailers.get(b"grpc-status") or b""
                status = GRPC_FAILURES.get(told, status)
            self._picked.answered(status, trio.current_time())
        self._picked.done()


def _status(response: Response) -> int:
    told = response.head.headers.get(b"grpc-status")
    return response.head.status if told is None else GRPC_FAILURES.get(told, response.head.status)


def _upstreams_fault(error: ProxyError) -> bool:
    if error.flag is ResponseFlag.IDLE_TIMEOUT:
        return error.status == 504  # else it is the downstream that did not go on
    return isinstance(error, UpstreamError) and error.flag not in OURS


def _new_value() -> bytes:
    return os.urandom(8).hex().encode()
