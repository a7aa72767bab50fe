"""Keep what was sent of a request's body, so that it can be sent again."""

from typing import Self

import trio

from tproxy.model.http import Body, Headers
from tproxy.model.outcome import ProxyError


class Replay:
    """A body that can be pulled from its beginning again. What changes: what is recorded of it, until that is too much.

    Only one copy may be pulled at a time.
    """

    __slots__ = ("_room", "body", "possible", "promised", "recorded")

    def __init__(self, body: Body, most: int) -> None:
        self.body = body
        self.possible = True
        """Whether a further copy would be whole."""
        self.promised = False
        """Whether one is to follow, and the present copy gets no more."""
        self.recorded: list[bytes] = []
        self._room = most

    def copy(self) -> "Copy":
        """Give the body from its beginning."""
        assert self.possible, "what was not recorded cannot be sent again"
        self.promised = False
        return Copy(self)

    def promise(self) -> None:
        """Keep a further copy possible, whatever the present one still pulls before it is cancelled.

        That is one part at most, which may be on its way: it is kept even if it is more than the bound.
        """
        self.promised = self.possible

    def record(self, part: bytes) -> None:
        """Keep a part that was pulled for the first time, if it is still worth it."""
        self._room -= len(part)
        if self._room < 0 and not self.promised:
            self.settle()
        if self.possible:
            self.recorded.append(part)
        else:
            self.recorded.clear()

    def settle(self) -> None:
        """Record no more: there will be no further copy."""
        self.possible = False


class Copy:
    """One pull of such a body. What changes: how far it is."""

    __slots__ = ("_at", "_replay", "size")

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._at = 0
        self.size = 0

    @property
    def trailers(self) -> Headers:
        """Complete when the body has ended."""
        return self._replay.body.trailers

    @property
    def failure(self) -> ProxyError | None:
        """Why it will never be whole, once that is so."""
        return self._replay.body.failure

    @property
    def ready(self) -> bool:
        """Whether the next part, or the end, is at hand without waiting."""
        return self._behind or self._replay.body.ready

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more, and nothing waits to be pulled."""
        return not self._behind and self._replay.body.ended

    def __aiter__(self) -> Self:
        """Give the parts."""
        return self

    async def __anext__(self) -> bytes:
        """Give the next part of what is recorded, or pull one."""
        replay = self._replay
        if self._behind:
            part = replay.recorded[self._at]
            self._at += 1
        else:
            if replay.promised:
                await trio.sleep_forever()
            part = await replay.body.__anext__()
            # Nothing waits between the two: what was pulled and not recorded would be lost to the next copy.
            replay.record(part)
            self._at = len(replay.recorded)
        self.size += len(part)
        return part

    @property
    def _behind(self) -> bool:
        return self._at < len(self._replay.recorded)
