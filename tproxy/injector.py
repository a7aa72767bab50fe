"""The admission webhook: an API server asks about each pod that is to be made, and gets it with a sidecar."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import trio

from tproxy.admin import Reply, respond
from tproxy.codec.h1 import Http1Server
from tproxy.codec.h1_choice import head_parser
from tproxy.inject.admission import Answer, BadReview, OnRefusal, Result, answer
from tproxy.inject.sidecar import BadSettings, Sidecar, read_settings
from tproxy.model.flow import Direction
from tproxy.model.http import Request, Response
from tproxy.model.limits import Limits
from tproxy.model.outcome import ProxyError
from tproxy.net.handshakes import Handshakes
from tproxy.net.http_connection import HttpConnection
from tproxy.net.listener import Listener, Slots, listen_everywhere
from tproxy.net.stream import EagerStream
from tproxy.net.tcp_stream import TcpStream
from tproxy.net.tls_stream import handshake
from tproxy.proxy.http_server import HttpServer
from tproxy.proxy.register import Register
from tproxy.proxy.sweeper import Sweeper
from tproxy.stores.watch import watch
from tproxy.telemetry.process import process_lines
from tproxy.telemetry.registry import Registry
from tproxy.telemetry.series import Histogram, histogram_family
from tproxy.tls.documents import BadCertificate
from tproxy.tls.reasons import NotSecured
from tproxy.tls.server import ServerCertificate

LOG = logging.getLogger(__name__)

MOST_REVIEW = 3 * 1024 * 1024
"""Bytes of a review: an API server takes no larger object itself."""
REVIEW_SECONDS = 10.0
"""How long one may take to arrive: an API server waits 30 at most for the answer."""
CONNECTIONS = 256
"""At once: an API server uses one connection for many reviews."""
SILENT = CONNECTIONS // 2
"""Handshakes, and likewise connections that are kept: one more ends the oldest that says nothing, lest any pod that can reach
us keep the API server out by silence."""
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds of a histogram: an API server waits ten seconds unless it is told otherwise."""
DESK_CONNECTIONS = 32
"""Of their own: an injector that is flooded is not one that has to be started again."""
LIMITS = Limits(idle_seconds=180.0, stream_idle_seconds=30.0, drain_least_seconds=3.0)
"""An API server lets go of a connection without a review after 90 s: it is to be the first. After SIGTERM new ones are
taken for about as long as it takes until nobody is sent here any more."""


