"""What all runs come to."""

import statistics
from collections.abc import Iterator

from bench.turns import Figures, Taken

STARVED = 0.7
"""Less of a core than this, where the proxy should limit the rate, and somebody else limited it."""


def starved(taken: Taken, run: Figures) -> bool:
    """Whether a run says nothing about how fast the proxy is."""
    return taken.row.bound and "busy" in run and run["busy"] < STARVED


def lines(taken: Taken) -> Iterator[str]:
    """A row as text, an entry a line."""
    for label, runs in taken.runs.items():
        if runs:
            figures = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
            flag = " STARVED" if any(starved(taken, run) for run in runs) else ""
            yield f"{taken.row.id:12} {label:12} {_told(figures)}{flag}"
    for label, why in taken.failures.items():
        yield f"{taken.row.id:12} {label:12} FAILED: {why}"


def _told(figures: Figures) -> str:
    return "  ".join(f"{name} {value:.6g}" for name, value in figures.items())
