"""Write findings as SARIF 2.1.0, which code hosts show beside the lines that they are about."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from tproxy.policy.findings import Code, Finding, Severity, written

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"

_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def sarif(findings: Sequence[Finding], version: str) -> dict[str, Any]:
    """Make the log of one run of `tproxy policy check`, of `version`."""
    codes = sorted({finding.code for finding in findings})
    driver = {
        "name": "tproxy",
        "semanticVersion": version,
        "rules": [_rule(each) for each in codes],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(each, codes.index(each.code)) for each in findings],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(code: Code) -> dict[str, Any]:
    name = "".join(word.capitalize() for word in code.name.split("_"))
    return {"id": code.value, "name": name}


def _result(finding: Finding, rule: int) -> dict[str, Any]:
    region = {"startLine": finding.mark.line, "startColumn": finding.mark.column}
    place = {"artifactLocation": {"uri": _uri(finding.file)}, "region": region}
    logical = [{"fullyQualifiedName": written(finding.path)}]
    return {
        "ruleId": finding.code.value,
        "ruleIndex": rule,
        "level": _LEVELS[finding.severity],
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": place, "logicalLocations": logical}],
    }


def _uri(file: str) -> str:
    path = PurePath(file)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())
