"""Matchers for single values: text with its wildcards, path templates, networks, ports.

One rule stands on top of them: a field that is absent has no value, so nothing matches it, and its `not…` form holds.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Generic, Protocol, TypeVar

V_contra = TypeVar("V_contra", contravariant=True)
T = TypeVar("T", str, bytes)


class Matcher(Protocol[V_contra]):
    """Any of several values."""

    def matches(self, value: V_contra) -> bool:
        """Whether `value` is one of them."""


@dataclass(frozen=True, slots=True)
class Words(Generic[T]):
    """Text: exact, beginning or ending so, anything."""

    exact: frozenset[T]
    prefixes: tuple[T, ...] = ()
    suffixes: tuple[T, ...] = ()
    anything: bool = False
    """Any text but the empty one."""

    def matches(self, value: T) -> bool:
        """Whether `value` is one of these."""
        return (
            value in self.exact
            or value.startswith(self.prefixes)
            or value.endswith(self.suffixes)
            or (self.anything and bool(value))
        )


def words(patterns: Iterable[T]) -> Words[T]:
    """Read Istio's patterns: `text`, `text*`, `*text`, `*`."""
    exact, prefixes, suffixes, anything = set(), [], [], False
    for pattern in patterns:
        star = "*" if isinstance(pattern, str) else b"*"
        if pattern == star:
            anything = True
        elif pattern.endswith(star):
            prefixes.append(pattern[:-1])
        elif pattern.startswith(star):
            suffixes.append(pattern[1:])
        else:
            exact.add(pattern)
    return Words(frozenset(exact), tuple(prefixes), tuple(suffixes), anything)


@dataclass(frozen=True, slots=True)
class Paths:
    """Paths, some of them written as templates."""

    plain: Words[bytes]
    templates: re.Pattern[bytes] | None = None

    def matches(self, value: bytes) -> bool:
        """Whether the path is one of these."""
        if self.plain.matches(value):
            return True
        return self.templates is not None and self.templates.fullmatch(value) is not None


_OPERATOR = re.compile(r"(\{\*\*?\})")
_MEANING = {"{*}": "[^/]+", "{**}": ".*"}


def is_template(path: str) -> bool:
    """Whether a path holds `{*}` or `{**}`."""
    return _OPERATOR.search(path) is not None


def check_template(path: str) -> None:
    """Raise ValueError when a template is none: operators are whole segments, and `{**}` is the last of them."""
    segments = path.split("/")
    operators = [segment for segment in segments if "{" in segment or "}" in segment]
    if not set(operators) <= _MEANING.keys():
        raise ValueError("{*} and {**} must be whole segments")
    if "{**}" in operators[:-1]:
        raise ValueError("{**} must be the last operator")
    if "*" in _OPERATOR.sub("", path):
        raise ValueError("a template has no other `*`")


def paths(patterns: Iterable[str]) -> Paths:
    """Read paths: as `words`, and templates, whose `{*}` is one segment and `{**}` any number of them."""
    plain = [each.encode() for each in patterns if not is_template(each)]
    templates = [
        "".join(_MEANING.get(part, re.escape(part)) for part in _OPERATOR.split(each))
        for each in patterns
        if is_template(each)
    ]
    pattern = re.compile("|".join(templates).encode(), re.DOTALL) if templates else None
    return Paths(words(plain), pattern)


@dataclass(frozen=True, slots=True)
class Networks:
    """Networks of both families; a single address is a network too."""

    networks: tuple[IPv4Network | IPv6Network, ...]

    def matches(self, value: str) -> bool:
        """Whether the address lies in one of them; what is no address lies nowhere."""
        address = _address(value)
        return address is not None and any(address in network for network in self.networks)


@lru_cache(maxsize=4096)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def networks(blocks: Iterable[str]) -> Networks:
    """Read addresses and networks; ValueError for what is none, or has bits set beside its mask."""
    return Networks(tuple(ip_network(block) for block in blocks))


@dataclass(frozen=True, slots=True)
class Numbers:
    """Ports."""

    numbers: frozenset[int]

    def matches(self, value: int) -> bool:
        """Whether it is one of these."""
        return value in self.numbers
