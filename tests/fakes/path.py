"""A proxy between clients and one origin, in this process, over loopback: all of it is real but the capture."""

import json
import random
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from socket import SO_LINGER, SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from typing import Any

import trio
from h2.settings import SettingCodes
from msgspec.structs import replace

from fakes.sockets import tcp_pair
from fakes.talk import App, Broken, Heard, whole
from fakes.talk_h1 import Http1Talk
from fakes.talk_h2 import Http2Talk
from tproxy.codec.codec import Codec
from tproxy.codec.h1 import Http1Client
from tproxy.codec.h1_h11 import H11
from tproxy.codec.h1_parser import HeadParser
from tproxy.codec.h2_client import Http2Client
from tproxy.filters.filter import Filter
from tproxy.filters.mirror import Mirroring
from tproxy.filters.overload import turn_away
from tproxy.filters.pipelines import by_traffic_policies, pipelines, towards_upstream
from tproxy.model.address import Address
from tproxy.model.flow import Detection, Direction, Flow, Protocol, Sniffed
from tproxy.model.http import Field
from tproxy.model.identity import Peer, Proof, Workload
from tproxy.model.limits import Limits
from tproxy.net.departures import Departures
from tproxy.net.handshakes import Handshakes
from tproxy.net.pump import Pipes
from tproxy.net.stream import SocketStream
from tproxy.net.tcp_stream import TcpStream
from tproxy.policy.snapshot import Snapshot
from tproxy.proxy.connection import carry_bytes, carry_http, serve_http
from tproxy.proxy.register import Register
from tproxy.proxy.rejudge import rejudge
from tproxy.proxy.runtime import Runtime
from tproxy.proxy.sweeper import Sweeper
from tproxy.stores.clusters import Clusters
from tproxy.stores.journal import Journal
from tproxy.stores.limits import OwnLedger
from tproxy.stores.policy_store import PolicyStore
from tproxy.telemetry.metrics import Metrics
from tproxy.upstream.balance import Balance
from tproxy.upstream.connector import Connector, Target
from tproxy.upstream.forward import Forward
from tproxy.upstream.pool import Pool
from tproxy.upstream.reach import Reach

Script = Callable[[trio.SocketStream], Awaitable[None]]
"""What an origin does with one connection."""

PATIENCE = 5
"""Seconds after which a test has hung."""

MOCK_PATIENCE = 2000
"""The same where time is made up and costs nothing."""


@dataclass
class Origin:
    """An upstream. What changes: which connections it has accepted, and its talks on them."""

    address: Address
    accepted: list[trio.SocketStream] = field(default_factory=list)


