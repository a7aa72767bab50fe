"""Hold every caller to a rate of its own, in bounded memory."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from heapq import heappop, heappush

from tproxy.resilience.grant import Grant, Limit, RateSpec

KEYS = 10_000
"""Callers remembered at once: some 400 bytes each, and more than the workloads that usually call one."""


class Overflow(StrEnum):
    """What becomes of a stranger when every caller that is remembered is limited."""

    SHARE = "SHARE"
    """It shares one machine with all other such strangers, so that nobody gets free by sending many keys."""
    FORGET = "FORGET"
    """The caller whose limit ends first is forgotten for it."""


@dataclass(frozen=True, slots=True)
class KeyedSpec:
    """A rate for each key."""

    rate: RateSpec
    keys: int = KEYS
    overflow: Overflow = Overflow.SHARE

    def __post_init__(self) -> None:
        assert self.keys > 0, "some keys are remembered"


class KeyedLimits:
    """A machine for each key. What changes: whose there are, and which of them are limited.

    A caller that may not send one more is limited, until the moment that its machine has named. When a stranger comes
    and there is no room, the one that has not been seen for longest is forgotten among those who are not limited; only
    when all are, the spec's overflow decides.
    """

    __slots__ = ("_ends", "_free", "_limited", "_order", "_shared", "_spec")

    def __init__(self, spec: KeyedSpec) -> None:
        self._spec = spec
        self._free: OrderedDict[Hashable, Limit] = OrderedDict()
        """Who is not limited, the one seen last at the end."""
        self._limited: dict[Hashable, Limit] = {}
        self._ends: list[tuple[float, int, Hashable]] = []
        """When each of those stops being limited: a heap with exactly one entry for each."""
        self._order = 0
        """Makes entries comparable, which keys need not be."""
        self._shared: Limit | None = None

    def __len__(self) -> int:
        """Count the keys that are remembered."""
        return len(self._free) + len(self._limited)

    def take(self, key: Hashable, now: float) -> Grant:
        """Ask for one in the name of `key`."""
        self._free_those_whose_limit_ended(now)
        limit = self._limited.get(key)
        if limit is not None:
            return limit.take(now)
        limit = self._free.pop(key, None)
        if limit is None:
            if not self._make_room():
                return self._share(now)
            limit = self._spec.rate.machine(now)
        return self._put(key, limit, now)

    def look(self, key: Hashable, now: float) -> Grant:
        """Say what `take` would, without using anything up or remembering anybody."""
        self._free_those_whose_limit_ended(now)
        limit = self._limited.get(key) or self._free.get(key)
        if limit is not None:
            return limit.look(now)
        shares = len(self._limited) >= self._spec.keys and self._spec.overflow is Overflow.SHARE
        if shares and self._shared is not None:
            return self._shared.look(now)
        return self._spec.rate.machine(now).look(now)

    def _put(self, key: Hashable, limit: Limit, now: float) -> Grant:
        grant = limit.take(now)
        if grant.after:
            self._limited[key] = limit
            self._order += 1
            heappush(self._ends, (now + grant.after, self._order, key))
        else:
            self._free[key] = limit
        return grant

    def _free_those_whose_limit_ended(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            key = heappop(self._ends)[2]
            self._free[key] = self._limited.pop(key)

    def _make_room(self) -> bool:
        if len(self) < self._spec.keys:
            return True
        if self._free:
            self._free.popitem(last=False)
            return True
        if self._spec.overflow is Overflow.SHARE:
            return False
        del self._limited[heappop(self._ends)[2]]
        return True

    def _share(self, now: float) -> Grant:
        if self._shared is None:
            self._shared = self._spec.rate.machine(now)
        return self._shared.take(now)
