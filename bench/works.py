"""The kinds of work that a row may ask of a proxy, and what each measures."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from bench.arena import Contender
from bench.handshakes import handshakes
from bench.loads import Load, LoadFailed, client
from bench.measure import cpu_seconds, memory_bytes
from bench.proxies import ROOT
from bench.sidecar import other_cores
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

    async def work(contender: Contender) -> Figures:
        return (await _carried(load, seconds, contender))[1]

    return work


def handshaken(load: Load, seconds: float) -> Work:
    """The same where each unit is a full handshake with each of the proxy's sidecars; LoadFailed if one is not."""

    async def work(contender: Contender) -> Figures:
        before = [await handshakes(contender.proxy, each) for each in contender.sidecars]
        units, told = await _carried(load, seconds, contender)
        for sidecar, then in zip(contender.sidecars, before, strict=True):
            (await handshakes(contender.proxy, sidecar)).check(then, units)
        return told

    return work


async def _carried(load: Load, seconds: float, contender: Contender) -> tuple[float, Figures]:
    before = cpu_seconds(contender.pids())
    cores = other_cores() if load.kept_off else ()
    argv = [*cores, *load.argv(contender.address, seconds)]
    with trio.fail_after(seconds + PATIENCE):
        done = await contender.client.run(argv, user=ROOT)
    cpu = cpu_seconds(contender.pids()) - before
    if done.returncode:
        raise LoadFailed(done.stdout + done.stderr)
    counted = load.read(done.stdout + done.stderr)
    told = {"rate": counted.units / counted.seconds, **counted.latencies}
    if contender.sidecars:
        told |= {"cpu": cpu / counted.units, "busy": cpu / counted.seconds}
    return counted.units, told


async def started(contender: Contender) -> Figures:
    """Start the proxy: from its exec to the first request answered through it."""
    return {"s": await contender.start()}


async def rested(contender: Contender) -> Figures:
    """Start the proxy, and let it do nothing: its memory."""
    await contender.start()
    return {"pss": await _memory(contender)}


def crowded(kind: str, count: int) -> Work:
    """Start the proxy, open idle connections and close them: memory for each, and what is not given back."""

    async def work(contender: Contender) -> Figures:
        await contender.start()
        before = await _memory(contender)
        async with _crowd(contender, kind) as talk:
            await _hold(talk, count)
            full = await _memory(contender)
            await _hold(talk, 0)
            left = await _memory(contender)
        return {"kib": (full - before) / count / 1024, "left": left - before}

    return work


def among(kind: str, count: int) -> Beside:
    """So many idle connections, for as long as a row takes."""

    @asynccontextmanager
    async def beside(contender: Contender) -> AsyncIterator[None]:
        async with _crowd(contender, kind) as talk:
            await _hold(talk, count)
            if contender.sidecars:
                await _settled(contender)
            yield
            await _hold(talk, 0)

    return beside


def _crowd(contender: Contender, kind: str) -> AbstractAsyncContextManager[Talk]:
    words = client("crowd", kind, contender.address, PORTS[kind])
    return talking(contender.client, [*other_cores(), *words])


async def _hold(talk: Talk, count: int) -> None:
    """Have a crowd be so many."""
    with trio.fail_after(PATIENCE):
        told = await talk.ask(str(count))
    if told["failed"]:
        raise LoadFailed(f"{told['failed']} of {count} connections failed")


async def _memory(contender: Contender) -> float:
    """What the proxy takes once it has nothing left to do."""
    await _settled(contender)
    return float(sum(memory_bytes(sidecar.pids()) for sidecar in contender.sidecars))


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
