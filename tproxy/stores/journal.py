"""What happened, told once: every exchange and every connection becomes a line of the access log and some counts."""

import logging
import time
from collections.abc import Callable, Sequence

import msgspec

from tproxy.model.address import Address
from tproxy.model.decision import ALLOWED, Decision
from tproxy.model.exchange import Exchange
from tproxy.model.flow import Detection, Direction, Flow
from tproxy.model.http import Request, Response
from tproxy.model.identity import Peer
from tproxy.model.outcome import DownstreamError, ProxyError, ResponseFlag
from tproxy.model.rate_limit import Applied
from tproxy.model.route import Route
from tproxy.model.upstream_tls import UpstreamTls
from tproxy.policy.schema import LogFormat
from tproxy.stores.decisions import Decisions, Went
from tproxy.stores.policy_store import PolicyStore
from tproxy.telemetry.access_log import FlowFields, Record, json_line, text_line
from tproxy.telemetry.labels import Destination, cluster_service
from tproxy.telemetry.metrics import Ending, Metrics
from tproxy.telemetry.trace import Trace

LOG = logging.getLogger(__name__)


UNSAID = frozenset((Detection.CLOSED, Detection.ALPN))
"""How a connection's protocol is known though its downstream has said nothing."""


class Told(msgspec.Struct):
    """One exchange, as its outermost filter sees it. What changes: what comes of it, until it has ended."""

    exchange: Exchange
    request: Request
    trace: Trace
    response: Response | None = None
    """None when nothing was answered."""
    failure: ProxyError | None = None
    """What ended the exchange before its response was whole."""
    seconds: float = 0.0
    messages: tuple[int, int] | None = None
    """Of a gRPC call: how many messages its request and its response had."""


class Relayed(msgspec.Struct, frozen=True):
    """One connection that was carried as bytes and has ended."""

    exchange: Exchange
    received: int
    sent: int
    seconds: float
    failure: ProxyError | None = None
    upstream: Address | None = None
    """Who was asked, or was to be."""
    upstream_local: Address | None = None
    """None when it was not reached."""
    upstream_identity: Peer | None = None
    """Who the upstream has proven to be; None on plaintext."""
    upstream_tls: UpstreamTls | None = None


class Known:
    """One connection in a journal: a block of its own, as a generator's takes ten times the memory while it lasts."""

    __slots__ = ("_flow", "_journal")

    def __init__(self, journal: "Journal", flow: Flow) -> None:
        self._journal = journal
        self._flow = flow

    def __enter__(self) -> None:
        self._journal.opened(self._flow)

    def __exit__(self, *_: object) -> None:
        self._journal.closed(self._flow)


