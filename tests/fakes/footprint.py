"""What a pod's sidecar takes of the machine, as the kernel counts it, and how quickly it serves somebody who is polite."""

import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from tproxy.lab import Pod
from tproxy.lab.namespaces import socket_in
from tproxy.lab.spec import PROXY_UID

TICKS = os.sysconf("SC_CLK_TCK")
ADMIN = ("127.0.0.1", 15000)


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
    inside = pod.netns_path.stat().st_ino
    return [int(entry.name) for entry in Path("/proc").iterdir() if _belongs(entry, inside)]


def _belongs(entry: Path, netns: int) -> bool:
    with contextlib.suppress(OSError):  # a process that ended meanwhile is nobody's
        return (
            entry.name.isdecimal()
            and entry.stat().st_uid == PROXY_UID
            and (entry / "ns/net").stat().st_ino == netns
        )
    return False


def footprint(pids: list[int]) -> Footprint:
    """Look at a sidecar now."""
    return Footprint(
        sum(map(_memory, pids)),
        sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids),
        sum(map(_cpu, pids)),
    )


def _memory(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    raise AssertionError("the kernel has no smaps_rollup")


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


async def server_info(pod: Pod) -> dict[str, object]:
    """What the sidecar says about itself."""
    said = await answer(pod, ADMIN, b"GET /server_info HTTP/1.0\r\n\r\n")
    info: dict[str, object] = json.loads(said.partition(b"\r\n\r\n")[2])
    return info


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
async def watched(client: Pod, server: Pod, address: tuple[str, int]) -> AsyncIterator[Watch]:
    """Have somebody ask politely, and the sidecar's memory measured, for as long as the block lasts."""
    pids = sidecar_pids(server)
    watch = Watch(await settled(pids, within=20))
    over = trio.Event()

    async def ask() -> None:
        watch.slowest = await slowest_answer(client, address, over)

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
