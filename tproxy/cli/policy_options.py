"""What the verbs of `tproxy policy` share: whose sidecar it is, reading the files, telling findings."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from tproxy.cli.finding_text import finding_text, summary
from tproxy.cli.label_options import pairs
from tproxy.model.identity import UNKNOWN, Workload
from tproxy.policy.cases import Gathered, gather
from tproxy.policy.findings import Finding, Severity
from tproxy.policy.nodes import SourceFile
from tproxy.stores.policy_files import Reading, read_directory

F = TypeVar("F", bound=Callable[..., Any])

DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)
TESTS = "tests"
"""Where tests stand, below the policies; the sidecar reads no subdirectory."""


def workload_options(command: F) -> F:
    """Add the options that say whose sidecar reads the policies, and what it knows beside them."""
    for option in (
        click.option(
            "--label",
            "labels",
            multiple=True,
            callback=pairs,
            metavar="KEY=VALUE",
            help="A label of the workload; may be given several times.",
        ),
        click.option(
            "--endpoints",
            type=DIRECTORY,
            help="Directory of ServiceEntry files beside the policies.",
        ),
        click.option("--service-account", default=UNKNOWN, help="The workload's service account."),
        click.option("--namespace", default=UNKNOWN, help="The workload's namespace."),
    ):
        command = option(command)
    return command


def workload(options: dict[str, Any]) -> Workload:
    """Make a workload of these options."""
    return Workload(
        namespace=options["namespace"],
        service_account=options["service_account"],
        labels=options["labels"],
    )


@dataclass(frozen=True, slots=True)
class Policies:
    """What stands in a directory and among its tests."""

    gathered: Gathered
    files: tuple[SourceFile, ...]
    findings: tuple[Finding, ...]
    """All that is wrong, or looks so."""

    @property
    def sound(self) -> bool:
        """Whether they can be used."""
        return all(each.severity is not Severity.ERROR for each in self.findings)


def read(directory: Path, options: dict[str, Any], tests: Path | None = None) -> Policies:
    """Read policies, and their tests in `tests` or where they usually are."""
    beside = tests or directory / TESTS
    policies = read_directory(directory)
    cases = read_directory(beside) if beside.is_dir() and beside != directory else Reading()
    endpoints = _endpoints(options["endpoints"])
    files = (*policies.files, *endpoints.files)
    gathered = gather(files, cases.files, workload(options))
    found = (*policies.findings, *endpoints.findings, *cases.findings, *gathered.findings)
    return Policies(gathered, (*files, *cases.files), found)


def _endpoints(directory: Path | None) -> Reading:
    return Reading() if directory is None else read_directory(directory, discovered=True)


def say(text: str, *, err: bool = False) -> None:
    """Print; colours only where they are seen and wanted (no-color.org)."""
    click.echo(text, err=err, color=False if os.environ.get("NO_COLOR") else None)


def tell(findings: Iterable[Finding], files: Sequence[SourceFile], *, err: bool = False) -> None:
    """Print findings beside the lines that they are about."""
    for finding in findings:
        say(finding_text(finding, files) + "\n", err=err)


def insist(policies: Policies) -> Gathered:
    """Return policies that can be used; of others, say what is wrong, and leave."""
    if not policies.sound:
        errors = [each for each in policies.findings if each.severity is Severity.ERROR]
        tell(errors, policies.files, err=True)
        say(summary(errors, policies.files), err=True)
        raise SystemExit(1)
    return policies.gathered
