"""Let a body pass at so many bytes a second."""

from typing import Self

import trio

from tproxy.model.http import Body, Headers
from tproxy.model.outcome import ProxyError

SLICES_PER_SECOND = 20
"""A body comes in so many pieces a second, so that it is slow and not in jerks."""


class SlowBody:
    """A body in slices, each when it is due. What changes: what is left of a part, and when the next is due."""

    __slots__ = ("_body", "_due", "_left", "_rate", "size")

    def __init__(self, body: Body, bytes_per_second: int) -> None:
        self._body = body
        self._rate = bytes_per_second
        self._left = b""
        self._due = trio.current_time()
        self.size = 0

    @property
    def trailers(self) -> Headers:
        """Complete when the body has ended."""
        return self._body.trailers

    @property
    def failure(self) -> ProxyError | None:
        """Why it will never be whole, once that is so."""
        return self._body.failure

    @property
    def ready(self) -> bool:
        """Only an end is ever at hand: each slice has to be waited for."""
        return self.ended

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more, and nothing waits to be pulled."""
        return not self._left and self._body.ended

    def __aiter__(self) -> Self:
        """Give the slices."""
        return self

    async def __anext__(self) -> bytes:
        """Give the next slice when it is due; who was slow to pull it does not get the next one sooner."""
        if not self._left:
            self._left = await self._body.__anext__()
        most = max(1, self._rate // SLICES_PER_SECOND)
        part, self._left = self._left[:most], self._left[most:]
        self._due = max(self._due, trio.current_time()) + len(part) / self._rate
        await trio.sleep_until(self._due)
        self.size += len(part)
        return part
