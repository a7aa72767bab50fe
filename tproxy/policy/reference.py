"""The format of policy files, told from its schema: as pages for people, and as JSON Schemas for editors."""

import ast
import inspect
import json
import sys
from collections.abc import Iterator
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any, NamedTuple, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo

from tproxy.policy.check import Form, Shape, shape
from tproxy.policy.schema import KINDS, Config

Described = Any
"""A type as the schema writes it."""


BEGIN = "<!-- From here on it is written by `make docs`. -->\n"


def page(text: str) -> str:
    """Put the tables of all kinds behind what people wrote."""
    written, begin, _ = text.partition(BEGIN)
    assert begin, "the page says where the reference begins"
    return written + BEGIN + "\n" + markdown()


def markdown() -> str:
    """Write a table of the fields of each part of each kind."""
    sections = [section for kind in _kinds() for section in _kind_sections(kind)]
    return "\n".join(sections)


def schema_files() -> dict[str, str]:
    """Write a JSON Schema for each kind, and one for a document of any of them, by file name."""
    every = {kind.__name__: _kind_schema(kind) for kind in _kinds()}
    links = [{"$ref": f"{name}.json"} for name in every]
    every["any"] = {"$schema": _DIALECT, "oneOf": links}
    return {
        f"{name}.json": json.dumps(each, indent=1, ensure_ascii=False) + "\n"
        for name, each in every.items()
    }


_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _kinds() -> list[type[Config]]:
    return list(dict.fromkeys(KINDS.values()))


def _versions(kind: type[Config]) -> list[str]:
    return [version for (version, _), known in KINDS.items() if known is kind]


def _kind_sections(kind: type[Config]) -> Iterator[str]:
    versions = " or ".join(f"`{version}`" for version in _versions(kind))
    yield f"### {kind.__name__}\n\n{_sentence(kind)} `apiVersion`: {versions}.\n"
    yield from _sections(kind, Place(kind.__name__, ""))


class Place(NamedTuple):
    """Which part of a kind a section is about."""

    kind: str
    path: str

    def below(self, field: FieldInfo) -> "Place":
        """Return the place of what a field holds, or many of."""
        many = {Form.ITEMS: "[]", Form.ENTRIES: "{}"}.get(shape(field.type).form, "")
        return Place(self.kind, f"{self.path}.{field.encode_name}{many}".removeprefix("."))

    def link(self) -> str:
        """Write the section's heading as links name it: in lower case, without punctuation."""
        path = "".join(each for each in self.path.lower() if each.isalnum())
        return f"[below](#{self.kind.lower()}-{path})"


def _sections(struct: type[msgspec.Struct], place: Place) -> Iterator[str]:
    fields = msgspec.structs.fields(struct)
    if place.path:
        yield f"#### {place.kind} `{place.path}`\n\n{_sentence(struct)}\n"
    yield "| field | value | default | meaning |\n|---|---|---|---|"
    for field in fields:
        value = place.below(field).link() if _below(field.type) else _words(field.type)
        text = _meaning(struct, field)
        yield f"| `{field.encode_name}` | {value} | {_default(field)} | {text} |"
    yield ""
    for field in fields:
        if (below := _below(field.type)) is not None:
            yield from _sections(below, place.below(field))


def _meaning(struct: type[msgspec.Struct], field: FieldInfo) -> str:
    """Say what stands below a field, and below each of its values."""
    said = [documentation(struct).get(field.name, "")]
    if field.name.startswith("not_"):
        said.append(f"None of these; see `{field.encode_name[3].lower()}{field.encode_name[4:]}`.")
    for each in get_args(field.type) or (field.type,):
        if isinstance(each, type) and issubclass(each, StrEnum):
            said.extend(f"`{name}`: {text}" for name, text in documentation(each).items())
    return " ".join(filter(None, said))


def _below(expected: Described) -> type[msgspec.Struct] | None:
    """Return the Struct that a field holds, or many of."""
    found = shape(expected)
    if found.form in (Form.ITEMS, Form.ENTRIES):
        found = shape(found.inner)
    return found.inner if found.form is Form.FIELDS else None


