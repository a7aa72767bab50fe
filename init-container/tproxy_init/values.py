"""The words that options are made of, and how each is read from text.

A reader refuses with ValueError and never skips: a port list that lost an entry on the way
captures something else than was asked for.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self, TypeVar

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

T = TypeVar("T")
Choice = TypeVar("Choice", bound=StrEnum)

MAX_PORT = 65535
MAX_ID = 4294967294
"""The kernel keeps 4294967295 for "no such user"."""

SPAN = re.compile(r"([0-9]{1,10})(?:[:-]([0-9]{1,10}))?", re.ASCII)
INTERFACE = re.compile(r"[A-Za-z0-9_.@-]{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """The numbers from first to last, both included: ports, UIDs or GIDs."""

    first: int
    last: int

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last

    @property
    def slots(self) -> int:
        """Places this takes in one multiport rule: a range costs two."""
        return 1 if self.first == self.last else 2

    def text(self, separator: str) -> str:
        """One number, or two around `separator`: netfilter's tools differ in it."""
        return str(self.first) if self.slots == 1 else f"{self.first}{separator}{self.last}"

    @classmethod
    def read(cls, word: str, *, lowest: int, highest: int) -> Self:
        """`80`, `8080:8090` or `8080-8090`, within bounds and in order."""
        found = SPAN.fullmatch(word)
        if found is None:
            raise ValueError(f"{word!r} is neither a number nor a range such as 8080:8090")
        span = cls(int(found[1]), int(found[2] or found[1]))
        if span.first > span.last:
            raise ValueError(f"{word!r} ends before it begins")
        if span.first < lowest or span.last > highest:
            raise ValueError(f"{word!r} is outside {lowest} to {highest}")
        return span


def number(*, highest: int) -> Callable[[str], int]:
    """A reader of one number from 1 to `highest`."""

    def read(text: str) -> int:
        span = Span.read(text.strip(), lowest=1, highest=highest)
        if span.slots != 1:
            raise ValueError(f"{text!r} is a range where one number belongs")
        return span.first

    return read


def ports(text: str) -> tuple[Span, ...]:
    """Ports and ranges, sorted, overlaps joined: nft refuses a set that names a port twice."""
    return _joined(Span.read(word, lowest=1, highest=MAX_PORT) for word in words(text))


def ids(text: str) -> tuple[Span, ...]:
    """UIDs or GIDs and ranges of them, sorted, overlaps joined."""
    return _joined(_id(word) for word in words(text))


def cidrs(text: str) -> tuple[Network, ...]:
    """Networks in the order given, each once."""
    return tuple(dict.fromkeys(_network(word) for word in words(text)))


def addresses(text: str) -> tuple[Address, ...]:
    """Single addresses in the order given, each once."""
    return tuple(dict.fromkeys(_address(word) for word in words(text)))


def interfaces(text: str) -> tuple[str, ...]:
    """Interface names in the order given, each once; a trailing + stands for any ending."""
    return tuple(dict.fromkeys(_interface(word) for word in words(text)))


def choice(members: type[Choice]) -> Callable[[str], Choice]:
    """A reader of one member's name, in any case."""

    def read(text: str) -> Choice:
        try:
            return members(text.strip().lower())
        except ValueError:
            raise ValueError(f"{text!r} is not one of {', '.join(members)}") from None

    return read


def every_or(read: Callable[[str], tuple[T, ...]]) -> Callable[[str], tuple[T, ...] | None]:
    """A reader of `*` as None, which stands for everything, and of lists as `read` does."""
    return lambda text: None if text.strip() == "*" else read(text)


def at_least_one(
    read: Callable[[str], tuple[T, ...] | None],
) -> Callable[[str], tuple[T, ...] | None]:
    """`read`, but an empty list is refused because it would leave nothing to capture."""

    def checked(text: str) -> tuple[T, ...] | None:
        chosen = read(text)
        if chosen == ():
            raise ValueError("is empty, so nothing at all would be captured; say * for everything")
        return chosen

    return checked


def flag(text: str) -> bool:
    """true/1/yes/on or false/0/no/off."""
    match text.strip().lower():
        case "true" | "1" | "yes" | "on":
            return True
        case "false" | "0" | "no" | "off" | "":
            return False
    raise ValueError(f"{text!r} is neither true nor false")


def words(text: str) -> list[str]:
    """The entries of a comma-separated list; an empty text or `none` is the empty list."""
    if text.strip() in ("", "none"):
        return []
    found = [word.strip() for word in text.split(",")]
    if "" in found:
        raise ValueError(f"{text!r} has an empty entry between commas")
    return found


def _joined(spans: Iterator[Span]) -> tuple[Span, ...]:
    joined: list[Span] = []
    for span in sorted(spans):
        if joined and span.first <= joined[-1].last:
            joined[-1] = Span(joined[-1].first, max(joined[-1].last, span.last))
        else:
            joined.append(span)
    return tuple(joined)


def _id(word: str) -> Span:
    if not word[0].isdigit():
        # A name would be looked up in this container's passwd, not the application's
        # (and the look-up can hang: istio#48416).
        raise ValueError(
            f"{word!r} is not numeric; names differ between containers, use the number"
        )
    return Span.read(word, lowest=0, highest=MAX_ID)


def _network(word: str) -> Network:
    try:
        return ip_network(word)
    except ValueError as error:
        raise ValueError(f"{error}; write the network's own address") from None


def _address(word: str) -> Address:
    try:
        return ip_address(word)
    except ValueError:
        raise ValueError(f"{word!r} is not an IP address") from None


def _interface(word: str) -> str:
    if not INTERFACE.fullmatch(word.removesuffix("+")):
        raise ValueError(f"{word!r} is not an interface's name")
    return word
