"""Field blocks: what HTTP/2 allows in, and what may go out."""

from collections.abc import Callable

import pytest
from h2.exceptions import ProtocolError
from h2.utilities import HeaderValidationFlags, validate_headers
from hpack import NeverIndexedHeaderTuple
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.h2_peer import GET, OK, POST
from tproxy.codec import h2_fields as fields
from tproxy.codec.h2_compression import FieldList
from tproxy.model.http import Field, Headers, HttpVersion, RequestHead, ResponseHead
from tproxy.model.limits import Limits


def request(**changes: bytes | None) -> list[Field]:
    """A GET's pseudo headers with some of them other or gone."""
    pseudo: dict[bytes, bytes | None] = dict(GET)
    pseudo |= {b":" + name.encode(): value for name, value in changes.items()}
    return [(name, value) for name, value in pseudo.items() if value is not None]


def head(method: bytes, path: bytes, *regular: Field, upgrade: bytes = b"") -> RequestHead:
    tunnel = method == b"CONNECT" and not upgrade
    return RequestHead(
        method=method,
        scheme=b"" if tunnel else b"http",
        authority=b"shop.example",
        path=path,
        headers=Headers(regular),
        version=HttpVersion.HTTP2,
        upgrade=upgrade,
    )


REQUESTS = [
    pytest.param(list(GET), head(b"GET", b"/"), id="get"),
    pytest.param(
        [*POST, (b"te", b"trailers"), (b"a", b"1")],
        head(b"POST", b"/", (b"te", b"trailers"), (b"a", b"1")),
        id="regular-fields-keep-their-order",
    ),
    pytest.param(
        request(method=b"OPTIONS", path=b"*"), head(b"OPTIONS", b"*"), id="the-server-itself"
    ),
    pytest.param(
        request(method=b"CONNECT", scheme=None, path=None), head(b"CONNECT", b""), id="tunnel"
    ),
    pytest.param(
        request(method=b"CONNECT", protocol=b"websocket"),
        head(b"CONNECT", b"/", upgrade=b"websocket"),
        id="extended-connect",
    ),
    pytest.param(
        [*GET, (b"x", b"\xc3\xa9 \t.")],
        head(b"GET", b"/", (b"x", b"\xc3\xa9 \t.")),
        id="opaque-value",
    ),
    pytest.param([*GET, (b"x", b"")], head(b"GET", b"/", (b"x", b"")), id="empty-value"),
]


@pytest.mark.parametrize(("block", "expected"), REQUESTS)
def test_a_request_is_read_and_written_alike(block: list[Field], expected: RequestHead) -> None:
    read = fields.request_head(block)
    assert read == expected
    assert sorted(fields.request_fields(read)) == sorted(block)
    assert fields.request_head(fields.request_fields(read)) == expected


@pytest.mark.parametrize(
    "block",
    [
        pytest.param([*request(authority=None), (b"host", b"shop.example")], id="host-alone"),
        pytest.param([*GET, (b"host", b"Shop.Example")], id="host-says-the-same"),
    ],
)
def test_the_authority_is_told_once(block: list[Field]) -> None:
    read = fields.request_head(block)
    assert (read.authority, read.headers) == (b"shop.example", Headers())


def test_an_address_without_its_brackets_goes_on_as_it_is() -> None:
    block = request(authority=b"2001:db8::2:8081")
    read = fields.request_head(block)
    assert read.authority == b"2001:db8::2:8081"
    assert sorted(fields.request_fields(read)) == sorted(block)


def test_a_request_without_authority_is_told_as_such_and_written_without() -> None:
    block = request(authority=None)
    read = fields.request_head(block)
    assert read.authority == b""
    assert fields.request_fields(read) == block


