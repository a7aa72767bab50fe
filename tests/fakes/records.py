"""A peer that writes each record of TLS 1.3 itself: what no library sends, and what libraries seldom send."""

import struct
from dataclasses import dataclass

import trio
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from OpenSSL import SSL

from fakes.handshakes import stranger
from fakes.secure import Mesh
from fakes.sockets import tcp_pair
from tproxy.net.tcp_stream import TcpStream
from tproxy.net.tls_stream import TlsStream, handshake

ALERT, HANDSHAKE, DATA = 21, 22, 23
"""Types of content (RFC 8446, 5.1)."""
CLOSE_NOTIFY = b"\1\0"
KEY_UPDATE, ASKING = b"\x18\0\0\1\0", b"\x18\0\0\1\1"
"""New keys for what is said from here on, and beside them the wish for the other's (4.6.3)."""
SECRET = b"CLIENT_TRAFFIC_SECRET_0 "


def expand(secret: bytes, label: bytes, size: int) -> bytes:
    """Derive what has a name (7.1)."""
    label = b"tls13 " + label
    named = struct.pack(">HB", size, len(label)) + label + b"\0"
    return HKDFExpand(SHA256(), size, named).derive(secret)


class Records:
    """Encrypts what a client says. What changes: its keys, and how many records they have encrypted."""

    def __init__(self, secret: bytes) -> None:
        self._take(secret)

    def record(self, kind: int, content: bytes) -> bytes:
        """Make one record (5.2)."""
        head = struct.pack(">BHH", DATA, 0x0303, len(content) + 17)
        nonce = (self._vector ^ self._number).to_bytes(12, "big")
        self._number += 1
        return head + self._cipher.encrypt(nonce, content + bytes((kind,)), head)

    def update(self, said: bytes = KEY_UPDATE) -> bytes:
        """Change the keys (7.2)."""
        told = self.record(HANDSHAKE, said)
        self._take(expand(self._secret, b"traffic upd", 32))
        return told

    def _take(self, secret: bytes) -> None:
        self._secret = secret
        self._cipher = AESGCM(expand(secret, b"key", 16))
        self._vector = int.from_bytes(expand(secret, b"iv", 12), "big")
        self._number = 0


@dataclass(frozen=True, slots=True)
class Writer:
    """A client that has shaken hands with a stream of ours."""

    tcp: TcpStream
    records: Records
    client: SSL.Connection
    """Which reads; it may not write."""

    async def send(self, *records: bytes) -> None:
        """Send records, one behind the other."""
        await self.tcp.send_all(b"".join(records))

    async def data(self, content: bytes) -> None:
        """Send bytes for the application, in one record."""
        await self.send(self.records.record(DATA, content))

    async def hear(self, heard: bytearray) -> None:
        """Take all that is said until its end."""
        while True:
            try:
                heard += self.client.recv(65536)
            except SSL.WantReadError:
                await self.tcp.wait_readable()
            except SSL.ZeroReturnError:
                return


async def written_to(
    mesh: Mesh, ends: tuple[TcpStream, TcpStream] | None = None
) -> tuple[TlsStream, Writer]:
    """Connect a client that writes its records itself to a stream of the mesh's server."""
    ours, theirs = ends or tcp_pair()
    secrets: list[bytes] = []

    def configure(context: SSL.Context) -> None:
        context.set_tls13_ciphersuites(b"TLS_AES_128_GCM_SHA256")
        context.set_keylog_callback(lambda _, line: secrets.append(line))

    client = SSL.Connection(stranger(mesh.ca.issue(), configure), theirs.socket)
    client.set_connect_state()

    async def shake() -> None:
        while True:
            try:
                client.do_handshake()
            except SSL.WantReadError:
                await theirs.wait_readable()
            else:
                return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shake)
        stream = await handshake(ours, mesh.server.accept(ours.socket))
    (secret,) = (line.split()[2] for line in secrets if line.startswith(SECRET))
    return stream, Writer(theirs, Records(bytes.fromhex(secret.decode())), client)
