"""Connect to whom a connection that is carried as bytes goes: to an endpoint of its cluster, or where it was going."""

from collections.abc import Callable

import trio
from msgspec.structs import replace

from tproxy.model.address import Address
from tproxy.model.cluster import Cluster
from tproxy.model.exchange import Exchange
from tproxy.model.limits import Limits
from tproxy.model.outcome import ResponseFlag, UpstreamError
from tproxy.model.upstream_tls import UpstreamTls
from tproxy.net.stream import SocketStream
from tproxy.stores.clusters import Clusters, LiveCluster
from tproxy.stores.picked import Picked
from tproxy.stores.rooms import Room, overflow
from tproxy.upstream.affinity import affinity
from tproxy.upstream.balance import known, pick
from tproxy.upstream.connector import Connector

MOST_ENDPOINTS = 3
"""How many are tried for one connection: each may take the whole connect time-out."""


BLOCKED = "block_all"
"""No policy names where the connection was going, and nothing else may be reached."""


class Leg:
    """The upstream side of one connection. What changes: who is asked, and what is owed at its end."""

    __slots__ = ("_owed", "asked", "secured")

    def __init__(self) -> None:
        self.asked: Address | None = None
        """Who was, last."""
        self.secured: UpstreamTls | None = None
        """How the connection to it is."""
        self._owed: tuple[Callable[[], None], ...] = ()

    def owes(self, end: Callable[[], None]) -> None:
        """Have `end` called when it is over."""
        self._owed = (*self._owed, end)

    def end(self) -> None:
        """Pay what is owed."""
        owed, self._owed = self._owed, ()
        for each in reversed(owed):
            each()


class Reach:
    """Finds an endpoint for each connection and connects to it."""

    def __init__(self, connector: Connector, clusters: Clusters, limits: Limits) -> None:
        self._connector = connector
        self._clusters = clusters
        self._limits = limits

    async def connected(self, exchange: Exchange, leg: Leg) -> SocketStream:
        """Connect; an endpoint that cannot be reached gives way to another one. The caller closes, and ends the leg."""
        plan = exchange.route.plan
        if plan is not None and plan.answer is not None:
            # There is no request that it could be the answer to.
            raise UpstreamError(ResponseFlag.NO_ROUTE, BLOCKED)
        if plan is not None and plan.destination is not None:
            return await self._balanced(plan.destination, exchange, leg)
        leg.asked = exchange.flow.original_dst
        target = self._connector.target(exchange.flow, exchange.route)
        leg.secured = target.tls
        return await self._connector.connect(target)

    async def _balanced(self, spec: Cluster, exchange: Exchange, leg: Leg) -> SocketStream:
        cluster = self._clusters.of(spec, trio.current_time(), exchange.generation)
        await known(cluster, self._limits)
        room = self._clusters.rooms.of(cluster.spec.name, cluster.spec.bounds)
        if room is not None:
            _take_place(room, leg)
        key = affinity(cluster.spec.hash_key, exchange.flow, None, bytes).key
        picked = pick(cluster, exchange, key)
        while True:
            leg.asked = picked.endpoint.address
            try:
                stream = await self._tried(picked, exchange, leg)
            except UpstreamError:
                exchange = replace(exchange, tried=(*exchange.tried, leg.asked))
                another = _another(cluster, exchange, key)
                if another is None:
                    raise
                picked = another
            else:
                leg.owes(picked.done)
                return stream

    async def _tried(self, picked: Picked, exchange: Exchange, leg: Leg) -> SocketStream:
        target = self._connector.target(exchange.flow, exchange.route, picked.endpoint)
        leg.secured = target.tls
        try:
            stream = await self._connector.connect(target)
        except UpstreamError:
            picked.unreachable(trio.current_time())
            picked.done()
            raise
        except BaseException:
            picked.done()
            raise
        picked.connected(trio.current_time())
        return stream


def _another(cluster: LiveCluster, exchange: Exchange, key: int | None) -> Picked | None:
    """Choose one that was not tried, if there is one and it is not enough yet."""
    tried = exchange.tried
    if cluster.spec.origin is None:  # another original destination is not where this one was going
        return None
    if len(tried) >= MOST_ENDPOINTS or cluster.endpoints.keys() <= set(tried):
        return None
    picked = cluster.pick(trio.current_time(), tried=tried, key=key)
    if picked is not None and picked.endpoint.address in tried:
        picked.done()
        return None
    return picked


def _take_place(room: Room, leg: Leg) -> None:
    if room.full:
        raise overflow()
    room.connections += 1
    leg.owes(room.vacate)
