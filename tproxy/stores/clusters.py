"""The clusters at work: who their endpoints are at the moment, and what their machines remember over reloads."""

from collections.abc import Collection, Iterable, Mapping

from tproxy.model.address import Address
from tproxy.model.cluster import Cluster, Endpoint, Static
from tproxy.resilience.balance import Balancer
from tproxy.resilience.fraction import Random
from tproxy.resilience.retry_budget import RetryBudget


class LiveCluster:
    """One cluster. What changes: its endpoints, and what its machines remember."""

    def __init__(self, spec: Cluster, random: Random) -> None:
        self.spec = spec
        self.endpoints: Mapping[Address, Endpoint] = {}
        self.budget = RetryBudget(spec.retry_budget)
        self._balancer: Balancer[Address] = Balancer(spec.balancer, random)

    def update(self, endpoints: Iterable[Endpoint], now: float) -> None:
        """Take the present endpoints of the host; those that stay keep what is known of them."""
        self.endpoints = {each.address: each for each in endpoints if self.spec.has(each)}
        self._balancer.update({each.address: each.weight for each in self.endpoints.values()}, now)

    def pick(
        self, now: float, *, tried: Collection[Address] = (), key: int | None = None
    ) -> Endpoint | None:
        """Choose an endpoint; None when there is none. `done` is owed for it."""
        address = self._balancer.pick(now, tried=tried, key=key)
        return None if address is None else self.endpoints[address]

    def done(self, endpoint: Endpoint) -> None:
        """End what was asked of an endpoint, which may have left meanwhile."""
        self._balancer.done(endpoint.address)


class Clusters:
    """All of them, by name. What changes: which there are."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._live: dict[str, LiveCluster] = {}

    def of(self, spec: Cluster, now: float) -> LiveCluster:
        """Return the cluster that does what `spec` says, with all that is remembered of its name."""
        live = self._live.get(spec.name)
        if live is None or live.spec is not spec:
            live = self._live[spec.name] = LiveCluster(spec, self._random)
            if isinstance(spec.origin, Static):
                live.update(spec.origin.endpoints, now)
        return live
