"""Work beside a block, ended together with it, without exception groups between them and the pipeline."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from tproxy.model.http import Work
from tproxy.model.outcome import ProxyError


class Beside:
    """Some work that goes on. What changes: whether it is done."""

    __slots__ = ("_done", "_scope")

    def __init__(self) -> None:
        self._done = trio.Event()
        self._scope = trio.CancelScope()

    async def wait(self) -> None:
        """Wait until it is done."""
        await self._done.wait()

    def cancel(self) -> None:
        """Have it end."""
        self._scope.cancel()

    async def run(self, work: Work) -> None:
        """Do it."""
        with self._scope:
            await work()
        self._done.set()


@asynccontextmanager
async def alongside() -> AsyncIterator[Callable[[Work], Beside]]:
    """Let the block start work, which is cancelled with the block's end.

    A ProxyError of either ends the other, and comes out as itself.
    """
    failure: ProxyError | None = None

    async def run(beside: Beside, work: Work) -> None:
        nonlocal failure
        try:
            await beside.run(work)
        except ProxyError as error:
            failure = error
            nursery.cancel_scope.cancel()

    def start(work: Work) -> Beside:
        beside = Beside()
        nursery.start_soon(run, beside, work)
        return beside

    async with trio.open_nursery() as nursery:
        try:
            yield start
        except ProxyError as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        try:
            raise failure
        finally:
            failure = None  # it holds this frame, which must not hold it
