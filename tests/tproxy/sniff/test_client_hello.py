import pytest

from fakes.client_hello import alpn, extension, hello, message, records, server_name, vector
from tproxy.sniff.client_hello import ClientHello, Look, read_client_hello

GREASE = extension(0x0A0A, b"")
PADDING = extension(21, bytes(9000))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(hello(), ClientHello(), id="empty extensions"),
        pytest.param(records(message(None)), ClientHello(), id="no extensions at all"),
        pytest.param(
            hello(server_name(b"API.example")), ClientHello("api.example"), id="lower case"
        ),
        pytest.param(hello(server_name(b"my_db-1.x")), ClientHello("my_db-1.x"), id="underscore"),
        pytest.param(
            hello(server_name(b"192.0.2.1")), ClientHello(), id="an IPv4 address is no name"
        ),
        pytest.param(
            hello(server_name(b"2001:db8::1")), ClientHello(), id="an IPv6 address is no name"
        ),
        pytest.param(hello(server_name(b"a b")), ClientHello(), id="a space is in no name"),
        pytest.param(hello(server_name(b"a.example\n")), ClientHello(), id="nor a newline"),
        pytest.param(hello(server_name(b"a.example.")), ClientHello(), id="nor a dot at the end"),
        pytest.param(hello(server_name(b"\xc3\xa4.example")), ClientHello(), id="nor 8-bit bytes"),
        pytest.param(hello(server_name(b"a" * 254)), ClientHello(), id="nor more than 253 bytes"),
        pytest.param(hello(server_name(b"a", b"b")), ClientHello(), id="two names name nobody"),
        pytest.param(hello(server_name(b"a", kind=7)), ClientHello(), id="an unknown kind of name"),
        pytest.param(
            hello(alpn(b"h2", b"http/1.1")),
            ClientHello(alpn=("h2", "http/1.1")),
            id="protocols in order",
        ),
        pytest.param(
            hello(GREASE, alpn(b"\x1a\x1a", b"h2", b"ZZ")),
            ClientHello(alpn=("h2",)),
            id="GREASE is noise",
        ),
        pytest.param(hello(alpn(b"\xe9")), ClientHello(alpn=("\xe9",)), id="a protocol is bytes"),
        pytest.param(hello(PADDING, server_name(b"a")), ClientHello("a"), id="a large one"),
        pytest.param(
            records(message(PADDING + extension(22, bytes(9000)))), ClientHello(), id="over 16 KiB"
        ),
        pytest.param(
            records(message(server_name(b"a")), size=7), ClientHello("a"), id="over many records"
        ),
        pytest.param(hello(server_name(b"a")) + b"\x17\x03", ClientHello("a"), id="more behind it"),
    ],
)
def test_reads_what_the_hello_says(data: bytes, expected: ClientHello) -> None:
    assert read_client_hello(data, complete=False) == expected


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x16\x03\x05", id="version"),
        pytest.param(b"\x16\x03\x01\0\0", id="empty record"),
        pytest.param(b"\x16\x03\x01\x40\x01", id="record over 16 KiB"),
        pytest.param(b"\x16\x03\x01\0\4\x02", id="ServerHello"),
        pytest.param(b"\x16\x03\x01\0\4\x01\xff\xff\xff", id="message over any bound"),
        pytest.param(records(message(b"", version=b"\x04\x03")), id="version inside"),
        pytest.param(records(b"\x01" + vector(3, b"\x03\x03")), id="ends in the random"),
        pytest.param(records(message(None))[:-2] + b"\x09\0", id="compression runs over the end"),
        pytest.param(
            records(b"\x01" + vector(3, message(b"")[4:] + b"x")), id="bytes behind the extensions"
        ),
        pytest.param(hello(b"\0\0\0\x09"), id="extension runs over the end"),
        pytest.param(hello(extension(0, b"")), id="empty server_name"),
        pytest.param(hello(extension(16, b"\0\2\5h")), id="protocol runs over the end"),
        pytest.param(hello(server_name(b"a"), server_name(b"b")), id="an extension twice"),
        pytest.param(
            records(message(b""), size=9)[:14] + b"\x17\x03\x03\0\1x",
            id="another record in between",
        ),
    ],
)
def test_garbage_is_no_hello(data: bytes) -> None:
    assert read_client_hello(data, complete=False) is Look.SOMETHING_ELSE


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_hello_cut_anywhere_is_undecided(size: int) -> None:
    whole = records(message(server_name(b"a.example") + alpn(b"h2")), size=size)
    for length in range(len(whole)):
        assert read_client_hello(whole[:length], complete=False) is Look.UNDECIDED


def test_a_hello_beyond_the_bound_shows_what_is_known() -> None:
    whole = hello(server_name(b"a.example"), alpn(b"h2"), PADDING)
    assert read_client_hello(whole[:500], complete=True) == ClientHello("a.example", ("h2",))
    assert read_client_hello(whole[:20], complete=True) == ClientHello()


def test_garbage_is_no_hello_even_cut_off() -> None:
    assert (
        read_client_hello(hello(extension(0, b""), PADDING)[:200], complete=True)
        is Look.SOMETHING_ELSE
    )
