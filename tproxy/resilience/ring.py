"""Give each key the endpoint that it had before, as far as endpoints allow."""

from bisect import bisect
from collections.abc import Container, Mapping
from math import ceil
from typing import Generic, TypeVar

from tproxy.resilience.fraction import positions

E = TypeVar("E")

REPLICAS = 128
"""Places of the heaviest endpoint: the shares of equal ones differ by some 9 % (one in the square root of it)."""

MOST_PLACES = 16_384
"""Places of all endpoints together: computing them holds everything else up, for tens of milliseconds."""


class Ring(Generic[E]):
    """Endpoints at places that their names and weights give them; a key belongs to the next one. Nothing changes.

    Who joins takes keys and who leaves gives keys, and no other key moves, as long as the heaviest weight stays what it
    is and the ring has neither too few nor too many places for REPLICAS.
    """

    __slots__ = ("_owners", "_places")

    def __init__(self, weights: Mapping[E, int], min_size: int) -> None:
        each = _places_of_the_heaviest(weights, min_size)
        heaviest = max(weights.values(), default=1)
        ring = [
            (place, order, endpoint)
            for order, (endpoint, weight) in enumerate(weights.items())
            for place in positions(str(endpoint).encode(), max(round(each * weight / heaviest), 1))
        ]
        ring.sort()
        self._places = [place for place, _, _ in ring]
        self._owners = [endpoint for _, _, endpoint in ring]

    def __len__(self) -> int:
        """Count the places."""
        return len(self._places)

    def owner(self, key: int, avoided: Container[E], tried: Container[E] = ()) -> E | None:
        """Find the first at or after a key's position whom nothing speaks against; the tried rather than none."""
        start = bisect(self._places, key)
        fallback = None
        for step in range(len(self._owners)):
            owner = self._owners[(start + step) % len(self._owners)]
            if owner in avoided:
                continue
            if owner not in tried:
                return owner
            fallback = owner if fallback is None else fallback
        return fallback


def _places_of_the_heaviest(weights: Mapping[E, int], min_size: int) -> int:
    """Make the ring fine enough for few endpoints, and small enough for many."""
    heaviest = max(weights.values(), default=1)
    relative = max(sum(weights.values()) / heaviest, 1)
    return max(min(max(REPLICAS, ceil(min_size / relative)), int(MOST_PLACES / relative)), 1)
