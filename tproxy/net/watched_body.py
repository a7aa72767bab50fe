"""See a body pass, part by part, without being in its way."""

from collections.abc import Awaitable, Callable
from typing import Self

from tproxy.model.http import Body, Headers
from tproxy.model.outcome import ProxyError


def _unseen(_: bytes) -> None:
    """Look at no part."""


class WatchedBody:
    """A body of which somebody is told each part that is pulled, or once that it is whole. What changes: whether it is.

    Whoever has something to say to how parts are pulled gives `pull`.
    """

    __slots__ = ("_body", "_ended", "_part", "_pull")

    def __init__(
        self,
        body: Body,
        *,
        ended: Callable[[], None] | None = None,
        part: Callable[[bytes], None] = _unseen,
        pull: Callable[[], Awaitable[bytes]] | None = None,
    ) -> None:
        self._body = body
        self._pull = pull or body.__anext__
        self._part = part
        self._ended = ended

    @property
    def whole(self) -> bool:
        """Whether somebody was told that it is."""
        return self._ended is None

    @property
    def size(self) -> int:
        """Bytes pulled so far."""
        return self._body.size

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
        """Whether the next part, or the end, is at hand without waiting."""
        return self._body.ready

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more, and nothing waits to be pulled."""
        # Whoever asks may learn here that there is nothing left to pull, and pull no more.
        return self._body.ended and self._whole()

    def __aiter__(self) -> Self:
        """Give the parts."""
        return self

    async def __anext__(self) -> bytes:
        """Pull the next part, and show it."""
        try:
            part = await self._pull()
        except StopAsyncIteration:
            self._whole()
            raise
        self._part(part)
        return part

    def _whole(self) -> bool:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()
        return True
