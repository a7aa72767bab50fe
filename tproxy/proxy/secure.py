"""Tell a sidecar's TLS from an application's own, and have whoever dialled prove who it is."""

from functools import partial

import trio

from tproxy.model.alpn import INSIDE, from_mesh
from tproxy.model.flow import Detection, Direction, Flow, Protocol, Sniffed
from tproxy.model.outcome import not_secured
from tproxy.net.peek import detect
from tproxy.net.stream import SocketStream
from tproxy.net.tcp_stream import TcpStream
from tproxy.net.tls_stream import TlsStream, handshake
from tproxy.policy.schema import MutualTlsMode
from tproxy.policy.snapshot import Snapshot
from tproxy.proxy.runtime import Runtime
from tproxy.sniff.server_first import SERVER_FIRST_PORTS
from tproxy.telemetry.identity import OK
from tproxy.tls.reasons import NotSecured, Reason

HELLO_SECONDS = 0.25
"""How long a PERMISSIVE port where the server speaks first waits for a sidecar's ClientHello, which comes with the
handshake of TCP: plaintext clients are silent there and wait as long."""


async def sniffed(downstream: TcpStream, flow: Flow, snapshot: Snapshot, runtime: Runtime) -> Flow:
    """Learn the protocol from what is declared, else from the port's custom, else from the first bytes.

    A sidecar's TLS is looked for everywhere, as it may be around any protocol.
    """
    declared = _declared(flow, snapshot)
    if declared is None or _ours_may_come(flow, snapshot, runtime):
        settings, patience = snapshot.detection, _patience(declared, flow, snapshot)
        found, seconds = await detect(downstream, seconds=patience, size=settings.bytes)
        known = flow.known_as(found, seconds)
        if declared is None or is_ours(known, snapshot, runtime):
            return known
    return flow.known_as(Sniffed(declared, Detection.DECLARED), 0.0)


def is_ours(flow: Flow, snapshot: Snapshot, runtime: Runtime) -> bool:
    """Whether a connection is TLS that is meant for this proxy, not for the application."""
    if flow.protocol is not Protocol.TLS or not _ours_may_come(flow, snapshot, runtime):
        return False
    strict = snapshot.mutual_tls(flow) is MutualTlsMode.STRICT
    return strict or from_mesh(flow.sniffed.alpn)


async def secured(downstream: TcpStream, flow: Flow, runtime: Runtime) -> tuple[SocketStream, Flow]:
    """Have the peer prove who it is, and learn what it speaks inside. A ProxyError is why it did not."""
    assert runtime.identities is not None, "`is_ours` says no without"
    steps = runtime.identities.current.accept(downstream.socket)
    count = partial(runtime.journal.handshake, flow.direction)
    with runtime.handshakes.under_way(runtime.limits.handshake_seconds) as scope:
        try:
            stream = await handshake(downstream, steps)
        except NotSecured as failure:
            count(failure.reason)
            raise not_secured(failure.reason, failure.cause) from failure
    if scope.cancelled_caught:
        reason = Reason.TIMEOUT if trio.current_time() >= scope.deadline else Reason.OVERLOAD
        count(reason)
        raise not_secured(reason, "")
    count(OK)
    assert steps.peer is not None, "a handshake without a proof fails"
    return stream, await _inside(stream, flow.authenticated(steps.peer, steps.proof()), runtime)


async def _inside(stream: TlsStream, flow: Flow, runtime: Runtime) -> Flow:
    """Learn what is spoken inside; the name that was asked for outside stays known."""
    snapshot = runtime.policies.current
    outer = flow.sniffed
    declared = _declared(flow, snapshot)
    told = INSIDE.get(stream.alpn)
    if declared is not None:
        found, seconds = Sniffed(declared, Detection.DECLARED), 0.0
    elif told is not None:
        found, seconds = told, 0.0
    else:
        settings = snapshot.detection
        found, seconds = await detect(stream, seconds=settings.seconds, size=settings.bytes)
    if not found.server_name:
        found = Sniffed(found.protocol, found.detection, outer.server_name, found.alpn)
    return flow.known_as(found, flow.detect_seconds + seconds)


def _ours_may_come(flow: Flow, snapshot: Snapshot, runtime: Runtime) -> bool:
    if flow.direction is Direction.OUTBOUND or runtime.identities is None:
        return False
    return snapshot.mutual_tls(flow) is not MutualTlsMode.DISABLE


def _declared(flow: Flow, snapshot: Snapshot) -> Protocol | None:
    port = flow.original_dst.port
    declared = snapshot.declared(flow.direction, port)
    return Protocol.OPAQUE if declared is None and port in SERVER_FIRST_PORTS else declared


def _patience(declared: Protocol | None, flow: Flow, snapshot: Snapshot) -> float:
    seconds = snapshot.detection.seconds
    waits = declared is Protocol.OPAQUE and snapshot.mutual_tls(flow) is MutualTlsMode.PERMISSIVE
    return min(HELLO_SECONDS, seconds) if waits else seconds
