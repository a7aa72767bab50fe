"""Whichever parser reads a head, it means the same, or is refused in the same words."""

import sys
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.wire import feed
from fuzz.run import corpus
from tproxy.codec.codec import Codec
from tproxy.codec.events import Event, RequestStarted
from tproxy.codec.h1 import Http1Client, Http1Server
from tproxy.codec.h1_choice import head_parser
from tproxy.codec.h1_h11 import H11
from tproxy.codec.h1_llhttp import LLHTTP
from tproxy.codec.h1_parser import HeadParser
from tproxy.model.http import NO_HEADERS, Headers, HttpVersion, RequestHead
from tproxy.model.limits import Limits
from tproxy.model.outcome import ProxyError

LIMITS = Limits(head_bytes=2048, header_fields=12, chunk_line_bytes=64, stream_window=8192)
NAMES = (
    b"Host",
    b"Connection",
    b"Content-Length",
    b"Transfer-Encoding",
    b"TE",
    b"Upgrade",
    b"Expect",
    b"Proxy-Connection",
    b"X-A",
    b"x_b",
    b"X|!#$%&'*+.^`~",
    b'"X"',
    b"X(",
    b"X ",
    b"",
)
VALUES = (
    b"",
    b"a",
    b"a:80",
    b"5",
    b"05",
    b"5, 5",
    b"+5",
    b"9" * 18,
    b"9" * 19,
    b"18446744073709551615",
    b"0" * 30,
    b"chunked",
    b"Chunked",
    b"gzip, chunked",
    b"chunked, chunked",
    b"close",
    b"keep-alive",
    b"upgrade",
    b"close, upgrade, x-a",
    b"websocket",
    b"trailers",
    b"\xff\x80",
    b"a\tb",
    b"\x00",
    b"\x0b",
    b"a\r\n b",
)
METHODS = (b"GET", b"HEAD", b"POST", b"CONNECT", b"OPTIONS", b"Purge", b"PRI", b"DESCRIBE", b"get")
TARGETS = (b"/", b'/x?y=[]|{}"<>`^', b"*", b"a:443", b"http://b/x", b"http://[::1]", b"/\xff", b"x")
STATUSES = (b"100", b"101", b"200", b"204", b"304", b"500", b"999", b"099")
REASONS = (b"", b" ", b" OK", b"  Not\tFound ", b" \xe9", b"OK", b" \x00")
BLANKS = (b"", b" ", b"  ", b"\t", b" \t ")

lines = st.tuples(
    st.sampled_from(NAMES),
    st.just(b":"),
    st.sampled_from(BLANKS),
    st.sampled_from(VALUES),
    st.sampled_from(BLANKS),
).map(b"".join)
versions = st.sampled_from((b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0"))
requests = st.tuples(st.sampled_from(METHODS), st.sampled_from(TARGETS), versions).map(b" ".join)
responses = st.tuples(
    versions, st.just(b" "), st.sampled_from(STATUSES), st.sampled_from(REASONS)
).map(b"".join)
hosts = st.sampled_from((b"Host: a", b"Host: a", b"X: y"))
edits = st.lists(
    st.tuples(st.integers(0, 500), st.integers(0, 2), st.binary(max_size=2)), max_size=3
)

Told = tuple[list[Event], tuple[int, str] | None]


def told(codec: Codec, wire: bytes) -> Told:
    """What a codec makes of `wire`."""
    try:
        return feed(codec, wire), None
    except ProxyError as error:
        return [], (error.status, error.details)


def served(parser: HeadParser, wire: bytes) -> Told:
    """What `wire` is as a request."""
    return told(Http1Server(LIMITS, parser), wire)


def answered(parser: HeadParser, wire: bytes) -> list[Told]:
    """What `wire` is as the answer to each kind of request."""
    heard = []
    for method, upgrade in (
        (b"GET", b""),
        (b"HEAD", b""),
        (b"CONNECT", b""),
        (b"GET", b"websocket"),
    ):
        codec = Http1Client(LIMITS, parser)
        head = RequestHead(method, b"http", b"a", b"/", NO_HEADERS, HttpVersion.HTTP11, upgrade)
        codec.send_head(1, head, ended=method != b"CONNECT" and not upgrade)
        heard.append(told(codec, wire))
    return heard


def edited(wire: bytes, edits: Sequence[tuple[int, int, bytes]]) -> bytes:
    """`wire` with pieces cut out and put in."""
    for place, cut, piece in edits:
        at = place % (len(wire) + 1)
        wire = wire[:at] + piece + wire[at + cut :]
    return wire


@given(first=requests, host=hosts, fields=st.lists(lines, max_size=5), edits=edits)
def test_a_request_means_the_same_to_every_parser(
    first: bytes, host: bytes, fields: list[bytes], edits: list[tuple[int, int, bytes]]
) -> None:
    wire = edited(b"\r\n".join((first, host, *fields, b"", b"5\r\nhello\r\n0\r\n\r\n")), edits)
    assert served(LLHTTP, wire) == served(H11, wire)


@given(first=responses, fields=st.lists(lines, max_size=5), edits=edits)
def test_a_response_means_the_same_to_every_parser(
    first: bytes, fields: list[bytes], edits: list[tuple[int, int, bytes]]
) -> None:
    wire = edited(b"\r\n".join((first, *fields, b"", b"5\r\nhello\r\n0\r\n\r\n")), edits)
    assert answered(LLHTTP, wire) == answered(H11, wire)


@given(first=requests, fields=st.lists(lines, max_size=5))
def test_fields_are_found_by_name_as_they_stand(first: bytes, fields: list[bytes]) -> None:
    events, _ = served(LLHTTP, b"\r\n".join((first, b"Host: a", *fields, b"", b"")))
    for headers in [event.head.headers for event in events if isinstance(event, RequestStarted)]:
        assert headers.by_name() == Headers(headers.fields).by_name()


@pytest.mark.parametrize(
    ("target", "meaning"),
    [
        pytest.param("h1-server", served, id="requests"),
        pytest.param("h1-client", answered, id="responses"),
    ],
)
@given(edits=edits)
def test_what_the_fuzzer_kept_means_the_same_to_every_parser(
    target: str,
    meaning: Callable[[HeadParser, bytes], object],
    edits: list[tuple[int, int, bytes]],
) -> None:
    for kept in corpus()[target]:
        wire = edited(kept, edits)
        assert meaning(LLHTTP, wire) == meaning(H11, wire)


def test_the_fast_parser_is_taken_where_it_is_installed() -> None:
    assert head_parser("auto") is LLHTTP
    assert head_parser("httptools") is LLHTTP
    assert head_parser("h11") is H11


def test_the_reference_is_taken_where_nothing_else_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, LLHTTP.request.__module__)
    monkeypatch.setitem(sys.modules, "httptools", None)
    assert head_parser("auto") is H11
    with pytest.raises(ModuleNotFoundError):
        head_parser("httptools")
