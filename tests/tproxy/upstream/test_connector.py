"""Which connections can carry what, and what becomes of a connection that cannot be secured."""

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from fakes.secure import MUTUAL, SLEEP, Mesh
from fakes.sockets import listening_at
from tproxy.model.address import Address
from tproxy.model.flow import Detection, Direction, Flow, Protocol, Sniffed
from tproxy.model.identity import Peer
from tproxy.model.limits import Limits
from tproxy.model.outcome import ResponseFlag, UpstreamError
from tproxy.model.route import Route
from tproxy.model.upstream_tls import TlsMode, UpstreamTls
from tproxy.net.tcp_stream import TcpStream
from tproxy.net.tls_stream import handshake
from tproxy.stores.identity_store import IdentityStore
from tproxy.upstream.connector import Connector, Target

MESH = Mesh.new()
HERE = Address("192.0.2.1", 80)
AUTOMATIC = UpstreamTls(mode=TlsMode.ISTIO_MUTUAL, automatic=True)
SIMPLE = UpstreamTls(mode=TlsMode.SIMPLE, server_name="a.example")


def flow(protocol: Protocol = Protocol.HTTP1, direction: Direction = Direction.OUTBOUND) -> Flow:
    return Flow(direction, HERE, HERE, HERE, Sniffed(protocol, Detection.DECLARED))


def route(tls: UpstreamTls | None = None, protocol: Protocol | None = None) -> Route:
    return Route("r", "c", protocol, tls)


@pytest.mark.parametrize(
    ("tls", "identified", "expected"),
    [
        pytest.param(None, True, (None, 0), id="as it is"),
        pytest.param(MUTUAL, True, (MUTUAL, 1), id="mutual TLS is of an issue of our identity"),
        pytest.param(MUTUAL, False, (MUTUAL, 0), id="and does not give way to plaintext"),
        pytest.param(AUTOMATIC, True, (AUTOMATIC, 1), id="automatically, too"),
        pytest.param(AUTOMATIC, False, (None, 0), id="unless nobody asked for it and there is none"),
        pytest.param(SIMPLE, True, (SIMPLE, 0), id="to others we show no identity"),
    ],
)  # fmt: skip
def test_connections_are_told_apart_by_how_and_as_whom_they_are_secured(
    tls: UpstreamTls | None, identified: bool, expected: tuple[UpstreamTls | None, int]
) -> None:
    connector = Connector(Limits(), IdentityStore(MESH.client) if identified else None)
    target = connector.target(flow(), route(tls))
    assert (target.tls, target.issue) == expected


@pytest.mark.parametrize(
    ("spoken", "translated", "carried"),
    [
        pytest.param(Protocol.HTTP1, None, Protocol.HTTP1, id="what is spoken"),
        pytest.param(Protocol.HTTP1, Protocol.HTTP2, Protocol.HTTP2, id="what it is translated to"),
        pytest.param(Protocol.OPAQUE, Protocol.HTTP2, Protocol.OPAQUE, id="bytes are not translated"),
    ],
)  # fmt: skip
def test_a_target_says_what_is_carried(
    spoken: Protocol, translated: Protocol | None, carried: Protocol
) -> None:
    target = Connector(Limits()).target(flow(spoken), route(protocol=translated))
    assert target.protocol is carried


async def refused(connector: Connector, target: Target) -> UpstreamError:
    with pytest.raises(UpstreamError) as failure:
        await connector.connect(target)
    assert failure.value.flag is ResponseFlag.UPSTREAM_CONNECT
    return failure.value


async def test_an_upstream_that_speaks_no_tls_is_given_nothing() -> None:
    counts: list[str] = []
    connector = Connector(Limits(), IdentityStore(MESH.client), counts.append)
    with listening_at("127.0.0.1") as listening:
        target = Target(Address.of(*listening.getsockname()), Protocol.HTTP1, None, MUTUAL, 1)
        async with trio.open_nursery() as nursery:

            async def answer() -> None:
                accepted, _ = await trio.socket.from_stdlib_socket(listening).accept()
                with accepted:
                    assert (await accepted.recv(65536)).startswith(b"\x16\x03")
                    await accepted.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

            nursery.start_soon(answer)
            failure = await refused(connector, target)
    assert failure.cause.startswith("TLS: protocol")
    assert counts == ["protocol"]


async def test_an_upstream_that_never_answers_is_given_up(autojump_clock: MockClock) -> None:
    counts: list[str] = []
    connector = Connector(Limits(), IdentityStore(MESH.client), counts.append)
    with listening_at("127.0.0.1") as listening:
        target = Target(Address.of(*listening.getsockname()), Protocol.HTTP1, None, MUTUAL, 1)
        failure = await refused(connector, target)
    assert autojump_clock is not None
    assert (failure.details, counts) == (
        "upstream_reset_before_response_started{connection_timeout}",
        ["timeout"],
    )


async def test_without_an_identity_mutual_tls_is_refused() -> None:
    with listening_at("127.0.0.1") as listening:
        target = Target(Address.of(*listening.getsockname()), Protocol.HTTP1, None, MUTUAL)
        failure = await refused(Connector(Limits()), target)
    assert failure.cause == "TLS: no_identity: ISTIO_MUTUAL needs an identity: --certificates"


async def test_a_secured_connection_knows_whom_it_leads_to() -> None:
    connector = Connector(replace(Limits(), keepalive_seconds=7), IdentityStore(MESH.client))
    with listening_at("127.0.0.1") as listening:
        target = Target(Address.of(*listening.getsockname()), Protocol.HTTP2, None, MUTUAL, 1)
        async with trio.open_nursery() as nursery:

            async def accept() -> None:
                await trio.lowlevel.wait_readable(listening)
                accepted, peer = listening.accept()
                far = TcpStream(accepted, Address.of(*peer))
                stream = await handshake(far, MESH.server.accept(far.socket))
                assert stream.identity is not None
                assert (stream.identity.spiffe_id, stream.alpn) == (SLEEP, "tproxy-h2")
                stream.close()

            nursery.start_soon(accept)
            stream = await connector.connect(target)
            assert stream.identity == Peer("cluster.local", "default", "web")
            stream.close()
