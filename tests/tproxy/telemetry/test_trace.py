"""What identifies a request is kept when it is sound, replaced when it is not, and never half of either."""

import re

import pytest

from tproxy.model.http import Field, Headers
from tproxy.telemetry.trace import identified, trace, uuid4

RANDOM = 0x0123456789ABCDEF_0123456789ABCDEF
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01".encode()
ID = (b"x-request-id", b"kept-1")


def random_bits() -> int:
    return RANDOM


@pytest.mark.parametrize(
    ("context", "trace_id"),
    [
        pytest.param([(b"traceparent", PARENT)], TRACE, id="w3c"),
        pytest.param(
            [(b"traceparent", PARENT), (b"tracestate", b"a=1")], TRACE, id="w3c with state"
        ),
        pytest.param(
            [(b"traceparent", b"01" + PARENT[2:] + b"-more")], TRACE, id="a later version"
        ),
        pytest.param([(b"traceparent", PARENT), (b"b3", b"0")], TRACE, id="w3c before b3"),
        pytest.param([(b"b3", f"{TRACE}-b7ad6b7169203331-1".encode())], TRACE, id="b3 single"),
        pytest.param(
            [(b"b3", b"b7ad6b7169203331-b7ad6b7169203331")],
            "b7ad6b7169203331",
            id="b3 of 64 bits",
        ),
        pytest.param([(b"X-B3-TraceId", TRACE.upper().encode())], TRACE, id="b3 multi"),
        pytest.param([(b"b3", b"0")], "", id="b3 that only declines"),
        pytest.param([(b"x-b3-sampled", b"0")], "", id="b3 multi that only declines"),
        pytest.param([(b"grpc-trace-bin", b"AAAA")], "", id="opencensus"),
    ],
)
def test_a_sound_context_is_read_and_passes_untouched(context: list[Field], trace_id: str) -> None:
    headers = Headers((*context, ID))

    assert identified(headers, random_bits) is headers
    assert trace(headers).trace_id == trace_id


@pytest.mark.parametrize(
    "context",
    [
        pytest.param([], id="none"),
        pytest.param([(b"traceparent", b"junk")], id="malformed"),
        pytest.param([(b"traceparent", b"ff" + PARENT[2:])], id="forbidden version"),
        pytest.param([(b"traceparent", PARENT + b"-more")], id="version 00 with more"),
        pytest.param([(b"traceparent", PARENT.upper())], id="upper case"),
        pytest.param([(b"traceparent", b"00-" + b"0" * 32 + PARENT[35:])], id="zero trace"),
        pytest.param([(b"traceparent", PARENT[:36] + b"0" * 16 + b"-01")], id="zero parent"),
        pytest.param([(b"traceparent", PARENT), (b"traceparent", PARENT)], id="two"),
        pytest.param([(b"b3", b"0" * 32 + b"-1")], id="broken b3"),
        pytest.param(
            [(b"traceparent", b"junk"), (b"tracestate", b"a=1")], id="malformed with state"
        ),
        pytest.param([(b"tracestate", b"a=1")], id="state alone"),
    ],
)
def test_a_missing_or_broken_context_passes_untouched_and_names_no_trace(
    context: list[Field],
) -> None:
    headers = Headers((*context, ID))

    assert identified(headers, random_bits) is headers
    assert trace(headers).trace_id == ""


def test_a_broken_w3c_context_gives_way_to_a_sound_b3_one() -> None:
    b3 = (b"b3", f"{TRACE}-b7ad6b7169203331-1".encode())

    assert trace(Headers(((b"traceparent", b"junk"), b3, ID))).trace_id == TRACE


@pytest.mark.parametrize(
    "request_id",
    [
        pytest.param(None, id="none"),
        pytest.param(b"", id="empty"),
        pytest.param(b"a b", id="space"),
        pytest.param(b'a"b', id="quote"),
        pytest.param(b"a\\b", id="backslash"),
        pytest.param(b"\xff", id="not ascii"),
        pytest.param(b"a" * 129, id="too long"),
    ],
)
def test_a_missing_or_unsafe_request_id_is_replaced_by_a_uuid(request_id: bytes | None) -> None:
    given = [] if request_id is None else [(b"X-Request-Id", request_id)]
    headers = identified(Headers((*given, (b"traceparent", PARENT))), random_bits)

    assert trace(headers).request_id == uuid4(RANDOM)
    assert headers.fields == (
        (b"traceparent", PARENT),
        (b"x-request-id", uuid4(RANDOM).encode()),
    )


@pytest.mark.parametrize("bits", [0, RANDOM, (1 << 128) - 1])
def test_request_ids_are_version_4_uuids(bits: int) -> None:
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", uuid4(bits)
    )
