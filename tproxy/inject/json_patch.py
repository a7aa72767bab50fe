"""What turns one JSON document into another (RFC 6902): an admission webhook answers with that, not with the other."""

from collections.abc import Iterator
from typing import Any

Operation = dict[str, Any]


def patch(before: object, after: object, path: str = "") -> Iterator[Operation]:
    """Give the operations, to be applied one after the other."""
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _of_objects(before, after, path)
    elif isinstance(before, list) and isinstance(after, list) and _is_grown(before, after):
        yield from _of_grown(before, after, path)
    elif _differ(before, after):
        yield {"op": "replace", "path": path, "value": after}


def _differ(before: object, after: object) -> bool:
    """Tell apart what Python takes for equal, as 1 and true, at any depth."""
    if isinstance(before, list) and isinstance(after, list):
        pairs = zip(before, after, strict=False)
        return len(before) != len(after) or any(any(patch(*pair)) for pair in pairs)
    return type(before) is not type(after) or before != after


def _of_objects(before: dict[str, Any], after: dict[str, Any], path: str) -> Iterator[Operation]:
    for key in before:
        if key not in after:
            yield {"op": "remove", "path": _below(path, key)}
    for key, value in after.items():
        if key in before:
            yield from patch(before[key], value, _below(path, key))
        else:
            yield {"op": "add", "path": _below(path, key), "value": value}


def _is_grown(before: list[Any], after: list[Any]) -> bool:
    """Tell whether a list has all its items still, in their order, by what they are called."""
    names = [_name(item) for item in before]
    left = iter(_name(item) for item in after)
    return None not in names and all(name in left for name in names)


def _of_grown(before: list[Any], after: list[Any], path: str) -> Iterator[Operation]:
    kept = iter(before)
    waiting = next(kept, None)
    for index, item in enumerate(after):
        place = _below(path, str(index))
        if waiting is not None and _name(waiting) == _name(item):
            yield from patch(waiting, item, place)
            waiting = next(kept, None)
        else:
            yield {"op": "add", "path": place, "value": item}


def _name(item: object) -> str | None:
    name = item.get("name") if isinstance(item, dict) else None
    return name if isinstance(name, str) else None


def _below(path: str, key: str) -> str:
    return f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
