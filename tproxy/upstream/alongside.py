"""Two things at once, ended together, without exception groups between them and the pipeline."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from tproxy.model.outcome import ProxyError


@asynccontextmanager
async def alongside(work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run `work` beside the block and cancel it with the block's end; the block's ProxyError comes out as itself."""
    failure: ProxyError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        try:
            yield
        except ProxyError as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
