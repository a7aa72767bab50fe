"""What the kernel counts of this process, under the names that every Prometheus client gives it."""

import os
from collections.abc import Iterator
from pathlib import Path
from resource import RLIMIT_NOFILE, getpagesize, getrlimit
from typing import NamedTuple

from tproxy.telemetry.registry import Registry


class Taken(NamedTuple):
    """What a process takes of the machine."""

    virtual: float
    resident: float
    started: float
    """Seconds since the epoch."""
    cpu: float
    """Seconds."""
    files: float
    most_files: float


def process_lines(*, openmetrics: bool = False, proc: Path = Path("/proc")) -> Iterator[str]:
    """Write it, if the kernel tells."""
    try:
        taken = _taken(proc)
    except OSError:
        return
    registry = Registry()
    gauges = (
        ("virtual_memory_bytes", "Virtual memory size in bytes.", taken.virtual),
        ("resident_memory_bytes", "Resident memory size in bytes.", taken.resident),
        ("start_time_seconds", "Start time since the epoch in seconds.", taken.started),
        ("open_fds", "Number of open file descriptors.", taken.files),
        ("max_fds", "Maximum number of open file descriptors.", taken.most_files),
    )
    for name, about, value in gauges:
        registry.gauge(f"process_{name}", about).labels().set(value)
    cpu = registry.counter("process_cpu_seconds", "User and system CPU time in seconds.")
    cpu.labels().inc(taken.cpu)
    yield from registry.write(openmetrics=openmetrics)


def _taken(proc: Path) -> Taken:
    """Read <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>, from the field behind the name on."""
    fields = proc.joinpath("self", "stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    [booted] = [
        line.split()[1]
        for line in proc.joinpath("stat").read_text().splitlines()
        if line.startswith("btime ")
    ]
    return Taken(
        virtual=float(fields[20]),
        resident=float(fields[21]) * getpagesize(),
        started=float(booted) + float(fields[19]) / ticks,
        cpu=(float(fields[11]) + float(fields[12])) / ticks,
        files=len(os.listdir(proc / "self" / "fd")),
        most_files=getrlimit(RLIMIT_NOFILE)[0],
    )
