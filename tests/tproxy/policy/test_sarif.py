"""Findings as code hosts read them."""

from typing import Literal

import msgspec

from tproxy.policy.findings import Code, Finding, Mark, Severity
from tproxy.policy.sarif import sarif


class Strict(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """Part of SARIF's shape (OASIS SARIF 2.1.0, appendix of the schema), as far as it is written here."""


class Text(Strict):
    text: str


class Region(Strict):
    start_line: int
    start_column: int


class ArtifactLocation(Strict):
    uri: str


class PhysicalLocation(Strict):
    artifact_location: ArtifactLocation
    region: Region


class LogicalLocation(Strict):
    fully_qualified_name: str


class Location(Strict):
    physical_location: PhysicalLocation
    logical_locations: list[LogicalLocation]


class Result(Strict):
    rule_id: str
    rule_index: int
    level: Literal["none", "note", "warning", "error"]
    message: Text
    locations: list[Location]


class Rule(Strict):
    id: str
    name: str


class Driver(Strict):
    name: str
    semantic_version: str
    rules: list[Rule]


class Tool(Strict):
    driver: Driver


class Run(Strict):
    tool: Tool
    column_kind: Literal["utf16CodeUnits", "unicodeCodePoints"]
    results: list[Result]


class Log(Strict):
    version: Literal["2.1.0"]
    runs: list[Run]
    schema: str = msgspec.field(name="$schema")


def test_findings_have_sarifs_shape() -> None:
    findings = [
        Finding("a b.yaml", Mark(2, 3), Code.UNKNOWN_FIELD, ("spec", 0), "m"),
        Finding("/p/c.yaml", Mark(4, 1), Code.DUPLICATE_KEY, (), "n", Severity.WARNING),
        Finding("a b.yaml", Mark(5, 1), Code.UNKNOWN_FIELD, (), "o", Severity.INFO),
    ]
    log = msgspec.json.decode(msgspec.json.encode(sarif(findings, "1.2.3")), type=Log)
    (run,) = log.runs
    assert run.tool.driver.semantic_version == "1.2.3"
    assert [each.level for each in run.results] == ["error", "warning", "note"]
    assert [run.tool.driver.rules[each.rule_index].id for each in run.results] == [
        each.rule_id for each in run.results
    ]
    places = [each.locations[0].physical_location for each in run.results]
    assert [each.artifact_location.uri for each in places] == [
        "a%20b.yaml",
        "file:///p/c.yaml",
        "a%20b.yaml",
    ]
    assert (places[0].region.start_line, places[0].region.start_column) == (2, 3)
    assert run.results[0].locations[0].logical_locations[0].fully_qualified_name == "$.spec[0]"


def test_no_findings_are_a_run_without_results() -> None:
    log = msgspec.json.decode(msgspec.json.encode(sarif((), "1")), type=Log)
    assert (log.runs[0].results, log.runs[0].tool.driver.rules) == ([], [])
