"""Manifests as files hold them: several documents, their comments, their order and their quotes."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from tproxy.cli.yaml_document import BadYaml, line_of, read
from tproxy.inject.findings import Manifest, Refused, Remark
from tproxy.inject.inject import Injected, Skipped

_BOUNDARY = re.compile(r"^(?=---(?:[ \t\r\n]|\Z))", re.MULTILINE)
BAD_INPUT = 2
"""The exit code for what cannot be injected."""
BYTE_ORDER_MARK = "\ufeff"

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
    if text.startswith(BYTE_ORDER_MARK):
        made = changed(name, text.removeprefix(BYTE_ORDER_MARK), change)
        return replace(made, text=BYTE_ORDER_MARK + made.text)
    try:
        if text.lstrip().startswith("{"):
            # YAML may begin so too, and says better what is wrong.
            with suppress(ValueError):
                return _changed_json(
                    name, text, json.loads(text, object_pairs_hook=_unique), change
                )
        return _changed_yaml(name, text, change)
    except RecursionError as error:
        raise BadManifest(f"{name}: is nested deeper than any manifest is") from error


def _unique(pairs: list[tuple[str, Any]]) -> Manifest:
    """Make an object; ValueError for one that says a thing twice."""
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands twice")
    return made


def _changed_yaml(name: str, text: str, change: Change) -> Changed:
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
    try:
        document = read(part)
    except BadYaml as error:
        raise BadManifest(f"{place.at(error.line, error.column)}: {error}") from error
    if not isinstance(document.value, dict):
        return None, []

    def named(remark: Remark) -> str:
        return f"{place.at(line_of(document.value, remark.path), 0)}: {remark}"

    made = _made(document.value, change, named)
    if isinstance(made, Skipped):
        return None, []
    return document.written(made.manifest), [named(remark) for remark in made.remarks]


def _changed_json(name: str, text: str, document: Manifest, change: Change) -> Changed:
    def named(remark: Remark) -> str:
        return f"{name}: {remark}"

    made = _made(document, change, named)
    if isinstance(made, Skipped):
        return Changed(text, (), 0)
    written = json.dumps(made.manifest, indent=2, ensure_ascii=False) + "\n"
    return Changed(written, tuple(map(named, made.remarks)), 1)


def _made(document: Manifest, change: Change, named: Callable[[Remark], str]) -> Injected | Skipped:
    try:
        return change(document)
    except Refused as error:
        raise BadManifest("\n".join(map(named, error.remarks))) from error


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
    click.echo(_joined(texts), nl=False)


def _joined(texts: list[str]) -> str:
    """Make one stream of several; one alone stays as it is."""
    whole = ""
    for text in texts:
        if whole and not whole.endswith("\n"):
            whole += "\n"
        whole += text if not whole or text.startswith("---") else f"---\n{text}"
    return whole


def _texts(files: tuple[Path, ...]) -> Iterator[tuple[str, str]]:
    for file in files:
        name = "standard input" if str(file) == "-" else str(file)
        try:
            yield name, _content(file).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"{name} cannot be read: {error}") from error


def _content(file: Path) -> bytes:
    """Read a file, its line ends as they are."""
    return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
