"""Carry a connection as bytes: whatever is not HTTP, or is somebody else's TLS."""

import trio

from tproxy.model.exchange import Exchange
from tproxy.model.outcome import DownstreamError, ProxyError, ResponseFlag, UpstreamError
from tproxy.net.pump import RelayEnd
from tproxy.net.stream import SocketStream
from tproxy.proxy.limited import paced
from tproxy.proxy.runtime import Runtime
from tproxy.stores.journal import Relayed
from tproxy.upstream.reach import Leg

FAILURES = {
    RelayEnd.COMPLETE: None,
    RelayEnd.DOWNSTREAM_BROKE: DownstreamError(
        ResponseFlag.DOWNSTREAM_RESET, "downstream_remote_reset"
    ),
    RelayEnd.UPSTREAM_BROKE: UpstreamError(ResponseFlag.UPSTREAM_RESET, "upstream_remote_reset"),
    RelayEnd.HALTED: None,
}
CUT_OFF = ProxyError(ResponseFlag.NONE, "proxy_left")
"""The proxy's time was over before the connection's."""


async def relay_opaque(downstream: SocketStream, exchange: Exchange, runtime: Runtime) -> None:
    """Carry bytes both ways until both sides have ended; what breaks on one side breaks on the other."""
    traffic = paced(runtime.policies.current.rate_limits, exchange.flow)
    # Before anything is waited for: policies that change meanwhile must find it.
    relay = runtime.register.relaying(exchange.flow, traffic)
    began = trio.current_time()
    failure: ProxyError | None = None
    upstream: SocketStream | None = None
    leg = Leg()
    try:
        upstream = await runtime.reach.connected(exchange, leg)
        runtime.journal.relaying(exchange, upstream.identity)
        conduit = relay.between(downstream, upstream)
        end = await conduit.run(runtime.pipes, runtime.limits)
        failure = relay.ended_by or FAILURES[end]
        if relay.ended_by is not None:
            _reset(downstream, upstream)
    except UpstreamError as error:
        failure = error
        downstream.reset()
    except BaseException:  # cancelled: an end would let what was carried so far pass for all of it
        failure = CUT_OFF
        _reset(downstream, upstream)
        raise
    finally:
        runtime.register.left(relay)
        leg.end()
        runtime.journal.relayed(
            Relayed(
                exchange,
                traffic.received.bytes,
                traffic.sent.bytes,
                trio.current_time() - began,
                failure,
                leg.asked,
                upstream.local if upstream else None,
                upstream.identity if upstream else None,
                leg.secured if upstream else None,
            )
        )
        if upstream is not None:
            upstream.close()


def _reset(*streams: SocketStream | None) -> None:
    for stream in streams:
        if stream is not None:
            stream.reset()
