"""Read a TLS ClientHello: the name it asks for and the protocols it offers (RFC 8446, 4.1.2).

The message may be cut into any number of records, and the records into any number of reads.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from struct import Struct

CLIENT_HELLO = b"\x01"
MAX_RECORD = 1 << 14
MAX_MESSAGE = 1 << 17
"""OpenSSL takes a ClientHello of 131396 bytes at most; a larger length is no ClientHello's."""

SERVER_NAME = 0
ALPN = 16
HOST_NAME = 0

_EXTENSION = Struct("!HH")
"""Its kind and its length."""

GREASE = frozenset(bytes((value, value)) for value in range(0x0A, 0x100, 0x10))
"""Protocol names that mean nothing (RFC 8701)."""

# LDH labels, and the underscore that services in the wild use. A trailing dot is not part of the name (RFC 6066, 3).
_NAME = re.compile(rb"(?!.{254})[0-9A-Za-z_-]+(?:\.[0-9A-Za-z_-]+)*\Z")
# A handshake record of any version; as much of its header as there is.
_RECORD = re.compile(rb"\x16(?:\Z|\x03(?:\Z|[\x00-\x04]))")


class Look(Enum):
    """Why there is no ClientHello to show."""

    UNDECIDED = "undecided"
    SOMETHING_ELSE = "something else"


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a ClientHello says to whoever routes it."""

    server_name: str = ""
    """Lower case; empty when it names none, or an IP address, which is no name (RFC 6066, 3)."""
    alpn: tuple[str, ...] = ()


class _Malformed(Exception):
    """The bytes contradict the format."""


class _CutOff(Exception):
    """The bytes end before the format does."""


class _Reader:
    """Takes pieces off the front of bytes; `shortfall` is what it means that they do not suffice."""

    __slots__ = ("_shortfall", "rest")

    def __init__(self, data: bytes, shortfall: type[Exception] = _Malformed) -> None:
        self.rest = data
        self._shortfall = shortfall

    def take(self, size: int) -> bytes:
        if len(self.rest) < size:
            raise self._shortfall
        piece, self.rest = self.rest[:size], self.rest[size:]
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, length_size: int) -> bytes:
        return self.take(self.number(length_size))


def read_client_hello(data: bytes, *, complete: bool) -> ClientHello | Look:
    """Read the ClientHello that `data` begins with; `complete` when no more of it will be looked at.

    One that goes on behind what is looked at is still a ClientHello, with what is known of it.
    """
    try:
        message, whole = _handshake_message(data)
        if whole or complete:
            return _parse(message, whole=whole)
    except _Malformed:
        return Look.SOMETHING_ELSE
    return Look.UNDECIDED


def _handshake_message(data: bytes) -> tuple[bytes, bool]:
    """Join the fragments of the first handshake message, without its header; and whether it is whole.

    Nothing behind its end is looked at, so that what follows cannot change the verdict.
    """
    message = bytearray()
    for fragment in _fragments(data):
        message += fragment
        size = _message_size(message)
        if len(message) >= 4 + size:
            return bytes(message[4 : 4 + size]), True
    return bytes(message[4:]), False


def _fragments(data: bytes) -> Iterator[bytes]:
    """Unwrap the records (RFC 8446, 5.1); the last may be cut off."""
    start = 0
    while start < len(data):
        header = data[start : start + 5]
        if not _RECORD.match(header):
            raise _Malformed
        start += 5
        if len(header) == 5:
            size = int.from_bytes(header[3:], "big")
            if not 0 < size <= MAX_RECORD:
                raise _Malformed
            yield data[start : start + size]
            start += size


def _message_size(message: bytearray) -> int:
    if message[:1] not in (b"", CLIENT_HELLO):
        raise _Malformed
    size = int.from_bytes(message[1:4], "big") if len(message) >= 4 else MAX_MESSAGE
    if size > MAX_MESSAGE:
        raise _Malformed
    return size


def _parse(message: bytes, *, whole: bool) -> ClientHello:
    server_name = ""
    alpn: tuple[str, ...] = ()
    seen: set[int] = set()
    reader = _Reader(message, _Malformed if whole else _CutOff)
    with contextlib.suppress(_CutOff):  # the bound came first: what was read so far is known
        for kind, body in _extensions(reader, whole=whole):
            if kind in seen:  # forbidden (RFC 8446, 4.2): two readers could take different ones
                raise _Malformed
            seen.add(kind)
            if kind == SERVER_NAME:
                server_name = _server_name(body)
            elif kind == ALPN:
                alpn = tuple(_protocols(body))
    return ClientHello(server_name, alpn)


def _extensions(reader: _Reader, *, whole: bool) -> Iterator[tuple[int, bytes]]:
    version, _random = reader.take(2), reader.take(32)
    _session, _ciphers, _compression = reader.vector(1), reader.vector(2), reader.vector(1)
    if version[0] != 3:
        raise _Malformed
    if whole and not reader.rest:  # allowed before TLS 1.3
        return
    size = reader.number(2)
    if whole and size != len(reader.rest):
        raise _Malformed
    while reader.rest:
        kind, length = _EXTENSION.unpack(reader.take(4))
        yield kind, reader.take(length)


def _server_name(body: bytes) -> str:
    names = _Reader(_Reader(body).vector(2))
    kind, name = names.number(1), names.vector(2)
    if names.rest or kind != HOST_NAME or not _NAME.match(name):
        return ""
    text = name.decode("ascii").lower()
    return "" if _is_ip(text) else text


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _protocols(body: bytes) -> Iterator[str]:
    names = _Reader(_Reader(body).vector(2))
    while names.rest:
        name = names.vector(1)
        if name not in GREASE:
            yield name.decode("latin-1")
