"""Pick endpoints by weight: in turn, or at random."""

from bisect import bisect
from collections.abc import Callable, Container, Mapping
from heapq import heapify, heappop, heappush, heapreplace
from itertools import accumulate
from typing import Generic, TypeVar

from tproxy.resilience.fraction import Random

E = TypeVar("E")

Share = Callable[[E, float], float]
"""How much of its weight an endpoint has at a time: above 0, up to 1."""


class RoundRobin(Generic[E]):
    """Each in turn, those with more weight more often and evenly spaced. What changes: when each is due.

    The earliest due is picked, and due again after 1 / weight: in each round of as many picks as there is weight, each
    gets its own. Where each begins is random, or all sidecars would begin with the same endpoint.
    """

    __slots__ = ("_due", "_share", "_weights")

    def __init__(self, weights: Mapping[E, int], share: Share[E], random: Random) -> None:
        self._weights = weights
        self._share = share
        self._due = [(random() / weights[each], order, each) for order, each in enumerate(weights)]
        heapify(self._due)

    def pick(self, now: float, tried: Container[E]) -> E:
        """Pick the earliest due that was not tried, or else the earliest."""
        due = self._due
        aside = []
        while due and due[0][2] in tried:
            aside.append(heappop(due))
        if not due:
            due.append(aside.pop(0))
        at, order, endpoint = due[0]
        weight = self._weights[endpoint] * self._share(endpoint, now)
        heapreplace(due, (at + 1 / weight, order, endpoint))
        for entry in aside:
            heappush(due, entry)
        return endpoint


class Draws(Generic[E]):
    """Draws in proportion to weight; nothing changes."""

    __slots__ = ("_random", "_sums", "_weights", "endpoints")

    def __init__(self, weights: Mapping[E, int], random: Random) -> None:
        self._weights = weights
        self._random = random
        self._sums = list(accumulate(weights.values()))
        self.endpoints = list(weights)

    def draw(self) -> int:
        """Draw the index of an endpoint."""
        return bisect(self._sums, self._random() * self._sums[-1])

    def draw_other(self, index: int) -> int:
        """Draw the index of another one, in proportion to the others' weights; there has to be another."""
        weight = self._weights[self.endpoints[index]]
        where = self._random() * (self._sums[-1] - weight)
        if where >= self._sums[index] - weight:
            where += weight
        # The addition may round up to the sum of all weights, which is nobody's.
        return min(bisect(self._sums, where), len(self._sums) - 1)

    def without(self, tried: Container[E]) -> "Draws[E]":
        """Leave out the tried, unless those are all: a pass over the endpoints, which a retry is worth."""
        rest = {each: weight for each, weight in self._weights.items() if each not in tried}
        return Draws(rest, self._random) if rest else self