MALFORMED_REQUESTS = [
    pytest.param(request(method=None), id="no-method"),
    pytest.param(request(method=b"G T"), id="method-no-token"),
    pytest.param(request(scheme=None), id="no-scheme"),
    pytest.param(request(scheme=b"ht tp"), id="scheme-with-space"),
    pytest.param(request(path=None), id="no-path"),
    pytest.param(request(path=b""), id="empty-path"),
    pytest.param(request(path=b"*"), id="asterisk-without-options"),
    pytest.param(request(path=b"/a b"), id="path-with-space"),
    pytest.param(request(path=b"/\xff"), id="path-with-raw-byte"),
    pytest.param(request(path=b"/a\r\nx: y"), id="path-with-line-break"),
    pytest.param(request(authority=b"user@shop.example"), id="userinfo"),
    pytest.param(request(authority=b""), id="empty-authority"),
    pytest.param([*GET, (b"host", b"other.example")], id="host-says-otherwise"),
    pytest.param(
        [*request(authority=None), (b"host", b"a.example"), (b"host", b"a.example")], id="two-hosts"
    ),
    pytest.param([*GET, (b":path", b"/")], id="repeated-pseudo-header"),
    pytest.param([(b"a", b"1"), *GET], id="late-pseudo-header"),
    pytest.param([*GET, (b":status", b"200")], id="response-pseudo-header"),
    pytest.param([*GET, (b":custom", b"1")], id="invented-pseudo-header"),
    pytest.param(request(protocol=b"websocket"), id="protocol-without-connect"),
    pytest.param(request(method=b"CONNECT", protocol=b"web socket"), id="protocol-no-token"),
    pytest.param(request(method=b"CONNECT"), id="connect-with-path"),
    pytest.param(
        request(method=b"CONNECT", scheme=None, path=None, authority=None), id="connect-nowhere"
    ),
    pytest.param(
        request(method=b"CONNECT", scheme=None, path=None, authority=b"::1:80"),
        id="connect-to-an-address-or-another",
    ),
    pytest.param([*GET, (b"A", b"1")], id="upper-case-name"),
    pytest.param([*GET, (b"a b", b"1")], id="name-with-space"),
    pytest.param([*GET, (b"", b"1")], id="empty-name"),
    pytest.param([*GET, (b"a:b", b"1")], id="name-with-colon"),
    pytest.param([*GET, (b"a", b"1\r\nb: 2")], id="value-with-line-break"),
    pytest.param([*GET, (b"a", b"1\0")], id="value-with-nul"),
    pytest.param([*GET, (b"a", b" 1")], id="value-after-space"),
    pytest.param([*GET, (b"a", b"1\t")], id="value-before-tab"),
    pytest.param([*GET, (b"connection", b"x")], id="connection"),
    pytest.param([*GET, (b"proxy-connection", b"x")], id="proxy-connection"),
    pytest.param([*GET, (b"keep-alive", b"x")], id="keep-alive"),
    pytest.param([*GET, (b"transfer-encoding", b"chunked")], id="transfer-encoding"),
    pytest.param([*GET, (b"upgrade", b"x")], id="upgrade"),
    pytest.param([*GET, (b"te", b"gzip")], id="te-beyond-trailers"),
]


@pytest.mark.parametrize("block", MALFORMED_REQUESTS)
def test_a_malformed_request_is_refused(block: list[Field]) -> None:
    with pytest.raises(fields.Malformed):
        fields.request_head(block)


@pytest.mark.parametrize(
    "block",
    [
        pytest.param([], id="no-status"),
        pytest.param([(b":status", b"20")], id="two-digits"),
        pytest.param([(b":status", b"+20")], id="no-number"),
        pytest.param([(b":status", b"101")], id="switching-protocols"),
        pytest.param([*OK, *OK], id="two-statuses"),
        pytest.param([*OK, (b":path", b"/")], id="request-pseudo-header"),
    ],
)
def test_a_malformed_response_is_refused(block: list[Field]) -> None:
    with pytest.raises(fields.Malformed):
        fields.response_head(block)


def test_a_response_is_read_and_written_alike() -> None:
    block = [*OK, (b"server", b"x")]
    read = fields.response_head(block)
    assert read == ResponseHead(200, Headers([(b"server", b"x")]), HttpVersion.HTTP2)
    assert fields.response_fields(read.status, read.headers) == block


def test_trailers_hold_no_pseudo_header() -> None:
    with pytest.raises(fields.Malformed):
        fields.trailers(OK)


def test_trailers_that_would_frame_or_route_are_left_out() -> None:
    read = fields.trailers([(b"grpc-status", b"0"), (b"content-length", b"3")])
    assert read == Headers([(b"grpc-status", b"0")])


