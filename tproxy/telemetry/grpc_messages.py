"""Count the messages in a gRPC body as its parts go by, wherever those are cut."""

from struct import Struct

_PREFIX = Struct(">BL")
"""A flag and a length stand before each message (gRPC over HTTP/2, Length-Prefixed-Message)."""

_ENDLESS = 2**63
"""More than any body holds: behind what is no prefix, no message begins."""


class MessageCounter:
    """What changes: the count, and what is at hand of the message that is not whole yet. No content is kept."""

    __slots__ = ("_left", "_prefix", "count")

    def __init__(self) -> None:
        self.count = 0
        """Messages that were whole."""
        self._prefix = b""
        """What has come of the next one's prefix."""
        self._left = 0
        """Bytes that are to come of the one whose prefix was read."""

    def feed(self, part: bytes) -> None:
        """Take the next part of the body; once the framing is broken, nothing more is counted."""
        if self._left > len(part):
            self._left -= len(part)
            return
        at = self._left
        self.count += self._left > 0
        self._left = 0
        part, self._prefix = self._prefix + part, b""
        self._read(part, at)

    def _read(self, part: bytes, at: int) -> None:
        """Read the messages that begin in `part`, from `at` on."""
        size = len(part)
        while at + _PREFIX.size <= size:
            flag, length = _PREFIX.unpack_from(part, at)
            at += _PREFIX.size + (length if flag <= 1 else _ENDLESS)
            if at > size:
                self._left = at - size
                return
            self.count += 1
        self._prefix = part[at:]
