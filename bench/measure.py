"""What a proxy's processes take of the machine, as the kernel counts it."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def family(pid: int) -> list[int]:
    """A process and all its descendants, outermost first."""
    return [pid, *(each for child in _children(pid) for each in family(child))]


def cpu_seconds(pids: list[int]) -> float:
    """User and system time that all threads have taken so far.

    From the scheduler's own count: that of /proc/PID/stat moves in steps of 10 ms.
    """
    return sum(_nanoseconds(task) for pid in pids for task in _tasks(pid)) / 1e9


def pss_bytes(pids: list[int]) -> int:
    """Memory in user space, where what is shared counts in parts."""
    return sum(pss(PROC.joinpath(str(pid), "smaps_rollup").read_text()) for pid in pids)


def pss(rollup: str) -> int:
    """The proportional set size in the text of a `smaps_rollup`, in bytes."""
    [size] = [line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:")]
    return int(size) << 10


def _children(pid: int) -> Iterator[int]:
    for task in _tasks(pid):
        with suppress(FileNotFoundError):  # a thread ended meanwhile
            yield from map(int, task.joinpath("children").read_text().split())


def _tasks(pid: int) -> list[Path]:
    return list(PROC.joinpath(str(pid), "task").iterdir())


def _nanoseconds(task: Path) -> int:
    with suppress(FileNotFoundError):  # a thread ended meanwhile
        return int(task.joinpath("schedstat").read_text().split()[0])
    return 0