class BadFiles(Exception):
    """What the injector cannot do its work with."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where the injector's own certificate and its settings are, watched while it runs."""

    certificate: Path
    key: Path
    settings: Path | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files held when they were read."""

    certificate: ServerCertificate
    sidecar: Sidecar


def load(files: Files) -> Loaded:
    """Read them all; BadFiles names what is wrong with which. It waits for the disk."""
    try:
        pair = [file.read_bytes() for file in (files.certificate, files.key)]
        settings = b"{}" if files.settings is None else files.settings.read_bytes()
    except OSError as error:
        raise BadFiles(f"{error.filename} cannot be read: {error.strerror}") from error
    try:
        certificate = ServerCertificate(*pair)
    except BadCertificate as error:
        raise BadFiles(f"{files.certificate} and {files.key}: {error}") from error
    try:
        return Loaded(certificate, read_settings(settings))
    except BadSettings as error:
        raise BadFiles(f"{files.settings}: {error}") from error


class _Counts:
    """What the injector tells Prometheus."""

    def __init__(self) -> None:
        self._registry = Registry()
        self.reviews = self._registry.counter(
            "tproxy_injections", "Reviews, by what came of them.", ["result"]
        )
        for result in Result:
            self.reviews.labels(result)
        self.seconds = Histogram(SECONDS)
        self.expires = self._registry.gauge(
            "tproxy_injector_cert_expiration_timestamp_seconds",
            "When the webhook's own certificate ends.",
        ).labels()
        self.sound = self._registry.gauge(
            "tproxy_injector_last_reload_successful",
            "Whether the files that were read last are in force.",
        ).labels()

    def exposition(self) -> bytes:
        """Write them as Prometheus reads them."""
        took = [("", self.seconds)]
        lines = [
            *self._registry.write(),
            *histogram_family("tproxy_injection_seconds", "How long an answer took.", took),
            *process_lines(),
        ]
        return "".join(lines).encode()


class Injector:
    """Answers reviews. What changes: the files' contents, and whether it has begun and is leaving."""

    def __init__(self, files: Files, on_refusal: OnRefusal, limits: Limits = LIMITS) -> None:
        self._files = files
        self._on_refusal = on_refusal
        self._limits = limits
        self._register = Register()
        self._handshakes = Handshakes(SILENT)
        self._kept: dict[HttpServer, None] = {}
        """Connections for reviews, the oldest first."""
        self._loaded = load(files)
        self._counts = _Counts()
        self._leaving = trio.Event()
        self.ready = False
        """Whether it answers."""
        self._parser = head_parser("auto")
        self._tell()

    def listeners(self, *, port: int, health_port: int) -> tuple[Listener, Listener]:
        """Open the ports for reviews, and for health and metrics. OSError: one is taken or not allowed."""
        return (
            Listener(listen_everywhere(port), self._review, slots=Slots(CONNECTIONS)),
            Listener(listen_everywhere(health_port), self._desk, slots=Slots(DESK_CONNECTIONS)),
        )

    async def run(self, reviews: Listener, desk: Listener) -> None:
        """Answer until `stop`, and then those that are being answered."""
        async with trio.open_nursery() as nursery:
            for directory in self._directories():
                nursery.start_soon(watch, directory, self.reload)
            # Once they are watched, lest a change since they were read goes unnoticed.
            await trio.lowlevel.checkpoint()
            await self.reload()
            nursery.start_soon(Sweeper(self._limits, self._register).run)
            nursery.start_soon(reviews.serve)
            nursery.start_soon(desk.serve)
            self.ready = True
            LOG.info("ready: reviews at %s", ", ".join(map(str, reviews.addresses)))
            await self._leaving.wait()
            self.ready = False
            self._register.leave(Direction.INBOUND)
            await trio.sleep(self._limits.drain_least_seconds)
            reviews.stop()
            with trio.move_on_after(REVIEW_SECONDS):
                await reviews.ended.wait()
            nursery.cancel_scope.cancel()

    def stop(self) -> None:
        """Begin to leave."""
        self._leaving.set()

    async def reload(self) -> None:
        """Take what the files hold now; what cannot be used changes nothing, and is said."""
        try:
            self._loaded = await trio.to_thread.run_sync(load, self._files)
        except BadFiles as bad:
            self._keep(bad)
        else:
            self._tell()

    def _keep(self, bad: BadFiles) -> None:
        LOG.error("%s; what was in force before stays so", bad)
        self._counts.sound.set(0)

    def _tell(self) -> None:
        """Say what is in force."""
        self._counts.expires.set(self._loaded.certificate.not_after.timestamp())
        self._counts.sound.set(1)
        LOG.info("its certificate ends at %s", self._loaded.certificate.not_after.isoformat())

    def _directories(self) -> set[Path]:
        files = (self._files.certificate, self._files.key, self._files.settings)
        return {file.parent for file in files if file is not None}

    async def _review(self, downstream: TcpStream) -> None:
        accepted = self._loaded.certificate.accept(downstream.socket)
        try:
            with self._handshakes.under_way(self._limits.handshake_seconds) as patience:
                secured = await handshake(downstream, accepted)
        except NotSecured as failure:
            LOG.info("%s agreed on no TLS with us: %s", downstream.peer, failure)
            return
        if patience.cancelled_caught:
            LOG.info("%s agreed on no TLS with us: it took too long", downstream.peer)
            return
        server = self._server(secured, {"/inject": ("POST", self._reviewed)})
        if len(self._kept) >= SILENT:
            self._make_room()
        self._kept[server] = None
        try:
            await self._serve(server, Direction.INBOUND)
        finally:
            del self._kept[server]

    def _make_room(self) -> None:
        silent = next((server for server in self._kept if server.idle), None)
        if silent is not None:
            silent.dismiss()

    async def _desk(self, downstream: TcpStream) -> None:
        pages: Mapping[str, Page] = {
            "/healthz/ready": ("GET", self._ready),
            "/healthz/live": ("GET", self._live),
            "/metrics": ("GET", self._metrics),
        }
        await self._serve(self._server(downstream, pages), None)

    def _server(self, stream: EagerStream, pages: "Mapping[str, Page]") -> HttpServer:
        async def answered(request: Request) -> Response:
            return respond(await _found(request, pages), request)

        connection = HttpConnection(stream, Http1Server(self._limits, self._parser), self._limits)
        return HttpServer(connection, answered, self._limits)

    async def _serve(self, server: HttpServer, direction: Direction | None) -> None:
        try:
            with self._register.serving(server, direction):
                await server.run()
        except ProxyError as error:
            LOG.info("asked in no HTTP of ours: %s", error.details)

    async def _ready(self, _: Request) -> Reply:
        return Reply(200, b"LIVE\n") if self.ready else Reply(503, b"NOT READY\n")

    async def _live(self, _: Request) -> Reply:
        return Reply(200, b"LIVE\n")

    async def _metrics(self, _: Request) -> Reply:
        return Reply(200, self._counts.exposition())

    async def _reviewed(self, request: Request) -> Reply:
        began = perf_counter()
        kind = (request.head.headers.get(b"content-type") or b"").partition(b";")[0].strip()
        if kind != b"application/json":
            return self._bad(415, "a review is application/json")
        content = b""
        with trio.move_on_after(REVIEW_SECONDS) as patience:
            async for part in request.body:
                content += part
                if len(content) > MOST_REVIEW:
                    return self._bad(413, f"a review has {MOST_REVIEW} bytes at most")
        if patience.cancelled_caught:
            return self._bad(408, f"the review did not arrive within {REVIEW_SECONDS:g} s")
        try:
            made = answer(content, self._loaded.sidecar, self._on_refusal)
        except BadReview as bad:
            return self._bad(400, str(bad))
        self._count(made)
        self._counts.seconds.observe(perf_counter() - began)
        return Reply(200, made.content, "application/json")

    def _count(self, made: Answer) -> None:
        self._counts.reviews.labels(made.result).inc()
        if made.result is Result.REFUSED:
            LOG.warning("a pod cannot have a sidecar: %s", made.said)

    def _bad(self, status: int, why: str) -> Reply:
        self._counts.reviews.labels(Result.ERROR).inc()
        LOG.warning("a request that is no review: %s", why)
        return Reply(status, f"{why}\n".encode())


Page = tuple[str, Callable[[Request], Awaitable[Reply]]]


async def _found(request: Request, pages: Mapping[str, Page]) -> Reply:
    path = request.head.path.partition(b"?")[0].decode("latin-1")
    if path not in pages:
        return Reply(404, f"there are {', '.join(pages)}\n".encode())
    method, page = pages[path]
    if request.head.method.decode("latin-1") != method:
        return Reply(405, f"{path} takes {method}\n".encode())
    return await page(request)
