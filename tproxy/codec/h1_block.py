"""Blocks of lines, as HTTP/1's heads and trailers are: where one ends, and that no byte of it hides another."""

import re
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from tproxy.codec.h1_parser import Malformed
from tproxy.model.http import Field, Headers
from tproxy.model.limits import Limits

# Any control byte but a tab.
_CONTROL = bytes((*range(9), *range(10, 32), 127))
# One of them, unless it is part of a CRLF that no folded line follows. What follows the last byte at hand is not known
# yet, and is looked at when it comes.
_SUSPECT = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f](?!(?<=\r)(?:\n|\Z))(?!(?<=\r\n)(?:[^ \t]|\Z))")

Line = TypeVar("Line")


def _controls(block: bytes) -> int:
    return len(block) - len(block.translate(None, _CONTROL))


class BlockFinder(Generic[Line]):
    """Finds where a block of lines ends; looks at each byte once, so that a slow sender costs no more than a fast one.

    What changes: how much of the unfinished block has been looked at, and what was found there.
    """

    __slots__ = ("_limits", "_lines", "_read_line", "_seen", "line")

    line: Line
    """The first, once a block was found."""

    def __init__(self, limits: Limits, read_line: Callable[[bytes], Line]) -> None:
        self._limits = limits
        self._read_line = read_line
        self._seen = 0
        self._lines = 0

    def take(self, unread: bytes) -> bytes:
        """Return the block that `unread` begins with, its empty line included; nothing while it is incomplete.

        Whether a block that came whole is folded is left to its parser, which refuses that.
        """
        found = unread.find(b"\r\n\r\n", max(0, self._seen - 3), self._limits.head_bytes)
        if found < 0:
            self._wait(unread)
            return b""
        block = unread[: found + 4]
        ends = block.count(b"\r\n")
        if self._seen or ends - 2 > self._limits.header_fields or _controls(block) != 2 * ends:
            self._look(block)
        else:
            self.line = self._read_line(block[: block.find(b"\r\n")])
        self._seen = self._lines = 0
        return block

    def _wait(self, unread: bytes) -> None:
        most = self._limits.head_bytes
        self._look(unread[:most])
        if len(unread) >= most:
            raise Malformed("http1.headers_too_large", status=431 if self._lines else 414)
        self._seen = len(unread)

    def _look(self, block: bytes) -> None:
        """Refuse as soon as it is certain: a sender of bare LFs waits for an answer, not for us to find CRLFs."""
        start = max(0, self._seen - 1)
        suspect = _SUSPECT.search(block, start)
        clean = len(block) if suspect is None else suspect.end()
        if not self._lines:
            end = block.find(b"\r\n", start)
            if 0 <= end < clean:
                self.line = self._read_line(block[:end])
        self._lines += block.count(b"\r\n", start, clean)
        if self._lines - 2 > self._limits.header_fields:
            raise Malformed("http1.too_many_headers", status=431)
        if suspect is not None:
            raise Malformed


def render(start: bytes, headers: Headers, added: Iterable[Field] = ()) -> bytes:
    """Write a block: a first line, the fields as they are, in their order, and what this connection needs.

    h11 would move Host to the front, close HTTP/1.0 connections that ask to stay, and frame answers to HEAD.
    """
    lines = [start, *map(b": ".join, headers), *map(b": ".join, added), b"", b""]
    block = b"\r\n".join(lines)
    assert _controls(block) == 2 * (len(lines) - 1), "no field may hold a line end"
    return block
