"""Hold a document against the schema and report all that is wrong, where msgspec would stop at the first mistake."""

from collections.abc import Iterator
from enum import StrEnum
from types import UnionType
from typing import Annotated, Any, get_args, get_origin

import msgspec

from tproxy.policy.findings import Code, Finding, Path, did_you_mean
from tproxy.policy.nodes import Node
from tproxy.policy.schema import NOT_IMPLEMENTED

EMPTY = "an empty list would mean anything at all: name what is meant, or leave the field out"

Expected = Any
"""A type as the schema writes it: a Struct class, `tuple[X, ...]`, `dict[str, X]`, or anything msgspec converts."""


def check(file: str, node: Node, expected: Expected, path: Path = ()) -> Iterator[Finding]:
    """Compare `node` with `expected`, and all that it holds."""
    expected, least = _shape(expected)
    origin: object = get_origin(expected)
    if _is_struct(expected):
        yield from _check_struct(file, node, expected, path)
    elif origin is tuple:
        yield from _check_items(file, node, get_args(expected)[0], path)
        if node.value == () and least:
            yield Finding(file, node.mark, Code.WRONG_TYPE, path, EMPTY)
    elif origin is dict:
        yield from _check_values(file, node, get_args(expected)[1], path)
    else:
        yield from _check_leaf(file, node, expected, path)


def _shape(expected: Expected) -> tuple[Expected, int]:
    """Take a list or mapping out of what stands around it, and say how many items it must have.

    Nothing (`null`) is no list: the author of `paths:` with nothing below it did not mean every path.
    """
    origin: object = get_origin(expected)
    if origin is UnionType:
        shapes = [each for each in get_args(expected) if each is not type(None)]
        if len(shapes) == 1 and _is_shape(shapes[0]):
            return _shape(shapes[0])
    if origin is Annotated and _is_shape(expected):
        inner, meta = get_args(expected)
        return inner, meta.min_length or 0
    return expected, 0


def _is_shape(expected: Expected) -> bool:
    """Whether it is a mapping or a list, for whose parts findings have places of their own."""
    origin: object = get_origin(expected)
    if origin is Annotated:
        inner: object = get_origin(get_args(expected)[0])
        return inner is tuple
    return _is_struct(expected)


def _is_struct(expected: Expected) -> bool:
    return isinstance(expected, type) and issubclass(expected, msgspec.Struct)


def _check_struct(
    file: str, node: Node, struct: type[msgspec.Struct], path: Path
) -> Iterator[Finding]:
    if not isinstance(node.value, dict):
        yield Finding(
            file, node.mark, Code.WRONG_TYPE, path, f"must be a mapping, not {_kind(node)}"
        )
        return
    fields = {each.encode_name: each for each in msgspec.structs.fields(struct)}
    tag = struct.__struct_config__.tag_field
    for key, value in node.value.items():
        if key in fields:
            yield from check(file, value, fields[key].type, (*path, key))
        elif key in NOT_IMPLEMENTED:
            message = f"{key!r} is not supported by this version, {NOT_IMPLEMENTED[key]}"
            yield Finding(file, node.keys[key], Code.UNKNOWN_FIELD, (*path, key), message)
        elif key != tag:
            hint = did_you_mean(key, fields) or f", known are {', '.join(fields)}"
            message = f"unknown field {key!r}{hint}"
            yield Finding(file, node.keys[key], Code.UNKNOWN_FIELD, (*path, key), message)
    for key, field in fields.items():
        if field.required and key not in node.value:
            yield Finding(file, node.mark, Code.WRONG_TYPE, path, f"needs a field {key!r}")


def _check_items(file: str, node: Node, item: Expected, path: Path) -> Iterator[Finding]:
    if not isinstance(node.value, tuple):
        yield Finding(file, node.mark, Code.WRONG_TYPE, path, f"must be a list, not {_kind(node)}")
        return
    for index, value in enumerate(node.value):
        yield from check(file, value, item, (*path, index))


def _check_values(file: str, node: Node, value: Expected, path: Path) -> Iterator[Finding]:
    if not isinstance(node.value, dict):
        yield Finding(
            file, node.mark, Code.WRONG_TYPE, path, f"must be a mapping, not {_kind(node)}"
        )
        return
    for key, each in node.value.items():
        yield from check(file, each, value, (*path, key))


def _check_leaf(file: str, node: Node, expected: Expected, path: Path) -> Iterator[Finding]:
    try:
        msgspec.convert(node.plain(), expected)
    except msgspec.ValidationError as error:
        words = str(error).partition(" - at")[0]
        message = words[:1].lower() + words[1:] + _hint(node, expected)
        yield Finding(file, node.mark, Code.WRONG_TYPE, path, message)


def _hint(node: Node, expected: Expected) -> str:
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
