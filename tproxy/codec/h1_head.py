"""HTTP/1 heads, from bytes that have passed the strictest reading to the head that the pipeline knows.

A head is forwarded only when every reader must take it for the same message: lines end in CRLF, nothing is folded, no
control byte hides anywhere, and the length of what follows can be told in one way. A library splits the fields; what it lets
through for the sake of old peers is refused around it, since a proxy's two neighbours may each be old in another way.
"""

import re

import msgspec

from tproxy.codec.h1_line import RequestLine, StatusLine
from tproxy.codec.h1_parser import HeadParser, Malformed
from tproxy.codec.headers import Parted, content_length, parted, valid_host, valid_token
from tproxy.model.http import Field, Headers, HttpVersion, RequestHead, ResponseHead

_CHUNKED_LINE = re.compile(rb"\r\ntransfer-encoding: *chunked *\r\n", re.IGNORECASE)


class RequestOpening(msgspec.Struct, frozen=True):
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


def parse_request(line: RequestLine, block: bytes, parser: HeadParser) -> RequestOpening:
    """Read a whole request head, whose first line was read before."""
    fields = parser.request(block)
    hop = parted(fields)
    version = line.version
    _check_coding(hop)
    host = _host(fields, hop.onward, version)
    chunked = _chunked(hop, block, version)
    length = None if chunked else _length(hop.onward) or 0
    upgrade = _upgrade(line, length, hop)
    authority = _authority(line, host)
    head = RequestHead(
        line.method,
        b"http",
        authority,
        line.path,
        hop.onward if host in (None, authority) else _with_host(hop.onward, authority),
        version,
        upgrade,
        line.absolute,
    )
    return RequestOpening(head, length, _persistent(hop.options, version))


def _check_coding(hop: Parted) -> None:
    """Refuse any other coding than the one that says where a body ends, or that one twice."""
    coding = hop.own.get(b"transfer-encoding")
    if coding is not None and coding.lower() != b"chunked":
        raise Malformed("http1.invalid_transfer_encoding", status=501)


def _chunked(hop: Parted, block: bytes, version: HttpVersion) -> bool:
    """Whether the body is chunked; refuses what some reader could take for another framing (RFC 9112, 6.1)."""
    if b"transfer-encoding" not in hop.own:
        return False
    if version is HttpVersion.HTTP10 or not _CHUNKED_LINE.search(block):
        raise Malformed("http1.invalid_transfer_encoding")
    if b"content-length" in hop.onward:
        raise Malformed("http1.content_length_and_chunked_not_allowed")
    return True


def _length(headers: Headers) -> int | None:
    try:
        return content_length(headers)
    except ValueError as error:
        raise Malformed from error


def _host(fields: list[Field], headers: Headers, version: HttpVersion) -> bytes | None:
    """Return Host; refuse a second one, which another reader may prefer, and HTTP/1.1 without one (RFC 9112, 3.2)."""
    host = headers.get(b"host")
    if host is None and version is HttpVersion.HTTP11:
        raise Malformed("missing_host_header")
    # Several are joined by a comma.
    if host and b"," in host and sum(name.lower() == b"host" for name, _ in fields) > 1:
        raise Malformed
    return host


def _authority(line: RequestLine, host: bytes | None) -> bytes:
    """Return the authority that is asked; the one of an absolute target wins over Host (RFC 9112, 3.2.2)."""
    if host and not valid_host(host):
        raise Malformed("http.invalid_authority")
    if line.authority is not None:
        return line.authority
    if not host and line.version is HttpVersion.HTTP11:
        raise Malformed("missing_host_header")
    return host or b""


def _with_host(headers: Headers, authority: bytes) -> Headers:
    """Make a Host that differs equal to `authority`, where it stands."""
    return Headers(
        (name, authority if name.lower() == b"host" else value) for name, value in headers
    )


def _upgrade(line: RequestLine, length: int | None, hop: Parted) -> bytes:
    """Return the one protocol that is asked for; an Upgrade may be ignored, and several or h2c are."""
    if line.method == b"CONNECT":
        if length != 0:
            raise Malformed("http1.body_disallowed")
        # It already asks for a tunnel; with an upgrade beside it, it would pass for HTTP/2's extended CONNECT.
        return b""
    if b"upgrade" not in hop.options or length != 0 or line.version is HttpVersion.HTTP10:
        return b""
    protocol = hop.own.get(b"upgrade") or b""
    name, _, edition = protocol.partition(b"/")
    if name.lower() == b"h2c" or not (valid_token(name) and valid_token(edition or name)):
        return b""
    return protocol


def _persistent(options: frozenset[bytes], version: HttpVersion) -> bool:
    if version is HttpVersion.HTTP10:
        return b"keep-alive" in options and b"close" not in options
    return b"close" not in options


class ResponseOpening(msgspec.Struct, frozen=True):
    """A response's head, with what only this connection needs to know."""

    head: ResponseHead
    chunked: bool
    length: int | None
    """The declared length, whether or not a body follows."""
    persistent: bool
    """Whether the peer will take another request afterwards."""
    upgrade: bytes
    """The protocol that a 101 switches to."""


def parse_response(line: StatusLine, block: bytes, parser: HeadParser) -> ResponseOpening:
    """Read a whole response head, informational or final, whose first line was read before."""
    hop = parted(parser.response(block))
    _check_coding(hop)
    return ResponseOpening(
        ResponseHead(line.status, hop.onward, line.version, line.reason),
        _chunked(hop, block, line.version),
        _length(hop.onward),
        _persistent(hop.options, line.version),
        hop.own.get(b"upgrade") or b"",
    )