class Path:
    """The proxy. What changes: what it has logged, and whether it takes more."""

    def __init__(
        self,
        nursery: trio.Nursery,
        origin: Origin,
        protocols: tuple[Protocol, Protocol],
        limits: Limits,
        closing: ExitStack,
        *,
        parser: HeadParser,
    ) -> None:
        self.origin = origin
        protocol, upstream = protocols
        self._lines: list[bytes] = []
        self._logged = trio.Event()
        self.servers = Register()
        ports = [(direction, origin.address.port) for direction in Direction]
        translated = {} if upstream is protocol else dict.fromkeys(ports, upstream)
        policies = self.policies = PolicyStore(Snapshot(1, translated=translated))
        self.metrics = Metrics(Workload("shop", "web"), "0")
        journal = Journal(self.metrics, self._write, policies)
        connector = Connector(limits)
        self.clusters = Clusters(random.Random(1).random)
        self.pool = Pool(
            partial(_dial, connector),
            partial(_codec, limits, parser),
            limits,
            self.clusters.rooms,
        )
        mirroring = Mirroring(limits, self.metrics.own.features.mirrored)
        planned = self._planned(mirroring, limits)
        departures, sweeper = Departures(), Sweeper(limits, self.servers)
        self._closing = closing
        ledger = self.ledger = OwnLedger(policies)
        judging = partial(rejudge, policies, self.servers)
        for work in (departures.run, sweeper.run, self.pool.sweep, mirroring.run, judging):
            nursery.start_soon(work)
        self.runtime = Runtime(
            policies=policies,
            pipelines=pipelines(
                journal,
                towards_upstream(
                    Balance(self.clusters, Forward(self.pool, connector), limits), planned
                ),
                policies,
                limits,
                ledger,
            ),
            overflow=pipelines(journal, turn_away, policies, limits, ledger),
            reach=Reach(connector, self.clusters, limits),
            journal=journal,
            register=self.servers,
            sweeper=sweeper,
            departures=departures,
            pipes=Pipes(),
            handshakes=Handshakes(limits.handshakes),
            limits=limits,
            ledger=ledger,
            own_ports=frozenset(),
            parser=parser,
        )
        self._protocol = protocol
        self._nursery = nursery
        self._carrying: set[trio.CancelScope] = set()
        self.direction = Direction.INBOUND
        """Of the connections that are opened next."""
        self.proven: tuple[Peer, Proof] | None = None
        """Who opens them, as if a handshake had shown it."""
        self.full = False
        """Whether new connections are one too many."""

    def _planned(self, mirroring: Mirroring, limits: Limits) -> tuple[Filter, ...]:
        return by_traffic_policies(
            mirroring,
            self.clusters,
            limits=limits,
            counts=self.metrics.own.features,
            random=random.Random(2).random,
        )

    async def logged(self, lines: int = 1) -> list[dict[str, Any]]:
        """Wait for so many lines of the access log, and make sure that no more come."""
        while len(self._lines) < lines:
            await self._logged.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert len(self._lines) == lines
        return [json.loads(line) for line in self._lines]

    async def logged_by(self, seconds: float) -> list[dict[str, Any]]:
        """Return what was logged some time from now."""
        await trio.sleep(seconds)
        return [json.loads(line) for line in self._lines]

    def _write(self, line: bytes) -> None:
        self._lines.append(line)
        self._logged.set()
        self._logged = trio.Event()

    def dial(self, *, buffers: int = 0) -> TcpStream:
        """Open a downstream connection, and return its far end; the kernel may be told how much to hold for it."""
        near, far = tcp_pair()
        if buffers:
            near.socket.setsockopt(SOL_SOCKET, SO_RCVBUF, buffers)
            far.socket.setsockopt(SOL_SOCKET, SO_SNDBUF, buffers)
        self._closing.callback(near.close)
        sniffed = Sniffed(self._protocol, Detection.DECLARED)
        flow = self._flow(far).known_as(sniffed, 0.0)
        self._nursery.start_soon(self._carry, far, flow)
        return near

    def talk(self, *, buffers: int = 0) -> Http1Talk | Http2Talk:
        """Open a downstream connection and speak HTTP on it."""
        near = self.dial(buffers=buffers)
        if self._protocol is Protocol.HTTP1:
            return Http1Talk(near, client=True)
        talk = Http2Talk(near, client=True)
        self._nursery.start_soon(talk.run)
        return talk

    async def get(self, path: bytes = b"/", fields: tuple[Field, ...] = ()) -> Heard:
        """Ask for `path` on a connection of its own."""
        return await ask(self.talk(), path, fields=fields)

    def stop(self) -> None:
        """Cancel every downstream connection."""
        for scope in self._carrying:
            scope.cancel()

    @contextmanager
    def _cancellable(self) -> Iterator[None]:
        with trio.CancelScope() as scope:
            self._carrying.add(scope)
            try:
                yield
            finally:
                self._carrying.remove(scope)

    def relay(self) -> TcpStream:
        """Open a downstream connection that is carried as bytes, and return its far end."""
        near, far = tcp_pair()
        self._closing.callback(near.close)
        flow = self._flow(far)
        self._nursery.start_soon(self._relay, far, flow)
        return near

    def _flow(self, far: TcpStream) -> Flow:
        flow = Flow(self.direction, far.peer, far.local, self.origin.address)
        return flow.authenticated(*self.proven) if self.proven else flow

    async def _relay(self, far: TcpStream, flow: Flow) -> None:
        try:
            with self._cancellable(), self.runtime.journal.connection(flow):
                await carry_bytes(far, flow, self.runtime)
        finally:
            far.close()

    async def _carry(self, far: TcpStream, flow: Flow) -> None:
        try:
            with (
                self._cancellable(),
                self.runtime.journal.connection(flow),
                self.servers.connection(flow.direction),
            ):
                if self.full:
                    await serve_http(far, flow, self.runtime.turning_away(), leaving=True)
                else:
                    await carry_http(far, flow, self.runtime)
        finally:
            far.close()


async def ask(
    talk: Http1Talk | Http2Talk,
    path: bytes = b"/",
    *,
    method: bytes = b"GET",
    fields: tuple[Field, ...] = (),
    body: bytes = b"",
) -> Heard:
    """Send a whole request and wait for the whole response."""
    call = await talk.call()
    length = ((b"content-length", b"%d" % len(body)),) if body else ()
    await call.say((method, path), (*length, *fields))
    await call.send(body)
    await call.end()
    return await whole(call)


@asynccontextmanager
async def to_script(
    script: Script,
    protocol: Protocol = Protocol.HTTP1,
    limits: Limits | None = None,
    upstream: Protocol | None = None,
    *,
    parser: HeadParser = H11,
) -> AsyncIterator[Path]:
    """Stand between clients and an origin that does what `script` says with each connection."""
    protocols = (protocol, upstream or protocol)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    origin = Origin(Address.of(*listeners[0].socket.getsockname()[:2]))

    async def carry(stream: trio.SocketStream) -> None:
        origin.accepted.append(stream)
        closing.callback(stream.socket.close)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, Broken):
            await script(stream)

    mocked = isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)
    with trio.fail_after(MOCK_PATIENCE if mocked else PATIENCE), ExitStack() as closing:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, carry, listeners)
            yield Path(nursery, origin, protocols, limits or Limits(), closing, parser=parser)
            closing.close()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def to_app(
    app: App,
    protocol: Protocol,
    limits: Limits | None = None,
    settings: Mapping[SettingCodes, int] | None = None,
    upstream: Protocol | None = None,
    *,
    parser: HeadParser = H11,
) -> AsyncIterator[Path]:
    """Stand between clients and an origin that runs `app`, both speaking `protocol` unless it is told `upstream`."""

    async def script(stream: trio.SocketStream) -> None:
        if (upstream or protocol) is Protocol.HTTP1:
            await Http1Talk(stream, client=False).serve(app)
        else:
            await Http2Talk(stream, client=False, settings=settings).serve(app)

    async with to_script(script, protocol, limits, upstream, parser=parser) as path:
        yield path


def reset(stream: trio.SocketStream) -> None:
    """Close with RST."""
    stream.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


async def _dial(connector: Connector, target: Target) -> SocketStream:
    return await connector.connect(replace(target, source=None))


def _codec(limits: Limits, parser: HeadParser, protocol: Protocol) -> Codec:
    return Http2Client(limits) if protocol is Protocol.HTTP2 else Http1Client(limits, parser)
