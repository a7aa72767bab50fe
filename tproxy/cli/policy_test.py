"""`tproxy policy test`: run the cases of PolicyTest files on what the sidecar would make of the policies."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import click
import msgspec

from tproxy.cli.account_text import account_text
from tproxy.cli.finding_text import printable
from tproxy.cli.policy_check import pretty
from tproxy.cli.policy_options import DIRECTORY, insist, read, say, workload_options
from tproxy.policy.account import account
from tproxy.policy.cases import Coverage, Report, Result, run


@click.command(context_settings={"show_default": True})
@click.argument("directory", type=DIRECTORY)
@click.option("--tests", type=DIRECTORY, help="Directory of the tests. [DIRECTORY/tests]")
@click.option(
    "--format", "form", type=click.Choice(("human", "tap", "junit", "json")), default="human"
)
@click.option(
    "--min-coverage",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    default=0,
    help="Fail if the cases match fewer of the rules.",
)
@workload_options
def test(directory: Path, tests: Path | None, form: str, **options: Any) -> None:  # noqa: ANN401
    """Run the tests of the policies in DIRECTORY; exit 1 if one fails."""
    gathered = insist(read(directory, options, tests))
    if not gathered.tests:
        raise click.UsageError("no PolicyTest was found")
    assert gathered.snapshot is not None, "sound policies make one"
    report = run(gathered.snapshot, gathered.tests)
    say(_WRITERS[form](report))
    least = options["min_coverage"]
    covered = report.coverage.percent >= least
    if not covered:
        percent = report.coverage.percent
        say(f"coverage is {percent:.0f} %, and {least:g} % are demanded", err=True)
    sys.exit(0 if covered and not report.failed else 1)


def _human(report: Report) -> str:
    lines = []
    test = None
    for result in report.results:
        if (result.file, result.test) != test:
            test = (result.file, result.test)
            lines.append(printable(f"{result.test} ({result.file})"))
        lines.extend(_case(result))
    lines.extend(("", *map(printable, _summary(report))))
    return "\n".join(lines)


def _case(result: Result) -> Iterator[str]:
    if result.passed:
        yield f"  {click.style('ok', fg='green')}    {printable(result.name)}"
        return
    yield f"  {click.style('FAIL', fg='red')}  {printable(result.name)} (line {result.line})"
    for mismatch in _mismatches(result):
        yield f"        {mismatch}"
    for line in account_text(account(result.explanation)).splitlines():
        yield f"        | {line}".rstrip()


def _mismatches(result: Result) -> list[str]:
    return [
        printable(f"{each.field}: expected {each.expected}, came {each.came}")
        for each in result.mismatches
    ]


def _summary(report: Report) -> Iterator[str]:
    coverage = report.coverage
    yield f"{len(report.results)} cases, {report.failed} failed"
    yield (
        f"{coverage.rules - len(coverage.unmatched)} of {coverage.rules} rules"
        f" ({coverage.percent:.0f} %) matched in some case"
    )
    for rule in coverage.unmatched:
        yield f"  never: rule {rule.index} of {rule.owner} ({rule.place})"


def _tap(report: Report) -> str:
    lines = ["TAP version 14", f"1..{len(report.results)}"]
    for number, result in enumerate(report.results, 1):
        word = "ok" if result.passed else "not ok"
        name = f"{result.test}: {result.name}".replace("\\", "\\\\").replace("#", "\\#")
        lines.append(f"{word} {number} - {printable(name)}")
        if not result.passed:
            # JSON is YAML, and needs no thought about quoting.
            details = (
                f"  {each.field}: {json.dumps({'expected': each.expected, 'came': each.came})}"
                for each in result.mismatches
            )
            lines.extend(("  ---", *details, "  ..."))
    return "\n".join(lines)


def _junit(report: Report) -> str:
    counts = {"tests": str(len(report.results)), "failures": str(report.failed)}
    suites = Xml.Element("testsuites", counts)
    suite = Xml.SubElement(suites, "testsuite", {"name": "tproxy policy test", **counts})
    for result in report.results:
        place = {"file": result.file, "line": str(result.line)}
        names = {"classname": printable(result.test), "name": printable(result.name)}
        case = Xml.SubElement(suite, "testcase", {**names, **place})
        if not result.passed:
            message = "; ".join(_mismatches(result))
            failure = Xml.SubElement(case, "failure", {"message": message})
            failure.text = click.unstyle(account_text(account(result.explanation)))
    Xml.indent(suites)
    return Xml.tostring(suites, encoding="unicode", xml_declaration=True)


def _json(report: Report) -> str:
    return pretty(
        {
            "cases": [_described(each) for each in report.results],
            "coverage": _covered(report.coverage),
        }
    )


def _described(result: Result) -> dict[str, Any]:
    return {
        "test": result.test,
        "name": result.name,
        "file": result.file,
        "line": result.line,
        "passed": result.passed,
        "mismatches": msgspec.to_builtins(result.mismatches),
        "explanation": msgspec.to_builtins(account(result.explanation)),
    }


def _covered(coverage: Coverage) -> dict[str, Any]:
    return {
        "rules": coverage.rules,
        "percent": coverage.percent,
        "unmatched": msgspec.to_builtins(coverage.unmatched),
    }


_WRITERS = {"human": _human, "tap": _tap, "junit": _junit, "json": _json}
