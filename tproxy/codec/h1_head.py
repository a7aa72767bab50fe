"""HTTP/1 heads, from bytes that have passed the strictest reading to the head that the pipeline knows.

A head is forwarded only when every reader must take it for the same message: lines end in CRLF, nothing is folded, no
control byte hides anywhere, and the length of what follows can be told in one way. A library splits the fields; what it lets
through for the sake of old peers is refused around it, since a proxy's two neighbours may each be old in another way.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tproxy.codec.h1_parser import HeadParser, Malformed
from tproxy.codec.headers import (
    content_length,
    end_to_end,
    list_of,
    valid_authority,
    valid_host,
    valid_method,
    valid_path,
    valid_token,
)
from tproxy.model.http import Field, Headers, HttpVersion, RequestHead, ResponseHead
from tproxy.model.limits import Limits

# Any control byte but a tab, unless it is part of a CRLF that no folded line follows. What follows the last byte at
# hand is not known yet, and is looked at when it comes.
_SUSPECT = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f](?!(?<=\r)(?:\n|\Z))(?!(?<=\r\n)(?:[^ \t]|\Z))")
_REQUEST_LINE = re.compile(rb"([!-~]+) ([!-\xff]+) HTTP/1\.([01])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([^\x00-\x08\x0a-\x1f\x7f]*))?")
_CHUNKED_LINE = re.compile(rb"\r\ntransfer-encoding: *chunked *\r\n", re.IGNORECASE)
_VERSIONS = {b"0": HttpVersion.HTTP10, b"1": HttpVersion.HTTP11}
_ABSOLUTE_FORM = re.compile(rb"http://([^/?]*)(/[^?]*)?(\?.*)?", re.IGNORECASE)


class BlockFinder:
    """Finds where a block of lines ends; looks at each byte once, so that a slow sender costs no more than a fast one.

    What changes: how much of the unfinished block has been looked at, and what was found there.
    """

    __slots__ = ("_check_line", "_limits", "_lines", "_seen")

    def __init__(self, limits: Limits, check_line: Callable[[bytes], None]) -> None:
        self._limits = limits
        self._check_line = check_line
        self._seen = 0
        self._lines = 0

    def end(self, unread: bytes) -> int:
        """Return the length of the block that `unread` begins with, its empty line included; 0 while it is incomplete."""
        most = self._limits.head_bytes
        found = unread.find(b"\r\n\r\n", max(0, self._seen - 3), most)
        stop = found + 4 if found >= 0 else min(len(unread), most)
        self._check(unread, max(0, self._seen - 1), stop)
        if found >= 0:
            self._seen = self._lines = 0
            return stop
        if len(unread) >= most:
            raise Malformed("http1.headers_too_large", status=431 if self._lines else 414)
        self._seen = stop
        return 0

    def _check(self, unread: bytes, start: int, stop: int) -> None:
        """Refuse as soon as it is certain: a sender of bare LFs waits for an answer, not for us to find CRLFs."""
        suspect = _SUSPECT.search(unread, start, stop)
        clean = stop if suspect is None else suspect.end()
        first_end = -1 if self._lines else unread.find(b"\r\n", start, stop)
        if 0 <= first_end < clean:
            self._check_line(unread[:first_end])
        self._lines += unread.count(b"\r\n", start, clean)
        if self._lines - 2 > self._limits.header_fields:
            raise Malformed("http1.too_many_headers", status=431)
        if suspect is not None:
            raise Malformed


def check_request_line(line: bytes) -> None:
    """Refuse a request line that is none, or whose method or target two readers could take for different ones."""
    method, target, _ = _request_line(line)
    if not valid_method(method):
        raise Malformed("http.invalid_method")
    if not _valid_target(method, target):
        raise Malformed("http1.invalid_url")


def check_status_line(line: bytes) -> None:
    """Refuse a line that is not the first of an HTTP/1 response: no use in waiting for the rest."""
    _status_line(line)


def _request_line(line: bytes) -> tuple[bytes, bytes, HttpVersion]:
    parts = _REQUEST_LINE.fullmatch(line)
    if parts is None:
        raise Malformed
    method, target, minor = parts.groups()
    return method, target, _VERSIONS[minor]


def _status_line(line: bytes) -> tuple[int, bytes, HttpVersion]:
    parts = _STATUS_LINE.fullmatch(line)
    if parts is None:
        raise Malformed
    minor, status, reason = parts.groups()
    return int(status), reason or b"", _VERSIONS[minor]


def _valid_target(method: bytes, target: bytes) -> bool:
    if method == b"CONNECT":
        return valid_authority(target)
    if target == b"*":
        return method == b"OPTIONS"
    absolute = _ABSOLUTE_FORM.fullmatch(target)
    if absolute is None:
        return valid_path(target)
    authority, path, query = absolute.groups()
    return valid_authority(authority) and valid_path((path or b"/") + (query or b""))


@dataclass(frozen=True, slots=True)
class RequestOpening:
    """A request's head, with what only this connection needs to know."""

    head: RequestHead
    length: int | None
    """Bytes of body that follow; None when they come in chunks."""
    persistent: bool
    """Whether the peer expects to send another request afterwards."""

    @property
    def asks_tunnel(self) -> bool:
        """Whether the connection may stop being HTTP after the answer."""
        return bool(self.head.upgrade) or self.head.method == b"CONNECT"


