"""Two things at once, ended together, without exception groups between them and the pipeline."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from tproxy.model.outcome import ProxyError


@asynccontextmanager
async def alongside(work: Callable[[], Awaitable[None]]) -> AsyncIterator[trio.Event]:
    """Run `work` beside the block, which gets the event that `work` is done, and cancel it with the block's end.

    A ProxyError of either ends the other, and comes out as itself.
    """
    failure: ProxyError | None = None
    done = trio.Event()

    async def run() -> None:
        nonlocal failure
        try:
            await work()
        except ProxyError as error:
            failure = error
            nursery.cancel_scope.cancel()
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        try:
            yield done
        except ProxyError as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        try:
            raise failure
        finally:
            failure = None  # it holds this frame, which must not hold it
