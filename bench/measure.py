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


def memory_bytes(pids: list[int]) -> int:
    """Memory in user space, as if nothing else ran the same programs.

    The harness itself runs our Python, and another Envoy the same Envoy: what one process shares with them is all its
    own. What several processes of one proxy share counts in parts.
    """
    size = "Rss" if len(pids) == 1 else "Pss"
    return sum(rolled_up(size, PROC.joinpath(str(pid), "smaps_rollup").read_text()) for pid in pids)


def rolled_up(size: str, rollup: str) -> int:
    """One of the sizes in the text of a `smaps_rollup`, in bytes."""
    [kibibytes] = [line.split()[1] for line in rollup.splitlines() if line.startswith(f"{size}:")]
    return int(kibibytes) << 10


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
