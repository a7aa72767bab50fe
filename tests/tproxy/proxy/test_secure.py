"""Whose TLS it is, who stands behind it, and how long anybody may take to say so."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fakes.client_hello import alpn, message, records
from fakes.path import Path, to_script
from fakes.secure import MUTUAL, Mesh
from fakes.sockets import tcp_pair
from tproxy.model.address import Address
from tproxy.model.flow import Detection, Direction, Flow, Protocol
from tproxy.model.identity import Peer
from tproxy.model.limits import Limits
from tproxy.model.outcome import DownstreamError
from tproxy.net.handshakes import Handshakes
from tproxy.net.stream import SocketStream
from tproxy.net.tcp_stream import TcpStream
from tproxy.net.tls_stream import TlsStream, handshake
from tproxy.policy.authentication import Authentication
from tproxy.policy.schema import MutualTlsMode
from tproxy.policy.snapshot import Snapshot
from tproxy.proxy.runtime import Runtime
from tproxy.proxy.secure import HELLO_SECONDS, is_ours, secured, sniffed
from tproxy.stores.identity_store import IdentityStore
from tproxy.tls.credentials import Credentials
from tproxy.tls.reasons import NotSecured

MESH = Mesh.new()
SLEEPER = Peer("cluster.local", "default", "sleep")
STRICT, PERMISSIVE, DISABLE = (
    MutualTlsMode.STRICT,
    MutualTlsMode.PERMISSIVE,
    MutualTlsMode.DISABLE,
)
MYSQL = 3306


def hello(*protocols: bytes) -> bytes:
    return records(message(alpn(*protocols) if protocols else b""))


async def nothing(_: trio.SocketStream) -> None:
    """Say nothing."""


@asynccontextmanager
async def identified(limits: Limits | None = None) -> AsyncIterator[tuple[Path, Runtime]]:
    """Make a proxy that has an identity."""
    async with to_script(nothing, Protocol.HTTP1, limits) as path:
        limits = limits or path.runtime.limits
        yield (
            path,
            replace(
                path.runtime,
                identities=IdentityStore(MESH.server),
                handshakes=Handshakes(limits.handshakes),
                limits=limits,
            ),
        )


def enforce(
    path: Path, mode: MutualTlsMode, declared: dict[int, Protocol] | None = None
) -> Snapshot:
    """Put a mode in force, and what ports are declared to speak."""
    ports = {(Direction.INBOUND, port): each for port, each in (declared or {}).items()}
    snapshot = Snapshot(2, authentication=Authentication(mode), ports=ports)
    path.runtime.policies.swap(snapshot)
    return snapshot


def flow_of(far: TcpStream, port: int = 8080, direction: Direction = Direction.INBOUND) -> Flow:
    return Flow(direction, far.peer, far.local, Address("192.0.2.1", port))


REQUEST = b"GET / HTTP/1.1\r\n"


@pytest.mark.parametrize(
    ("mode", "opening", "declared", "protocol", "ours"),
    [
        pytest.param(PERMISSIVE, hello(b"istio"), None, Protocol.TLS, True, id="a sidecar's"),
        pytest.param(PERMISSIVE, hello(b"tproxy-h2", b"h2"), None, Protocol.TLS, True, id="ours"),
        pytest.param(PERMISSIVE, hello(b"istio-peer-exchange"), None, Protocol.TLS, True, id="Istio's TCP"),
        pytest.param(PERMISSIVE, hello(b"h2", b"http/1.1"), None, Protocol.TLS, False, id="an application's"),
        pytest.param(PERMISSIVE, hello(), None, Protocol.TLS, False, id="an application's without ALPN"),
        pytest.param(PERMISSIVE, REQUEST, None, Protocol.HTTP1, False, id="plaintext"),
        pytest.param(STRICT, hello(), None, Protocol.TLS, True, id="strictly, any"),
        pytest.param(STRICT, REQUEST, None, Protocol.HTTP1, False, id="strictly, plaintext is still no TLS"),
        pytest.param(DISABLE, hello(b"istio"), None, Protocol.TLS, False, id="disabled"),
        pytest.param(PERMISSIVE, hello(b"istio"), Protocol.HTTP2, Protocol.TLS, True, id="around what is declared"),
        pytest.param(PERMISSIVE, hello(b"h2"), Protocol.OPAQUE, Protocol.OPAQUE, False, id="declared, an application's"),
        pytest.param(PERMISSIVE, REQUEST, Protocol.HTTP2, Protocol.HTTP2, False, id="declared, plaintext"),
        pytest.param(DISABLE, hello(b"istio"), Protocol.HTTP1, Protocol.HTTP1, False, id="declared and disabled"),
        pytest.param(STRICT, REQUEST, Protocol.OPAQUE, Protocol.OPAQUE, False, id="declared, strictly, plaintext"),
    ],
)  # fmt: skip
async def test_a_sidecars_tls_is_told_from_an_applications(
    mode: MutualTlsMode, opening: bytes, declared: Protocol | None, protocol: Protocol, ours: bool
) -> None:
    async with identified() as (path, runtime):
        snapshot = enforce(path, mode, {8080: declared} if declared else None)
        near, far = tcp_pair()
        async with near, far:
            near.try_send(opening)
            flow = await sniffed(far, flow_of(far), snapshot, runtime)
            assert flow.protocol is protocol
            assert is_ours(flow, snapshot, runtime) is ours
            assert far.try_peek(1 << 16) == opening


async def test_without_an_identity_no_tls_is_ours() -> None:
    async with identified() as (path, runtime):
        snapshot = enforce(path, STRICT)
        near, far = tcp_pair()
        async with near, far:
            near.try_send(hello(b"istio"))
            nobody = replace(runtime, identities=None)
            flow = await sniffed(far, flow_of(far), snapshot, nobody)
            assert not is_ours(flow, snapshot, nobody)


async def test_what_leaves_the_application_is_never_ours() -> None:
    async with identified() as (path, runtime):
        snapshot = enforce(path, STRICT)
        near, far = tcp_pair()
        async with near, far:
            near.try_send(hello(b"istio"))
            to = flow_of(far, direction=Direction.OUTBOUND)
            flow = await sniffed(far, to, snapshot, runtime)
            assert flow.protocol is Protocol.TLS
            assert not is_ours(flow, snapshot, runtime)


@pytest.mark.parametrize(
    ("mode", "patience"),
    [
        pytest.param(PERMISSIVE, HELLO_SECONDS, id="a moment where plaintext may come"),
        pytest.param(STRICT, 3.0, id="as long as anybody where it may not"),
        pytest.param(DISABLE, 0.0, id="not at all where no sidecar may come"),
    ],
)
async def test_a_port_where_the_server_speaks_first_waits_for_a_sidecar(
    mode: MutualTlsMode,
    patience: float,
    autojump_clock: MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    async with identified() as (path, runtime):
        snapshot = enforce(path, mode)
        near, far = tcp_pair()
        async with near, far:
            began = trio.current_time()
            flow = await sniffed(far, flow_of(far, MYSQL), snapshot, runtime)
            assert trio.current_time() - began == pytest.approx(patience, abs=0.01)
            assert (flow.protocol, flow.sniffed.detection) == (
                Protocol.OPAQUE,
                Detection.DECLARED,
            )


async def shaken(
    dialled: TcpStream, credentials: Credentials, *protocols: bytes
) -> TlsStream | None:
    """Dial as a sidecar does; None when it is not let in."""
    steps = credentials.connect(dialled.socket, MUTUAL, list(protocols))
    try:
        return await handshake(dialled, steps)
    except NotSecured:
        return None


@pytest.mark.parametrize(
    ("offered", "declared", "said", "protocol", "detection"),
    [
        pytest.param(b"tproxy-http/1.1", None, b"", Protocol.HTTP1, Detection.ALPN, id="HTTP/1 by ALPN"),
        pytest.param(b"istio-h2", None, b"", Protocol.HTTP2, Detection.ALPN, id="HTTP/2 by ALPN"),
        pytest.param(b"tproxy-tcp", None, b"", Protocol.OPAQUE, Detection.ALPN, id="bytes by ALPN"),
        pytest.param(b"istio", None, REQUEST, Protocol.HTTP1, Detection.HTTP11, id="by what it says"),
        pytest.param(b"istio", None, hello(b"h2"), Protocol.TLS, Detection.TLS, id="TLS in TLS"),
        pytest.param(b"istio-h2", Protocol.HTTP1, b"", Protocol.HTTP1, Detection.DECLARED, id="what is declared wins"),
    ],
)  # fmt: skip
async def test_what_is_inside_is_known(
    offered: bytes,
    declared: Protocol | None,
    said: bytes,
    protocol: Protocol,
    detection: Detection,
) -> None:
    async with identified() as (path, runtime):
        snapshot = enforce(path, STRICT, {8080: declared} if declared else None)
        near, far = tcp_pair()
        found: list[tuple[SocketStream, Flow]] = []

        async def accept() -> None:
            flow = await sniffed(far, flow_of(far), snapshot, runtime)
            found.append(await secured(far, flow, runtime))

        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            client = await shaken(near, MESH.client, offered)
            assert client is not None
            client.try_send(said)
        (stream, flow) = found[0]
        assert (flow.protocol, flow.sniffed.detection) == (protocol, detection)
        assert (flow.identity, stream.identity) == (SLEEPER, SLEEPER)
        assert flow.proof is not None
        assert flow.proof.alpn == offered.decode()


Dial = Callable[[TcpStream], Awaitable[object]]


async def refusal(runtime: Runtime, dial: Dial) -> DownstreamError:
    """Accept a connection in vain."""
    near, far = tcp_pair()
    failures: list[DownstreamError] = []
    refused = trio.Event()

    async def accept() -> None:
        try:
            await secured(far, flow_of(far), runtime)
        except DownstreamError as failure:
            failures.append(failure)
            refused.set()

    async with near, far, trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        await dial(near)
        await refused.wait()
        nursery.cancel_scope.cancel()
    return failures[0]


async def test_a_stranger_is_refused_in_words() -> None:
    async with identified() as (path, runtime):
        enforce(path, STRICT)
        stranger = Mesh.new().client
        failure = await refusal(runtime, lambda near: shaken(near, stranger, b"istio"))
    assert failure.details == "tls_handshake_failed"
    assert failure.cause


async def test_whoever_takes_too_long_is_refused(
    autojump_clock: MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    async with identified() as (path, runtime):
        enforce(path, STRICT)

        async def begin(near: TcpStream) -> None:
            near.try_send(hello(b"istio")[:20])

        began = trio.current_time()
        failure = await refusal(runtime, begin)
        assert failure.cause == "timeout"
        assert trio.current_time() - began == pytest.approx(
            runtime.limits.handshake_seconds, abs=0.2
        )


async def test_one_handshake_too_many_ends_the_oldest() -> None:
    async with identified(replace(Limits(), handshakes=2)) as (path, runtime):
        enforce(path, STRICT)
        slow = [tcp_pair() for _ in range(2)]
        ended: list[str] = []

        async def accept(far: TcpStream, name: str) -> None:
            try:
                await secured(far, flow_of(far), runtime)
            except DownstreamError as failure:
                ended.append(f"{name} {failure.cause}")
            else:
                ended.append(f"{name} ok")

        async with trio.open_nursery() as nursery:
            for number, (_, far) in enumerate(slow):
                nursery.start_soon(accept, far, f"slow {number}")
                await wait_all_tasks_blocked()
            near, far = tcp_pair()
            nursery.start_soon(accept, far, "honest")
            client = await shaken(near, MESH.client, b"tproxy-tcp")
            assert client is not None
            while len(ended) < 2:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert sorted(ended) == ["honest ok", "slow 0 overload"]
        for end in (near, far, *(each for pair in slow for each in pair)):
            end.close()
