"""HTTP/2's flow control for what we receive."""

DEFAULT_WINDOW = 65535
"""What every window has until somebody says otherwise (RFC 9113, 6.9.2)."""

LARGEST_WINDOW = 2**31 - 1


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
