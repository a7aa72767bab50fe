"""The sidecar's life: open the listeners, carry, drain, exit."""

import logging
import os
import signal
import sys
import time
from functools import partial
from importlib.metadata import version

import trio

from tproxy.admin import ADMIN, HEALTH, METRICS, Desk, Table, View
from tproxy.codec.codec import Codec
from tproxy.codec.h1 import Http1Client, Http1Server
from tproxy.codec.h2_client import Http2Client
from tproxy.filters.pipelines import pipelines
from tproxy.model.flow import Direction, Protocol
from tproxy.model.identity import Workload
from tproxy.model.limits import Limits
from tproxy.model.outcome import ProxyError
from tproxy.net.departures import Departures
from tproxy.net.http_connection import HttpConnection
from tproxy.net.listener import Listener, listen_everywhere, listen_on_loopback
from tproxy.net.pump import Pipes
from tproxy.net.tcp_stream import TcpStream
from tproxy.proxy.connection import carry
from tproxy.proxy.http_server import HttpServer
from tproxy.proxy.register import Register
from tproxy.proxy.runtime import Runtime
from tproxy.proxy.sweeper import Sweeper
from tproxy.settings import Settings, User
from tproxy.stores.journal import Journal
from tproxy.stores.line_writer import LineWriter
from tproxy.stores.policy_loader import PolicyLoader
from tproxy.telemetry.metrics import Metrics
from tproxy.upstream.forward import Forward, connect
from tproxy.upstream.pool import Pool, Target

LOG = logging.getLogger(__name__)

DESK_CONNECTIONS = 64
"""Connections at once to admin, metrics and health together: scrapers and kubelets need a handful."""

LAST_LINES_SECONDS = 1.0
"""How long the last access-log lines may take to be written: whoever reads them may be gone."""


