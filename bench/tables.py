"""The results as text: lines as they come, Markdown, panels of the chart."""

import statistics
from collections.abc import Iterator, Mapping, Sequence

from bench.chart import Panel
from bench.figures import FIGURES, rounded, told
from bench.summary import starved
from bench.targets import Judgement, described
from bench.turns import Taken

NAMES = {
    "tproxy": "tproxy",
    "envoy_equal": "Envoy, equal",
    "envoy_bare": "Envoy, bare",
    "haproxy": "HAProxy",
    "mitmproxy": "mitmproxy",
    "none": "no proxy",
}
"""Columns: each proxy as it is called."""
SAME = {"envoy": "envoy_equal"}
FAILED = "failed"
SHOWN = tuple(name for name in FIGURES if name != "busy")
SHORT = ("cpu", "s", "pss", "kib")
"""What hardly depends on what else the machine does."""
CHARTED = (
    ("h1_c32", "cpu"),
    ("h2_1x32", "cpu"),
    ("tcp_bulk8", "cpu"),
    ("tcp_conn", "cpu"),
    ("mtls_h1_c32", "cpu"),
    ("mtls_bulk", "cpu"),
    ("mtls_handshakes", "cpu"),
    ("idle", "pss"),
)


def lines(taken: Taken) -> Iterator[str]:
    """A row as it is told on a terminal: an entry a line."""
    for label in taken.runs:
        figures = medians(taken, label)
        words = [
            f"{FIGURES[name].title} {told(name, value, taken.row.unit)}"
            for name, value in figures.items()
        ]
        if words:
            yield f"{taken.row.id:16} {label:12} {', '.join(words)}{_mark(taken, label)}"
    yield from failed(taken)


def failed(taken: Taken) -> Iterator[str]:
    """What of a row could not be measured, and why."""
    for label, why in taken.failures.items():
        yield f"{taken.row.id:16} {label:12} FAILED, so it is left out: {why}"


def medians(taken: Taken, label: str) -> Mapping[str, float]:
    """Each figure of an entry."""
    runs = taken.complete(label) or [{}]
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def _mark(taken: Taken, label: str) -> str:
    count = _starved(taken, label)
    return f"  STARVED in {count} of {len(taken.runs[label])}" if count else ""


def _starved(taken: Taken, label: str) -> int:
    """How many runs of an entry were."""
    return sum(starved(taken.row, run) for run in taken.complete(label))


def targets_table(judgements: Sequence[Judgement]) -> str:
    """Targets in Markdown."""
    head = "| comparison | target | measured | |\n|---|---|---|---|\n"
    return head + "".join(
        f"| `{each.target.id}` | {each.target} | {described(each.measured)} | {each.verdict} |\n"
        for each in judgements
    )


def rows_table(everything: Sequence[Taken], figures: Sequence[str] = SHOWN) -> str:
    """Medians in Markdown, a proxy a column; with a `*` where a run was starved."""
    head = f"| | | {' | '.join(NAMES.values())} |\n|{'---|' * (2 + len(NAMES))}\n"
    compared = [taken for taken in everything if taken.row.entries[0].label in NAMES]
    return head + "".join(line for taken in compared for line in _lines(taken, figures))


def _lines(taken: Taken, figures: Sequence[str]) -> Iterator[str]:
    columns = {SAME.get(label, label): label for label in taken.runs}
    for name in figures:
        cells = [_cell(taken, columns.get(column, ""), name) for column in NAMES]
        if any(cell not in {"", FAILED} for cell in cells):
            figure = FIGURES[name]
            what = f"{figure.title}, {figure.unit.format(unit=taken.row.unit)}"
            yield f"| {taken.row.title} | {what} | {' | '.join(cells)} |\n"


def _cell(taken: Taken, label: str, name: str) -> str:
    value = medians(taken, label).get(name)
    if value is None:
        return FAILED if label in taken.failures else ""
    star = "*" if FIGURES[name].needs_cpu and _starved(taken, label) else ""
    return rounded(value * FIGURES[name].scale) + star


def growth_table(everything: Sequence[Taken]) -> str:
    """How a request's cost grows, in Markdown."""
    rows = [taken for taken in everything if taken.row.entries[0].label not in NAMES]
    return "".join(f"| {taken.row.title} | {_growth(taken)} |\n" for taken in rows)


def _growth(taken: Taken) -> str:
    costs = {label: medians(taken, label) for label in taken.runs}
    return ", ".join(
        f"{label}: {told('cpu', each['cpu'], taken.row.unit)}"
        for label, each in costs.items()
        if each
    )


def panels(everything: Sequence[Taken]) -> list[Panel]:
    """The comparisons that are drawn."""
    by_id = {taken.row.id: taken for taken in everything}
    drawn = [_panel(by_id[row], figure) for row, figure in CHARTED if row in by_id]
    return [panel for panel in drawn if panel.bars]


def _panel(taken: Taken, name: str) -> Panel:
    figure = FIGURES[name]
    bars = {NAMES[SAME.get(label, label)]: medians(taken, label) for label in taken.runs}
    drawn = {
        label: figures[name] * figure.scale for label, figures in bars.items() if name in figures
    }
    return Panel(
        f"{taken.row.title}: {figure.title}, {figure.unit.format(unit=taken.row.unit)}", drawn
    )