class Journal:
    """Where records go. What changes: the rendered facts of connections that are open."""

    def __init__(
        self, metrics: Metrics, write: Callable[[bytes], None], policies: PolicyStore
    ) -> None:
        self._metrics = metrics
        self._write = write
        self._policies = policies
        self.decisions = Decisions(policies)
        """The last ones, for whoever asks why."""
        self._fields: dict[int, FlowFields] = {}

    def connection(self, flow: Flow) -> "Known":
        """Count a captured connection, whose protocol is known, for as long as the block lasts."""
        return Known(self, flow)

    def opened(self, flow: Flow) -> None:
        """Begin with a connection."""
        self._metrics.own.detected(flow)
        self._metrics.own.opened(flow)
        self._fields[id(flow)] = FlowFields.of(flow)

    def closed(self, flow: Flow) -> None:
        """Be done with one."""
        del self._fields[id(flow)]
        self._metrics.own.closed(flow)

    def not_captured(self, peer: Address, destination: Address, why: str) -> None:
        """Tell of a connection that was refused because carrying it would be a loop."""
        LOG.warning("refused %s on its way to %s: %s", peer, destination, why)

    def handshake(self, direction: Direction, result: str) -> None:
        """Count a TLS handshake of ours that is over: `ok`, or why it failed."""
        self._metrics.own.handshake(direction, result)

    def exchange(self, told: Told) -> None:
        """Record one request and its response, or what became of them."""
        exchange, request, response = told.exchange, told.request, told.response
        now = time.time()
        self._metrics.own.decided(exchange.decision)
        if exchange.limits:
            self.limited(exchange.limits)
        status, flag, details, cause = _ending(response, told.failure)
        received, sent = request.body.size, response.body.size if response else 0
        grpc_status = None if told.messages is None else _grpc_status(response)
        upstream_identity = response.upstream_identity if response else None
        life = request.life
        went, route = None, exchange.route
        if route.plan is not None:
            flags = (flag, *life.marks)
            went = Went(route.name, route.cluster, life.attempts, flags, status)
        self.decisions.keep(exchange, request.head, told.trace.request_id, now, went)
        series = self._metrics.request_series(
            exchange.flow,
            request.head.authority
            if exchange.route.plan is None
            else _asked_for(exchange, request),
            Ending(status, flag, grpc_status, life.marks),
            upstream=upstream_identity,
        )
        series.observe(told.seconds, received, sent)
        if told.messages is not None:
            series.count_messages(*told.messages)
        # Positional, in the order of the fields: one is made for every request.
        self._line(
            Record(
                self._fields[id(exchange.flow)],
                now - told.seconds,
                told.seconds,
                request.head,
                status,
                flag,
                life.marks,
                life.attempts,
                details,
                cause,
                received,
                sent,
                response.upstream_seconds if response else None,
                response.upstream if response else _asked(told.failure),
                response.upstream_local if response else None,
                upstream_identity,
                response.upstream_tls if response else None,
                route,
                told.trace,
                exchange.decision,
                exchange.path,
                exchange.generation,
                exchange.limits,
            )
        )

    def limited(self, limits: Sequence[Applied]) -> None:
        """Count what limits said of a request or a connection."""
        for each in limits:
            if each.result is not None:
                self._metrics.own.limited(each.limit.name, each.result)

    def refused(
        self,
        flow: Flow,
        error: ProxyError,
        decision: Decision = ALLOWED,
        *,
        answered: bool = False,
        limits: tuple[Applied, ...] = (),
    ) -> None:
        """Record a connection that was refused, or, `answered` in HTTP, what is no request."""
        self._metrics.own.refused(error.flag)
        self._metrics.own.decided(decision)
        generation = self._policies.current.generation
        self.decisions.keep_connection(flow, decision, generation)
        self._line(
            Record(
                flow=self._fields[id(flow)],
                started=time.time(),
                duration=0.0,
                status=error.status if answered else 0,
                flag=error.flag,
                details=error.details,
                termination=error.cause,
                decision=decision,
                policy_generation=generation,
                limits=limits,
            )
        )

    def relaying(self, exchange: Exchange, upstream: Peer | None) -> None:
        """Count a connection carried as bytes as opened, once its upstream is reached and has proven who it is."""
        sent_to = _sent_to(exchange.route)
        series = self._metrics.connection_series(exchange.flow, upstream=upstream, sent_to=sent_to)
        series.opened += 1

    def relayed(self, told: Relayed) -> None:
        """Record a connection carried as bytes that has ended."""
        failure = told.failure
        flow = told.exchange.flow
        self._metrics.own.decided(told.exchange.decision)
        self.decisions.keep_connection(flow, told.exchange.decision, told.exchange.generation)
        self._count(told, failure.flag if failure else ResponseFlag.NONE)
        if _silent(told):
            return
        self._line(
            Record(
                flow=self._fields[id(flow)],
                started=time.time() - told.seconds,
                duration=told.seconds,
                flag=failure.flag if failure else ResponseFlag.NONE,
                details=failure.details if failure else "",
                cause=failure.cause if failure else "",
                bytes_received=told.received,
                bytes_sent=told.sent,
                upstream=told.upstream,
                upstream_local=told.upstream_local,
                upstream_identity=told.upstream_identity,
                upstream_tls=told.upstream_tls,
                route=told.exchange.route,
                decision=told.exchange.decision,
                policy_generation=told.exchange.generation,
                limits=told.exchange.limits,
            )
        )

    def _count(self, told: Relayed, flag: ResponseFlag) -> None:
        series, upstream = self._metrics.connection_series, told.upstream_identity
        sent_to = _sent_to(told.exchange.route)
        carried = series(told.exchange.flow, upstream=upstream, sent_to=sent_to)
        if told.upstream_local is None:  # never reached, so nobody has told of it yet
            carried.opened += 1
        carried.received += told.received
        carried.sent += told.sent
        series(told.exchange.flow, flag, upstream=upstream, sent_to=sent_to).closed += 1

    def _line(self, record: Record) -> None:
        log = self._policies.current.access_log
        if log.enabled:
            self._write(json_line(record) if log.format is LogFormat.JSON else text_line(record))


def _silent(told: Relayed) -> bool:
    """Whether a downstream came and left without a word, as probes that only connect do: no line for each of them."""
    moved = told.received or told.sent
    left = told.failure is None or isinstance(told.failure, DownstreamError)
    return told.exchange.flow.sniffed.detection in UNSAID and left and not moved


def _ending(
    response: Response | None, failure: ProxyError | None
) -> tuple[int, ResponseFlag, str, str]:
    """Say how an exchange ended: status, flag, details, cause. What began as a success may have ended otherwise."""
    if failure is not None:
        status = response.head.status if response else 0
        return status, failure.flag, failure.details, failure.cause
    assert response is not None, "what ended without a failure was answered"
    return response.head.status, response.flag, response.details, response.cause


def _sent_to(route: Route) -> Destination | None:
    """Name the service that policies have chosen, if they have."""
    plan = route.plan
    if plan is None or plan.destination is None:
        return None
    return cluster_service(plan.destination.host)


def _asked_for(exchange: Exchange, request: Request) -> bytes | Destination:
    return _sent_to(exchange.route) or request.head.authority


def _asked(failure: ProxyError | None) -> Address | None:
    return failure.upstream if failure else None


def _grpc_status(response: Response | None) -> bytes:
    """Find the status of a gRPC call, in its trailers or, trailers-only, its head."""
    if response is None:
        return b""
    return (
        response.body.trailers.get(b"grpc-status")
        or response.head.headers.get(b"grpc-status")
        or b""
    )
