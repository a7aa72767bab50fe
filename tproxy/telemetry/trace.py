"""Give every request an id, and find the trace it belongs to, so that the logs of all its hops can be joined.

A trace context is never altered and never made up: this proxy exports no spans, so one of its own would be a parent
that nobody can find, and its sampling decision would silence applications that sample for themselves.
"""

import re
from collections.abc import Callable

import msgspec

from tproxy.model.http import Headers

# What a log line or another proxy's header can hold safely; UUIDs and the ids of common clouds fit.
_REQUEST_ID = re.compile(rb"[!#-\[\]-~]{1,128}")
_TRACEPARENT = re.compile(
    rb"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    rb"(?P<more>-.*)?"
)
_B3_TRACE_ID = re.compile(rb"(?!0+(-|$))(?P<trace>[0-9a-fA-F]{32}|[0-9a-fA-F]{16})(-|$)")

CONTEXT = frozenset((b"traceparent", b"x-b3-traceid", b"b3"))
"""The fields that name a trace."""


class Trace(msgspec.Struct, frozen=True):
    """What names one request in logs."""

    request_id: str
    trace_id: str
    """Shared by all requests that one request led to; empty without a context that tells."""


def identified(headers: Headers, new_id: Callable[[], int]) -> Headers:
    """Give a request its id if it has no sound one; `new_id` gives 128 random bits."""
    known = headers.get(b"x-request-id")
    if known is not None and _REQUEST_ID.fullmatch(known):
        return headers
    return headers.with_value(b"x-request-id", uuid4(new_id()).encode())


def trace(headers: Headers) -> Trace:
    """Read what names a request that has its id."""
    index = headers.index
    trace_id = "" if CONTEXT.isdisjoint(index) else _trace_id(headers)
    return Trace(index[b"x-request-id"].decode(), trace_id)


def _trace_id(headers: Headers) -> str:
    """Read the id from a W3C context, else from a B3 one; empty without a sound one."""
    parent = headers.get(b"traceparent")
    if parent is not None and (trace_id := _w3c_trace_id(parent)):
        return trace_id
    found = _B3_TRACE_ID.match(headers.get(b"x-b3-traceid") or headers.get(b"b3") or b"")
    return found["trace"].decode().lower() if found else ""


def _w3c_trace_id(parent: bytes) -> str:
    """Read a traceparent; a version above 00 may say more than this one knows (Trace Context, 3.2.4)."""
    found = _TRACEPARENT.fullmatch(parent)
    if found is None or (found["version"] == b"00" and found["more"]):
        return ""
    return found["trace"].decode()


def uuid4(bits: int) -> str:
    """Write 128 random bits as a version 4 UUID (RFC 9562, 5.4)."""
    bits = bits & ~(0xF << 76) & ~(0x3 << 62) | 0x4 << 76 | 0x2 << 62
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
