"""The kinds of work that a row may ask of a proxy, and what each measures."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from bench.arena import Arena, Contender, other_cores
from bench.loads import Load, LoadFailed, client
from bench.measure import cpu_seconds, memory_bytes
from bench.proxies import ROOT
from bench.talk import Talk, talking
from bench.turns import Beside, Figures, Work

PATIENCE = 60.0
"""Seconds beyond what something should take until it has failed."""
QUIET_SECONDS = 0.3
QUIET_SHARE = 0.1
"""A proxy that takes less of a core than this for so long has nothing left to do."""
PORTS = {"tcp": "9000", "http": "8080"}


def loaded(load: Load, seconds: float) -> Work:
    """Carry a load for some seconds: rate, CPU time per unit, how busy the proxy was, how long answers took."""

    async def work(arena: Arena, contender: Contender) -> Figures:
        before = cpu_seconds(contender.pids())
        cores = other_cores() if load.kept_off else ()
        argv = [*cores, *load.argv(contender.address, seconds)]
        with trio.fail_after(seconds + PATIENCE):
            done = await arena.client.run(argv, user=ROOT)
        cpu = cpu_seconds(contender.pids()) - before
        if done.returncode:
            raise LoadFailed(done.stdout + done.stderr)
        counted = load.read(done.stdout + done.stderr)
        told = {"rate": counted.units / counted.seconds, **counted.latencies}
        if contender.process:
            told |= {"cpu": cpu / counted.units, "busy": cpu / counted.seconds}
        return told

    return work


async def started(arena: Arena, contender: Contender) -> Figures:
    """Start the proxy: from its exec to the first request answered through it."""
    return {"s": await contender.start(arena.client)}


async def rested(arena: Arena, contender: Contender) -> Figures:
    """Start the proxy, and let it do nothing: its memory."""
    await contender.start(arena.client)
    return {"pss": await _memory(contender)}


def crowded(kind: str, count: int) -> Work:
    """Start the proxy, open idle connections and close them: memory for each, and what is not given back."""

    async def work(arena: Arena, contender: Contender) -> Figures:
        await contender.start(arena.client)
        before = await _memory(contender)
        async with _crowd(arena, contender, kind) as talk:
            await _hold(talk, count)
            full = await _memory(contender)
            await _hold(talk, 0)
            left = await _memory(contender)
        return {"kib": (full - before) / count / 1024, "left": left - before}

    return work


def among(kind: str, count: int) -> Beside:
    """So many idle connections, for as long as a row takes."""

    @asynccontextmanager
    async def beside(arena: Arena, contender: Contender) -> AsyncIterator[None]:
        async with _crowd(arena, contender, kind) as talk:
            await _hold(talk, count)
            if contender.process:
                await _settled(contender)
            yield
            await _hold(talk, 0)

    return beside


def _crowd(arena: Arena, contender: Contender, kind: str) -> AbstractAsyncContextManager[Talk]:
    words = client("crowd", kind, contender.address, PORTS[kind])
    return talking(arena.client, [*other_cores(), *words])


async def _hold(talk: Talk, count: int) -> None:
    """Have a crowd be so many."""
    with trio.fail_after(PATIENCE):
        told = await talk.ask(str(count))
    if told["failed"]:
        raise LoadFailed(f"{told['failed']} of {count} connections failed")


async def _memory(contender: Contender) -> float:
    """What the proxy takes once it has nothing left to do."""
    await _settled(contender)
    return float(memory_bytes(contender.pids()))


async def _settled(contender: Contender) -> None:
    """Wait until the proxy takes hardly any CPU time."""
    with trio.fail_after(PATIENCE):
        before = cpu_seconds(contender.pids())
        while True:
            await trio.sleep(QUIET_SECONDS)
            now = cpu_seconds(contender.pids())
            if now - before < QUIET_SECONDS * QUIET_SHARE:
                return
            before = now