class App:
    """One sidecar process. What changes: whether it accepts, and whether it is leaving."""

    def __init__(self, settings: Settings, policies: PolicyLoader) -> None:
        limits = settings.limits
        self._settings = settings
        self._policies = policies
        self._started = time.time()
        self._accepting = False
        self._leaving = trio.Event()
        self._hurrying = trio.Event()
        self._register = Register()
        self._sweeper = Sweeper(limits)
        # Now: once root is given up, the installation may no longer be readable.
        self._version = version("tproxy")
        self._metrics = Metrics(self._workload(), self._version)
        self._metrics.own.reloaded(1, policies.last.at)
        self._lines = LineWriter(sys.stdout.fileno(), self._metrics.own.log_lines_dropped)
        journal = Journal(self._metrics, self._lines.write, policies.store)
        self._pool = Pool(partial(_dial, limits), partial(_client_codec, limits), limits)
        self._departures = Departures()
        self._runtime = Runtime(
            policies=policies.store,
            pipelines=pipelines(journal, Forward(self._pool)),
            journal=journal,
            register=self._register,
            sweeper=self._sweeper,
            departures=self._departures,
            pipes=Pipes(),
            limits=limits,
            own_ports=settings.ports.all(),
            tproxy_inbound=settings.tproxy_inbound,
        )

    async def run(self) -> None:
        """Carry until told to stop and drained. OSError: a listener's port is taken or not allowed."""
        inbound, outbound, *desks = self._listeners()
        if self._settings.user is not None:
            become(self._settings.user)
        async with trio.open_nursery() as nursery:
            for work in (
                self._lines.run,
                self._pool.sweep,
                self._departures.run,
                self._sweeper.run,
                self._obey_signals,
            ):
                nursery.start_soon(work)
            for listener in (inbound, outbound, *desks):
                nursery.start_soon(listener.serve)
            self._accepting = True
            LOG.info(
                "ready: inbound %d, outbound %d",
                self._settings.ports.inbound,
                self._settings.ports.outbound,
            )
            await self._leaving.wait()
            await self._drain(inbound)
            nursery.cancel_scope.cancel()
        with trio.move_on_after(LAST_LINES_SECONDS):
            await self._lines.finish()

    def stop(self) -> None:
        """Begin to leave; asked again, leave at once."""
        (self._hurrying if self._leaving.is_set() else self._leaving).set()

    def _listeners(self) -> list[Listener]:
        ports, slots = self._settings.ports, trio.Semaphore(self._settings.limits.connections)
        transparent = self._settings.tproxy_inbound
        at_desk = trio.Semaphore(DESK_CONNECTIONS)
        return [
            Listener(
                [listen_everywhere(ports.inbound, transparent=transparent)],
                partial(self._carry, Direction.INBOUND),
                slots=slots,
            ),
            Listener(
                listen_on_loopback(ports.outbound),
                partial(self._carry, Direction.OUTBOUND),
                slots=slots,
            ),
            Listener(listen_on_loopback(ports.admin), partial(self._answer, ADMIN), slots=at_desk),
            Listener(
                [listen_everywhere(ports.metrics)], partial(self._answer, METRICS), slots=at_desk
            ),
            Listener(
                [listen_everywhere(ports.health)], partial(self._answer, HEALTH), slots=at_desk
            ),
        ]

    async def _carry(self, direction: Direction, downstream: TcpStream) -> None:
        with self._register.connection():
            await carry(downstream, direction, self._runtime)

    async def _answer(self, table: Table, downstream: TcpStream) -> None:
        limits = self._settings.limits
        connection = HttpConnection(downstream, Http1Server(limits), limits)
        server = HttpServer(connection, Desk(table, self._view()).answer, limits)
        try:
            with self._sweeper.serving(server):
                await server.run()
        except ProxyError as error:
            LOG.info(
                "%s asked our %s in no HTTP of ours: %s",
                downstream.peer,
                downstream.local,
                error.details,
            )

    async def _drain(self, inbound: Listener) -> None:
        LOG.info("draining: %d connections are open", self._register.open)
        self._accepting = False
        inbound.stop()
        self._register.leave_inbound()
        with trio.move_on_after(self._settings.limits.drain_seconds) as patience:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._cancel_when_hurried, patience)
                await self._register.emptied()
                nursery.cancel_scope.cancel()
        LOG.info("leaving: %d connections are open", self._register.open)

    async def _cancel_when_hurried(self, scope: trio.CancelScope) -> None:
        await self._hurrying.wait()
        scope.cancel()

    async def _obey_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                if number == signal.SIGHUP:
                    await self._reload()
                else:
                    self.stop()

    async def _reload(self) -> None:
        if await self._policies.reload():
            self._metrics.own.reloaded(
                self._policies.store.current.generation, self._policies.last.at
            )
            self._metrics.identify(self._workload())
        else:
            self._metrics.own.reload_failed()

    def _workload(self) -> Workload:
        """Say who we are: as the policies name us, and where they are silent, as the options do."""
        return self._policies.store.current.workload.or_else(self._settings.workload)

    def _view(self) -> View:
        return View(
            ready=lambda: self._accepting,
            server_info=self._server_info,
            config=self._policies.describe,
            clusters=self._clusters,
            metrics=self._metrics,
            refresh=self._refresh,
            stop=self.stop,
        )

    def _server_info(self) -> dict[str, object]:
        settings = self._settings
        return {
            "version": self._version,
            "state": "LIVE" if self._accepting else "DRAINING",
            "pid": os.getpid(),
            "uptime_seconds": round(time.time() - self._started, 3),
            "open_connections": self._register.open,
            "ports": settings.ports,
            "inbound_mode": "tproxy" if settings.tproxy_inbound else "redirect",
            "limits": settings.limits,
        }

    def _clusters(self) -> str:
        lines = (
            f"{address} connections {count}" for address, count in self._pool.by_address().items()
        )
        return "".join(f"{line}\n" for line in lines)

    def _refresh(self) -> None:
        busy, idle = self._pool.counts()
        self._metrics.own.pool("busy", busy)
        self._metrics.own.pool("idle", idle)


async def _dial(limits: Limits, target: Target) -> TcpStream:
    return await connect(target.address, target.source, limits)


def _client_codec(limits: Limits, protocol: Protocol) -> Codec:
    return Http2Client(limits) if protocol is Protocol.HTTP2 else Http1Client(limits)


def become(user: User) -> None:
    """Give up root for good: groups first, as only root may. PermissionError for anybody else but that user."""
    if (os.getuid(), os.getgid()) == (user.uid, user.gid):
        return
    try:
        os.setgroups([])
        os.setgid(user.gid)
        os.setuid(user.uid)
    except PermissionError as error:
        why = f"--user {user.uid}:{user.gid}: only root can become another user"
        raise PermissionError(error.errno, why) from error
