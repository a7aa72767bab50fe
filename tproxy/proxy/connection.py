"""The path of one captured connection: accept → original destination → sniff → (TLS) → admit → serve → record."""

from collections.abc import Awaitable
from functools import partial

import trio

from tproxy.codec.codec import Codec
from tproxy.codec.h1 import Http1Server
from tproxy.codec.h2_server import Http2Server
from tproxy.filters.forwarded_client_cert import Sanitize, sanitizer
from tproxy.model.decision import UNPROVEN
from tproxy.model.exchange import Exchange
from tproxy.model.flow import Direction, Flow, Protocol
from tproxy.model.http import Request, Response
from tproxy.model.outcome import PLAINTEXT, ProxyError, overloaded, refusal
from tproxy.model.rate_limit import Applied
from tproxy.net.http_connection import HttpConnection
from tproxy.net.original_dst import NotCaptured, original_dst
from tproxy.net.stream import SocketStream
from tproxy.net.tcp_stream import TcpStream
from tproxy.proxy.http_server import HttpServer
from tproxy.proxy.limited import limits_of, within_limits
from tproxy.proxy.runtime import Runtime
from tproxy.proxy.secure import is_ours, secured, sniffed
from tproxy.proxy.tcp import relay_opaque

NO_LIMITS: tuple[Applied, ...] = ()

TURN_AWAY_SECONDS = 2.0
"""How long a connection that is turned away may take to be told so."""


async def carry(downstream: TcpStream, direction: Direction, runtime: Runtime) -> None:
    """Carry one captured connection from accept to close."""
    flow = _captured(downstream, direction, runtime)
    if flow is None:
        downstream.reset()
        return
    downstream.keep_alive(runtime.limits.keepalive_seconds)
    snapshot = runtime.policies.current
    flow = await sniffed(downstream, flow, snapshot, runtime)
    if is_ours(flow, snapshot, runtime):
        await _carry_secured(downstream, flow, runtime)
    else:
        await _carry_known(downstream, flow, runtime)


async def _carry_secured(downstream: TcpStream, flow: Flow, runtime: Runtime) -> None:
    """Carry what is inside a sidecar's TLS, once the peer has proven who it is."""
    try:
        stream, flow = await secured(downstream, flow, runtime)
    except ProxyError as failure:
        with runtime.journal.connection(flow):
            runtime.journal.refused(flow, failure)
        downstream.close()
        return
    try:
        await _carry_known(stream, flow, runtime)
    finally:
        stream.close()


async def _carry_known(downstream: SocketStream, flow: Flow, runtime: Runtime) -> None:
    """Carry a connection of which all is known that can be before policies are asked."""
    with runtime.journal.connection(flow):
        if runtime.policies.current.must_prove_itself(flow):
            runtime.journal.refused(flow, PLAINTEXT, UNPROVEN)
            downstream.reset()
            return
        match flow.protocol:
            case Protocol.HTTP1 | Protocol.HTTP2:
                # Nobody waits for an answer any more, and a flood of those must not be worth one.
                if not downstream.reset_by_peer:
                    await carry_http(downstream, flow, runtime)
            case Protocol.TLS | Protocol.OPAQUE:
                # Also one that ended without a byte: the upstream may have something to say to it.
                await carry_bytes(downstream, flow, runtime)


async def carry_http(downstream: SocketStream, flow: Flow, runtime: Runtime) -> None:
    """Serve a connection that is HTTP, if limits of connections let it through."""
    limits = limits_of(flow, runtime)
    # Without a call around it where there are none: each holds memory for as long as the connection lasts.
    if not limits:
        await serve_http(downstream, flow, runtime)
        return
    serve = partial(serve_http, downstream, flow, runtime)
    await within_limits(downstream, flow, limits=limits, runtime=runtime, carry=serve)


