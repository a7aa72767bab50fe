"""Follow every source whose endpoints some cluster needs, for as long as it does."""

import logging
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Protocol

import trio

from tproxy.discovery.source import NotFound, Result, Source
from tproxy.model.cluster import Dns, Endpoint

LOG = logging.getLogger(__name__)


class Wanted(Protocol):
    """Whoever needs endpoints."""

    @property
    def origins(self) -> AbstractSet[Dns]:
        """Where they come from."""

    async def changed(self) -> None:
        """Wait until that may be different."""

    def found(self, origin: Dns, endpoints: tuple[Endpoint, ...], now: float) -> None:
        """Take the present endpoints."""

    def fail(self, origin: Dns, why: str, now: float) -> None:
        """Take it that nothing is known anew."""


class Discovery:
    """One worker's. What changes: which sources are followed."""

    def __init__(
        self, wanted: Wanted, source: Callable[[Dns], Source], count: Callable[[Result], None]
    ) -> None:
        self._wanted = wanted
        self._source = source
        self._count = count
        """Told what each look came to."""

    async def run(self) -> None:
        """Follow what is wanted, until cancelled."""
        followed: dict[Dns, trio.CancelScope] = {}
        async with trio.open_nursery() as nursery:
            while True:
                wanted = self._wanted.origins
                for origin in [each for each in followed if each not in wanted]:
                    followed.pop(origin).cancel()
                for origin in wanted:
                    if origin not in followed:
                        followed[origin] = trio.CancelScope()
                        nursery.start_soon(self._follow, origin, followed[origin])
                await self._wanted.changed()

    async def _follow(self, origin: Dns, scope: trio.CancelScope) -> None:
        source, failing = self._source(origin), False
        with scope:
            while True:
                try:
                    endpoints = await source.endpoints()
                except NotFound as failure:
                    self._count(failure.result)
                    if not failing:
                        LOG.warning("endpoints stay as they are: DNS %s", failure)
                    failing = True
                    self._wanted.fail(origin, f"DNS: {failure}", trio.current_time())
                else:
                    self._count(Result.OK)
                    failing = False
                    self._wanted.found(origin, endpoints, trio.current_time())
