"""Choose the endpoint of a cluster for each attempt of a request."""

from collections.abc import Awaitable
from functools import partial

import trio
from msgspec.structs import replace

from tproxy.model.cluster import Cluster, Endpoint
from tproxy.model.exchange import Exchange, Handler
from tproxy.model.http import Request, Response
from tproxy.model.outcome import ProxyError, ResponseFlag, UpstreamError
from tproxy.stores.clusters import Clusters, LiveCluster


class Balance:
    """A `Handler` that sends what has a cluster to one of its endpoints (holding)."""

    def __init__(self, clusters: Clusters, forward: Handler) -> None:
        self._clusters = clusters
        self._forward = forward

    def __call__(self, exchange: Exchange, request: Request) -> Awaitable[Response]:
        """Answer with an endpoint's response, or with that of whom the connection was going to."""
        plan = exchange.route.plan
        if plan is None or plan.destination is None or plan.destination.origin is None:
            return self._forward(exchange, request)
        return self._balanced(plan.destination, exchange, request)

    def _balanced(self, spec: Cluster, exchange: Exchange, request: Request) -> Awaitable[Response]:
        now = trio.current_time()
        cluster = self._clusters.of(spec, now)
        endpoint = cluster.pick(now, tried=exchange.tried)
        if endpoint is None:
            raise UpstreamError(ResponseFlag.NO_HEALTHY_UPSTREAM, "no_healthy_upstream")
        request.life.when_over(partial(_done, cluster, endpoint))
        return self._forward(replace(exchange, endpoint=endpoint), request)


def _done(cluster: LiveCluster, endpoint: Endpoint, _: ProxyError | None) -> None:
    cluster.done(endpoint)
