"""Findings for people: the line, a caret below the column, and what is wrong there."""

from collections.abc import Sequence

import click

from tproxy.policy.findings import Finding, Severity, written
from tproxy.policy.nodes import SourceFile

WIDTH = 100
"""Columns of a source line that are shown, around the place."""

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}


def finding_text(finding: Finding, files: Sequence[SourceFile]) -> str:
    """Write a finding in a few lines."""
    severity = click.style(finding.severity, fg=_COLOURS[finding.severity], bold=True)
    place = f"{printable(finding.file)}:{finding.mark.line}:{finding.mark.column}"
    lines = [f"{severity} {finding.code} {click.style(place, bold=True)}"]
    lines.extend(_excerpt(finding, files))
    lines.append(f"  {printable(written(finding.path))}: {printable(finding.message)}")
    return "\n".join(lines)


def _excerpt(finding: Finding, files: Sequence[SourceFile]) -> list[str]:
    line = _line(finding, files)
    if not line.strip():
        return []
    column = finding.mark.column - 1
    start = max(0, column - WIDTH // 2) if len(line) > WIDTH else 0
    number = str(finding.mark.line)
    caret = click.style("^", fg=_COLOURS[finding.severity], bold=True)
    # One character for one, or the caret would point elsewhere.
    shown = "".join(each if each.isprintable() else " " for each in line[start : start + WIDTH])
    return [f"  {number} | {shown}", f"  {' ' * len(number)} | {' ' * (column - start)}{caret}"]


def _line(finding: Finding, files: Sequence[SourceFile]) -> str:
    for file in files:
        if file.name == finding.file:
            lines = file.content.decode("utf-8", "replace").split("\n")
            return lines[finding.mark.line - 1] if finding.mark.line <= len(lines) else ""
    return ""


def printable(text: str) -> str:
    """Keep a text on its line, whatever a file says."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def summary(findings: Sequence[Finding], files: Sequence[SourceFile]) -> str:
    """Count findings."""
    where = _counted(len(files), "file")
    if not findings:
        return f"{where}, nothing is wrong"
    counts = dict.fromkeys(Severity, 0)
    for finding in findings:
        counts[finding.severity] += 1
    told = ", ".join(_counted(count, each.value) for each, count in counts.items() if count)
    return f"{where}: {told}"


def _counted(count: int, word: str) -> str:
    plural = word if count == 1 or word == "info" else f"{word}s"
    return f"{count} {plural}"
