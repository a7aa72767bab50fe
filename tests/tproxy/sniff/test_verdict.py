import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.client_hello import alpn, hello, message, openssl_hello, records, server_name
from tproxy.model.flow import Detection, Protocol, Sniffed
from tproxy.sniff.verdict import NEED_MORE, OPAQUE, NeedMore, sniff

HTTP10 = Sniffed(Protocol.HTTP1, Detection.HTTP10)
HTTP11 = Sniffed(Protocol.HTTP1, Detection.HTTP11)
H2 = Sniffed(Protocol.HTTP2, Detection.H2)
TLS = Sniffed(Protocol.TLS, Detection.TLS)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

OPENINGS = [
    pytest.param(b"GET /x HTTP/1.0\r\n", HTTP10, id="HTTP/1.0"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", HTTP11, id="HTTP/1.1"),
    pytest.param(b"GET / HTTP/1.7\r\n", HTTP11, id="a later minor version"),
    pytest.param(b"POST /foo HTTP/1.1\r\n", HTTP11, id="begins like the preface"),
    pytest.param(b"PRI * HTTP/1.1\r\n", HTTP11, id="the preface's method, another version"),
    pytest.param(b"OPTIONS * HTTP/1.1\r\n", HTTP11, id="asterisk form"),
    pytest.param(b"CONNECT x:443 HTTP/1.1\r\n", HTTP11, id="authority form"),
    pytest.param(b"M-SEARCH! / HTTP/1.1\r\n", HTTP11, id="any token is a method"),
    pytest.param(b"get / HTTP/1.1\r\n", HTTP11, id="lower case is the codec's to refuse"),
    pytest.param(b"GET / HTTP/1.1\n", HTTP11, id="bare LF is the codec's to refuse"),
    pytest.param(b"GET / HTTP/1.1 \r\n", HTTP11, id="space at the end is the codec's to refuse"),
    pytest.param(b"GET /a b HTTP/1.1\r\n", HTTP11, id="a raw space is the codec's to refuse"),
    pytest.param(b"GET /\x00\xff HTTP/1.1\r\n", HTTP11, id="raw bytes are the codec's to refuse"),
    pytest.param(b"\r\n\r\nGET / HTTP/1.1\r\n", HTTP11, id="empty lines before the request line"),
    pytest.param(b"GET /\r\n", OPAQUE, id="HTTP/0.9"),
    pytest.param(b"GET / HTTP/2.0\r\n", OPAQUE, id="HTTP/2 without its preface"),
    pytest.param(b"GET / HTTP/1.\r\n", OPAQUE, id="half a version"),
    pytest.param(b"GET / XHTTP/1.1\r\n", OPAQUE, id="a word that ends like a version"),
    pytest.param(b"GET@ / HTTP/1.1\r\n", OPAQUE, id="no token"),
    pytest.param(b" GET / HTTP/1.1\r\n", OPAQUE, id="leading space"),
    pytest.param(PREFACE, H2, id="HTTP/2 preface"),
    pytest.param(PREFACE + b"\0\0\0\4\0\0\0\0\0", H2, id="HTTP/2 preface and SETTINGS"),
    pytest.param(PREFACE[:-1] + b"\x0c", OPAQUE, id="preface with a wrong last byte"),
    pytest.param(PREFACE.replace(b"SM", b"SN"), OPAQUE, id="preface with a wrong byte inside"),
    pytest.param(b"EHLO x\r\n", OPAQUE, id="SMTP"),
    pytest.param(b"SET a b\r\n", OPAQUE, id="Redis inline"),
    pytest.param(b"*1\r\n$4\r\nPING\r\n", OPAQUE, id="Redis"),
    pytest.param(b"get a\r\n", OPAQUE, id="memcached"),
    pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", OPAQUE, id="SSH"),
    pytest.param(b"INVITE sip:a@b SIP/2.0\r\n", OPAQUE, id="SIP"),
    pytest.param(b"OPTIONS rtsp://x RTSP/1.0\r\n", OPAQUE, id="RTSP"),
    pytest.param(b"CONNECT\naccept-version:1.2\n", OPAQUE, id="STOMP"),
    pytest.param(b"AMQP\0\0\x09\1", OPAQUE, id="AMQP"),
    pytest.param(b"\0\0\0\x08\4\xd2\x16\x2f", OPAQUE, id="PostgreSQL asks for TLS"),
    pytest.param(b'{"jsonrpc"', OPAQUE, id="JSON"),
    pytest.param(b"\x80", OPAQUE, id="a byte above ASCII"),
    pytest.param(
        hello(server_name(b"Web.Example")),
        Sniffed(Protocol.TLS, Detection.TLS, "web.example"),
        id="TLS",
    ),
    pytest.param(
        openssl_hello("web.example", ["h2", "http/1.1"]),
        Sniffed(Protocol.TLS, Detection.TLS, "web.example", ("h2", "http/1.1")),
        id="TLS by OpenSSL",
    ),
    pytest.param(
        records(message(alpn(b"h2")), size=1),
        Sniffed(Protocol.TLS, Detection.TLS, "", ("h2",)),
        id="TLS, a record per byte",
    ),
    pytest.param(b"\x16\x03\x01\x00\x05hello", OPAQUE, id="looks like TLS, is none"),
    pytest.param(b"\x16\x04", OPAQUE, id="a version TLS never had"),
]


@pytest.mark.parametrize(("opening", "expected"), OPENINGS)
def test_every_prefix_needs_more_or_settles_alike(opening: bytes, expected: Sniffed) -> None:
    for length in range(len(opening)):
        assert sniff(opening[:length]) in (NEED_MORE, expected)
    assert sniff(opening) == expected


@pytest.mark.parametrize(("opening", "expected"), OPENINGS)
def test_what_follows_changes_nothing(opening: bytes, expected: Sniffed) -> None:
    assert sniff(opening + b"\x16\0 HTTP/1.0\r\n\r\n" * 9) == expected


@pytest.mark.parametrize(
    ("opening", "expected"),
    [
        pytest.param(b"GET /" + b"q" * 20, HTTP11, id="a long path"),
        pytest.param(b"GET http://x/" + b"q" * 20, HTTP11, id="a long absolute target"),
        pytest.param(b"get " + b"k" * 20, OPAQUE, id="memcached's long key"),
        pytest.param(b"x" * 20, OPAQUE, id="one long word"),
        pytest.param(b"\r\n" * 10, OPAQUE, id="nothing but empty lines"),
        pytest.param(PREFACE[:16], OPAQUE, id="a cut preface"),
        pytest.param(
            hello(server_name(b"a.example")), TLS, id="a ClientHello whose names come later"
        ),
        pytest.param(
            b"\x16\x03\x01\x00\x02\x02\x00" + b"x" * 20, OPAQUE, id="another handshake message"
        ),
    ],
)
def test_the_bound_settles_what_is_still_open(opening: bytes, expected: Sniffed) -> None:
    assert sniff(opening, limit=16) == expected


BEGINNINGS = st.sampled_from(
    [b"", b"GET ", b"PRI * HTTP/2.0\r\n", b"\x16\x03\x01", hello()[:9], hello()]
)


@given(beginning=BEGINNINGS, rest=st.binary(max_size=64), cut=st.integers(0, 200))
def test_a_verdict_never_changes(beginning: bytes, rest: bytes, cut: int) -> None:
    data = beginning + rest
    early = sniff(data[:cut], limit=100)
    assert early is NEED_MORE or early == sniff(data, limit=100)


@given(data=st.binary(min_size=32, max_size=64))
def test_there_is_always_a_verdict_at_the_bound(data: bytes) -> None:
    assert not isinstance(sniff(b"\x16\x03\x01\x40\0" + data, limit=32), NeedMore)
