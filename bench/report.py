"""The files that a run leaves: all runs, the summary, tables, a chart, and the pages that show them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.chart import svg
from bench.options import Options
from bench.proxies import HERE
from bench.summary import Ratio, Summary, Value, starved
from bench.tables import SHORT, growth_table, panels, rows_table, targets_table
from bench.targets import Judgement
from bench.turns import Taken

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
CHART = "bench/results/chart.svg"


@dataclass(frozen=True, slots=True)
class Account:
    """A run that is over: what was asked, where it ran, what was measured and what that comes to."""

    options: Options
    about: Mapping[str, Any]
    everything: Sequence[Taken]
    summary: Summary
    judgements: Sequence[Judgement]


def write(account: Account) -> None:
    """Write everything; the pages only from a whole run."""
    into = account.options.results
    into.mkdir(parents=True, exist_ok=True)
    _write_json(into / "runs.json", _runs(account))
    _write_json(into / "summary.json", {id_: _plain(each) for id_, each in account.summary.items()})
    (into / "table.md").write_text(_whole(account))
    if drawn := panels(account.everything):
        (into / "chart.svg").write_text(svg(drawn))
    if account.options.whole:
        _show(HERE.parent / "README.md", _short(account))
        _show(HERE.parent / "docs" / "performance.md", _whole(account))


def shown(page: str, text: str) -> str:
    """A page with `text` where its results stand."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert all((begin, end)), "the page says where its results stand"
    return f"{before}{begin}\n{text}{end}{after}"


def _show(page: Path, text: str) -> None:
    page.write_text(shown(page.read_text(), text))


def _short(account: Account) -> str:
    return f"![CPU time and memory]({CHART})\n\n{rows_table(account.everything, SHORT)}"


def _whole(account: Account) -> str:
    about = account.about
    machine = ", ".join(f"{name} {value}" for name, value in about["machine"].items())
    versions = ", ".join(f"{name} {value}" for name, value in about["versions"].items())
    return (
        f"{about['date']}, commit {about['commit']}; {machine}; {versions}.\n\n"
        f"{targets_table(account.judgements)}\n{rows_table(account.everything)}\n"
        f"| our CPU time by | |\n|---|---|\n{growth_table(account.everything)}\n"
    )


def _runs(account: Account) -> dict[str, object]:
    asked = {"quick": account.options.quick, "only": account.options.only}
    rows = [_recorded(taken) for taken in account.everything]
    return {**asked, **account.about, "rows": rows}


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