def parse_request(block: bytes, parser: HeadParser) -> RequestOpening:
    """Read a whole request head."""
    method, target, version = _request_line(block[: block.index(b"\r\n")])
    fields = parser.request(block)
    headers = Headers(fields)
    _check_coding(headers)
    _check_hosts(fields, version)
    chunked = _chunked(headers, block, version)
    length = None if chunked else _length(headers) or 0
    authority, path = _destination(method, target, headers, version)
    options = list_of(headers.get(b"connection"))
    connecting = method == b"CONNECT"
    if connecting and length != 0:
        raise Malformed("http1.body_disallowed")
    # CONNECT already asks for a tunnel; with an upgrade beside it, it would pass for HTTP/2's extended CONNECT.
    upgrade = b"" if connecting or length != 0 else _upgrade(headers, options, version)
    head = RequestHead(
        method=method,
        scheme=b"http",
        authority=authority,
        path=path,
        headers=_with_host(end_to_end(headers), authority),
        version=version,
        upgrade=upgrade,
        absolute=_ABSOLUTE_FORM.fullmatch(target) is not None,
    )
    return RequestOpening(head, length, persistent=_persistent(options, version))


def _check_coding(headers: Headers) -> None:
    """Refuse any other coding than the one that says where a body ends, or that one twice."""
    coding = headers.get(b"transfer-encoding")
    if coding is not None and coding.lower() != b"chunked":
        raise Malformed("http1.invalid_transfer_encoding", status=501)


def _chunked(headers: Headers, block: bytes, version: HttpVersion) -> bool:
    """Whether the body is chunked; refuses what some reader could take for another framing (RFC 9112, 6.1)."""
    if b"transfer-encoding" not in headers:
        return False
    if version is HttpVersion.HTTP10 or not _CHUNKED_LINE.search(block):
        raise Malformed("http1.invalid_transfer_encoding")
    if b"content-length" in headers:
        raise Malformed("http1.content_length_and_chunked_not_allowed")
    return True


def _length(headers: Headers) -> int | None:
    try:
        return content_length(headers)
    except ValueError as error:
        raise Malformed from error


def _check_hosts(fields: list[Field], version: HttpVersion) -> None:
    """Refuse a second Host, which another reader may prefer, and a request of HTTP/1.1 without one (RFC 9112, 3.2)."""
    hosts = sum(name.lower() == b"host" for name, _ in fields)
    if not hosts and version is HttpVersion.HTTP11:
        raise Malformed("missing_host_header")
    if hosts > 1:
        raise Malformed


def _destination(
    method: bytes, target: bytes, headers: Headers, version: HttpVersion
) -> tuple[bytes, bytes]:
    """Return the authority and the path that are asked for; an absolute target's authority wins (RFC 9112, 3.2.2)."""
    host = headers.get(b"host") or b""
    if host and not valid_host(host):
        raise Malformed("http.invalid_authority")
    if method == b"CONNECT":
        return target, b""
    absolute = _ABSOLUTE_FORM.fullmatch(target)
    if absolute is not None:
        authority, path, query = absolute.groups()
        if method == b"OPTIONS" and not path and not query:
            return authority, b"*"
        return authority, (path or b"/") + (query or b"")
    if not host and version is HttpVersion.HTTP11:
        raise Malformed("missing_host_header")
    return host, target


def _with_host(headers: Headers, authority: bytes) -> Headers:
    """Make a Host that differs equal to `authority`, where it stands."""
    if headers.get(b"host") in (None, authority):
        return headers
    return Headers(
        (name, authority if name.lower() == b"host" else value) for name, value in headers
    )


def _upgrade(headers: Headers, options: frozenset[bytes], version: HttpVersion) -> bytes:
    """Return the one protocol that is asked for; an Upgrade may be ignored, and several or h2c are."""
    protocol = headers.get(b"upgrade") or b""
    if b"upgrade" not in options or version is HttpVersion.HTTP10:
        return b""
    name, _, edition = protocol.partition(b"/")
    if name.lower() == b"h2c" or not (valid_token(name) and valid_token(edition or name)):
        return b""
    return protocol


def _persistent(options: frozenset[bytes], version: HttpVersion) -> bool:
    if version is HttpVersion.HTTP10:
        return b"keep-alive" in options and b"close" not in options
    return b"close" not in options


@dataclass(frozen=True, slots=True)
class ResponseOpening:
    """A response's head, with what only this connection needs to know."""

    head: ResponseHead
    chunked: bool
    length: int | None
    """The declared length, whether or not a body follows."""
    persistent: bool
    """Whether the peer will take another request afterwards."""
    upgrade: bytes
    """The protocol that a 101 switches to."""


def parse_response(block: bytes, parser: HeadParser) -> ResponseOpening:
    """Read a whole response head, informational or final."""
    status, reason, version = _status_line(block[: block.index(b"\r\n")])
    headers = Headers(parser.response(block))
    _check_coding(headers)
    return ResponseOpening(
        ResponseHead(status, end_to_end(headers), version, reason),
        chunked=_chunked(headers, block, version),
        length=_length(headers),
        persistent=_persistent(list_of(headers.get(b"connection")), version),
        upgrade=headers.get(b"upgrade") or b"",
    )


def render_head(start: bytes, headers: Headers, *added: tuple[bytes, bytes]) -> bytes:
    """Write a head: the fields as they are, in their order, then what this connection needs.

    h11 would move Host to the front, close HTTP/1.0 connections that ask to stay, and frame answers to HEAD.
    """
    lines = [start, *[b"%b: %b" % field for field in (*headers, *added)], b"", b""]
    block = b"\r\n".join(lines)
    assert block.count(b"\n") == len(lines) - 1, "no field may hold a line end"
    assert not _SUSPECT.search(block), "no field may hold a control byte"
    return block
