"""Manifests as files hold them: several documents, their comments, their order and their quotes."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from tproxy.inject.findings import Manifest, Refused
from tproxy.inject.inject import Injected, Skipped

_BOUNDARY = re.compile(r"^(?=---(?:[ \t\r\n]|\Z))", re.MULTILINE)
_NESTED = re.compile(
    r"^(?P<key> *(?:- )*)[^\s#:-][^:\n]*:[ \t]*(?:#.*)?\n(?:[ \t]*(?:#.*)?\n)*(?P<item> *)- ",
    re.MULTILINE,
)
"""A list below a key, comments between them aside."""
BAD_INPUT = 2
"""The exit code for what cannot be injected."""
WIDEST = 4096
"""Columns, before a line is broken: what stood on one line stays there."""

Change = Callable[[Manifest], Injected | Skipped]


class BadManifest(Exception):
    """A file that is no manifest, or holds a pod that cannot be changed."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A file's text after the change."""

    text: str
    remarks: tuple[str, ...]
    changed: int
    """Documents that are not as they were."""


def changed(name: str, text: str, change: Change) -> Changed:
    """Change every document of `text`; what `change` skips stays byte for byte."""
    if text.lstrip().startswith("{"):
        # YAML may begin so too.
        with suppress(json.JSONDecodeError):
            return _changed_json(name, text, json.loads(text), change)
    parts, remarks, count, line = [], [], 0, 0
    for part in _documents(text):
        written, said = _changed_document(Place(name, line), part, change)
        count += written is not None
        parts.append(part if written is None else written)
        remarks += said
        line += part.count("\n")
    return Changed("".join(parts), tuple(remarks), count)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a document begins."""

    name: str
    line: int

    def at(self, line: int, column: int) -> str:
        """Name a place in it, counted from zero."""
        return f"{self.name}:{self.line + line + 1}:{column + 1}"


def _documents(text: str) -> Iterator[str]:
    """Cut at the lines that begin documents; joined, the parts are the text."""
    starts = [0, *(found.start() for found in _BOUNDARY.finditer(text) if found.start())]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        yield text[start:end]


def _changed_document(place: Place, part: str, change: Change) -> tuple[str | None, list[str]]:
    yaml = _round_trip(part)
    try:
        document = yaml.load(part)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = place.at(mark.line, mark.column) if mark else place.name
        raise BadManifest(f"{where}: {error.problem or 'is no YAML'}") from error
    except YAMLError as error:
        raise BadManifest(f"{place.at(0, 0)}: {error}") from error
    if not isinstance(document, dict):
        return None, []
    made = _made(place, document, change)
    if isinstance(made, Skipped):
        return None, []
    written = StringIO()
    yaml.explicit_start = part.startswith("---")
    yaml.dump(made.manifest, written)
    return written.getvalue(), [f"{place.at(0, 0)}: {remark}" for remark in made.remarks]


def _changed_json(name: str, text: str, document: Manifest, change: Change) -> Changed:
    made = _made(Place(name, 0), document, change)
    if isinstance(made, Skipped):
        return Changed(text, (), 0)
    remarks = tuple(f"{name}: {remark}" for remark in made.remarks)
    return Changed(json.dumps(made.manifest, indent=2) + "\n", remarks, 1)


def _made(place: Place, document: Manifest, change: Change) -> Injected | Skipped:
    try:
        return change(document)
    except Refused as error:
        said = "\n".join(f"{place.at(0, 0)}: {remark}" for remark in error.remarks)
        raise BadManifest(said) from error


def _round_trip(part: str) -> Any:  # noqa: ANN401 - what is set on it is not of its type
    """Make a reader and writer that keeps what it can, list items indented as they are in `part`."""
    yaml: Any = YAML()
    yaml.preserve_quotes = True
    yaml.width = WIDEST
    found = _NESTED.search(part)
    deeper = max(0, len(found["item"]) - len(found["key"])) if found else 0
    yaml.indent(mapping=2, sequence=2 + deeper, offset=deeper)
    return yaml


def convert(files: tuple[Path, ...], change: Change) -> None:
    """Write all of it, or nothing where anything is wrong."""
    texts, failed = [], False
    for name, text in _texts(files or (Path("-"),)):
        try:
            made = changed(name, text, change)
        except BadManifest as error:
            click.echo(str(error), err=True)
            failed = True
            continue
        texts.append(made.text)
        for remark in made.remarks:
            click.echo(f"{remark} (warning)", err=True)
    if failed:
        sys.exit(BAD_INPUT)
    for index, text in enumerate(texts):
        if index and not text.startswith("---"):
            click.echo("---")
        click.echo(text, nl=not text.endswith("\n"))


def _texts(files: tuple[Path, ...]) -> Iterator[tuple[str, str]]:
    for file in files:
        if str(file) == "-":
            yield "standard input", sys.stdin.read()
            continue
        try:
            yield str(file), file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"{file} cannot be read: {error}") from error
