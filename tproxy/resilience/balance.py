"""Choose which endpoint of a cluster gets a request."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar, assert_never

from tproxy.resilience.fraction import POSITIONS, Random
from tproxy.resilience.pickers import Draws, RoundRobin
from tproxy.resilience.ring import Ring

E = TypeVar("E")

_DRAWS = 16
"""For one candidate while endpoints warm up: so many in vain mean that only cold ones are usable."""


class Algorithm(StrEnum):
    """DestinationRule's loadBalancer."""

    ROUND_ROBIN = "ROUND_ROBIN"
    RANDOM = "RANDOM"
    LEAST_REQUEST = "LEAST_REQUEST"
    RING_HASH = "RING_HASH"


@dataclass(frozen=True, slots=True)
class SlowStart:
    """Endpoints that joined a moment ago get less, growing evenly over a window: Envoy's with an aggression of 1."""

    window: float
    min_percent: float = 10.0

    def __post_init__(self) -> None:
        assert self.window > 0, "a window is a while"
        assert 0 < self.min_percent <= 100, "a new endpoint gets something"

    def share(self, age: float) -> float:
        """Say how much of its weight an endpoint of that age has."""
        return max(self.min_percent / 100, min(max(age, 1.0) / self.window, 1.0))


@dataclass(frozen=True, slots=True)
class BalancerSpec:
    """How a cluster's requests are spread."""

    algorithm: Algorithm = Algorithm.LEAST_REQUEST
    slow_start: SlowStart | None = None
    """For ROUND_ROBIN and LEAST_REQUEST, as in Envoy: others ignore it."""
    panic_percent: float = 0.0
    """With fewer healthy endpoints than this, all are used: those left would break under the load of all."""
    min_ring_size: int = 1024


class Balancer(Generic[E]):
    """One cluster's. What changes: the endpoints and when they joined, who of them is healthy, and how many requests each has.

    Endpoints are any hashable; RING_HASH places them by their `str`. A weight is 1 or more.
    """

    __slots__ = (
        "_active", "_avoided", "_draws", "_joined", "_oldest", "_random", "_ring", "_spec", "_turns", "_unhealthy", "_weights",
    )  # fmt: skip

    def __init__(self, spec: BalancerSpec, random: Random) -> None:
        self._spec = spec
        self._random = random
        self._joined: dict[E, float] = {}
        self._active: Counter[E] = Counter()
        self._unhealthy: frozenset[E] = frozenset()
        self._settle({}, 0.0)

    def update(self, weights: Mapping[E, int], now: float) -> None:
        """Take the cluster's present endpoints; those that stay keep their age and their requests."""
        assert all(weight > 0 for weight in weights.values()), "a weight is 1 or more"
        if weights != self._weights:
            self._settle(dict(weights), now)

    def _settle(self, weights: Mapping[E, int], now: float) -> None:
        self._weights = weights
        self._joined = {each: self._joined.get(each, now) for each in weights}
        self._oldest = min(self._joined.values(), default=now)
        ringed = weights if self._spec.algorithm is Algorithm.RING_HASH else {}
        self._ring: Ring[E] = Ring(ringed, self._spec.min_ring_size)
        self._arrange(self._unhealthy)

    def pick(
        self,
        now: float,
        *,
        unhealthy: frozenset[E] = frozenset(),
        tried: Collection[E] = (),
        key: int | None = None,
    ) -> E | None:
        """Choose an endpoint that is healthy and, if there is one, not tried; None without any. `done` is owed for it.

        The same object for `unhealthy` as before costs nothing, another one a look whether anything is new in it. `key`
        is a text's `position`.
        """
        if unhealthy is not self._unhealthy:
            if unhealthy != self._unhealthy:
                self._arrange(unhealthy)
            self._unhealthy = unhealthy
        if len(self._avoided) == len(self._weights):
            return None
        endpoint = self._choose(now, tried, key)
        self._active[endpoint] += 1
        return endpoint

    def done(self, endpoint: E) -> None:
        """End one request to an endpoint, which may have left meanwhile."""
        active = self._active.pop(endpoint) - 1
        if active:
            self._active[endpoint] = active

    def active(self, endpoint: E) -> int:
        """Count the requests that an endpoint has."""
        return self._active[endpoint]

    def _arrange(self, unhealthy: frozenset[E]) -> None:
        healthy = {each: weight for each, weight in self._weights.items() if each not in unhealthy}
        panics = 100 * len(healthy) < self._spec.panic_percent * len(self._weights)
        usable = self._weights if panics else healthy
        self._avoided = frozenset(each for each in self._weights if each not in usable)
        self._turns = RoundRobin(usable, self._share, self._random)
        self._draws = Draws(usable, self._random)

    def _choose(self, now: float, tried: Collection[E], key: int | None) -> E:
        match self._spec.algorithm:
            case Algorithm.ROUND_ROBIN:
                return self._turns.pick(now, tried)
            case Algorithm.RANDOM:
                return self._drawn(self._untried(tried))
            case Algorithm.LEAST_REQUEST:
                return self._least_loaded(self._untried(tried), now)
            case Algorithm.RING_HASH:
                return self._owner(tried, key)
            case _ as never:
                assert_never(never)

    def _owner(self, tried: Collection[E], key: int | None) -> E:
        place = int(self._random() * POSITIONS) if key is None else key
        owner = self._ring.owner(place, self._avoided, tried)
        assert owner is not None, "somebody is usable"
        return owner

    def _untried(self, tried: Collection[E]) -> Draws[E]:
        return self._draws.without(tried) if tried else self._draws

    def _drawn(self, draws: Draws[E]) -> E:
        return draws.endpoints[draws.draw()]

    def _least_loaded(self, draws: Draws[E], now: float) -> E:
        """Of two drawn by weight, take the one with fewer requests for its weight: as good as to look at all of them.

        Two different ones: in a cluster of two, one that hangs would else get a quarter of all requests.
        """
        if len(draws.endpoints) == 1:
            return draws.endpoints[0]
        if self._spec.slow_start is None:
            index = draws.draw()
            other = draws.draw_other(index)
        else:
            index = self._warm(draws, draws.draw, now)
            other = self._warm(draws, lambda: draws.draw_other(index), now)
        first, second = draws.endpoints[index], draws.endpoints[other]
        return second if self._load(second) < self._load(first) else first

    def _load(self, endpoint: E) -> float:
        return self._active[endpoint] / self._weights[endpoint]

    def _warm(self, draws: Draws[E], draw: Callable[[], int], now: float) -> int:
        """Draw one, and draw again as often as it is colder than others: this leaves shares as slow start wants them."""
        slow_start = self._spec.slow_start
        assert slow_start is not None, "the caller looked"
        index = draw()
        warmest = slow_start.share(now - self._oldest)
        for _ in range(_DRAWS):
            if self._random() * warmest < self._share(draws.endpoints[index], now):
                break
            index = draw()
        return index

    def _share(self, endpoint: E, now: float) -> float:
        slow_start = self._spec.slow_start
        return slow_start.share(now - self._joined[endpoint]) if slow_start else 1.0
