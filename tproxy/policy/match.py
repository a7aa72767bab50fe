"""Matchers for single values: text with its wildcards, path templates, networks, ports.

One rule stands on top of them: a field that is absent has no value, so nothing matches it, and its `not…` form holds.
"""

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, assert_never

V_contra = TypeVar("V_contra", contravariant=True)
T = TypeVar("T", str, bytes)


class Side(StrEnum):
    """Where a piece of a value is cut from."""

    WHOLE = "whole"
    START = "start"
    END = "end"
    NETWORK4 = "network4"
    """The bits of an IPv4 address that tell its network."""
    NETWORK6 = "network6"


class Cut(NamedTuple):
    """Which piece of a value it is by which matchers are found."""

    side: Side
    length: int = 0

    def of(self, value: Any) -> Hashable:  # noqa: ANN401 - text, octets, an address or a port
        """Take the piece."""
        piece: Hashable
        match self.side:
            case Side.WHOLE:
                piece = value
            case Side.START:
                piece = value[: self.length]
            case Side.END:
                piece = value[-self.length :]
            case Side.NETWORK4 | Side.NETWORK6:
                piece = _network(value, self)
            case _:
                assert_never(self.side)
        return piece


WHOLE = Cut(Side.WHOLE)

Keys = frozenset[tuple[Cut, Hashable]] | None
"""Pieces, one of which each value that matches has; None when no such pieces are known."""


class Matcher(Protocol[V_contra]):
    """Any of several values."""

    def matches(self, value: V_contra) -> bool:
        """Whether `value` is one of them."""

    def keys(self) -> Keys:
        """Return the pieces by which it is found."""


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

    def keys(self) -> Keys:
        """Return the texts, beginnings and ends that it takes; None if it takes anything."""
        if self.anything:
            return None
        return frozenset(
            (
                *((WHOLE, each) for each in self.exact),
                *((Cut(Side.START, len(each)), each) for each in self.prefixes),
                *((Cut(Side.END, len(each)), each) for each in self.suffixes),
            )
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
    openings: tuple[bytes, ...] = ()
    """What stands before each template's first operator."""

    def matches(self, value: bytes) -> bool:
        """Whether the path is one of these."""
        if self.plain.matches(value):
            return True
        return self.templates is not None and self.templates.fullmatch(value) is not None

    def keys(self) -> Keys:
        """Return those of the plain paths, and how templates begin."""
        plain = self.plain.keys()
        if plain is None:
            return None
        return plain | {(Cut(Side.START, len(each)), each) for each in self.openings}


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


def paths(patterns: Sequence[str]) -> Paths:
    """Read paths: as `words`, and templates, whose `{*}` is one segment and `{**}` any number of them."""
    plain = [each.encode() for each in patterns if not is_template(each)]
    templates = [
        "".join(_MEANING.get(part, re.escape(part)) for part in _OPERATOR.split(each))
        for each in patterns
        if is_template(each)
    ]
    pattern = re.compile("|".join(templates).encode(), re.DOTALL) if templates else None
    openings = [each.partition("{")[0].encode() for each in patterns if is_template(each)]
    return Paths(words(plain), pattern, tuple(openings))


@dataclass(frozen=True, slots=True)
class Networks:
    """Networks of both families; a single address is a network too."""

    networks: tuple[IPv4Network | IPv6Network, ...]

    def matches(self, value: str) -> bool:
        """Whether the address lies in one of them; what is no address lies nowhere."""
        address = _address(value)
        return address is not None and any(address in network for network in self.networks)

    def keys(self) -> Keys:
        """Return the bits of each network."""
        return frozenset(
            (
                Cut(_SIDES[each.version], each.prefixlen),
                int(each.network_address) >> (each.max_prefixlen - each.prefixlen),
            )
            for each in self.networks
        )


_SIDES = {4: Side.NETWORK4, 6: Side.NETWORK6}


def _network(text: str, cut: Cut) -> int | None:
    """Take the bits of an address that tell its network; None when it is of the other family."""
    address = _address(text)
    if address is None or _SIDES[address.version] is not cut.side:
        return None
    return int(address) >> (address.max_prefixlen - cut.length)


@lru_cache(maxsize=4096)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address; IPv4 that is written in IPv6 is IPv4."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def is_address(text: str) -> bool:
    """Whether it is one."""
    return _address(text) is not None


def networks(blocks: Iterable[str]) -> Networks:
    """Read addresses and networks; ValueError for what is none, or has bits set beside its mask."""
    read = tuple(ip_network(block) for block in blocks)
    for each in read:
        if isinstance(each, IPv6Network) and each.subnet_of(_MAPPED):
            raise ValueError(f"{each} is IPv4 written in IPv6, which no connection has")
    return Networks(read)


_MAPPED = IPv6Network("::ffff:0:0/96")


@dataclass(frozen=True, slots=True)
class Numbers:
    """Ports."""

    numbers: frozenset[int]

    def matches(self, value: int) -> bool:
        """Whether it is one of these."""
        return value in self.numbers

    def keys(self) -> Keys:
        """Return the numbers."""
        return frozenset((WHOLE, each) for each in self.numbers)