def _words(expected: Described) -> str:
    found = shape(expected)
    match found.form:
        case Form.ITEMS:
            return f"list of {_words(found.inner)}"
        case Form.ENTRIES:
            return f"mapping to {_words(found.inner)}"
    alternatives = [each for each in get_args(expected) if each not in _NO_VALUES]
    if _is_annotated(expected):
        return _bounded(expected)
    if alternatives:
        return " or ".join(map(_words, alternatives))
    if issubclass(expected, StrEnum):
        return ", ".join(f"`{member}`" for member in expected)
    return {str: "text", int: "number", float: "number", bool: "`true` or `false`"}[expected]


_NO_VALUES = (type(None), msgspec.UnsetType)


def _is_annotated(expected: Described) -> bool:
    origin: object = get_origin(expected)
    return origin is Annotated


def _bounded(expected: Described) -> str:
    inner, meta = get_args(expected)
    if meta.ge is not None:
        return f"{_words(inner)} from {meta.ge} to {meta.le}"
    return f"text like `{meta.pattern}`" if meta.pattern else _words(inner)


def _default(field: FieldInfo) -> str:
    if field.required:
        return "required"
    default = None if field.default is msgspec.NODEFAULT else field.default
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default}`" if isinstance(default, str) else ""


def _sentence(described: type) -> str:
    return " ".join((described.__doc__ or "").split())


@lru_cache
def _bodies(module: str) -> dict[str, list[ast.stmt]]:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {each.name: each.body for each in tree.body if isinstance(each, ast.ClassDef)}


@lru_cache
def documentation(described: type) -> dict[str, str]:
    """Read what stands below each field, or each member of an enumeration."""
    body = _bodies(described.__module__)[described.__name__]
    texts = {}
    for named, below in pairwise(body):
        if isinstance(named, ast.AnnAssign | ast.Assign) and isinstance(below, ast.Expr):
            target = named.target if isinstance(named, ast.AnnAssign) else named.targets[0]
            texts[ast.unparse(target)] = " ".join(ast.literal_eval(below.value).split())
    return texts


def _kind_schema(kind: type[Config]) -> dict[str, Any]:
    described = _schema(kind)
    described["properties"] = {
        "apiVersion": {"enum": _versions(kind)},
        "kind": {"const": kind.__name__},
        **{key: each for key, each in described["properties"].items() if key != "apiVersion"},
    }
    described["required"] = ["kind", *described["required"]]
    return {"$schema": _DIALECT, **described}


def _schema(expected: Described) -> dict[str, Any]:
    found = shape(expected)
    match found.form:
        case Form.FIELDS:
            return _struct_schema(found.inner)
        case Form.ITEMS:
            least = {"minItems": found.least} if found.least else {}
            return {"type": "array", "items": _schema(found.inner), **least}
        case Form.ENTRIES:
            return {"type": "object", "additionalProperties": _schema(found.inner)}
    return _value_schema(found)


def _struct_schema(struct: type[msgspec.Struct]) -> dict[str, Any]:
    fields = msgspec.structs.fields(struct)
    texts = documentation(struct)
    properties = {}
    for field in fields:
        text = {"description": texts[field.name]} if field.name in texts else {}
        properties[field.encode_name] = {**_schema(field.type), **text}
    return {
        "type": "object",
        "description": _sentence(struct),
        "properties": properties,
        "required": [each.encode_name for each in fields if each.required],
        "additionalProperties": False,
    }


def _value_schema(found: Shape) -> dict[str, Any]:
    expected = found.inner
    if not _is_annotated(expected) and (alternatives := get_args(expected)):
        written = [each for each in alternatives if each is not msgspec.UnsetType]
        return {"anyOf": [_schema(each) for each in written]}
    if isinstance(expected, type) and issubclass(expected, StrEnum):
        return {"enum": [str(member) for member in expected]}
    return msgspec.json.schema(expected)
