"""A worker's life: take its sockets, carry, drain, exit."""

import gc
import logging
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import trio

from tproxy.admin import ADMIN, HEALTH, METRICS, Desk, View, probe_pages
from tproxy.codec.codec import Codec
from tproxy.codec.h1 import Http1Client, Http1Server
from tproxy.codec.h2_client import Http2Client
from tproxy.discovery.discovery import Discovery
from tproxy.discovery.dns import DnsSource
from tproxy.discovery.resolver import Resolver
from tproxy.filters.mirror import Mirroring
from tproxy.filters.overload import turn_away as turn_away_requests
from tproxy.filters.pipelines import by_traffic_policies, pipelines, towards_upstream
from tproxy.model.exchange import Handler
from tproxy.model.flow import Direction, Protocol
from tproxy.model.identity import Workload
from tproxy.model.limits import Limits
from tproxy.model.outcome import ProxyError
from tproxy.net.departures import Departures
from tproxy.net.handshakes import Handshakes
from tproxy.net.http_connection import HttpConnection
from tproxy.net.listener import Listener, Slots
from tproxy.net.pump import Pipes
from tproxy.net.sockets import DeskSockets, WorkerSockets
from tproxy.net.tcp_stream import TcpStream
from tproxy.proxy.connection import carry, turn_away
from tproxy.proxy.http_server import Answer, HttpServer
from tproxy.proxy.register import Register
from tproxy.proxy.rejudge import rejudge
from tproxy.proxy.runtime import Runtime
from tproxy.proxy.sweeper import Sweeper
from tproxy.settings import Settings
from tproxy.stores.clusters import Clusters
from tproxy.stores.identity_store import IdentityStore
from tproxy.stores.journal import Journal
from tproxy.stores.limits import Ledger, OwnLedger, described
from tproxy.stores.line_writer import LineWriter
from tproxy.stores.policy_loader import PolicyLoader
from tproxy.telemetry.cluster_status import as_facts, status_lines
from tproxy.telemetry.metrics import Metrics
from tproxy.upstream.balance import Balance
from tproxy.upstream.connector import Connector
from tproxy.upstream.forward import Forward
from tproxy.upstream.pool import Pool
from tproxy.upstream.reach import Reach
from tproxy.upstream.upkeep import Upkeep

if TYPE_CHECKING:  # OpenSSL takes 11 MiB, which only a workload with an identity is to pay for
    from tproxy.stores.identity_loader import IdentityLoader
if TYPE_CHECKING:  # one worker alone has none
    from tproxy.siblings import Siblings

LOG = logging.getLogger(__name__)

DESK_CONNECTIONS = 64
"""Connections at once to admin, metrics and health together: scrapers and kubelets need a handful."""

TURNED_AWAY_AT_ONCE = 64
"""Connections beyond the bound that are told so at once; each is for a moment only."""

LAST_LINES_SECONDS = 1.0
"""How long the last access-log lines may take to be written: whoever reads them may be gone."""


def _nobody() -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What files say, and say anew while we run."""

    policies: PolicyLoader
    identities: "IdentityLoader | None" = None
    """None for a workload that has no identity."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which worker this is, and what it has."""

    sockets: WorkerSockets
    desks: DeskSockets
    limits: Limits
    """As the settings say, and descriptors allow."""
    siblings: "Siblings | None" = None
    """None where there is but one worker."""
    stop_all: Callable[[], None] | None = None
    """Have every worker stop; None where there is but one."""
    tell_policies: Callable[[], None] = _nobody
    """Tell whoever starts workers that new policies are in force."""
    restarts: int = 0
    ledger: Ledger | None = None
    """Where rate limits count; None for a worker that is alone."""
    log_turn: int | None = None
    """A descriptor whose lock is held while lines are written, where several processes write them."""


