"""What a pod's sidecar holds, as the kernel and the sidecar itself say."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import trio

from fakes.mesh import ROOT
from tproxy.lab import Pod, Process
from tproxy.lab.spec import PROXY_UID

INFO = ("curl", "-sS", "http://127.0.0.1:15000/server_info")


def processes(pod: Pod) -> Iterator[Path]:
    """The sidecar's processes, in /proc."""
    for pid in pod.record.pids():
        with suppress(FileNotFoundError, ProcessLookupError):
            process = Path(f"/proc/{pid}")
            if f"\nUid:\t{PROXY_UID}\t" in (process / "status").read_text():
                yield process


def workers(supervisor: Process) -> list[int]:
    """The pids of a sidecar's workers, as this process sees them."""
    path = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children")
    return sorted(int(pid) for pid in path.read_text().split())


async def said(log: Path, text: str, *, times: int = 1, seconds: float = 10) -> None:
    """Wait until a log says something."""
    with trio.fail_after(seconds):
        while log.read_text().count(text) < times:  # noqa: ASYNC110 - another process's doing has no event
            await trio.sleep(0.02)


def descriptors(pod: Pod) -> int:
    """How many descriptors are open."""
    return sum(len(list((process / "fd").iterdir())) for process in processes(pod))


@dataclass(frozen=True)
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


def memory(pod: Pod) -> Memory:
    """What the sidecar's processes take together."""
    sizes = {"Rss:": 0, "Pss:": 0}
    for process in processes(pod):
        for line in (process / "smaps_rollup").read_text().splitlines():
            name, size, *_ = line.split()
            if name in sizes:
                sizes[name] += 1024 * int(size)
    return Memory(sizes["Rss:"], sizes["Pss:"])


async def open_connections(pod: Pod) -> int:
    """How many captured connections the sidecar says are open."""
    return int(json.loads((await pod.run(INFO, user=ROOT)).stdout)["open_connections"])
