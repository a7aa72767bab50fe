"""HTTP/1 bodies: where each ends, reading and writing.

A reader never takes a byte beyond its message, and never guesses: a chunk line that RFC 9112, 7.1 does not spell
ends the connection. h11 would skip trailing spaces and whatever stands in extensions, so chunks are read here.
"""

import re
from collections.abc import Callable
from typing import Protocol

from tproxy.codec.h1_block import BlockFinder, render
from tproxy.codec.h1_parser import Malformed
from tproxy.codec.headers import end_to_end_trailers, valid_token
from tproxy.model.http import NO_HEADERS, Field, Headers
from tproxy.model.limits import Limits

_CHUNK_EXTENSION = (
    rb";[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:=(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+|\"[ !#-\[\]-~]*\"))?"
)
# Fifteen digits fit a signed 64-bit integer, whatever the next reader counts with.
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:" + _CHUNK_EXTENSION + rb")*")
_CHUNK_LINE_BEGUN = re.compile(rb"(?:[0-9A-Fa-f]{1,15}(?:;[ -~]*)?\r?)?")


class BodyReader(Protocol):
    """Takes one message's body out of what was received. What changes: how far it has got."""

    ended: bool
    trailers: Headers
    ends_with_stream: bool
    """Whether the end of the peer's stream is the end of the body."""

    def take(self, unread: bytes) -> tuple[bytes, bytes]:
        """Split `unread` into content and what is not read yet; Malformed when the framing is broken."""


class CountedReader:
    """A body of declared length."""

    __slots__ = ("ended", "ends_with_stream", "owed", "trailers")

    def __init__(self, length: int) -> None:
        self.owed = length
        self.ended = length == 0
        self.trailers = NO_HEADERS
        self.ends_with_stream = False

    def skip(self, size: int) -> None:
        """Count content that somebody else has taken."""
        self.owed -= size
        assert self.owed >= 0, "what follows is the next message's"
        self.ended = not self.owed

    def take(self, unread: bytes) -> tuple[bytes, bytes]:
        """Take as much as is still owed."""
        content = unread[: self.owed]
        self.owed -= len(content)
        self.ended = not self.owed
        return content, unread[len(content) :]


class OpaqueReader:
    """Whatever comes until the peer's stream ends: a close-delimited body, or one way of a tunnel."""

    __slots__ = ("ended", "ends_with_stream", "trailers")

    def __init__(self) -> None:
        self.ended = False
        self.trailers = NO_HEADERS
        self.ends_with_stream = True

    def take(self, unread: bytes) -> tuple[bytes, bytes]:
        """Take everything."""
        return unread, b""


class ChunkedReader:
    """A body in chunks, then trailers. What changes: which piece of the framing is due."""

    __slots__ = ("_due", "_left", "_limits", "_lines", "ended", "ends_with_stream", "trailers")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lines = BlockFinder(limits, _check_trailer)
        self._due: Callable[[ChunkedReader, bytes, int, list[bytes]], int] = ChunkedReader._size
        self._left = 0
        self.ended = False
        self.trailers = NO_HEADERS
        self.ends_with_stream = False

    def take(self, unread: bytes) -> tuple[bytes, bytes]:
        """Take the content of all chunks at hand."""
        contents: list[bytes] = []
        read, before = 0, -1
        while read != before and not self.ended:
            before = read
            read = self._due(self, unread, read, contents)
        return b"".join(contents), unread[read:]

    def _size(self, unread: bytes, start: int, _: list[bytes]) -> int:
        end = unread.find(b"\r\n", start, start + self._limits.chunk_line_bytes)
        if end < 0:
            self._check_unfinished(unread[start:])
            return start
        line = _CHUNK_LINE.fullmatch(unread, start, end)
        if line is None:
            raise Malformed
        self._left = int(line[1], base=16)
        self._due = ChunkedReader._content if self._left else ChunkedReader._trailers
        # The trailers' block begins with the last chunk's line, so that without trailers it is a block too.
        return end + 2 if self._left else end

    def _check_unfinished(self, line: bytes) -> None:
        too_long = len(line) >= self._limits.chunk_line_bytes
        if too_long or not _CHUNK_LINE_BEGUN.fullmatch(line):
            raise Malformed

    def _content(self, unread: bytes, start: int, contents: list[bytes]) -> int:
        content = unread[start : start + self._left]
        contents.append(content)
        self._left -= len(content)
        if not self._left:
            self._due = ChunkedReader._delimiter
        return start + len(content)

    def _delimiter(self, unread: bytes, start: int, _: list[bytes]) -> int:
        delimiter = unread[start : start + 2]
        if not b"\r\n".startswith(delimiter):
            raise Malformed
        if len(delimiter) < 2:
            return start
        self._due = ChunkedReader._size
        return start + 2

    def _trailers(self, unread: bytes, start: int, _: list[bytes]) -> int:
        block = self._lines.take(unread[start:])
        if block:
            fields = (_field(line) for line in block[2:-4].split(b"\r\n") if line)
            self.trailers = end_to_end_trailers(Headers(fields))
            self.ended = True
        return start + len(block)