class App:
    """One worker. What changes: whether it accepts, and whether it is leaving."""

    def __init__(self, settings: Settings, sources: Sources, place: Place) -> None:
        limits = place.limits
        policies, identities = sources.policies, sources.identities
        self._settings = settings
        self._policies = policies
        self._identities = identities
        self._place = place
        self._limits = limits
        self._started = time.time()
        self._accepting = False
        self._leaving = trio.Event()
        self._hurrying = trio.Event()
        self._register = Register()
        self._sweeper = Sweeper(limits, self._register)
        self._metrics = Metrics(self._workload(), settings.version)
        self._tell_policies()
        self._tell_identity()
        self._metrics.own.restarted(place.restarts)
        self._lines = LineWriter(
            sys.stdout.fileno(), self._metrics.own.log_lines_dropped, turn=place.log_turn
        )
        journal = Journal(self._metrics, self._lines.write, policies.store)
        codec = partial(_client_codec, settings, limits)
        shown = identities.store if identities else None
        connector = Connector(limits, shown, partial(journal.handshake, Direction.OUTBOUND))
        self._clusters = Clusters(random.random)
        self._pool = Pool(connector.connect, codec, limits, self._clusters.rooms)
        self._departures = Departures()
        ledger = self._ledger = place.ledger or OwnLedger(policies.store)
        self._mirroring = Mirroring(limits, self._metrics.own.features.mirrored)
        upstream = self._upstream(connector)
        self._runtime = Runtime(
            policies=policies.store,
            pipelines=pipelines(journal, upstream, policies.store, limits, ledger),
            overflow=pipelines(journal, turn_away_requests, policies.store, limits, ledger),
            reach=Reach(connector, self._clusters, limits),
            journal=journal,
            register=self._register,
            sweeper=self._sweeper,
            departures=self._departures,
            pipes=Pipes(),
            handshakes=Handshakes(limits.handshakes),
            limits=limits,
            ledger=ledger,
            parser=settings.parser,
            engine=settings.engine,
            own_ports=settings.ports.all(),
            tproxy_inbound=settings.tproxy_inbound,
            identities=shown,
        )

    def _upstream(self, connector: Connector) -> Handler:
        """Build what carries requests once they are let through."""
        planned = by_traffic_policies(
            self._mirroring,
            self._clusters,
            limits=self._limits,
            counts=self._metrics.own.features,
            random=random.random,
        )
        forward = Balance(self._clusters, Forward(self._pool, connector), self._limits)
        return towards_upstream(forward, planned)

    async def run(self) -> None:
        """Carry until told to stop and drained."""
        inbound, outbound = self._carriers()
        async with trio.open_nursery() as nursery:
            works: tuple[Callable[[], Awaitable[object]], ...] = (
                self._lines.run,
                self._pool.sweep,
                self._upkeep.run,
                self._discovery().run,
                self._departures.run,
                self._sweeper.run,
                self._mirroring.run,
                partial(rejudge, policies=self._policies.store, register=self._register),
                self._obey_signals,
                partial(self._policies.watch, self._reload),
                *self._identity_work(),
            )
            for work in works:
                nursery.start_soon(work)
            for listener in (inbound, outbound, *self._desks()):
                nursery.start_soon(listener.serve)
            self._accepting = True
            LOG.info(
                "ready: inbound %d, outbound %d, HTTP/1 read by %s, HTTP/2 kept by %s",
                self._settings.ports.inbound,
                self._settings.ports.outbound,
                self._settings.parser.name,
                self._settings.engine.name,
            )
            # What is loaded now stays: looking through it again and again for garbage would make peers wait.
            gc.freeze()
            await self._leaving.wait()
            await self._drain(inbound, outbound)
            nursery.cancel_scope.cancel()
        with trio.move_on_after(LAST_LINES_SECONDS):
            await self._lines.finish()

    @property
    def _upkeep(self) -> Upkeep:
        return Upkeep(self._clusters, self._pool)

    def _discovery(self) -> Discovery:
        source = partial(DnsSource, asks=Resolver(), random=random.random)
        return Discovery(self._clusters, source, self._metrics.own.clusters.looked_up)

    def _identity_work(self) -> Iterator[Callable[[], Awaitable[object]]]:
        if self._identities is not None:
            yield self._reload_identity  # it may have been rotated since this worker's supervisor read it
            yield partial(self._identities.watch, self._reload_identity)
            yield self._identities.warn_before_expiry
            yield partial(self._follow_identities, self._identities.store)

    async def _reload_identity(self) -> None:
        if self._identities is not None and not await self._identities.reload():
            self._metrics.own.identity_refused()

    async def _follow_identities(self, store: IdentityStore) -> None:
        """Let connections go that were made under an identity which is not shown any more, until cancelled."""
        while True:
            await store.superseded()
            self._tell_identity()
            self._pool.retire(store.issue)

    def _tell_identity(self) -> None:
        if self._identities is None:
            return
        identity, last = self._identities.current, self._identities.last
        self._metrics.prove(identity.own)
        self._metrics.own.identity_taken(
            identity.own,
            identity.not_after.timestamp(),
            {name: ends.timestamp() for name, ends in identity.roots_not_after.items()},
            now=last.at.timestamp(),
        )

    def stop(self) -> None:
        """Begin to leave; asked again, leave at once."""
        (self._hurrying if self._leaving.is_set() else self._leaving).set()

    def _stop_all(self) -> None:
        """Begin to leave, with all other workers."""
        (self._place.stop_all or self.stop)()

    def _carriers(self) -> tuple[Listener, Listener]:
        slots = Slots(self._limits.connections, TURNED_AWAY_AT_ONCE)

        def listener(sockets: Sequence[socket.socket], direction: Direction) -> Listener:
            turn_away = partial(self._turn_away, direction)
            return Listener(
                sockets, partial(self._carry, direction), slots=slots, turn_away=turn_away
            )

        sockets = self._place.sockets
        return (
            listener(sockets.inbound, Direction.INBOUND),
            listener(sockets.outbound, Direction.OUTBOUND),
        )

    def _desks(self) -> Iterator[Listener]:
        desks, slots = self._place.desks, Slots(DESK_CONNECTIONS)
        for sockets, table in ((desks.admin, ADMIN), (desks.metrics, METRICS)):
            desk = Desk(table, self._view())
            yield Listener(sockets, partial(self._answer, self._shared(desk)), slots=slots)
        yield Listener(desks.health, self._health(), slots=slots)
        private = Desk({**ADMIN, **METRICS}, self._view())
        yield Listener(
            self._place.sockets.private,
            partial(self._answer, private.answer),
            slots=Slots(DESK_CONNECTIONS),
        )

    def _shared(self, desk: Desk) -> Answer:
        """Answer for all workers, where there are several."""
        siblings = self._place.siblings
        if siblings is None:
            return desk.answer
        from tproxy.siblings import SharedDesk  # noqa: PLC0415

        return SharedDesk(desk, siblings).answer

    def _health(self) -> Callable[[TcpStream], Awaitable[None]]:
        """Answer for ourselves, and for the application where it is asked for here."""
        view, probes = self._view(), self._settings.app_probes
        if not probes:
            return partial(self._answer, Desk(HEALTH, view).answer)
        from tproxy.upstream.app_probe import AppProber  # noqa: PLC0415  (most workloads have none)

        codec = partial(_client_codec, self._settings, self._limits)
        prober = AppProber(Connector(self._limits), codec, self._limits)

        async def answer(downstream: TcpStream) -> None:
            pages = probe_pages(probes, partial(prober.ask, host=downstream.local.host))
            await self._answer(Desk({**HEALTH, **pages}, view).answer, downstream)

        return answer

    async def _carry(self, direction: Direction, downstream: TcpStream) -> None:
        with self._register.connection(direction):
            await carry(downstream, direction, self._runtime)

    async def _turn_away(self, direction: Direction, downstream: TcpStream) -> None:
        with self._register.connection(direction):
            await turn_away(downstream, direction, self._runtime)

    async def _answer(self, answer: Answer, downstream: TcpStream) -> None:
        limits = self._limits
        codec = Http1Server(limits, self._settings.parser)
        connection = HttpConnection(downstream, codec, limits)
        server = HttpServer(connection, answer, limits)
        try:
            with self._register.serving(server, None):
                await server.run()
        except ProxyError as error:
            LOG.info(
                "%s asked our %s in no HTTP of ours: %s",
                downstream.peer,
                downstream.local,
                error.details,
            )

    async def _drain(self, inbound: Listener, outbound: Listener) -> None:
        LOG.info("draining: %d connections are open", self._register.open)
        self._accepting = False
        with trio.move_on_after(self._limits.drain_seconds) as patience:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._cancel_when_hurried, patience)
                await self._empty(inbound, outbound)
                nursery.cancel_scope.cancel()
        LOG.info("leaving: %d connections are open", self._register.open)

    async def _empty(self, inbound: Listener, outbound: Listener) -> None:
        """Wait for the last connection: inbound ones first, as the application may need others to answer them."""
        inbound.stop()
        self._register.leave(Direction.INBOUND)
        await trio.sleep(self._limits.drain_least_seconds)
        await inbound.ended.wait()
        self._register.leave(Direction.OUTBOUND)
        await self._register.emptied(Direction.OUTBOUND)
        outbound.stop()
        await outbound.ended.wait()

    async def _cancel_when_hurried(self, scope: trio.CancelScope) -> None:
        await self._hurrying.wait()
        scope.cancel()

    async def _obey_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                if number == signal.SIGHUP:
                    await self._reload()
                    await self._reload_identity()
                else:
                    self.stop()

    async def _reload(self) -> bool:
        """Have the policies be as the files say; False when they cannot be."""
        before = self._policies.store.current
        if not await self._policies.reload():
            self._metrics.own.reload_failed()
            return False
        self._tell_policies()
        if self._policies.store.current is not before:
            self._metrics.identify(self._workload())
            self._place.tell_policies()
        return True

    def _tell_policies(self) -> None:
        current = self._policies.store.current
        self._metrics.own.reloaded(current.generation, current.digest, self._policies.last.at)

    def _workload(self) -> Workload:
        """Say who we are: as the policies name us, and where they are silent, as the options do."""
        return self._policies.store.current.workload.or_else(self._policies.workload)

    def _view(self) -> View:
        return View(
            ready=lambda: self._accepting,
            policies=self._policies.named,
            server_info=self._server_info,
            config=self._config,
            clusters=self._shown_clusters,
            cluster_facts=lambda: as_facts(self._upkeep.statuses()),
            certificates=self._certificates,
            metrics=self._metrics,
            refresh=self._refresh,
            stop=self._stop_all,
            reload=self._reload,
            check=self._policies.check,
            decisions=self._runtime.journal.decisions.asked,
        )

    def _server_info(self) -> dict[str, object]:
        settings = self._settings
        return {
            "version": settings.version,
            "state": "LIVE" if self._accepting else "DRAINING",
            "pid": os.getpid(),
            "uptime_seconds": round(time.time() - self._started, 3),
            "open_connections": self._register.open,
            "ports": settings.ports,
            "inbound_mode": "tproxy" if settings.tproxy_inbound else "redirect",
            "http": settings.parser.name,
            "http2": settings.engine.name,
            "identity": self._identities.describe() if self._identities else None,
            "limits": self._limits,
        }

    def _config(self) -> dict[str, object]:
        limits = described(self._policies.store, self._ledger)
        clusters = sorted((each.spec for each in self._clusters), key=lambda each: each.name)
        return {**self._policies.describe(), "rate_limits": limits, "clusters": clusters}

    def _shown_clusters(self) -> str:
        elsewhere = (
            f"{address} connections {count}"
            for (cluster, address), count in self._pool.by_endpoint().items()
            if not cluster
        )
        return "".join(f"{line}\n" for line in (*status_lines(self._upkeep.statuses()), *elsewhere))

    def _certificates(self) -> Mapping[str, object]:
        if self._identities is None:
            return {"certificates": []}
        return self._identities.store.current.shown(datetime.now(UTC))

    def _refresh(self) -> None:
        busy, idle = self._pool.counts()
        self._metrics.own.pool("busy", busy)
        self._metrics.own.pool("idle", idle)
        self._metrics.own.clusters.show(self._upkeep.statuses())


def _client_codec(settings: Settings, limits: Limits, protocol: Protocol) -> Codec:
    if protocol is Protocol.HTTP2:
        return Http2Client(limits, settings.engine)
    return Http1Client(limits, settings.parser)
