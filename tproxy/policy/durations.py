"""Spans of time as policy files write them."""

import re

_DURATION = re.compile(r"(?P<number>[0-9]{1,9}(\.[0-9]{1,9})?)(?P<unit>ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> float:
    """Read `500ms`, `3s`, `1m` or `1h` as seconds; ValueError says what it should be."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no duration, write `500ms`, `3s` or `1m`")
    return float(found["number"]) * _SECONDS[found["unit"]]
