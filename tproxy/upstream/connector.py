"""Dial upstreams, and secure the connection where a route says how."""

from collections.abc import Callable
from functools import lru_cache

import msgspec
import trio
from msgspec.structs import replace

from tproxy.model.address import Address
from tproxy.model.alpn import OFFERS
from tproxy.model.cluster import Bounds, Endpoint
from tproxy.model.flow import Direction, Flow, Protocol
from tproxy.model.limits import Limits
from tproxy.model.outcome import ResponseFlag, UpstreamError
from tproxy.model.route import Route
from tproxy.model.upstream_tls import TlsMode, UpstreamTls
from tproxy.net.dial import Dialling
from tproxy.net.stream import SocketStream
from tproxy.net.tcp_stream import TcpStream
from tproxy.net.tls_stream import handshake
from tproxy.stores.identity_store import IdentityStore
from tproxy.telemetry.identity import OK
from tproxy.tls.reasons import NotSecured, Reason
from tproxy.tls.steps import Steps

INBOUND_SOURCE = {False: Address("127.0.0.6", 0), True: Address("::6", 0)}
"""What inbound connections to the application come from: the capture rules let these, and only these, pass."""


NO_BOUNDS = Bounds()

_OFFERS = {protocol: [name.encode() for name in names] for protocol, names in OFFERS.items()}


def source_of(address: Address, direction: Direction) -> Address | None:
    """Choose what our end of the upstream connection is bound to, lest it be captured again."""
    return INBOUND_SOURCE[address.is_ipv6] if direction is Direction.INBOUND else None


class Target(msgspec.Struct, frozen=True, cache_hash=True):
    """What makes upstream connections interchangeable."""

    address: Address
    protocol: Protocol
    """What they carry: the version that the application chose is the version its peer gets."""
    source: Address | None = None
    """What our end is bound to before it dials."""
    tls: UpstreamTls | None = None
    """None: what is carried goes as it is."""
    issue: int = 0
    """Of the identity that is shown; 0 where none is."""
    cluster: str = ""
    """Whose endpoint it is; empty for where a connection was going."""
    bounds: Bounds = NO_BOUNDS
    """Of that cluster."""


@lru_cache(maxsize=1024)
def _target(
    address: Address, protocol: Protocol, direction: Direction, tls: UpstreamTls | None, issue: int
) -> Target:
    return Target(address, protocol, source_of(address, direction), tls, issue)


@lru_cache(maxsize=1024)
def _of_cluster(target: Target, cluster: str, bounds: Bounds) -> Target:
    return replace(target, cluster=cluster, bounds=bounds)


def _uncounted(_: str) -> None:
    """Tell nobody of a handshake."""


class Connector:
    """Makes connections to upstreams."""

    def __init__(
        self,
        limits: Limits,
        identities: IdentityStore | None = None,
        count: Callable[[str], None] = _uncounted,
    ) -> None:
        self._limits = limits
        self._identities = identities
        self._count = count
        """Told what each handshake came to."""

    def target(self, flow: Flow, route: Route, endpoint: Endpoint | None = None) -> Target:
        """Say which connections may carry what goes by `route`, to an endpoint or where it was going."""
        address, tls, plan = flow.original_dst, route.tls, route.plan
        if endpoint is not None:
            address, tls = endpoint.address, endpoint.tls
        issue = 0
        if tls is not None and tls.mode is TlsMode.ISTIO_MUTUAL:
            if self._identities is not None:
                issue = self._identities.issue
            elif tls.automatic:
                tls = None
        http = flow.protocol in (Protocol.HTTP1, Protocol.HTTP2)
        protocol = (route.protocol if http else None) or flow.protocol
        target = _target(address, protocol, flow.direction, tls, issue)
        if plan is None or plan.destination is None:
            return target
        return _of_cluster(target, plan.destination.name, plan.destination.bounds)

    async def connect(self, target: Target) -> SocketStream:
        """Dial within the connect time-out, and secure the connection within the handshake's."""
        stream = await self._dialled(target)
        if target.tls is None:
            return stream
        try:
            return await self._secured(stream, target, target.tls)
        except BaseException:
            stream.close()
            raise

    async def _dialled(self, target: Target) -> TcpStream:
        dialling = Dialling(target.address, target.source)
        if not dialling.done:
            seconds = target.bounds.connect_seconds or self._limits.connect_seconds
            with trio.move_on_after(seconds) as patience:
                await dialling.wait()
            if patience.cancelled_caught:
                raise _unreachable(
                    "connection_timeout", f"no answer from {target.address} within {seconds:g} s"
                )
        stream = dialling.stream()
        stream.keep_alive(self._limits.keepalive_seconds)
        return stream

    async def _secured(self, stream: TcpStream, target: Target, how: UpstreamTls) -> SocketStream:
        seconds = self._limits.handshake_seconds
        try:
            with trio.move_on_after(seconds):
                secured = await handshake(stream, self._steps(stream, target, how))
                self._count(OK)
                return secured
        except NotSecured as failure:
            self._count(failure.reason)
            raise _unreachable("connection_failure", f"TLS: {failure}") from failure
        self._count(Reason.TIMEOUT)
        cause = f"TLS: no handshake with {target.address} within {seconds:g} s"
        raise _unreachable("connection_timeout", cause)

    def _steps(self, stream: TcpStream, target: Target, how: UpstreamTls) -> Steps:
        offers = _OFFERS[target.protocol]
        if how.mode is not TlsMode.ISTIO_MUTUAL:
            return _originated(stream, how, offers)
        if self._identities is None:
            raise NotSecured(Reason.NO_IDENTITY, "ISTIO_MUTUAL needs an identity: --certificates")
        return self._identities.current.connect(stream.socket, how, offers)


def _originated(stream: TcpStream, how: UpstreamTls, offers: list[bytes]) -> Steps:
    from tproxy.tls.origination import originate  # noqa: PLC0415  (OpenSSL takes 11 MiB)

    plain = [offer for offer in offers if offer in (b"h2", b"http/1.1")]
    return originate(stream.socket, how, plain)


def _unreachable(how: str, cause: str) -> UpstreamError:
    details = f"upstream_reset_before_response_started{{{how}}}"
    return UpstreamError(ResponseFlag.UPSTREAM_CONNECT, details, cause=cause)
