"""Send to several destinations in proportion to their weights."""

from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from typing import Generic, TypeVar

D = TypeVar("D")


class Split(Generic[D]):
    """Destinations and weights of any sum; nothing changes.

    A weight of 0 gets nothing beside others, and a single destination everything: VirtualService's HTTPRouteDestination.
    """

    __slots__ = ("_destinations", "_sums")

    def __init__(self, weighted: Sequence[tuple[D, int]]) -> None:
        some = [each for each in weighted if each[1]] or list(weighted[:1])
        assert some, "a split has destinations"
        assert len(weighted) == 1 or any(weight for _, weight in weighted), "some weight is not 0"
        self._destinations = [destination for destination, _ in some]
        self._sums = list(accumulate(weight for _, weight in some))

    def choose(self, where: float) -> D:
        """Choose by a number in [0, 1): a random one, or a text's `fraction`, which gives the same choice again."""
        at = bisect(self._sums, where * self._sums[-1]) if self._sums[-1] else 0
        return self._destinations[at]
