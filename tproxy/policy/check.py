"""Hold a document against the schema and report all that is wrong, where msgspec would stop at the first mistake."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import lru_cache
from types import UnionType
from typing import Annotated, Any, Union, assert_never, get_args, get_origin

import msgspec

from tproxy.policy.findings import Code, Finding, Mark, Path, did_you_mean
from tproxy.policy.nodes import Node
from tproxy.policy.schema import NOT_IMPLEMENTED, NOT_IMPLEMENTED_VALUES

EMPTY = "an empty list would mean anything at all: name what is meant, or leave the field out"

Expected = Any
"""A type as the schema writes it: a Struct class, `tuple[X, ...]`, `dict[str, X]`, or anything msgspec converts."""


def check(file: str, node: Node, expected: Expected) -> list[Finding]:
    """Compare `node` with `expected`, and all that it holds."""
    checker = _Checker(file)
    checker.check(node, shape(expected), ())
    return checker.findings


class Form(Enum):
    """What a value is made of."""

    FIELDS = "a mapping with the fields of a Struct"
    ENTRIES = "a mapping with any keys"
    ITEMS = "a list"
    ONE = "a single value"


@dataclass(frozen=True, slots=True)
class Shape:
    """A type of the schema, taken apart."""

    form: Form
    inner: Expected
    """The Struct, or the type of each item, or of the single value."""
    least: int = 0
    """Items that there must be."""


@lru_cache(maxsize=1024)
def shape(expected: Expected) -> Shape:
    """Take a list or mapping out of what stands around it.

    Nothing (`null`) is none of them: the author of `paths:` with nothing below it did not mean every path.
    """
    origin: object = get_origin(expected)
    if origin in (UnionType, Union):
        shapes = [shape(each) for each in get_args(expected) if each is not type(None)]
        if len(shapes) == 1 and shapes[0].form is not Form.ONE:
            return shapes[0]
    if origin is Annotated:
        inner, meta = get_args(expected)
        if (found := shape(inner)).form is Form.ITEMS:
            return Shape(Form.ITEMS, found.inner, meta.min_length or 0)
    if origin is tuple:
        return Shape(Form.ITEMS, get_args(expected)[0])
    if origin is dict:
        return Shape(Form.ENTRIES, get_args(expected)[1])
    return Shape(Form.FIELDS if _is_struct(expected) else Form.ONE, expected)


def _is_struct(expected: Expected) -> bool:
    return isinstance(expected, type) and issubclass(expected, msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Fields:
    """A Struct's fields by the names that files give them."""

    shapes: Mapping[str, Shape]
    required: tuple[str, ...]


@lru_cache(maxsize=1024)
def fields_of(struct: type[msgspec.Struct]) -> Fields:
    """Take a Struct apart."""
    fields = msgspec.structs.fields(struct)
    return Fields(
        {each.encode_name: shape(each.type) for each in fields},
        tuple(each.encode_name for each in fields if each.required),
    )


class _Checker:
    """Walks one document. What changes: the mistakes found so far."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.findings: list[Finding] = []

    def check(self, node: Node, found: Shape, path: Path) -> None:
        match found.form:
            case Form.ONE:
                if type(node.value) is not found.inner:
                    self._one(node, found.inner, path)
            case Form.FIELDS:
                self._fields(node, found.inner, path)
            case Form.ITEMS:
                self._items(node, found, path)
            case Form.ENTRIES:
                self._entries(node, shape(found.inner), path)
            case _:
                assert_never(found.form)

    def _fields(self, node: Node, struct: type[msgspec.Struct], path: Path) -> None:
        if not isinstance(node.value, dict):
            self._find(node.mark, path, f"must be a mapping, not {_kind(node)}")
            return
        fields = fields_of(struct)
        for key, value in node.value.items():
            if key in fields.shapes:
                self.check(value, fields.shapes[key], (*path, key))
            elif key != struct.__struct_config__.tag_field:
                message = _unknown(key, fields.shapes)
                self._find(node.keys[key], (*path, key), message, Code.UNKNOWN_FIELD)
        for key in fields.required:
            if key not in node.value:
                self._find(node.mark, path, f"needs a field {key!r}")

    def _entries(self, node: Node, value: Shape, path: Path) -> None:
        if not isinstance(node.value, dict):
            self._find(node.mark, path, f"must be a mapping, not {_kind(node)}")
            return
        for key, each in node.value.items():
            self.check(each, value, (*path, key))

    def _items(self, node: Node, found: Shape, path: Path) -> None:
        if not isinstance(node.value, tuple):
            self._find(node.mark, path, f"must be a list, not {_kind(node)}")
            return
        item = shape(found.inner)
        for index, value in enumerate(node.value):
            self.check(value, item, (*path, index))
        if len(node.value) < found.least:
            self._find(node.mark, path, EMPTY)

    def _one(self, node: Node, expected: Expected, path: Path) -> None:
        try:
            msgspec.convert(node.plain(), expected)
        except msgspec.ValidationError as error:
            words = str(error).partition(" - at")[0]
            message = words[:1].lower() + words[1:] + _hint(node, expected)
            self._find(node.mark, path, message)

    def _find(self, mark: Mark, path: Path, message: str, code: Code = Code.WRONG_TYPE) -> None:
        self.findings.append(Finding(self._file, mark, code, path, message))


def _unknown(key: str, fields: Iterable[str]) -> str:
    if key in NOT_IMPLEMENTED:
        return f"{key!r} is not supported by this version, {NOT_IMPLEMENTED[key]}"
    hint = did_you_mean(key, fields) or f", known are {', '.join(fields)}"
    return f"unknown field {key!r}{hint}"


def _hint(node: Node, expected: Expected) -> str:
    if isinstance(node.value, str) and node.value in NOT_IMPLEMENTED_VALUES:
        return f": not supported by this version, {NOT_IMPLEMENTED_VALUES[node.value]}"
    alternatives = get_args(expected) or (expected,)
    values = [
        str(member)
        for each in alternatives
        if isinstance(each, type) and issubclass(each, StrEnum)
        for member in each
    ]
    if values:
        return did_you_mean(str(node.value), values) or f", known are {', '.join(values)}"
    if str in alternatives and isinstance(node.value, int | float):
        return ", put it in quotes"
    return ""


def _kind(node: Node) -> str:
    match node.value:
        case dict():
            return "a mapping"
        case tuple():
            return "a list"
        case None:
            return "nothing"
        case value:
            return repr(value)
