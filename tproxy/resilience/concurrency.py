"""Limit how many are under way at once, in all or for each key."""

from collections.abc import Hashable
from dataclasses import dataclass

from tproxy.resilience.grant import Grant

_AFTER = 1.0
"""Nobody knows when one will end, and Retry-After counts in seconds."""


@dataclass(frozen=True, slots=True)
class ConcurrencySpec:
    """So many at once."""

    limit: int

    def __post_init__(self) -> None:
        assert self.limit > 0, "some are let through"

    def grant(self, active: int, *, allowed: bool) -> Grant:
        """Say what may still come while so many are under way."""
        remaining = self.limit - active
        return Grant(allowed, remaining, 0.0 if remaining else _AFTER)


class Concurrency:
    """What changes: how many are under way."""

    __slots__ = ("_spec", "active")

    def __init__(self, spec: ConcurrencySpec) -> None:
        self._spec = spec
        self.active = 0

    def take(self) -> Grant:
        """Begin one, if there is room: `release` is owed when it was allowed."""
        allowed = self.active < self._spec.limit
        self.active += allowed
        return self._spec.grant(self.active, allowed=allowed)

    def look(self) -> Grant:
        """Say whether there is room."""
        return self._spec.grant(self.active, allowed=self.active < self._spec.limit)

    def release(self) -> None:
        """End one."""
        assert self.active, "released more often than taken"
        self.active -= 1


class KeyedConcurrency:
    """So many at once for each key. What changes: who has any under way, so that there are never more keys than those."""

    __slots__ = ("_active", "_spec")

    def __init__(self, spec: ConcurrencySpec) -> None:
        self._spec = spec
        self._active: dict[Hashable, int] = {}

    def __len__(self) -> int:
        """Count the keys that are remembered."""
        return len(self._active)

    def take(self, key: Hashable) -> Grant:
        """Begin one of the key's, if there is room: `release` is owed when it was allowed."""
        active = self._active.get(key, 0)
        if active >= self._spec.limit:
            return self._spec.grant(active, allowed=False)
        self._active[key] = active + 1
        return self._spec.grant(active + 1, allowed=True)

    def look(self, key: Hashable) -> Grant:
        """Say whether there is room for one of the key's."""
        active = self._active.get(key, 0)
        return self._spec.grant(active, allowed=active < self._spec.limit)

    def release(self, key: Hashable) -> None:
        """End one of the key's; a key without any is forgotten."""
        active = self._active.pop(key) - 1
        if active:
            self._active[key] = active
