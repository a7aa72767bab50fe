"""What a proxy must know about single header fields, the same for every HTTP version.

No peer may decide, by a field of one hop, what the next hop sees of the fields that route, frame or authenticate a
message: hop-by-hop fields end here, and a nomination in `Connection` cannot take an end-to-end field away.
"""

import re
from ipaddress import IPv6Address

from tproxy.model.http import NO_HEADERS, Field, Headers

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Fields about one connection (RFC 9110, 7.6.1).

Proxy-Authenticate and Proxy-Authorization are not among them: nobody addresses a transparent proxy, so they are meant
for an explicit one that the application dials through us.
"""

NO_OPTIONS: frozenset[bytes] = frozenset()

_END_TO_END = frozenset(
    {
        b"accept",
        b"age",
        b"allow",
        b"authority",
        b"authorization",
        b"b3",
        b"baggage",
        b"cache-control",
        b"cookie",
        b"date",
        b"etag",
        b"expect",
        b"expires",
        b"forwarded",
        b"from",
        b"host",
        b"last-modified",
        b"location",
        b"max-forwards",
        b"origin",
        b"pragma",
        b"range",
        b"referer",
        b"server",
        b"set-cookie",
        b"traceparent",
        b"tracestate",
        b"trailer",
        b"user-agent",
        b"vary",
        b"via",
        b"www-authenticate",
        b"x-real-ip",
        b"x-request-id",
        b"x-tproxy-reason",
    }
)
_END_TO_END_PREFIXES = (
    b":",
    b"accept-",
    b"access-control-",
    b"authentication-",
    b"content-",
    b"grpc-",
    b"if-",
    b"proxy-auth",
    b"sec-",
    b"x-b3-",
    b"x-envoy-",
    b"x-forwarded-",
)

_NOT_IN_TRAILERS = HOP_BY_HOP | {
    b"authorization",
    b"cache-control",
    b"cookie",
    b"expect",
    b"forwarded",
    b"host",
    b"max-forwards",
    b"pragma",
    b"range",
    b"set-cookie",
    b"trailer",
    b"www-authenticate",
    b"x-real-ip",
}
_NOT_IN_TRAILERS_PREFIXES = (
    b":",
    b"content-",
    b"if-",
    b"proxy-",
    b"x-envoy-",
    b"x-forwarded-",
)

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# A comma is a reg-name character too, but two Hosts joined by one must never pass for one.
_AUTHORITY = re.compile(
    rb"(?:[A-Za-z0-9._~!$&'()*+;=%-]+|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\])(?::[0-9]{1,5})?"
)
# What could be an address as clients write it that forget the brackets: h2load does, and other proxies let it pass.
_BARE_ADDRESS = re.compile(rb"[0-9A-Fa-f:.]+")
# Visible ASCII without `#`, which ends a path for some readers, and `\`, which is `/` for some.
_ORIGIN_FORM = re.compile(rb"/[!\"$-\[\]-~]*")
# As many digits as surely fit a signed 64-bit integer, whatever the next reader counts with.
_LENGTH = re.compile(rb"[0-9]{1,18}")

STANDARD_METHODS = frozenset(
    {
        b"CONNECT",
        b"DELETE",
        b"GET",
        b"HEAD",
        b"OPTIONS",
        b"PATCH",
        b"POST",
        b"PUT",
        b"TRACE",
    }
)


def valid_token(text: bytes) -> bool:
    """Whether `text` can be a method or a field name (RFC 9110, 5.6.2)."""
    return _TOKEN.fullmatch(text) is not None


def valid_method(method: bytes) -> bool:
    """Whether `method` is a token that no reader takes for another one: `get` is no method, `Purge` may be."""
    if method in STANDARD_METHODS:
        return True
    return valid_token(method) and method.upper() not in STANDARD_METHODS


def valid_authority(authority: bytes) -> bool:
    """Whether `authority` is a host and at most a port: no userinfo, path, space or list."""
    return _AUTHORITY.fullmatch(authority) is not None


def valid_host(host: bytes) -> bool:
    """Whether `host`, as a field of a request, is an authority, or an IPv6 address whose brackets were left out.

    Where the address ends and the port begins, only its writer knows; it goes on as it is, and nobody here dials it.
    """
    return valid_authority(host) or (host.count(b":") > 1 and _is_bare_address(host))


def _is_bare_address(host: bytes) -> bool:
    if not _BARE_ADDRESS.fullmatch(host):
        return False
    text = host.decode()
    address, _, port = text.rpartition(":")
    return _is_ipv6(text) or (port.isdigit() and len(port) <= 5 and _is_ipv6(address))


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def valid_path(path: bytes) -> bool:
    """Whether `path` is absolute and holds only bytes that every reader takes for the same path and query."""
    return _ORIGIN_FORM.fullmatch(path) is not None


def list_of(value: bytes | None) -> frozenset[bytes]:
    """Return the members of a comma-separated list of tokens, in lower case."""
    if not value:
        return NO_OPTIONS
    members = value.lower().split(b",")
    return frozenset([each for member in members if (each := member.strip(b" \t"))])


def content_length(headers: Headers) -> int | None:
    """Return the declared length, or None without one; ValueError when it is not one plain number."""
    value = headers.get(b"content-length")
    return None if value is None else length_of(value)


def length_of(value: bytes) -> int:
    """Return the length that a field declares; ValueError when it is not one plain number."""
    if not _LENGTH.fullmatch(value):
        raise ValueError("content-length is not a number")
    return int(value)


def end_to_end_trailers(trailers: Headers) -> Headers:
    """Return the trailers that may go on: none that frames, routes or authenticates (RFC 9110, 6.5.1)."""
    if not trailers:
        return NO_HEADERS
    return Headers(item for item in trailers if _may_trail(item))


def _may_trail(field: Field) -> bool:
    name = field[0].lower()
    return name not in _NOT_IN_TRAILERS and not name.startswith(_NOT_IN_TRAILERS_PREFIXES)


def withdrawn(options: frozenset[bytes]) -> frozenset[bytes]:
    """Return the fields that Connection lists and that may go.

    A sender must not nominate a field that is meant for all recipients (RFC 9110, 7.6.1): taking
    `Connection: x-forwarded-client-cert` at its word would let it erase what proxies on the way asserted. So what is
    known to be end to end stays, and only names that nobody else defined are the sender's own to withdraw.
    """
    return frozenset(
        name
        for name in options
        if name not in _END_TO_END and not name.startswith(_END_TO_END_PREFIXES)
    )
