import socket
from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fakes.client_hello import extension, hello, message, records, server_name
from fakes.sockets import tcp_pair
from tproxy.model.flow import Detection, Protocol, Sniffed
from tproxy.model.limits import Limits
from tproxy.net.peek import detect
from tproxy.net.tcp_stream import TcpStream

SECONDS, SIZE = Limits().sniff_seconds, Limits().sniff_bytes
TLS = Sniffed(Protocol.TLS, Detection.TLS, "web.example")

OPENINGS = [
    pytest.param(b"GET / HTTP/1.1\r\n", Detection.HTTP11, id="HTTP/1.1"),
    pytest.param(b"GET / HTTP/1.0\r\n", Detection.HTTP10, id="HTTP/1.0"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Detection.H2, id="HTTP/2"),
    pytest.param(hello(server_name(b"web.example")), Detection.TLS, id="TLS"),
    pytest.param(
        records(message(server_name(b"web.example")), size=40),
        Detection.TLS,
        id="TLS in many records",
    ),
    pytest.param(b"EHLO x\r\n", Detection.TCP, id="other text"),
]


@pytest.mark.parametrize(("opening", "expected"), OPENINGS)
async def test_detects_at_once_and_leaves_every_byte(opening: bytes, expected: Detection) -> None:
    left, right = tcp_pair()
    async with left, right:
        left.try_send(opening)
        sniffed, seconds = await detect(right, seconds=SECONDS, size=SIZE)
        assert sniffed.detection is expected
        assert seconds < SECONDS
        assert right.try_receive(9999) == opening


@pytest.mark.parametrize(("opening", "expected"), OPENINGS)
async def test_detects_byte_by_byte_without_spinning(opening: bytes, expected: Detection) -> None:
    left, right = tcp_pair()

    async def trickle() -> None:
        for byte in opening:
            await wait_all_tasks_blocked()  # never, if the one that looks were spinning
            left.try_send(bytes((byte,)))

    async with left, right, trio.open_nursery() as nursery:
        nursery.start_soon(trickle)
        with trio.fail_after(5):
            sniffed, _ = await detect(right, seconds=SECONDS, size=SIZE)
        assert sniffed.detection is expected
        assert right.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
        assert right.try_receive(9999) == opening


@pytest.mark.parametrize("said", [b"", b"GET / HT", hello()[:30]])
async def test_silence_is_a_time_out(said: bytes) -> None:
    left, right = tcp_pair()
    async with left, right:
        left.try_send(said)
        sniffed, seconds = await detect(right, seconds=0.05, size=SIZE)
        assert sniffed == Sniffed(Protocol.OPAQUE, Detection.TIMEOUT)
        assert seconds >= 0.05
        assert (right.try_receive(9999) or b"") == said
        assert right.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


@pytest.mark.parametrize("end", [TcpStream.close, TcpStream.reset])
async def test_an_end_before_any_byte_is_closed(end: Callable[[TcpStream], None]) -> None:
    left, right = tcp_pair()
    async with right:
        end(left)
        sniffed, _ = await detect(right, seconds=SECONDS, size=SIZE)
        assert sniffed == Sniffed(Protocol.OPAQUE, Detection.CLOSED)


@pytest.mark.parametrize("end", [TcpStream.close, TcpStream.reset])
async def test_an_end_after_half_an_opening_is_opaque(end: Callable[[TcpStream], None]) -> None:
    left, right = tcp_pair()
    async with right, trio.open_nursery() as nursery:
        left.try_send(b"GET / HT")
        await right.wait_readable()

        async def end_later() -> None:
            await wait_all_tasks_blocked()
            end(left)

        nursery.start_soon(end_later)
        sniffed, _ = await detect(right, seconds=SECONDS, size=SIZE)
        assert sniffed == Sniffed(Protocol.OPAQUE, Detection.TCP)
        assert right.try_receive(9999) == b"GET / HT"


async def test_a_hello_longer_than_the_bound_is_tls_with_what_is_known() -> None:
    left, right = tcp_pair()
    opening = hello(server_name(b"web.example"), extension(21, bytes(12000)))
    async with left, right:
        left.try_send(opening)
        sniffed, _ = await detect(right, seconds=SECONDS, size=SIZE)
        assert sniffed == TLS


async def test_a_kernel_buffer_smaller_than_the_opening_is_no_deadlock() -> None:
    left, right = tcp_pair()
    right.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
    async with left, right, trio.open_nursery() as nursery:
        nursery.start_soon(left.send_all, b"GET /" + b"q" * 30000)
        with trio.fail_after(5):
            sniffed, _ = await detect(right, seconds=30, size=30000)
        assert sniffed.detection in {Detection.TCP, Detection.HTTP11}
        nursery.cancel_scope.cancel()
