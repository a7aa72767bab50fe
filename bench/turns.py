"""One run of one row, and how runs take turns: A B A B, so that what else the machine does falls on all alike."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

import trio

from bench.arena import Arena, Contender
from bench.loads import LoadFailed
from bench.proxies import Proxy
from tproxy.lab import LabError

Figures = Mapping[str, float]
"""What one run came to: `rate`, `cpu`, `p50` and whatever else was measured."""
Beside = Callable[[Contender], AbstractAsyncContextManager[None]]
Work = Callable[[Contender], Awaitable[Figures]]


@dataclass(frozen=True, slots=True)
class Entry:
    """Who takes part in a row, and does what."""

    label: str
    proxy: Proxy
    work: Work
    beside: Beside | None = None
    """What goes on meanwhile, in all turns."""


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison; the first entry is held against each of the others."""

    id: str
    title: str
    unit: str
    entries: Sequence[Entry]
    bound: bool = False
    """Whether the proxy should be what limits the rate: then a run in which it was idle is a starved one."""
    naming: str = "{row}_{figure}_vs_{other}"
    """The ids of its comparisons in the summary."""
    head: str = ""
    """The figure whose comparisons are called by the row alone."""
    compared: Sequence[str] = ()
    """The figures that are; empty is all."""
    turns: int | None = None
    """How many it takes, where that is not what all take."""


@dataclass(slots=True)
class Taken:
    """All runs of a row. What changes: they are added turn by turn."""

    row: Row
    runs: dict[str, list[Figures]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """What an entry died of: it takes no more turns."""

    def complete(self, label: str) -> Sequence[Figures]:
        """The runs of an entry, unless it failed in one of them."""
        return () if label in self.failures else self.runs.get(label, ())


async def take_turns(row: Row, arena: Arena, turns: int) -> Taken:
    """Let all entries of a row run once each turn."""
    taken = Taken(row, {entry.label: [] for entry in row.entries})
    async with AsyncExitStack() as scopes:
        for entry in row.entries:
            await _attempt(entry, taken, partial(_enter, entry, arena, scopes))
        for _ in range(row.turns or turns):
            for entry in row.entries:
                await _attempt(entry, taken, partial(_run, entry, arena, taken))
    return taken


async def _attempt(entry: Entry, taken: Taken, step: Callable[[], Awaitable[None]]) -> None:
    """Do a step of an entry that has not failed; what keeps it from being done is told, not raised."""
    if entry.label in taken.failures:
        return
    try:
        await step()
    except (LoadFailed, LabError, OSError, trio.TooSlowError) as error:
        taken.failures[entry.label] = str(error) or "it took too long"


async def _enter(entry: Entry, arena: Arena, scopes: AsyncExitStack) -> None:
    contender = arena.contender(entry.proxy)
    if entry.beside is not None:
        await scopes.enter_async_context(entry.beside(contender))


async def _run(entry: Entry, arena: Arena, taken: Taken) -> None:
    contender = arena.contender(entry.proxy)
    taken.runs[entry.label].append(await entry.work(contender))
    contender.forget_logs()
