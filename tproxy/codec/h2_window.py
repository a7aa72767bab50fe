"""HTTP/2's flow control for what we receive."""

from collections.abc import Container

DEFAULT_WINDOW = 65535
"""What every window has until somebody says otherwise (RFC 9113, 6.9.2)."""

LARGEST_WINDOW = 2**31 - 1

OPENING_WINDOW = 16384
"""What an upstream may send on a stream whose consumer has taken nothing yet: a slow one may leave it so for long."""


class Window:
    """What the peer may send. What changes: how much of it is left, and how much is due to be granted again.

    It is granted again in halves: fewer announcements than parts, and never a peer that waits for one in vain.
    """

    __slots__ = ("_due", "_least", "_left", "_size")

    def __init__(self, size: int) -> None:
        self._size = self._left = size
        self._due = 0
        self._least = min(0, size - DEFAULT_WINDOW)
        """Below zero for as much as a peer may send that has not read our settings yet."""

    def take(self, length: int) -> bool:
        """Count what came; False when it was more than the peer may send."""
        self._left -= length
        return self._left >= self._least

    def give(self, credit: int) -> int:
        """Return the increment to announce for all that was consumed, or 0 while that can wait."""
        self._due += credit
        if self._due * 2 < self._size:
            return 0
        due, self._due = self._due, 0
        self._left += due
        return due

    @property
    def size(self) -> int:
        """The most that can have come and not been consumed."""
        return self._size

    @property
    def held(self) -> int:
        """What has come and not been consumed."""
        return self._size - self._left - self._due

    def grow(self, more: int) -> None:
        """Let the peer send so much more, once it is announced."""
        self._size += more
        self._left += more


class Allowance:
    """What windows may have beyond what they open with. What changes: which have how much of it.

    A window doubles as its consumer takes from it, so whoever takes nothing holds little. What a stream had can be had
    by others when it is over and all of it was consumed.
    """

    def __init__(self, size: int) -> None:
        self._left = size
        self._grown: dict[int, tuple[Window, int]] = {}

    def grow(self, number: int, window: Window, most: int, streams: Container[int]) -> int:
        """Grow a window, whose consumer is quick, as far as there is something left; `streams` are those not over."""
        wanted = min(window.size, most - window.size)
        if wanted > self._left:
            self._reclaim(streams)
        more = min(wanted, self._left)
        if more:
            self._left -= more
            window.grow(more)
            self._grown[number] = window, self._had(number) + more
        return more

    def consumed(self, number: int, credit: int) -> None:
        """Note what was consumed of a stream that is over."""
        if number in self._grown:
            self._grown[number][0].give(credit)

    def _reclaim(self, streams: Container[int]) -> None:
        over = [number for number in self._grown if number not in streams]
        for number in over:
            if not self._grown[number][0].held:
                self._left += self._grown.pop(number)[1]

    def _had(self, number: int) -> int:
        return self._grown[number][1] if number in self._grown else 0
