"""Limit how many come in a window of time."""

from dataclasses import dataclass

from tproxy.resilience.grant import Grant, State

_SLACK = 1e-9
"""What rounding may add to an estimate: far less than one request."""


@dataclass(frozen=True, slots=True)
class FixedWindowSpec:
    """So many in each window; a window opens with the first that comes after the last one closed."""

    requests: int
    window: float

    def __post_init__(self) -> None:
        assert min(self.requests, self.window) > 0, "a window lets some through"

    def machine(self, now: float) -> "FixedWindow":
        """Make a machine whose window is not open yet."""
        return FixedWindow(self, now)

    def restored(self, state: State) -> "FixedWindow":
        """Make one that goes on from what another has remembered."""
        return FixedWindow(self, state[0], int(state[1]))


class FixedWindow:
    """Counts in windows. What changes: when the window opened, and how many it let through.

    Around the end of one window twice as many may come as in one: SlidingWindow makes that rare.
    """

    __slots__ = ("_count", "_opened", "_spec")

    def __init__(self, spec: FixedWindowSpec, opened: float, count: int = 0) -> None:
        self._spec = spec
        self._opened = opened
        self._count = count

    def saved(self) -> State:
        """Give what it remembers."""
        return self._opened, self._count, 0.0

    def take(self, now: float) -> Grant:
        """Count one, if the window has room."""
        self._close(now)
        if not self._count:
            self._opened = now
        allowed = self._count < self._spec.requests
        self._count += allowed
        return self._grant(now, allowed=allowed)

    def look(self, now: float) -> Grant:
        """Say whether the window has room."""
        self._close(now)
        return self._grant(now, allowed=self._count < self._spec.requests)

    def _close(self, now: float) -> None:
        if now - self._opened >= self._spec.window:
            self._count = 0

    def _grant(self, now: float, *, allowed: bool) -> Grant:
        remaining = self._spec.requests - self._count
        after = 0.0 if remaining else self._opened + self._spec.window - now
        return Grant(allowed, remaining, max(after, 0.0))


@dataclass(frozen=True, slots=True)
class SlidingWindowSpec:
    """So many in any window, by an estimate from two counters."""

    requests: int
    window: float

    def __post_init__(self) -> None:
        assert min(self.requests, self.window) > 0, "a window lets some through"

    def machine(self, now: float) -> "SlidingWindow":
        """Make a machine that has counted nothing."""
        return SlidingWindow(self, now)

    def restored(self, state: State) -> "SlidingWindow":
        """Make one that goes on from what another has remembered."""
        began, before, count = state
        return SlidingWindow(self, began, int(before), int(count))


class SlidingWindow:
    """Counts what the last window's length may have held. What changes: two counters, and when the later one began.

    As Cloudflare's: those of the window before are taken to have come evenly, so at a fraction f of the present one
    1 - f of them still count. The estimate is exact when they did; otherwise it errs by less than f or 1 - f of them,
    whichever is more. So never twice `requests` come in any window's length, and with an even rate no more than
    `requests`.
    """

    __slots__ = ("_before", "_began", "_count", "_spec")

    def __init__(
        self, spec: SlidingWindowSpec, began: float, before: int = 0, count: int = 0
    ) -> None:
        self._spec = spec
        self._began = began
        self._before = before
        self._count = count

    def saved(self) -> State:
        """Give what it remembers."""
        return self._began, self._before, self._count

    def take(self, now: float) -> Grant:
        """Count one, if the estimate leaves room."""
        room = self._room(now)
        allowed = room > 0
        self._count += allowed
        return self._grant(now, room - allowed, allowed=allowed)

    def look(self, now: float) -> Grant:
        """Say whether the estimate leaves room."""
        room = self._room(now)
        return self._grant(now, room, allowed=room > 0)

    def _room(self, now: float) -> int:
        """Turn the window if its time is over, and estimate how many more may come."""
        window = self._spec.window
        passed = int((now - self._began) / window)
        if passed > 0:
            self._before = self._count if passed == 1 else 0
            self._count = 0
            self._began += passed * window
        estimate = self._before * (1 - (now - self._began) / window) + self._count
        return max(int(self._spec.requests - estimate + _SLACK), 0)

    def _grant(self, now: float, room: int, *, allowed: bool) -> Grant:
        return Grant(allowed, room, 0.0 if room else max(self._free_at() - now, 0.0))

    def _free_at(self) -> float:
        """Find when the estimate leaves room for one more, if none comes meanwhile."""
        spec = self._spec
        if self._count < spec.requests:
            counting = (spec.requests - 1 - self._count) / self._before
            return self._began + spec.window * (1 - counting)
        return self._began + spec.window * (1 + 1 / spec.requests)
