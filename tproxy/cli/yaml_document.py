"""One YAML document, read and written so that what nobody changes stays as it was written."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.mergevalue import merge_attrib
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.scalarstring import PlainScalarString, SingleQuotedScalarString

_NESTED = re.compile(
    r"^(?P<key> *(?:- )*)[^\s#:-][^:\n]*:[ \t]*(?:#.*)?\n(?:[ \t]*(?:#.*)?\n)*(?P<item> *)- ",
    re.MULTILINE,
)
"""A list below a key, comments between them aside."""
_ENDED = re.compile(r"^\.\.\.\s*\Z", re.MULTILINE)
WIDEST = 4096
"""Columns, before a line is broken: what stood on one line stays there."""
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]|\['([^']*)'\]")
_TEXT = "tag:yaml.org,2002:str"
_TIME = "tag:yaml.org,2002:timestamp"
_KUBERNETES = VersionedResolver(version="1.1")
"""Its tools read YAML 1.1, in which more words are no texts than in 1.2: `on`, `no`, 012."""


class BadYaml(Exception):
    """A text that is no YAML; `line` and `column` count from zero."""

    def __init__(self, said: str, line: int = 0, column: int = 0) -> None:
        super().__init__(said)
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class Document:
    """What a text holds, and what is needed to write it as it was."""

    value: Any
    _yaml: Any
    _newline: str

    def written(self, value: Any) -> str:  # noqa: ANN401 - a document holds anything
        """Write `value`, which was made of this document's, in this document's way."""
        stream = StringIO()
        _resolve_merges(value)
        self._yaml.dump(_each_text(value, _quoted), stream)
        return stream.getvalue().replace("\n", self._newline)


def read(text: str) -> Document:
    """Read one document, keys that stand twice refused."""
    newline = "\r\n" if "\r\n" in text else "\n"
    text = text.replace("\r\n", "\n")
    yaml = _round_trip(text)
    try:
        value = yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        raise BadYaml(f"{error.problem or 'is no YAML'}{_hint(text)}", line, column) from error
    except YAMLError as error:
        raise BadYaml(f"{error}{_hint(text)}") from error
    return Document(_each_text(value, _left_plain), yaml, newline)


def line_of(value: Any, path: str) -> int:  # noqa: ANN401 - a document holds anything
    """Find the line, from zero, where what `path` names begins, or the nearest to it that the document has."""
    line = 0
    for key, index, quoted in _STEP.findall(path):
        step = int(index) if index else key or quoted
        try:
            below, line = value[step], _line_in(value, step, line)
        except (KeyError, IndexError, TypeError):
            break
        value = below
    return line


def _line_in(parent: Any, step: str | int, line: int) -> int:  # noqa: ANN401 - a mapping or a list that was read
    places = parent.lc.data or {}
    return int(places[step][0]) if step in places else line


def _hint(text: str) -> str:
    if "{{" in text:
        return ": render templates first, as `helm template` does"
    return ""


def _round_trip(text: str) -> Any:  # noqa: ANN401 - what is set on it is not of its type
    """Make a reader and writer that keeps what it can, list items indented as they are in `text`."""
    yaml: Any = YAML()
    yaml.preserve_quotes = True
    yaml.width = WIDEST
    yaml.brace_single_entry_mapping_in_flow_sequence = True
    yaml.explicit_start = text.startswith("---")
    yaml.explicit_end = bool(_ENDED.search(text))
    found = _NESTED.search(text)
    deeper = max(0, len(found["item"]) - len(found["key"])) if found else 0
    yaml.indent(mapping=2, sequence=2 + deeper, offset=deeper)
    # A time would be written in another way than it was.
    for resolvers in yaml.resolver.versioned_resolver.values():
        resolvers[:] = [(tag, pattern) for tag, pattern in resolvers if tag != _TIME]
    return yaml


def _each_text(value: Any, change: Callable[[str], str]) -> Any:  # noqa: ANN401 - a document holds anything
    """Change every text in place, keys aside; what stands in two places still does."""
    whole = [value]
    for node in _nodes(whole):
        for key, below in list(node.items() if isinstance(node, dict) else enumerate(node)):
            if type(below) is str and (changed := change(below)) is not below:
                node[key] = changed
    return whole[0]


def _resolve_merges(value: Any) -> None:  # noqa: ANN401 - a document holds anything
    """Write out what was merged by `<<`: a changed copy has lost what it was merged from."""
    names: set[str] = set()
    for node in _nodes([value]):
        if hasattr(node, merge_attrib):
            delattr(node, merge_attrib)
        if isinstance(node, CommentedMap | CommentedSeq) and node.anchor.value is not None:
            if node.anchor.value in names:
                # Of a copy, which stands for itself.
                node.anchor.value = None
            names.add(node.anchor.value)


def _nodes(whole: list[Any]) -> Iterator[Any]:
    """Go to each mapping and each list once."""
    seen: set[int] = set()
    waiting: list[Any] = [whole]
    while waiting:
        node = waiting.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            below = node.values() if isinstance(node, dict) else node
            waiting += [each for each in below if isinstance(each, dict | list)]


def _left_plain(text: str) -> str:
    """Keep a word without quotes as its author wrote it."""
    return PlainScalarString(text) if _is_ambiguous(text) else text


def _quoted(text: str) -> str:
    """Quote a word that would be read as anything but a text."""
    return SingleQuotedScalarString(text) if _is_ambiguous(text) else text


def _is_ambiguous(text: str) -> bool:
    tag = _KUBERNETES.resolve(ScalarNode, text, (True, False))
    return tag != _TEXT or text in {"y", "Y", "n", "N"}
