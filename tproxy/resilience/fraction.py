"""Turn a text into a number that it always gives, in every process, so that a choice can be made again alike."""

from collections.abc import Callable
from functools import lru_cache
from struct import Struct

from tproxy.resilience.digest import blake2b

Random = Callable[[], float]
"""Draws a float in [0, 1)."""

POSITIONS = 2**64
"""How many positions there are."""

_BLOCK = Struct(">8Q")
"""One digest of 64 bytes is eight positions."""


def position(text: bytes, salt: bytes = b"") -> int:
    """Give the text's place among 2^64, evenly spread; under another salt it has another, of no relation.

    Python's own hash differs in each process.
    """
    digest = blake2b(text, digest_size=8, person=_person(salt)).digest()
    return int.from_bytes(digest)


def fraction(text: bytes, salt: bytes = b"") -> float:
    """Give the text's float in [0, 1): the upper 53 bits of its position, which a float holds exactly."""
    return (position(text, salt) >> 11) / 2**53


def positions(text: bytes, count: int) -> list[int]:
    """Give so many places to one text; fewer are the first of more."""
    found: list[int] = []
    for block in range(-(-count // 8)):
        found += _BLOCK.unpack(blake2b(b"%d %s" % (block, text)).digest())
    return found[:count]


@lru_cache(maxsize=1024)
def _person(salt: bytes) -> bytes:
    """Fit a salt of any length into blake2b's 16 bytes."""
    return salt if len(salt) <= 16 else blake2b(salt, digest_size=16).digest()
