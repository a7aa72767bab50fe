"""Connections that stop being HTTP by an upgrade: bytes both ways, and two ends of their own."""

import pytest
import trio
from h2.settings import SettingCodes

from fakes.path import Path, reset, to_script
from fakes.planned import follow
from fakes.talk import Call
from fakes.talk_h1 import head_of, rest_of
from fakes.talk_h2 import Http2Talk
from tproxy.model.flow import Protocol
from tproxy.model.route import DirectResponse, Plan
from tproxy.net.tcp_stream import TcpStream
from tproxy.resilience.fault import Abort, FaultSpec

ASKING = (
    b"GET /chat HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


async def opened(path: Path) -> TcpStream:
    """Ask for a tunnel and get it."""
    near = path.dial()
    await near.send_all(ASKING)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await near.receive_some(1)
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"upgrade: websocket" in head.lower()
    return near


async def test_a_tunnel_carries_bytes_both_ways() -> None:
    async def script(stream: trio.SocketStream) -> None:
        assert b"upgrade: websocket" in (await head_of(stream)).lower()
        await stream.send_all(SWITCHING)
        while data := await stream.receive_some(65536):
            await stream.send_all(data.upper())
        await stream.aclose()

    async with to_script(script) as path:
        near = await opened(path)
        for _ in range(3):
            await near.send_all(b"hello")
            assert await near.receive_some(65536) == b"HELLO"
        await near.aclose()
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (101, "-")
        assert (line["bytes_received"], line["bytes_sent"]) == (15, 15)


async def test_what_either_side_ends_the_other_may_go_on_from_the_downstream() -> None:
    async def script(stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(SWITCHING)
        heard = await rest_of(stream)
        await stream.send_all(b"heard " + heard)
        await stream.aclose()

    async with to_script(script) as path:
        near = await opened(path)
        await near.send_all(b"all")
        await near.send_eof()
        assert await rest_of(near) == b"heard all"


async def test_what_either_side_ends_the_other_may_go_on_from_the_upstream() -> None:
    heard = b""
    done = trio.Event()

    async def script(stream: trio.SocketStream) -> None:
        nonlocal heard
        await head_of(stream)
        await stream.send_all(SWITCHING + b"bye")
        await stream.send_eof()
        heard = await rest_of(stream)
        done.set()

    async with to_script(script) as path:
        near = await opened(path)
        assert await rest_of(near) == b"bye"
        await trio.testing.wait_all_tasks_blocked(0.01)
        await near.send_all(b"not yet")
        await near.send_eof()
        await done.wait()
        assert heard == b"not yet"
        (line,) = await path.logged()
        assert (line["bytes_received"], line["bytes_sent"]) == (7, 3)


async def test_bytes_that_came_with_the_switch_pass_first() -> None:
    async def script(stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(SWITCHING + b"first")
        assert await stream.receive_some(5) == b"early"
        await stream.aclose()

    async with to_script(script) as path:
        near = path.dial()
        await near.send_all(ASKING + b"early")
        data = await rest_of(near)
        assert data.endswith(b"\r\n\r\nfirst")


async def test_an_upgrade_that_is_declined_leaves_the_connection_http() -> None:
    async def script(stream: trio.SocketStream) -> None:
        for _ in range(2):
            await head_of(stream)
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")

    async with to_script(script) as path:
        near = path.dial()
        for _ in range(2):
            await near.send_all(ASKING)
            data = await head_of(near)
            while not data.endswith(b"no"):
                data += await near.receive_some(65536)
            assert data.startswith(b"HTTP/1.1 200 ")
        assert len(path.origin.accepted) == 1


@pytest.mark.parametrize("by", ["downstream", "upstream"])
async def test_a_tunnel_that_one_side_resets_breaks_on_the_other(by: str) -> None:
    breaking, broken = trio.Event(), trio.Event()

    async def script(stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(SWITCHING)
        if by == "upstream":
            await breaking.wait()
            reset(stream)
            return
        try:
            with pytest.raises(trio.BrokenResourceError):  # an end would say that it was all
                await rest_of(stream)
        finally:
            broken.set()

    async with to_script(script) as path:
        near = await opened(path)
        if by == "upstream":
            breaking.set()
            with pytest.raises(trio.BrokenResourceError):
                await rest_of(near)
        else:
            near.reset()
            await broken.wait()
        (line,) = await path.logged()
        assert line["response_flags"] == ("UC" if by == "upstream" else "DC")


async def test_a_websocket_over_http2_ends_both_its_ways_apart() -> None:
    async def script(stream: trio.SocketStream) -> None:
        talk = Http2Talk(stream, client=False, settings={SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})

        async def app(call: Call) -> None:
            await call.say(200, [])
            await call.end()
            while await call.part():
                pass
            heard.append(call.heard.body)
            done.set()

        await talk.serve(app)

    heard: list[bytes] = []
    done = trio.Event()
    async with to_script(script, Protocol.HTTP2) as path:
        talk = path.talk()
        assert isinstance(talk, Http2Talk)
        call = await talk.call()
        await call.say((b"CONNECT", b"/chat"), [(b":protocol", b"websocket")])
        assert (await call.head()).start == 200
        assert await call.part() == b""
        await call.send(b"still here")
        await call.end()
        await done.wait()
        assert heard == [b"still here"]


async def test_a_websocket_of_http1_becomes_one_of_http2() -> None:
    async def script(stream: trio.SocketStream) -> None:
        talk = Http2Talk(stream, client=False, settings={SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})

        async def app(call: Call) -> None:
            assert (await call.head()).start == (b"CONNECT", b"/chat")
            await call.say(200, [])
            while part := await call.part():
                await call.send(part.upper())
            await call.end()

        await talk.serve(app)

    async with to_script(script, Protocol.HTTP1, upstream=Protocol.HTTP2) as path:
        near = await opened(path)
        await near.send_all(b"hello")
        assert await near.receive_some(65536) == b"HELLO"
        await near.send_eof()
        assert await rest_of(near) == b""


async def test_a_websocket_of_http2_becomes_one_of_http1() -> None:
    async def script(stream: trio.SocketStream) -> None:
        assert b"upgrade: websocket" in (await head_of(stream)).lower()
        await stream.send_all(SWITCHING)
        while data := await stream.receive_some(65536):
            await stream.send_all(data.upper())
        await stream.aclose()

    async with to_script(script, Protocol.HTTP2, upstream=Protocol.HTTP1) as path:
        call = await path.talk().call()
        await call.say((b"CONNECT", b"/chat"), [(b":protocol", b"websocket")])
        assert (await call.head()).start == 200
        await call.send(b"hello")
        assert await call.part() == b"HELLO"
        await call.end()
        assert await call.part() == b""


@pytest.mark.parametrize(
    ("plan", "status"),
    [
        pytest.param(Plan(answer=DirectResponse(200, b"hello")), b"501", id="an answer"),
        pytest.param(
            Plan(fault=FaultSpec("f", abort=Abort(grpc_status=14, percent=100.0))),
            b"503",
            id="a fault with a status of gRPC",
        ),
        pytest.param(
            Plan(fault=FaultSpec("f", abort=Abort(200, percent=100.0))),
            b"503",
            id="a fault with a status of HTTP",
        ),
    ],
)
@pytest.mark.parametrize(
    "grpc", [b"", b"Content-Type: application/grpc\r\n"], ids=["plain", "grpc"]
)
async def test_what_the_proxy_answers_by_itself_looks_like_no_open_tunnel(
    plan: Plan, status: bytes, grpc: bytes
) -> None:
    async def script(_: trio.SocketStream) -> None:
        """Be asked by nobody."""

    async with to_script(script) as path:
        follow(path, plan)
        near = path.dial()
        asking = b"CONNECT shop:443 HTTP/1.1\r\nHost: shop:443\r\n%s\r\n" % grpc
        await near.send_all(asking)
        assert (await head_of(near)).startswith(b"HTTP/1.1 %s " % status)
        assert path.origin.accepted == []
