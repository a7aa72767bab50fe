"""The rules about single fields that both HTTP versions keep."""

import pytest

from tproxy.codec.h1_fields import Fields
from tproxy.codec.headers import (
    HOP_BY_HOP,
    content_length,
    end_to_end_trailers,
    list_of,
    valid_authority,
    valid_host,
    valid_method,
    valid_path,
    valid_token,
)
from tproxy.model.http import NO_HEADERS, Headers


@pytest.mark.parametrize(
    "authority",
    [
        b"a",
        b"a.b:80",
        b"192.0.2.1:1",
        b"[2001:db8::1]",
        b"[fe80::1%25eth0]:80",
        b"a_b",
        b"xn--a.",
        b"a%41",
    ],
)
def test_a_host_with_at_most_a_port_is_an_authority(authority: bytes) -> None:
    assert valid_authority(authority)
    assert valid_host(authority)


@pytest.mark.parametrize(
    "authority",
    [
        b"",
        b"u@a",
        b"u:p@a",
        b"a/",
        b"a?",
        b"a#",
        b"a\\b",
        b"a b",
        b"a,b",
        b"a:",
        b"a:x",
        b"2001:db8::1",
        b"[a]b",
        b"\xff",
        b"a\n",
    ],
)
def test_nothing_else_is_an_authority(authority: bytes) -> None:
    assert not valid_authority(authority)


@pytest.mark.parametrize(
    "host",
    [
        b"::",
        b"::1",
        b"2001:db8::2",
        b"2001:DB8::2:8081",
        b"2001:db8::2:18081",
        b"2001:db8:0:0:0:0:0:2:8081",
        b"::ffff:192.0.2.1",
        b"::ffff:192.0.2.1:80",
    ],
)
def test_an_address_passes_as_a_host_without_its_brackets(host: bytes) -> None:
    assert valid_host(host)
    assert not valid_authority(host)


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b":",
        b"a:1:2",
        b"1:2:3",
        b":::",
        b"::1::",
        b"::1:",
        b"::1:123456",
        b"::1:beef5",
        b"2001:db8::2/",
        b"2001:db8::2,::1",
        b"2001:db8::2 ",
        b"u@2001:db8::2",
        b"2001:db8::2@a",
        b"fe80::1%eth0",
        b"fe80::1%25eth0",
        b"[2001:db8::2",
        b"2001:db8::2]",
        b"192.0.2.1:80:80",
        b"2001:db8::2\n",
        b"\xef\xbc\x91::1",
    ],
)
def test_nothing_passes_as_a_host_that_only_looks_like_an_address(host: bytes) -> None:
    assert not valid_host(host)


@pytest.mark.parametrize(
    ("path", "valid"),
    [
        (b"/", True),
        (b"/a?b=/c%23&d=?'\"<>{}|^`~", True),
        (b"", False),
        (b"a", False),
        (b"*", False),
        (b"/#", False),
        (b"/\\", False),
        (b"/ ", False),
        (b"/\t", False),
        (b"/\x7f", False),
        (b"/\x80", False),
        (b"/a\n", False),
    ],
)
def test_a_path_reads_alike_for_everybody(path: bytes, *, valid: bool) -> None:
    assert valid_path(path) is valid


@pytest.mark.parametrize(
    ("method", "valid"),
    [
        (b"GET", True),
        (b"M-SEARCH", True),
        (b"purge", True),
        (b"get", False),
        (b"Connect", False),
        (b"", False),
        (b"G T", False),
    ],
)
def test_a_method_is_never_another_in_disguise(method: bytes, *, valid: bool) -> None:
    assert valid_method(method) is valid


def test_a_token_holds_no_separator() -> None:
    assert valid_token(b"X-a_1!")
    assert not any(
        valid_token(b"a" + separator) for separator in (b":", b" ", b"\n", b'"', b"\xe9")
    )


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (None, set()),
        (b"", set()),
        (b" , ,", set()),
        (b"Close", {b"close"}),
        (b"a ,\tB,a", {b"a", b"b"}),
    ],
)
def test_a_list_s_members_are_lower_case_and_never_empty(
    value: bytes | None, members: set[bytes]
) -> None:
    assert list_of(value) == members


@pytest.mark.parametrize(
    ("values", "length"), [([], None), ([b"0"], 0), ([b"007"], 7), ([b"9" * 18], int("9" * 18))]
)
def test_a_length_is_one_plain_number(values: list[bytes], length: int | None) -> None:
    assert content_length(Headers((b"Content-Length", value) for value in values)) == length


@pytest.mark.parametrize(
    "values", [[b""], [b"+1"], [b"1 "], [b"1", b"1"], [b"1_0"], [b"9" * 19], [b"\xd9\xa1"]]
)
def test_anything_else_is_no_length(values: list[bytes]) -> None:
    with pytest.raises(ValueError, match="not a number"):
        content_length(Headers((b"content-length", value) for value in values))


def onward(headers: Headers) -> Headers:
    """What the next hop gets."""
    fields = Fields()
    for name, value in headers:
        fields.on_header(name, value)
    return fields.end_to_end(fields.options())


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_a_hop_by_hop_field_goes_neither_in_heads_nor_in_trailers(name: bytes) -> None:
    fields = Headers([(b"A", b"1"), (name.title(), b"x"), (b"B", b"2")])
    assert onward(fields) == Headers([(b"A", b"1"), (b"B", b"2")])
    assert end_to_end_trailers(fields) == Headers([(b"A", b"1"), (b"B", b"2")])


@pytest.mark.parametrize(
    "name",
    [
        b"Host",
        b"Content-Length",
        b"Authorization",
        b"X-Forwarded-Client-Cert",
        b"x-envoy-max-retries",
        b"Cookie",
        b"Traceparent",
        b"Sec-WebSocket-Key",
        b"Proxy-Authorization",
    ],
)
def test_what_is_known_to_be_end_to_end_cannot_be_nominated_away(name: bytes) -> None:
    fields = Headers([(name, b"x"), (b"Mine", b"y")])
    nominated = fields.plus((b"Connection", b"mine, " + name.lower()))
    assert onward(nominated) == Headers([(name, b"x")])


def test_trailers_keep_what_grpc_says() -> None:
    said = Headers([(b"grpc-status", b"0"), (b"grpc-message", b"fine")])
    assert end_to_end_trailers(said.plus((b"content-length", b"1"))) == said
    assert end_to_end_trailers(NO_HEADERS) is NO_HEADERS
