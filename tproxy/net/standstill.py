"""Notice what stands still at no cost to what moves: a look now and then compares counters that are kept anyway."""

from collections.abc import Hashable, Iterable
from typing import Generic, Protocol, TypeVar

LOOK_SECONDS = 1.0
"""How late a standstill may be noticed."""


class Moving(Hashable, Protocol):
    """What ought to move."""

    @property
    def progress(self) -> int:
        """Any number that changes whenever it does."""


T = TypeVar("T", bound=Moving)


class Standstill(Generic[T]):
    """How long each of many things has stood still. What changes: at each look, what was seen.

    `seconds` is how long is too long; 0 means never.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: dict[T, tuple[int, float]] = {}

    def look(self, things: Iterable[T], now: float) -> list[T]:
        """Find those that have stood still for too long, among all that there are now."""
        if not self._seconds:
            return []
        before, self._seen = self._seen, {}
        for thing in things:
            progress = thing.progress
            seen = before.get(thing)
            self._seen[thing] = (progress, now) if seen is None or seen[0] != progress else seen
        return [thing for thing, seen in self._seen.items() if now - seen[1] >= self._seconds]
