"""Read YAML so that every value knows its place, and so that no two readers can understand a file differently.

Only what YAML 1.1 and 1.2 agree on is a number, a boolean or null: `no`, `010`, `1_000` and `1:30` are text, and where
text is not wanted that is a mistake. Anchors, aliases and tags are refused: policies do not need them, and aliases can
make a small file unfold into gigabytes.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec
import yaml

from tproxy.policy.findings import Code, Finding, Mark, Path

MAX_BYTES = 1 << 20
"""One file: more is no policy that people review, and each byte is parsed before traffic flows."""
MAX_DEPTH = 32
"""Nesting of values: the deepest policy needs about ten."""
_NO_KEYS: Mapping[str, Mark] = MappingProxyType({})

Scalar = str | int | float | bool | None

_Event = Any
"""One of yaml's; which kind may come next, and so what it has, is YAML's grammar, not a type."""
_Events = Iterator[_Event]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_TAB = re.compile(r"^ *(\t)", re.MULTILINE)
_INT = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]{0,17})\.[0-9]{1,18}")
_WORDS: Mapping[str, Scalar] = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A policy file as it was read."""

    name: str
    content: bytes
    discovered: bool = False
    """Whether something else than people writes it: it holds nothing but endpoints, and policies win over it."""


class Node(msgspec.Struct, frozen=True, gc=False):
    """A value and its place.

    Nodes form a tree and there may be a million: the garbage collector need not walk them while they are built.
    """

    mark: Mark
    value: "Scalar | tuple[Node, ...] | dict[str, Node]"
    keys: Mapping[str, Mark] = _NO_KEYS
    """Where a mapping's keys stand."""

    def plain(self) -> Any:  # noqa: ANN401 - whatever YAML can hold
        """Return the value without places."""
        if isinstance(self.value, tuple):
            return [each.plain() for each in self.value]
        if isinstance(self.value, dict):
            return {key: each.plain() for key, each in self.value.items()}
        return self.value

    def nearest(self, path: Path) -> Mark:
        """Return the place of the key or item at `path`, or of what should hold it."""
        node, mark = self, self.mark
        for step in path:
            value = node.value
            if isinstance(value, dict) and step in value:
                mark, node = node.keys[step], value[step]
            elif isinstance(value, tuple) and isinstance(step, int):
                node = value[step]
                mark = node.mark
            else:
                return node.mark
        return mark


class Refused(Exception):
    """A file that cannot be read any further."""

    def __init__(self, mark: Mark, code: Code, message: str) -> None:
        super().__init__(message)
        self.mark = mark
        self.code = code


def read(source: SourceFile, findings: list[Finding]) -> Iterator[Node]:
    """Give the documents of `source`; what is wrong with it is added to `findings`."""
    try:
        yield from _Composer(source, findings).documents(_text(source.content))
    except Refused as refused:
        findings.append(Finding(source.name, refused.mark, refused.code, (), str(refused)))
    except yaml.MarkedYAMLError as error:
        mark = _place(error.problem_mark)
        findings.append(Finding(source.name, mark, Code.SYNTAX, (), _problem(error)))


def _text(content: bytes) -> str:
    if len(content) > MAX_BYTES:
        raise Refused(
            Mark(), Code.UNREADABLE, f"larger than {MAX_BYTES} bytes, split it into several files"
        )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
        raise Refused(_end_of(before), Code.UNREADABLE, "not UTF-8, save it as UTF-8") from error
    if text.startswith("\ufeff"):
        raise Refused(Mark(), Code.UNREADABLE, "starts with a byte-order mark, save it without one")
    if found := _UNPRINTABLE.search(text):
        mark = _end_of(text[: found.start()])
        raise Refused(mark, Code.UNREADABLE, f"holds the control character {found[0]!r}")
    if found := _TAB.search(text):
        mark = _end_of(text[: found.start(1)])
        raise Refused(mark, Code.YAML_FEATURE, "a tab in the indentation, use spaces")
    return text


def _end_of(text: str) -> Mark:
    return Mark(text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1)


class _Composer:
    """Builds the documents of one file from the YAML parser's events."""

    def __init__(self, source: SourceFile, findings: list[Finding]) -> None:
        self._source = source
        self._findings = findings

    def documents(self, text: str) -> Iterator[Node]:
        """Give each document that is not empty."""
        events = iter(_LOADER(text).get_event, None)
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                node = self._node(next(events), events, ())
                if node.value is not None:
                    yield node

    def _node(self, event: _Event, events: _Events, path: Path) -> Node:
        mark = _mark(event)
        if event.anchor is not None or event.tag or len(path) > MAX_DEPTH:
            self._refuse_features(event, path)
        if isinstance(event, yaml.ScalarEvent):
            return Node(mark, _scalar(event))
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(mark, tuple(self._items(events, path)))
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(mark, events, path)
        return Node(mark, None)

    def _items(self, events: _Events, path: Path) -> Iterator[Node]:
        index = 0
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            yield self._node(event, events, (*path, index))
            index += 1

    def _mapping(self, mark: Mark, events: _Events, path: Path) -> Node:
        values: dict[str, Node] = {}
        keys: dict[str, Mark] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key, place = self._key(event, path), _mark(event)
            value = self._node(next(events), events, (*path, key))
            if key in values:
                first = keys[key]
                self._find(
                    place,
                    Code.DUPLICATE_KEY,
                    (*path, key),
                    f"stands already in line {first.line}, keep one of them",
                )
                continue
            values[key], keys[key] = value, place
        return Node(mark, values, keys)

    def _key(self, event: _Event, path: Path) -> str:
        """Take a key as it is written, for what Kubernetes calls a port is text too; no key may hold other values."""
        if not isinstance(event, yaml.ScalarEvent):
            raise Refused(_mark(event), Code.YAML_FEATURE, "a key must be text")
        if event.anchor is not None or event.tag:
            self._refuse_features(event, path)
        return str(event.value)

    def _refuse_features(self, event: _Event, path: Path) -> None:
        if len(path) > MAX_DEPTH:
            raise Refused(_mark(event), Code.YAML_FEATURE, f"nested deeper than {MAX_DEPTH} levels")
        message = "anchors and aliases are refused, write it out"
        if event.anchor is None:
            message = f"the tag {event.tag!r} is refused, leave it out"
        self._find(_mark(event), Code.YAML_FEATURE, path, message)

    def _find(self, mark: Mark, code: Code, path: Path, message: str) -> None:
        self._findings.append(Finding(self._source.name, mark, code, path, message))


def _problem(error: yaml.MarkedYAMLError) -> str:
    return ", ".join(each for each in (error.problem, error.context) if each)


def _mark(event: _Event) -> Mark:
    start = event.start_mark
    return Mark(start.line + 1, start.column + 1)


def _place(mark: Any) -> Mark:  # noqa: ANN401 - each of yaml's parsers has its own type
    return Mark(mark.line + 1, mark.column + 1)


def _scalar(event: _Event) -> Scalar:
    text: str = event.value
    if event.style:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
