"""What all runs come to: ratios of runs of the same turn, and our own absolute figures."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.figures import FIGURES
from bench.turns import Figures, Row, Taken

STARVED = 0.7
"""Less of a core than this, where the proxy should be the limit, and something else was."""
DIGITS = 4
HEAD_NAMING = "{row}_vs_{other}"


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ours over the other's, of all turns in which both say something."""

    median: float
    min: float
    max: float
    pairs: int


@dataclass(frozen=True, slots=True)
class Value:
    """A figure of our own."""

    value: float
    unit: str


Summary = Mapping[str, Ratio | Value]


def starved(row: Row, run: Figures) -> bool:
    """Whether a run does not show how fast the proxy is. How much CPU time it took for a unit still holds."""
    return row.bound and run.get("busy", 1.0) < STARVED


def summarised(everything: Iterable[Taken]) -> dict[str, Ratio | Value]:
    """All comparisons and values by id; what could not be measured is not there."""
    summary: dict[str, Ratio | Value] = {}
    for taken in everything:
        summary |= _values(taken)
        summary |= _ratios(taken)
    return summary


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio | None:
    """Turn by turn; None if no turn has both."""
    quotients = [our / their for our, their in zip(ours, theirs, strict=True) if their > 0]
    if not quotients:
        return None
    return Ratio(
        median=round(statistics.median(quotients), DIGITS),
        min=round(min(quotients), DIGITS),
        max=round(max(quotients), DIGITS),
        pairs=len(quotients),
    )


def _values(taken: Taken) -> Iterator[tuple[str, Value]]:
    first = taken.row.entries[0].label
    for name in _named(taken, first):
        figure = FIGURES[name]
        if figure.absolute:
            middle = statistics.median(run[name] for run in taken.runs[first]) * figure.scale
            unit = figure.unit.format(unit=taken.row.unit)
            yield f"{taken.row.id}_{name}", Value(round(middle, DIGITS), unit)


def _ratios(taken: Taken) -> Iterator[tuple[str, Ratio]]:
    first, *others = (entry.label for entry in taken.row.entries)
    for other in others:
        for name in _named(taken, first, other):
            compared = ratio(*_paired(taken, name, first, other))
            if compared is not None and name in (taken.row.compared or FIGURES):
                yield _id(taken.row, name, first, other), compared


def _id(row: Row, figure: str, first: str, other: str) -> str:
    naming = HEAD_NAMING if figure == row.head else row.naming
    return naming.format(row=row.id, figure=figure, first=first, other=other)


def _named(taken: Taken, *labels: str) -> list[str]:
    """The figures that all runs of these entries have; none if one of them failed."""
    runs = [run for label in labels for run in taken.complete(label)]
    if not all(taken.complete(label) for label in labels):
        return []
    return [name for name in FIGURES if all(name in run for run in runs)]


def _paired(taken: Taken, name: str, first: str, other: str) -> tuple[list[float], list[float]]:
    """One figure of two entries, of the turns in which it holds for both."""
    figure = FIGURES[name]
    pairs = [
        (ours[name], theirs[name])
        for ours, theirs in zip(taken.runs[first], taken.runs[other], strict=True)
        if figure.compared
        and not (figure.needs_cpu and (starved(taken.row, ours) or starved(taken.row, theirs)))
    ]
    return [ours for ours, _ in pairs], [theirs for _, theirs in pairs]
