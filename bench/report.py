"""The files that a run leaves: all runs, the summary, tables, a chart, and the pages that show them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.chart import svg
from bench.machine import described
from bench.options import Options
from bench.proxies import HERE
from bench.summary import Ratio, Summary, Value, starved
from bench.tables import SHORT, growth_table, panels, rows_table, targets_table
from bench.targets import Judgement
from bench.turns import Taken

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
CHART = "bench/results/chart.svg"
PAGES = {"README.md": "short", "docs/performance.md": "whole"}
"""What shows the results, and how much of them."""


def write(
    options: Options, everything: Sequence[Taken], summary: Summary, judgements: Sequence[Judgement]
) -> None:
    """Write everything; the pages only from a whole run."""
    options.results.mkdir(parents=True, exist_ok=True)
    about = {"quick": options.quick, "only": options.only, **described()}
    whole = {**about, "rows": [_recorded(taken) for taken in everything]}
    _write_json(options.results / "runs.json", whole)
    _write_json(
        options.results / "summary.json", {id_: _plain(each) for id_, each in summary.items()}
    )
    texts = {
        "short": f"![CPU time and memory]({CHART})\n\n{rows_table(everything, SHORT)}",
        "whole": _whole(everything, judgements, about),
    }
    (options.results / "table.md").write_text(texts["whole"])
    if drawn := panels(everything):
        (options.results / "chart.svg").write_text(svg(drawn))
    if options.whole:
        for page, length in PAGES.items():
            _show(HERE.parent / page, texts[length])


def shown(page: str, text: str) -> str:
    """A page with `text` where its results stand."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert all((begin, end)), "the page says where its results stand"
    return f"{before}{begin}\n{text}{end}{after}"


def _show(page: Path, text: str) -> None:
    page.write_text(shown(page.read_text(), text))


def _whole(
    everything: Sequence[Taken], judgements: Sequence[Judgement], about: Mapping[str, Any]
) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in about["machine"].items())
    versions = ", ".join(f"{name} {value}" for name, value in about["versions"].items())
    return (
        f"{about['date']}, commit {about['commit']}; {machine}; {versions}.\n\n"
        f"{targets_table(judgements)}\n{rows_table(everything)}\n"
        f"| our CPU time by | |\n|---|---|\n{growth_table(everything)}\n"
    )


def _recorded(taken: Taken) -> dict[str, object]:
    """A row with all its runs, and which of them were starved."""
    runs = {
        label: [{**run, "starved": starved(taken.row, run)} for run in each]
        for label, each in taken.runs.items()
    }
    row = taken.row
    return {
        "id": row.id,
        "title": row.title,
        "unit": row.unit,
        "runs": runs,
        "failures": taken.failures,
    }


def _plain(measured: Ratio | Value) -> dict[str, object]:
    return {"ratio": asdict(measured)} if isinstance(measured, Ratio) else asdict(measured)


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")
