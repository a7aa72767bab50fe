"""HTTP/2 field blocks to heads and back: what RFC 9113, 8.2 and 8.3 ask of them is kept here, in both directions.

What comes in is held to HTTP/1's grammar too, because it may leave by it: a name, path or authority that HTTP/1
would read as something else is refused here.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from h2.errors import ErrorCodes
from hpack import NeverIndexedHeaderTuple

from tproxy.codec import headers as rules
from tproxy.codec.h2_compression import FieldList
from tproxy.model.http import Field, Headers, HttpVersion, RequestHead, ResponseHead
from tproxy.model.limits import Limits

INVALID_FIELD = "http2.invalid.header.field"
MESSAGING_RULE = "http2.violation.of.messaging.rule"
TOO_MANY_FIELDS = "http2.too_many_headers"
TOO_LARGE = "http2.headers_too_large"

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
# No control character but a tab inside, and no blank at either end.
_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*")
_STATUS = re.compile(rb"[1-9][0-9][0-9]")

_SEPARATOR = b"\n"
"""What no field may hold, so that many can be judged as one text."""
_NAME_BYTES = bytes(byte for byte in range(256) if _NAME.fullmatch(bytes((byte,))))
_VALUE_BYTES = b"\t " + bytes(byte for byte in range(256) if _VALUE.fullmatch(bytes((byte,))))
_COMMON_SCHEMES = frozenset((b"http", b"https"))

_REQUEST_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
_RESPONSE_PSEUDO = frozenset((b":status",))
_NO_PSEUDO: frozenset[bytes] = frozenset()

_HOST = frozenset((b"host",))
_NOT_RECEIVED = rules.HOP_BY_HOP - {b"te", b"http2-settings"}
_NOT_SENT = rules.HOP_BY_HOP - {b"te"} | _HOST
_SECRET = frozenset((b"authorization", b"proxy-authorization"))
_NOT_PLAIN = _NOT_SENT | _SECRET | {b"te", b"cookie"}

_GUESSABLE_COOKIE = 20
"""A cookie below this length could be guessed through the compression it gets (RFC 7541, 7.1.3)."""


class Malformed(Exception):
    """A message that ends its own stream, and no other (RFC 9113, 8.1.1)."""

    def __init__(self, details: str, code: ErrorCodes = ErrorCodes.PROTOCOL_ERROR) -> None:
        super().__init__(details)
        self.details = details
        self.code = code


def check_size(block: FieldList, limits: Limits) -> None:
    """Refuse a block that is larger than we said we would take."""
    if len(block.fields) > limits.header_fields:
        raise Malformed(TOO_MANY_FIELDS, ErrorCodes.ENHANCE_YOUR_CALM)
    if block.size > limits.head_bytes:
        raise Malformed(TOO_LARGE, ErrorCodes.ENHANCE_YOUR_CALM)


def request_head(fields: Sequence[Field]) -> RequestHead:
    """Read a request's field block."""
    pseudo, headers = _split(fields, _REQUEST_PSEUDO)
    method = pseudo.get(b":method", b"")
    if not rules.valid_method(method):
        raise Malformed(MESSAGING_RULE)
    scheme, path = _target(method, pseudo)
    return RequestHead(
        method=method,
        scheme=scheme,
        authority=_authority(pseudo, headers),
        path=path,
        headers=headers.without(_HOST) if b"host" in headers else headers,
        version=HttpVersion.HTTP2,
        upgrade=pseudo.get(b":protocol", b""),
    )


def response_head(fields: Sequence[Field]) -> ResponseHead:
    """Read a response's field block, informational or final."""
    pseudo, headers = _split(fields, _RESPONSE_PSEUDO)
    status = pseudo.get(b":status", b"")
    if not _STATUS.fullmatch(status) or status == b"101":
        raise Malformed(MESSAGING_RULE)
    return ResponseHead(int(status), headers, HttpVersion.HTTP2)


def trailers(fields: Sequence[Field]) -> Headers:
    """Read a trailer section."""
    return rules.end_to_end_trailers(_split(fields, _NO_PSEUDO)[1])


def content_length(headers: Headers) -> int | None:
    """Return how much body was promised, if any was."""
    try:
        return rules.content_length(headers)
    except ValueError as error:
        raise Malformed(MESSAGING_RULE) from error


def request_fields(head: RequestHead) -> list[Field]:
    """Write a request's field block; a protocol upgrade becomes an extended CONNECT (RFC 8441)."""
    method = b"CONNECT" if head.upgrade else head.method
    fields: list[Field] = [(b":method", method)]
    if head.upgrade:
        fields.append((b":protocol", head.upgrade))
    if head.upgrade or method != b"CONNECT":
        fields += ((b":scheme", head.scheme), (b":path", head.path))
    if head.authority:
        fields.append((b":authority", head.authority))
    return fields + regular_fields(head.headers)


def response_fields(status: int, headers: Headers) -> list[Field]:
    """Write a response's field block."""
    return [(b":status", b"%d" % status), *regular_fields(headers)]


