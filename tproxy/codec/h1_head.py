"""HTTP/1 heads, from bytes that have passed the strictest reading to the head that the pipeline knows.

A head is forwarded only when every reader must take it for the same message: lines end in CRLF, nothing is folded, no
control byte hides anywhere, and the length of what follows can be told in one way. A library splits the fields; what it lets
through for the sake of old peers is refused around it, since a proxy's two neighbours may each be old in another way.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from tproxy.codec.h1_line import HTTP10, HTTP11, RequestLine, StatusLine
from tproxy.codec.h1_parser import HeadParser, Malformed
from tproxy.codec.headers import NO_OPTIONS, length_of, valid_host, valid_token
from tproxy.model.http import Field, Headers, HttpVersion, RequestHead, ResponseHead

_CHUNKED_LINE = re.compile(rb"\r\ntransfer-encoding: *chunked *\r\n", re.IGNORECASE)

CHUNKED: Final = -1
"""The length of a body that comes in chunks."""


class RequestOpening(msgspec.Struct, frozen=True):
    """A request's head, with what only this connection needs to know."""

    head: RequestHead
    length: int
    """Bytes of body that follow, or CHUNKED."""
    persistent: bool
    """Whether the peer expects to send another request afterwards."""


def parse_request(line: RequestLine, block: bytes, parser: HeadParser) -> RequestOpening:
    """Read a whole request head, whose first line was read before."""
    fields = parser.request(block)
    version, here = line.version, fields.here
    host = here.get(b"host")
    if host is None or b"," in host:
        _check_hosts(host, fields.onward, version)
    length, options, upgrade = 0, NO_OPTIONS, b""
    if len(here) > 1 or host is None:  # most say nothing but whom they are for
        _check_coding(here)
        length = _length(here, block, version) or 0
        options = fields.options()
        upgrade = _upgrade(line, length, here, options)
    authority = _authority(line, host)
    headers = fields.end_to_end(options)
    head = RequestHead(
        line.method,
        b"http",
        authority,
        line.path,
        headers if host == authority or host is None else _with_host(headers, authority),
        version,
        upgrade,
        line.absolute,
    )
    return RequestOpening(head, length, _persistent(options, version))


def _check_coding(here: Mapping[bytes, bytes]) -> None:
    """Refuse any other coding than the one that says where a body ends, or that one twice."""
    if here.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
        raise Malformed("http1.invalid_transfer_encoding", status=501)


def _check_hosts(host: bytes | None, fields: list[Field], version: HttpVersion) -> None:
    """Refuse HTTP/1.1 without a Host, and a second one, which another reader may prefer (RFC 9112, 3.2)."""
    if host is None and version is HTTP11:
        raise Malformed("missing_host_header")
    if sum(name.lower() == b"host" for name, _ in fields) > 1:
        raise Malformed


def _length(here: Mapping[bytes, bytes], block: bytes, version: HttpVersion) -> int | None:
    """Return the declared length; refuse what some reader could take for another framing (RFC 9112, 6.1)."""
    if b"transfer-encoding" in here:
        if version is HTTP10 or not _CHUNKED_LINE.search(block):
            raise Malformed("http1.invalid_transfer_encoding")
        if b"content-length" in here:
            raise Malformed("http1.content_length_and_chunked_not_allowed")
        return CHUNKED
    if b"content-length" not in here:
        return None
    try:
        return length_of(here[b"content-length"])
    except ValueError as error:
        raise Malformed from error


def _authority(line: RequestLine, host: bytes | None) -> bytes:
    """Return the authority that is asked; the one of an absolute target wins over Host (RFC 9112, 3.2.2)."""
    if host and not valid_host(host):
        raise Malformed("http.invalid_authority")
    if line.authority is not None:
        return line.authority
    if not host and line.version is HTTP11:
        raise Malformed("missing_host_header")
    return host or b""


def _with_host(headers: Headers, authority: bytes) -> Headers:
    """Make a Host that differs equal to `authority`, where it stands."""
    return Headers(
        (name, authority if name.lower() == b"host" else value) for name, value in headers
    )


def _upgrade(
    line: RequestLine, length: int, here: Mapping[bytes, bytes], options: frozenset[bytes]
) -> bytes:
    """Return the one protocol that is asked for; an Upgrade may be ignored, and several or h2c are."""
    if line.method == b"CONNECT":
        if length:
            raise Malformed("http1.body_disallowed")
        # It already asks for a tunnel; with an upgrade beside it, it would pass for HTTP/2's extended CONNECT.
        return b""
    if b"upgrade" not in options or length or line.version is HTTP10:
        return b""
    protocol = here.get(b"upgrade", b"")
    name, _, edition = protocol.partition(b"/")
    if name.lower() == b"h2c" or not (valid_token(name) and valid_token(edition or name)):
        return b""
    return protocol


def _persistent(options: frozenset[bytes], version: HttpVersion) -> bool:
    if version is HTTP10:
        return b"keep-alive" in options and b"close" not in options
    return b"close" not in options


class ResponseOpening(msgspec.Struct, frozen=True):
    """A response's head, with what only this connection needs to know."""

    head: ResponseHead
    length: int | None
    """The declared length, whether or not a body follows; or CHUNKED."""
    persistent: bool
    """Whether the peer will take another request afterwards."""
    upgrade: bytes
    """The protocol that a 101 switches to."""


def parse_response(line: StatusLine, block: bytes, parser: HeadParser) -> ResponseOpening:
    """Read a whole response head, informational or final, whose first line was read before."""
    fields = parser.response(block)
    here, options = fields.here, fields.options()
    _check_coding(here)
    return ResponseOpening(
        ResponseHead(line.status, fields.end_to_end(options), line.version, line.reason),
        _length(here, block, line.version),
        _persistent(options, line.version),
        here.get(b"upgrade", b""),
    )
