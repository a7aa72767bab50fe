"""Find what a request must have in common with others to meet the same endpoint."""

from collections.abc import Callable
from urllib.parse import parse_qsl

import msgspec

from tproxy.model.cluster import HashKey, HashOn
from tproxy.model.flow import Flow
from tproxy.model.http import Field, RequestHead
from tproxy.resilience.fraction import position


class Affinity(msgspec.Struct, frozen=True):
    """Where a request belongs."""

    key: int | None = None
    """None: anywhere."""
    cookie: Field | None = None
    """What the response has to bring, so that the next request comes back."""


ANYWHERE = Affinity()


def affinity(
    spec: HashKey | None, flow: Flow, head: RequestHead | None, new_value: Callable[[], bytes]
) -> Affinity:
    """Say where a request, or a connection that has none, belongs.

    One without the cookie that decides is given one where the spec says so.
    """
    if spec is None:
        return ANYWHERE
    if spec.on is HashOn.SOURCE_IP:
        return Affinity(position(flow.peer.host.encode()))
    value = None if head is None else _value(spec, head)
    if value is not None:
        return Affinity(position(value))
    if head is None or spec.on is not HashOn.COOKIE or spec.cookie_seconds is None:
        return ANYWHERE
    value = new_value()
    return Affinity(position(value), (b"set-cookie", _cookie(spec, value)))


def _value(spec: HashKey, head: RequestHead) -> bytes | None:
    if spec.on is HashOn.HEADER:
        return head.headers.get(spec.name.encode())
    if spec.on is HashOn.COOKIE:
        return _cookie_value(spec.name.encode(), head)
    return _query_value(spec.name, head)


def _cookie_value(name: bytes, head: RequestHead) -> bytes | None:
    # HTTP/2 may bring one field for each cookie (RFC 9113, 8.2.3).
    for field, value in head.headers:
        if field.lower() == b"cookie":
            for crumb in value.split(b";"):
                found, equals, content = crumb.strip().partition(b"=")
                if found == name and equals:
                    return content.strip(b'"')
    return None


def _query_value(name: str, head: RequestHead) -> bytes | None:
    query = head.path.partition(b"?")[2].decode("latin-1")
    for found, value in parse_qsl(query, keep_blank_values=True, encoding="latin-1"):
        if found == name:
            return value.encode("latin-1")
    return None


def _cookie(spec: HashKey, value: bytes) -> bytes:
    parts = [spec.name.encode() + b"=" + value]
    if spec.cookie_seconds:
        parts.append(b"Max-Age=%d" % spec.cookie_seconds)
    if spec.cookie_path:
        parts.append(b"Path=" + spec.cookie_path.encode())
    return b"; ".join((*parts, b"HttpOnly"))