def regular_fields(headers: Headers) -> list[Field]:
    """Write fields in lower case, without those that belong to one HTTP/1 connection."""
    names = [name for name, _ in headers.fields]
    text = _SEPARATOR.join(names)
    if text == text.lower() and _NOT_PLAIN.isdisjoint(names):
        return [*headers.fields]
    fields: list[Field] = []
    for field in headers.fields:
        name = field[0].lower()
        if name in _NOT_PLAIN:
            fields += _special(name, field[1])
        else:
            fields.append(field if name == field[0] else (name, field[1]))
    return fields


def _special(name: bytes, value: bytes) -> list[Field]:
    if name in _NOT_SENT:
        return []
    if name == b"te":
        return [(name, b"trailers")] if b"trailers" in rules.list_of(value) else []
    if name in _SECRET or len(value) < _GUESSABLE_COOKIE:
        return [NeverIndexedHeaderTuple(name, value)]
    return [(name, value)]


def _split(
    fields: Sequence[Field], allowed: frozenset[bytes]
) -> tuple[dict[bytes, bytes], Headers]:
    """Part a block's pseudo-header fields from the others; whatever is not plain is looked at field by field."""
    pseudo: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:1] != b":":
            break
        pseudo[name] = value
    regular = fields[len(pseudo) :]
    if pseudo.keys() <= allowed and _plain_names(regular) and _plain_values(fields):
        return pseudo, Headers(regular)
    return _split_with_care(fields, allowed)


def _plain_names(fields: Sequence[Field]) -> bool:
    """Whether the names are in order and none asks for more."""
    names = [name for name, _ in fields]
    if not _NOT_RECEIVED.isdisjoint(names) or b"" in names or names.count(b"cookie") > 1:
        return False
    if b"te" in names and (names.count(b"te") > 1 or (b"te", b"trailers") not in fields):
        return False
    others = _SEPARATOR.join(names).translate(None, _NAME_BYTES)
    return len(others) == max(0, len(names) - 1)


def _plain_values(fields: Sequence[Field]) -> bool:
    """Whether the values are in order."""
    text = _SEPARATOR.join([b"", *[value for _, value in fields], b""])
    others = text.translate(None, _VALUE_BYTES)
    return len(others) == len(fields) + 1 and not _blank_edges(text)


def _blank_edges(text: bytes) -> bool:
    return b"\n " in text or b" \n" in text or b"\n\t" in text or b"\t\n" in text


def _split_with_care(
    fields: Iterable[Field], allowed: frozenset[bytes]
) -> tuple[dict[bytes, bytes], Headers]:
    pseudo: dict[bytes, bytes] = {}
    regular: list[Field] = []
    crumbs = 0
    for field in fields:
        name, value = field
        if not _VALUE.fullmatch(value):
            raise Malformed(INVALID_FIELD)
        if name.startswith(b":"):
            if regular or name in pseudo or name not in allowed:
                raise Malformed(MESSAGING_RULE)
            pseudo[name] = value
            continue
        _check_regular(name, value)
        crumbs += name == b"cookie"
        regular.append(field)
    return pseudo, Headers(_whole_cookie(regular) if crumbs > 1 else regular)


def _check_regular(name: bytes, value: bytes) -> None:
    if not _NAME.fullmatch(name):
        raise Malformed(INVALID_FIELD)
    if name in _NOT_RECEIVED or (name == b"te" and value.lower() != b"trailers"):
        raise Malformed(INVALID_FIELD)


def _whole_cookie(fields: list[Field]) -> list[Field]:
    """Join what HTTP/2 may split and HTTP/1 may not (RFC 9113, 8.2.3)."""
    cookie = b"; ".join(value for name, value in fields if name == b"cookie")
    return [*(field for field in fields if field[0] != b"cookie"), (b"cookie", cookie)]


def _target(method: bytes, pseudo: dict[bytes, bytes]) -> tuple[bytes, bytes]:
    if b":protocol" in pseudo:
        if method != b"CONNECT" or not rules.valid_token(pseudo[b":protocol"]):
            raise Malformed(MESSAGING_RULE)
    elif method == b"CONNECT":
        whole = pseudo.keys() == {b":method", b":authority"}
        if not whole or not rules.valid_authority(pseudo[b":authority"]):
            raise Malformed(MESSAGING_RULE)
        return b"", b""
    scheme, path = pseudo.get(b":scheme", b""), pseudo.get(b":path", b"")
    asterisk = method == b"OPTIONS" and path == b"*"
    if not _valid_scheme(scheme) or not (asterisk or rules.valid_path(path)):
        raise Malformed(MESSAGING_RULE)
    return scheme, path


def _valid_scheme(scheme: bytes) -> bool:
    return scheme in _COMMON_SCHEMES or _SCHEME.fullmatch(scheme) is not None


@lru_cache(256)
def _valid_host(host: bytes) -> bool:
    return rules.valid_host(host)


def _authority(pseudo: dict[bytes, bytes], headers: Headers) -> bytes:
    """`:authority` rules; a Host beside it must say the same (RFC 9113, 8.3.1)."""
    host = headers.get(b"host")
    authority = pseudo.get(b":authority", host)
    if authority is None:
        return b""
    differs = host is not None and host.lower() != authority.lower()
    if differs or not _valid_host(authority):
        raise Malformed(MESSAGING_RULE)
    return authority
