"""TLS ClientHellos, made by hand and by OpenSSL, for tests of who reads them."""

import ssl
from collections.abc import Iterable

RANDOM = bytes(range(32))


def vector(length_size: int, content: bytes) -> bytes:
    """Prefix `content` with its length."""
    return len(content).to_bytes(length_size, "big") + content


def extension(kind: int, body: bytes) -> bytes:
    """One extension of a ClientHello."""
    return kind.to_bytes(2, "big") + vector(2, body)


def server_name(*names: bytes, kind: int = 0) -> bytes:
    """A server_name extension."""
    return extension(0, vector(2, b"".join(bytes([kind]) + vector(2, name) for name in names)))


def alpn(*protocols: bytes) -> bytes:
    """An application_layer_protocol_negotiation extension."""
    return extension(16, vector(2, b"".join(vector(1, protocol) for protocol in protocols)))


def message(extensions: bytes | None, version: bytes = b"\x03\x03") -> bytes:
    """A ClientHello message with its handshake header; None leaves the extensions out altogether."""
    body = (
        version + RANDOM + vector(1, bytes(32)) + vector(2, b"\x13\x01\x0a\x0a") + vector(1, b"\0")
    )
    return b"\x01" + vector(3, body if extensions is None else body + vector(2, extensions))


def records(content: bytes, size: int = 1 << 14, version: bytes = b"\x03\x01") -> bytes:
    """Cut `content` into handshake records of at most `size` bytes."""
    pieces = (content[start : start + size] for start in range(0, len(content), size))
    return b"".join(b"\x16" + version + vector(2, piece) for piece in pieces)


def hello(*extensions: bytes) -> bytes:
    """A ClientHello in one record."""
    return records(message(b"".join(extensions)))


def openssl_hello(name: str | None, protocols: Iterable[str] = ()) -> bytes:
    """What OpenSSL sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.set_alpn_protocols(list(protocols))
    outgoing = ssl.MemoryBIO()
    machine = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        machine.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake cannot end by itself")
