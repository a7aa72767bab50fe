"""One run of one row, and how runs take turns: A B A B, so that what else the machine does falls on all alike."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import trio

from bench.arena import Arena, Contender, other_cores
from bench.loads import Load, LoadFailed
from bench.measure import cpu_seconds
from bench.proxies import ROOT, Proxy

Figures = Mapping[str, float]
"""What one run came to: `rate`, `cpu`, `p50` and whatever else was measured."""
Work = Callable[[Arena, Contender], Awaitable[Figures]]

PATIENCE = 30.0
"""Seconds beyond what a load should take until it has failed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Who takes part in a row, and does what."""

    label: str
    proxy: Proxy
    work: Work


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison; the first entry is held against each of the others."""

    id: str
    title: str
    unit: str
    entries: Sequence[Entry]
    bound: bool = False
    """Whether the proxy should be what limits the rate: then a run in which it was idle is a starved one."""


@dataclass(slots=True)
class Taken:
    """All runs of a row. What changes: they are added turn by turn."""

    row: Row
    runs: dict[str, list[Figures]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """What an entry died of: it takes no more turns."""


async def take_turns(row: Row, arena: Arena, turns: int) -> Taken:
    """Let all entries of a row run once each turn."""
    taken = Taken(row, {entry.label: [] for entry in row.entries})
    for _ in range(turns):
        for entry in row.entries:
            if entry.label not in taken.failures:
                await _run(entry, arena, taken)
    return taken


async def _run(entry: Entry, arena: Arena, taken: Taken) -> None:
    contender = arena.contenders.get(entry.proxy.name)
    if contender is None:
        taken.failures[entry.label] = arena.failures[entry.proxy.name]
        return
    try:
        taken.runs[entry.label].append(await entry.work(arena, contender))
    except (LoadFailed, trio.TooSlowError) as error:
        taken.failures[entry.label] = str(error) or "it took too long"
    contender.forget_log()


def loaded(load: Load, seconds: float) -> Work:
    """The work of carrying a load for some seconds."""

    async def work(arena: Arena, contender: Contender) -> Figures:
        before = cpu_seconds(contender.pids())
        argv = [*other_cores(), *load.argv(contender.address, seconds)]
        with trio.fail_after(seconds + PATIENCE):
            done = await arena.client.run(argv, user=ROOT)
        cpu = cpu_seconds(contender.pids()) - before
        if done.returncode:
            raise LoadFailed(done.stdout + done.stderr)
        counted = load.read(done.stdout)
        told = {"rate": counted.units / counted.seconds, **counted.latencies}
        if contender.process:
            told |= {"cpu": cpu / counted.units, "busy": cpu / counted.seconds}
        return told

    return work
