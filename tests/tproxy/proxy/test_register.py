"""A drain reaches those that it should, and knows when it is over."""

import trio

from fakes.sockets import tcp_pair
from tproxy.codec.h1 import Http1Server
from tproxy.model.address import Address
from tproxy.model.flow import Direction, Flow
from tproxy.model.http import Request, Response
from tproxy.model.limits import Limits
from tproxy.model.outcome import overloaded
from tproxy.net.http_connection import HttpConnection
from tproxy.net.pump import Pipes, RelayEnd, Traffic
from tproxy.net.tcp_stream import TcpStream
from tproxy.proxy.http_server import HttpServer
from tproxy.proxy.register import Register

LIMITS = Limits()


async def nobody(_: Request) -> Response:
    """Be the handler of a server that nobody asks anything."""
    raise AssertionError


async def serve(register: Register, direction: Direction, far: TcpStream) -> None:
    """Serve one connection, as the path does."""
    server = HttpServer(HttpConnection(far, Http1Server(LIMITS), LIMITS), nobody, LIMITS)
    with register.connection(direction), register.serving(server, direction):
        await server.run()


async def test_only_inbound_peers_are_told_to_leave(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    register = Register()
    pairs = {direction: tcp_pair() for direction in Direction}
    async with trio.open_nursery() as nursery:
        for direction, (_, far) in pairs.items():
            nursery.start_soon(serve, register, direction, far)
        await trio.testing.wait_all_tasks_blocked()
        register.leave(Direction.INBOUND)
        inbound, outbound = pairs[Direction.INBOUND][0], pairs[Direction.OUTBOUND][0]
        assert await inbound.receive_some(1) == b""
        assert outbound.try_receive(1) is None
        inbound.close()
        outbound.close()


async def test_it_is_empty_when_the_last_connection_has_ended() -> None:
    register = Register()
    await register.emptied(*Direction)
    order: list[str] = []

    async def wait() -> None:
        await register.emptied(*Direction)
        order.append("emptied")

    async with trio.open_nursery() as nursery:
        with register.connection(Direction.INBOUND):
            nursery.start_soon(wait)
            with register.connection(Direction.OUTBOUND):
                await register.emptied()
                assert register.open == 2
            await trio.testing.wait_all_tasks_blocked()
            order.append("last")
    assert order == ["last", "emptied"]


async def test_a_connection_that_is_to_end_before_its_upstream_is_reached_carries_no_byte() -> None:
    register, here = Register(), Address("192.0.2.1", 80)
    relay = register.relaying(Flow(Direction.INBOUND, here, here, here), Traffic())
    (near, downstream), (upstream, far) = tcp_pair(), tcp_pair()
    async with near, downstream, upstream, far:
        await near.send_all(b"too early")
        (found,) = register.relays
        found.end(overloaded())
        end = await relay.between(downstream, upstream).run(Pipes(), LIMITS)
        assert (end, relay.progress) == (RelayEnd.HALTED, 0)
    register.left(relay)
    assert not register.relays
