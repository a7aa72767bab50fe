"""What a pod's sidecar takes of the machine, as the kernel counts it, and how quickly it serves somebody who is polite."""

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import trio

from tproxy.lab import Pod
from tproxy.lab.namespaces import socket_in
from tproxy.model.ports import PROXY_UID

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Footprint:
    """One look at all processes of one sidecar."""

    memory: int
    """Proportional set size: what is shared counts in parts."""
    descriptors: int
    cpu: float
    """Seconds so far."""


def sidecar_pids(pod: Pod) -> list[int]:
    """The processes in a pod's network that run as the sidecar does."""
    return [pid for pid in pod.record.pids() if _is_the_proxys(pid)]


def _is_the_proxys(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return f"\nUid:\t{PROXY_UID}\t" in Path(f"/proc/{pid}/status").read_text()
    return False


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident and proportional set size, in bytes."""

    rss: int = 0
    pss: int = 0

    def less(self, other: Self) -> Self:
        """What came to be since `other`."""
        return type(self)(self.rss - other.rss, self.pss - other.pss)

    def over(self, count: int) -> Self:
        """The share of each of `count`."""
        return type(self)(self.rss // count, self.pss // count)


def memory(pids: list[int]) -> Memory:
    """What processes take together."""
    sizes = {"Rss:": 0, "Pss:": 0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, size, *_ = line.split()
            if name in sizes:
                sizes[name] += int(size) << 10
    return Memory(sizes["Rss:"], sizes["Pss:"])


def descriptors(pids: list[int]) -> int:
    """How many descriptors are open."""
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)


def footprint(pids: list[int]) -> Footprint:
    """Look at a sidecar now."""
    return Footprint(memory(pids).pss, descriptors(pids), sum(map(_cpu, pids)))


def _cpu(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS


async def settled(pids: list[int], *, within: float, quiet: float = 0.5) -> Footprint:
    """Wait until the sidecar has nothing left to do: it takes hardly any CPU time for a while."""
    with trio.fail_after(within):
        before = footprint(pids)
        while True:
            await trio.sleep(quiet)
            now = footprint(pids)
            if now.cpu - before.cpu <= quiet / 10:
                return now
            before = now


async def dialled(pod: Pod, address: tuple[str, int]) -> trio.SocketStream:
    """Connect to an address from within a pod."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    peer = trio.socket.from_stdlib_socket(socket_in(pod.netns_path, family))
    try:
        await peer.connect(address)
    except BaseException:
        peer.close()
        raise
    return trio.SocketStream(peer)


async def answer(pod: Pod, address: tuple[str, int], said: bytes, *, broken: bool = False) -> bytes:
    """Say something and read all that is answered; a reset is raised, unless `broken` says that it ends an answer too."""
    async with await dialled(pod, address) as stream:
        await stream.send_all(said)
        heard = b""
        with contextlib.suppress(*([trio.BrokenResourceError] if broken else [])):
            async for part in stream:
                heard += part
        return heard


async def suffered(pod: Pod, address: tuple[str, int], said: bytes, trickle: bytes) -> float:
    """Say something, then `trickle` now and then, and return after how many seconds that was ended."""
    began = trio.current_time()
    with contextlib.suppress(trio.BrokenResourceError):
        async with await dialled(pod, address) as stream:
            await stream.send_all(said)
            while True:
                with trio.move_on_after(0.3):
                    while await stream.receive_some():
                        pass
                    break
                await stream.send_all(trickle)
    return trio.current_time() - began


async def slowest_answer(pod: Pod, address: tuple[str, int], until: trio.Event) -> float:
    """Ask five times a second on a fresh connection, and tell the longest that an answer took."""
    slowest = 0.0
    while not until.is_set():
        began = trio.current_time()
        with trio.fail_after(10):
            said = await answer(pod, address, b"GET /1k HTTP/1.0\r\nHost: server\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 200 "), said[:100]
        assert len(said.partition(b"\r\n\r\n")[2]) == 1024
        slowest = max(slowest, trio.current_time() - began)
        with trio.move_on_after(0.2):
            await until.wait()
    return slowest


async def slowest_echo(pod: Pod, address: tuple[str, int], until: trio.Event) -> float:
    """Have an echo answer five times a second, on one connection that stays and on a fresh one, and tell the longest."""
    slowest = 0.0
    async with await dialled(pod, address) as kept:
        while not until.is_set():
            began = trio.current_time()
            with trio.fail_after(10):
                await _echoed(kept)
                async with await dialled(pod, address) as fresh:
                    await _echoed(fresh)
            slowest = max(slowest, trio.current_time() - began)
            with trio.move_on_after(0.2):
                await until.wait()
    return slowest


async def _echoed(stream: trio.SocketStream) -> None:
    await stream.send_all(b"\0")
    assert await stream.receive_some(1) == b"\0"


Polite = Callable[[Pod, tuple[str, int], trio.Event], Awaitable[float]]
"""Asks now and then until an event, and tells the longest that an answer took."""


@dataclass(slots=True)
class Watch:
    """What was seen while something went on. What changes: all of it, five times a second."""

    before: Footprint
    slowest: float = 0.0
    most_memory: int = 0

    @property
    def growth(self) -> int:
        return self.most_memory - self.before.memory


@asynccontextmanager
async def watched(
    client: Pod, server: Pod, address: tuple[str, int], polite: Polite = slowest_answer
) -> AsyncIterator[Watch]:
    """Have somebody ask politely, and the sidecar's memory measured, for as long as the block lasts."""
    pids = sidecar_pids(server)
    watch = Watch(await settled(pids, within=20))
    over = trio.Event()

    async def ask() -> None:
        watch.slowest = await polite(client, address, over)

    async def measure() -> None:
        while not over.is_set():
            watch.most_memory = max(watch.most_memory, footprint(pids).memory)
            with trio.move_on_after(0.2):
                await over.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(measure)
        yield watch
        over.set()
