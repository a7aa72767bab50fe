"""Keep clusters and the connections to their endpoints in step, and tell how they are."""

from collections.abc import Iterator

import trio

from tproxy.model.cluster import Dns, Static
from tproxy.stores.clusters import Clusters, LiveCluster
from tproxy.telemetry.cluster_status import ClusterStatus, EndpointStatus
from tproxy.upstream.pool import Pool

EVERY_SECONDS = 1.0
"""Between looks for what is needed no more."""


class Upkeep:
    """One worker's."""

    def __init__(self, clusters: Clusters, pool: Pool) -> None:
        self._clusters = clusters
        self._pool = pool

    async def run(self) -> None:
        """Drop what is needed no more, until cancelled."""
        while True:
            await trio.sleep(EVERY_SECONDS)
            self._clusters.sweep(trio.current_time())
            self._pool.drain(self._clusters.serves)

    def statuses(self) -> Iterator[ClusterStatus]:
        """Tell how each cluster is, by name."""
        connections = self._pool.by_endpoint()
        now = trio.current_time()
        for live in sorted(self._clusters, key=lambda each: each.spec.name):
            name = live.spec.name
            ejected = live.ejected(now)
            yield ClusterStatus(
                name=name,
                bounds=live.spec.bounds,
                endpoints=tuple(
                    EndpointStatus(
                        address=each.endpoint.address,
                        weight=each.endpoint.weight,
                        locality=each.endpoint.locality,
                        connections=connections.get((name, each.endpoint.address), 0)
                        + each.relayed,
                        active=each.active,
                        total=each.total,
                        failed=each.failed,
                        ejected=each.endpoint.address in ejected,
                        breaker=each.breaker.state.value if each.breaker else "",
                    )
                    for each in live.members
                ),
                active=live.active,
                pending=self._clusters.rooms.waiting(name),
                source=_source(live),
                known=live.known.is_set(),
                failure=live.failure,
            )


def _source(live: LiveCluster) -> str:
    match live.spec.origin:
        case Static():
            return "static"
        case Dns(names=names):
            return "dns " + " ".join(each.name for each in names)
        case None:
            return "original destination"
