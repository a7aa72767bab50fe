"""Durations and sizes, as policies write them."""

import re

_DURATION = re.compile(r"(?P<number>[0-9]{1,9}(\.[0-9]{1,9})?)(?P<unit>ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"(?P<number>[0-9]{1,9})(?P<unit>B|KiB|MiB|)")
_BYTES = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20}


def duration(text: str) -> float:
    """Read `500ms`, `3s`, `1m` or `1h` as seconds; ValueError says what it should be."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no duration, write `500ms`, `3s` or `1m`")
    return float(found["number"]) * _SECONDS[found["unit"]]


def size(value: int | str) -> int:
    """Read `8192`, `8KiB` or `1MiB` as bytes; ValueError says what it should be."""
    found = _SIZE.fullmatch(str(value))
    if found is None:
        raise ValueError(f"{value!r} is no size, write `8192`, `8KiB` or `1MiB`")
    return int(found["number"]) * _BYTES[found["unit"]]
