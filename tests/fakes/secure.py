"""Two ends of TLS on loopback, each with an identity of its own."""

from dataclasses import dataclass

import trio

from fakes.ca import FakeCa, Leaf
from fakes.sockets import tcp_pair
from tproxy.model.alpn import OFFERS
from tproxy.model.flow import Protocol
from tproxy.model.upstream_tls import TlsMode, UpstreamTls
from tproxy.net.tcp_stream import TcpStream
from tproxy.net.tls_stream import TlsStream, handshake
from tproxy.tls.credentials import Credentials

MUTUAL = UpstreamTls(mode=TlsMode.ISTIO_MUTUAL)
SLEEP = "spiffe://cluster.local/ns/default/sa/sleep"
OPAQUE_OFFER = [name.encode() for name in OFFERS[Protocol.OPAQUE]]


@dataclass(frozen=True, slots=True)
class Mesh:
    """An authority, and what a client and a server have from it."""

    ca: FakeCa
    client: Credentials
    server: Credentials

    @classmethod
    def new(cls) -> "Mesh":
        """Make one whose client is SLEEP and whose server is WEB."""
        ca = FakeCa.new()
        client, server = ca.issue(Leaf(uris=(SLEEP,))), ca.issue()
        return cls(ca, Credentials(client.identity()), Credentials(server.identity()))

    async def pair(self) -> tuple[TlsStream, TlsStream]:
        """Connect two secured streams to each other: the one that dialled, and the one that was."""
        return await secured(*tcp_pair(), self)


async def secured(
    dialled: TcpStream,
    accepted: TcpStream,
    mesh: Mesh,
    how: UpstreamTls = MUTUAL,
    offer: list[bytes] = OPAQUE_OFFER,
) -> tuple[TlsStream, TlsStream]:
    """Secure both ends of a connection."""
    ends: dict[str, TlsStream] = {}

    async def dial() -> None:
        steps = mesh.client.connect(dialled.socket, how, offer)
        ends["dialled"] = await handshake(dialled, steps)

    async def accept() -> None:
        ends["accepted"] = await handshake(accepted, mesh.server.accept(accepted.socket))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        nursery.start_soon(accept)
    return ends["dialled"], ends["accepted"]