def _check_trailer(line: bytes) -> None:
    """Accept the line that a block of trailers begins with: it is empty."""
    assert not line, "the block begins with the line end of the last chunk's size"


def _field(line: bytes) -> Field:
    name, colon, value = line.partition(b":")
    if not colon or not valid_token(name):
        raise Malformed
    return name, value.strip(b" \t")


class BodyWriter(Protocol):
    """Gives one message's body its framing. What changes: what is still owed."""

    def part(self, content: bytes) -> bytes:
        """Frame a part of the body."""

    def end(self, trailers: Headers) -> bytes:
        """Frame the end of the body; trailers that the framing has no place for are discarded (RFC 9110, 6.5.1)."""

    @property
    def whole(self) -> bool:
        """Whether the peer can tell, after `end`, that the message is complete."""


class CountedWriter:
    """A body of declared length."""

    __slots__ = ("owing",)

    def __init__(self, length: int) -> None:
        self.owing = length

    def skip(self, size: int) -> None:
        """Count content that somebody else writes."""
        self.owing -= size
        assert self.owing >= 0, "no body is longer than its content-length"

    def part(self, content: bytes) -> bytes:
        """Pass `content` on; more than was declared would be read as the next message."""
        self.owing -= len(content)
        assert self.owing >= 0, "no body is longer than its content-length"
        return content

    def end(self, _: Headers) -> bytes:
        """Add nothing."""
        return b""

    @property
    def whole(self) -> bool:
        """Whether everything declared was sent."""
        return not self.owing


class ChunkedWriter:
    """A body in chunks, then trailers."""

    __slots__ = ()
    whole = True

    def part(self, content: bytes) -> bytes:
        """Make one chunk; an empty one would be the last."""
        return b"%x\r\n%b\r\n" % (len(content), content) if content else b""

    def end(self, trailers: Headers) -> bytes:
        """Write the last chunk and the trailers."""
        return render(b"0", end_to_end_trailers(trailers)) if trailers else b"0\r\n\r\n"


class OpaqueWriter:
    """Bytes as they are, until our stream ends."""

    __slots__ = ()
    whole = False

    def part(self, content: bytes) -> bytes:
        """Pass `content` on."""
        return content

    def end(self, _: Headers) -> bytes:
        """Add nothing: the end of the stream says it."""
        return b""


class SilentWriter:
    """No body, whatever the pipeline has: answers to HEAD, 204 and 304."""

    __slots__ = ()
    whole = True

    def part(self, _: bytes) -> bytes:
        """Drop the part."""
        return b""

    def end(self, _: Headers) -> bytes:
        """Add nothing."""
        return b""
