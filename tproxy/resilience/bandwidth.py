"""Limit how fast bytes pass."""

from dataclasses import dataclass

PIECES_PER_SECOND = 20
"""How often what waits goes on: more often costs more wake-ups, more rarely makes what is carried jerk."""


@dataclass(frozen=True, slots=True)
class BandwidthSpec:
    """So many bytes in a second, and so many at once after silence."""

    bytes_per_second: int
    burst: int

    def __post_init__(self) -> None:
        assert min(self.bytes_per_second, self.burst) > 0, "something passes"

    def machine(self, now: float) -> "Bandwidth":
        """Make one through which nothing has passed yet."""
        return Bandwidth(self, now)


class Bandwidth:
    """Lets so many bytes through. What changes: how many may pass, and as of when."""

    __slots__ = ("_as_of", "_room", "_spec")

    def __init__(self, spec: BandwidthSpec, now: float) -> None:
        self._spec = spec
        self._room = float(spec.burst)
        self._as_of = now

    def room(self, now: float) -> int:
        """Say how many bytes may pass now."""
        gained = (now - self._as_of) * self._spec.bytes_per_second
        self._room = min(self._room + gained, float(self._spec.burst))
        self._as_of = now
        return max(int(self._room), 0)

    def used(self, size: int) -> None:
        """Count bytes that have passed."""
        self._room -= size

    def until_room(self, now: float) -> float:
        """Say how long to wait until a piece worth moving may pass; 0 when it may now."""
        spec = self._spec
        piece = min(max(spec.bytes_per_second // PIECES_PER_SECOND, 1), spec.burst)
        return max(piece - self.room(now), 0) / spec.bytes_per_second
