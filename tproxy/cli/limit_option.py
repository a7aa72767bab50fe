"""`--limit NAME=VALUE`: any bound of the data path, checked against what it can be."""

import math
from collections.abc import Iterable
from dataclasses import fields
from difflib import get_close_matches

from tproxy.model.limits import Limits

DEFAULTS = {field.name.replace("_", "-"): field.default for field in fields(Limits)}
"""Every limit by the name that options use."""

IN_POLICIES = {
    "sniff-seconds": "spec.detection.timeout",
    "sniff-bytes": "spec.detection.maxBytes",
}
"""What can change while the proxy runs."""

LEAST = {
    "head-bytes": 1024,
    "stream-window": 65535,
    "connection-window": 65535,
    "part-bytes": 1024,
    "pool-connections": 0,
    "stream-idle-seconds": 0,
    "tcp-idle-seconds": 0,
    "drain-seconds": 0,
    "drain-least-seconds": 0,
    "close-seconds": 0,
}
"""What is not refused at the bottom, where that is not 1, or for seconds anything above 0."""

MOST = {
    "stream-window": 2**31 - 1,  # RFC 9113, 6.9.1
    "connection-window": 2**31 - 1,
    "part-bytes": 2**24 - 1,  # RFC 9113, 4.2: it is also the largest frame that we take
    "streams": 2**31 - 1,
    "keepalive-seconds": 32767,  # tcp(7)
}


class BadLimit(ValueError):
    """A limit that cannot be kept, and why."""


def limits_of(words: Iterable[str]) -> dict[str, int | float]:
    """Read `NAME=VALUE` words into fields of `Limits`; what is given twice is the last."""
    return dict(_limit(word) for word in words)


def _limit(word: str) -> tuple[str, int | float]:
    name, equals, text = word.partition("=")
    if not equals:
        raise BadLimit(f"{word!r} is not NAME=VALUE")
    if name not in DEFAULTS:
        raise BadLimit(_unknown(name))
    if name in IN_POLICIES:
        raise BadLimit(f"{name} is said in the policies: {IN_POLICIES[name]} of ProxyConfig")
    value = _number(name, text)
    _check(name, value)
    return name.replace("-", "_"), value


def _unknown(name: str) -> str:
    close = get_close_matches(name.replace("_", "-"), DEFAULTS, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(DEFAULTS)}"
    return f"there is no limit {name!r}; {hint}"


def _number(name: str, text: str) -> int | float:
    whole = isinstance(DEFAULTS[name], int)
    try:
        number: int | float = int(text) if whole else float(text)
    except ValueError:
        raise BadLimit(f"{name}: {text!r} is not a {'whole ' if whole else ''}number") from None
    if not math.isfinite(number):
        raise BadLimit(f"{name}: {text!r} is no bound")
    return number


def _check(name: str, value: float) -> None:
    whole = isinstance(DEFAULTS[name], int)
    least = LEAST.get(name, 1 if whole else None)
    if least is None and value <= 0:
        raise BadLimit(f"{name}: {value:g} is not above 0")
    if least is not None and value < least:
        raise BadLimit(f"{name}: {value:g} is less than {least}")
    if value > MOST.get(name, math.inf):
        raise BadLimit(f"{name}: {value:g} is more than {MOST[name]}")
