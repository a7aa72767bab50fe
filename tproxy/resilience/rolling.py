"""Count what happened lately in constant memory, however much it was."""

SLOTS = 10
"""Parts of a window that are forgotten one at a time: what is counted is a tenth of it late to go."""


class Rolling:
    """How many there were in the last `window` seconds, less up to a tenth of them. What changes: a counter for each part."""

    __slots__ = ("_counts", "_newest", "_parts_per_second", "_total")

    def __init__(self, window: float) -> None:
        self._parts_per_second = SLOTS / window
        self._counts = [0] * SLOTS
        self._newest = 0
        """The part that now is in, counted from the clock's beginning."""
        self._total = 0

    def add(self, now: float) -> None:
        """Count one."""
        self._turn(now)
        self._counts[self._newest % SLOTS] += 1
        self._total += 1

    def total(self, now: float) -> int:
        """Sum up the window that ends now."""
        self._turn(now)
        return self._total

    def _turn(self, now: float) -> None:
        newest = int(now * self._parts_per_second)
        if newest == self._newest:
            return
        for part in range(max(self._newest, newest - SLOTS) + 1, newest + 1):
            self._total -= self._counts[part % SLOTS]
            self._counts[part % SLOTS] = 0
        self._newest = max(self._newest, newest)