def test_a_cookie_in_crumbs_becomes_whole() -> None:
    read = fields.request_head([*GET, (b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2")])
    assert read.headers == Headers([(b"x", b"y"), (b"cookie", b"a=1; b=2")])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(None, None, id="none"),
        pytest.param(b"0", 0, id="zero"),
        pytest.param(b"17", 17, id="some"),
    ],
)
def test_content_length_is_what_was_promised(value: bytes | None, expected: int | None) -> None:
    promised = Headers([] if value is None else [(b"content-length", value)])
    assert fields.content_length(promised) == expected


@pytest.mark.parametrize("value", [b"", b"-1", b"+1", b"1, 1", b"0x1", b"9" * 19])
def test_a_content_length_that_is_no_number_is_malformed(value: bytes) -> None:
    with pytest.raises(fields.Malformed):
        fields.content_length(Headers([(b"content-length", value)]))


SENT = [
    pytest.param((b"X-Name", b"v"), [(b"x-name", b"v")], id="lower-case"),
    pytest.param((b"Connection", b"close"), [], id="connection"),
    pytest.param((b"Keep-Alive", b"1"), [], id="keep-alive"),
    pytest.param((b"Proxy-Connection", b"1"), [], id="proxy-connection"),
    pytest.param((b"Transfer-Encoding", b"chunked"), [], id="transfer-encoding"),
    pytest.param((b"Upgrade", b"h2c"), [], id="upgrade"),
    pytest.param((b"Host", b"shop.example"), [], id="host"),
    pytest.param((b"TE", b"gzip, trailers"), [(b"te", b"trailers")], id="te-keeps-trailers"),
    pytest.param((b"TE", b"gzip"), [], id="te-of-encodings"),
    pytest.param((b"Cookie", b"c=" + b"x" * 30), [(b"cookie", b"c=" + b"x" * 30)], id="cookie"),
]


@pytest.mark.parametrize(("field", "expected"), SENT)
def test_fields_of_one_http1_connection_do_not_go_out(field: Field, expected: list[Field]) -> None:
    assert fields.regular_fields(Headers([field])) == expected


@pytest.mark.parametrize(
    "field",
    [
        pytest.param((b"Authorization", b"secret"), id="authorization"),
        pytest.param((b"Proxy-Authorization", b"secret"), id="proxy-authorization"),
        pytest.param((b"Cookie", b"c=short"), id="short-cookie"),
    ],
)
def test_guessable_secrets_stay_out_of_the_compression(field: Field) -> None:
    assert isinstance(fields.regular_fields(Headers([field]))[0], NeverIndexedHeaderTuple)


@pytest.mark.parametrize(
    ("block", "details"),
    [
        pytest.param([(b"a", b"b")] * 4, fields.TOO_MANY_FIELDS, id="fields"),
        pytest.param([(b"a", b"b" * 68)], fields.TOO_LARGE, id="bytes"),
    ],
)
def test_a_block_over_our_bounds_is_refused(block: list[Field], details: str) -> None:
    with pytest.raises(fields.Malformed, match=details):
        fields.check_size(FieldList(block), Limits(header_fields=3, head_bytes=100))


def test_a_block_at_our_bounds_is_taken() -> None:
    block = [(b"a", b"b")] * 3
    fields.check_size(FieldList(block), Limits(header_fields=3, head_bytes=102))


NAMES = st.one_of(
    st.sampled_from([b":method", b":path", b":scheme", b":authority", b":protocol", b":status"]),
    st.sampled_from(
        [b"te", b"cookie", b"host", b"connection", b"X", b"", b"x y", b"upgrade", b"a"]
    ),
    st.binary(max_size=3),
)
VALUES = st.one_of(
    st.sampled_from([b"", b"trailers", b"a b", b" a", b"a\t", b"a\n", b"\n", b"\t", b"GET", b"/"]),
    st.binary(max_size=4),
)
FIELDS = st.tuples(NAMES, VALUES)
BLOCKS = st.one_of(
    st.lists(FIELDS, max_size=6),
    st.builds(lambda more: [*GET, *more], st.lists(FIELDS, max_size=4)),
    st.builds(lambda at, more: [*GET[:at], more, *GET[at:]], st.integers(0, 4), FIELDS),
)
REQUEST_PSEUDO = frozenset(name for name, _ in GET) | {b":protocol"}


def outcome(split: Callable[..., object], block: list[Field]) -> object:
    """What becomes of a block."""
    try:
        return split(block, REQUEST_PSEUDO)
    except fields.Malformed as malformed:
        return malformed.details, malformed.code


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(block=BLOCKS)
def test_a_block_read_at_once_is_what_its_fields_are_one_by_one(block: list[Field]) -> None:
    assert outcome(fields._split, block) == outcome(fields._split_with_care, block)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trailers", "read"),
    [
        pytest.param(False, fields.request_head, id="a request"),
        pytest.param(True, fields.trailers, id="trailers"),
    ],
)
@settings(max_examples=500, deadline=None)
@given(block=BLOCKS)
def test_what_h2_refuses_is_refused(
    trailers: bool, read: Callable[[list[Field]], object], block: list[Field]
) -> None:
    flags = HeaderValidationFlags(
        is_client=trailers, is_trailer=trailers, is_response_header=False, is_push_promise=False
    )
    try:
        list(validate_headers(block, flags))
    except ProtocolError:
        with pytest.raises(fields.Malformed):
            read(block)


@given(block=st.lists(FIELDS, max_size=6))
def test_fields_are_written_one_by_one_as_all_at_once(block: list[Field]) -> None:
    alone = [written for field in block for written in fields.regular_fields(Headers([field]))]
    assert fields.regular_fields(Headers(block)) == alone