async def carry_bytes(downstream: SocketStream, flow: Flow, runtime: Runtime) -> None:
    """Carry a connection that is no HTTP, if policies admit it; requests are judged one by one instead."""
    snapshot = runtime.policies.current
    decision = snapshot.admit(flow)
    if not decision.allowed:
        # Whoever is denied uses nothing up.
        runtime.journal.refused(flow, refusal(decision), decision)
        downstream.reset()
        return
    limits = limits_of(flow, runtime)
    exchange = Exchange(
        flow, snapshot.route(flow), decision, generation=snapshot.generation, limits=limits
    )
    if not limits:
        await relay_opaque(downstream, exchange, runtime)
        return
    relay = partial(relay_opaque, downstream, exchange, runtime)
    await within_limits(downstream, flow, limits=limits, runtime=runtime, carry=relay)


async def turn_away(downstream: TcpStream, direction: Direction, runtime: Runtime) -> None:
    """Tell a connection that it is one too many, in its own protocol where that has words for it."""
    flow = _captured(downstream, direction, runtime)
    if flow is None:
        downstream.reset()
        return
    with trio.move_on_after(TURN_AWAY_SECONDS):
        flow = await sniffed(downstream, flow, runtime.policies.current, runtime)
    with runtime.journal.connection(flow), trio.move_on_after(TURN_AWAY_SECONDS):
        if flow.protocol in (Protocol.HTTP1, Protocol.HTTP2):
            await serve_http(downstream, flow, runtime.turning_away(), leaving=True)
            return
        runtime.journal.refused(flow, overloaded())
    downstream.reset()


def _captured(downstream: TcpStream, direction: Direction, runtime: Runtime) -> Flow | None:
    """Ask the kernel where the connection was going; None when that was to ourselves: dialling would be a loop."""
    # Where inbound connections come by TPROXY, the pod's own to itself still come by REDIRECT, to a port of ours.
    redirected = downstream.local.port in runtime.own_ports
    try:
        destination = original_dst(downstream, tproxy=runtime.tproxy_inbound and not redirected)
    except NotCaptured as refusal:
        runtime.journal.not_captured(downstream.peer, downstream.local, str(refusal))
        return None
    if direction is Direction.INBOUND and destination.port in runtime.own_ports:
        runtime.journal.not_captured(downstream.peer, destination, "that port is the proxy's own")
        return None
    return Flow(direction, downstream.peer, downstream.local, destination)


async def serve_http(
    downstream: SocketStream, flow: Flow, runtime: Runtime, *, leaving: bool = False
) -> None:
    """Serve a connection whose protocol is known to be HTTP, and close it; soon, if we are `leaving`."""
    codec = _codec(flow.protocol, runtime)
    connection = HttpConnection(downstream, codec, runtime.limits)
    connection.pipes = runtime.pipes
    connection.on_refused = partial(runtime.journal.refused, flow, answered=True)
    answer = partial(_answer, flow, runtime, sanitizer(flow))
    server = HttpServer(connection, answer, runtime.limits)
    departing = runtime.departures.watched(downstream, server.peer_left)
    with runtime.register.serving(server, flow.direction), departing:
        if leaving:
            server.leave()
        try:
            await server.run()
        except ProxyError as error:
            runtime.journal.refused(flow, error, answered=True)


def _codec(protocol: Protocol, runtime: Runtime) -> Codec:
    if protocol is Protocol.HTTP1:
        return Http1Server(runtime.limits, runtime.parser)
    return Http2Server(runtime.limits, runtime.engine)


def _answer(
    flow: Flow, runtime: Runtime, sanitize: Sanitize, request: Request
) -> Awaitable[Response]:
    """Send a request through its pipeline, under the policies that are in force as it begins."""
    # First of all: policies, logs and the application are to read the same, nothing forged, and each has its id.
    request = runtime.request_ids.identified(sanitize(request))
    snapshot = runtime.policies.current
    decision, path = UNPROVEN, None
    # Its connection may have been kept from before plaintext was refused.
    if not snapshot.must_prove_itself(flow):
        decision, path = snapshot.judge(flow, request.head)
    book, limits = snapshot.rate_limits, NO_LIMITS
    if book is not None and decision.allowed:
        limits = book.of_request(flow, request.head, path)
    exchange = Exchange(
        flow, snapshot.route(flow, request.head), decision, path, snapshot.generation, limits
    )
    return runtime.pipelines[flow.direction](exchange, request)
