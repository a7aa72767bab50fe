"""Give every request an id and a trace that the logs of all its hops share.

An existing trace context is never altered: this proxy exports no spans, so a span of its own in the chain would be a
parent that nobody can find.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tproxy.model.http import Field, Headers

# What a log line or another proxy's header can hold safely; UUIDs and the ids of common clouds fit.
_REQUEST_ID = re.compile(rb"[!#-\[\]-~]{1,128}")
_TRACEPARENT = re.compile(
    rb"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    rb"(?P<more>-.*)?"
)
_B3_TRACE_ID = re.compile(rb"(?!0+(-|$))(?P<trace>[0-9a-fA-F]{32}|[0-9a-fA-F]{16})(-|$)")
_B3_DECISION = frozenset((b"0", b"1", b"d"))
_W3C = frozenset((b"traceparent", b"tracestate"))
_REQUEST_ID_NAME = frozenset((b"x-request-id",))


@dataclass(frozen=True, slots=True)
class Trace:
    """What names one request in logs."""

    request_id: str
    trace_id: str
    """Shared by all requests that one request led to; empty when its context does not tell."""


def traced(headers: Headers, new_id: Callable[[], int]) -> tuple[Headers, Trace]:
    """Complete `headers` with what a hop needs to be found; `new_id` gives 128 random bits."""
    headers, trace_id, added = _with_context(headers, new_id)
    known = headers.get(b"x-request-id")
    if known is not None and _REQUEST_ID.fullmatch(known):
        request_id = known.decode()
    else:
        request_id = uuid4(new_id())
        headers = headers if known is None else headers.without(_REQUEST_ID_NAME)
        added = (*added, (b"x-request-id", request_id.encode()))
    return headers.plus(*added) if added else headers, Trace(request_id, trace_id)


def _with_context(
    headers: Headers, new_id: Callable[[], int]
) -> tuple[Headers, str, tuple[Field, ...]]:
    """Return the headers without a broken context, the trace id, and the context that is to be added."""
    parent = headers.get(b"traceparent")
    if parent is not None and (trace_id := _w3c_trace_id(parent)):
        return headers, trace_id, ()
    if parent is not None or b"tracestate" in headers:
        # A tracestate without its traceparent means nothing (Trace Context, 3.3 and 4.3).
        headers = headers.without(_W3C)
    elsewhere = _other_trace_id(headers)
    if elsewhere is not None:
        return headers, elsewhere, ()
    trace_id = f"{_nonzero(new_id(), 128):032x}"
    parent = f"00-{trace_id}-{_nonzero(new_id(), 64):016x}-00".encode()
    return headers, trace_id, ((b"traceparent", parent),)


def _w3c_trace_id(parent: bytes) -> str:
    """Read a traceparent; a version above 00 may say more than this one knows (Trace Context, 3.2.4)."""
    found = _TRACEPARENT.fullmatch(parent)
    if found is None or (found["version"] == b"00" and found["more"]):
        return ""
    return found["trace"].decode()


def _other_trace_id(headers: Headers) -> str | None:
    """Read B3 and older gRPC contexts; None without one, empty where one does not tell its id."""
    single = headers.get(b"b3")
    found = _B3_TRACE_ID.match(headers.get(b"x-b3-traceid") or single or b"")
    if found is not None:
        return found["trace"].decode().lower()
    if single in _B3_DECISION or b"x-b3-sampled" in headers or b"grpc-trace-bin" in headers:
        return ""
    return None


def uuid4(bits: int) -> str:
    """Write 128 random bits as a version 4 UUID (RFC 9562, 5.4)."""
    bits = bits & ~(0xF << 76) & ~(0x3 << 62) | 0x4 << 76 | 0x2 << 62
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _nonzero(bits: int, width: int) -> int:
    """Take `width` bits; all zeros would be an invalid id."""
    return bits & ((1 << width) - 1) or 1
