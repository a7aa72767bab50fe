"""`tproxy policy check`: what is wrong with policy files, for people, scripts and code hosts."""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import msgspec

from tproxy.cli.finding_text import summary
from tproxy.cli.policy_options import DIRECTORY, Policies, read, say, tell, workload_options
from tproxy.policy.findings import Finding, written
from tproxy.policy.sarif import sarif


@click.command(context_settings={"show_default": True})
@click.argument("directory", type=DIRECTORY)
@click.option("--format", "form", type=click.Choice(("human", "json", "sarif")), default="human")
@workload_options
def check(directory: Path, form: str, **options: Any) -> None:  # noqa: ANN401 - click has checked them
    """Check the policies in DIRECTORY and the tests in DIRECTORY/tests; exit 1 with any error."""
    policies = read(directory, options)
    match form:
        case "json":
            say(pretty([as_json(each) for each in policies.findings]))
        case "sarif":
            say(pretty(sarif(policies.findings, version("tproxy"))))
        case _:
            _human(policies)
    sys.exit(0 if policies.sound else 1)


def _human(policies: Policies) -> None:
    tell(policies.findings, policies.files)
    say(summary(policies.findings, policies.files))


def as_json(finding: Finding) -> dict[str, Any]:
    """Write a finding for scripts."""
    return {
        "file": finding.file,
        "line": finding.mark.line,
        "column": finding.mark.column,
        "code": finding.code.value,
        "severity": finding.severity.value,
        "path": written(finding.path),
        "message": finding.message,
    }


def pretty(value: object) -> str:
    """Write JSON for people and scripts."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
