import logging
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from fakes.sockets import listening_at, open_descriptors
from tproxy.model.address import Address
from tproxy.model.outcome import UpstreamError
from tproxy.net.dial import dial
from tproxy.net.listener import (
    LAST_CALL_SECONDS,
    Listener,
    Options,
    Slots,
    listen_everywhere,
    listen_on_loopback,
)
from tproxy.net.tcp_stream import TcpStream


async def echo_once(stream: TcpStream) -> None:
    """Send back the first bytes."""
    await stream.send_all(await stream.receive_some())


async def ask(address: Address) -> bytes:
    """Dial, say hello and give back the answer."""
    async with await dial(address) as stream:
        await stream.send_all(b"hello")
        with trio.fail_after(5):
            return await stream.receive_some()


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Let the process open nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_loopback_is_both_families_on_one_port() -> None:
    listener = Listener(listen_on_loopback(0), echo_once, slots=Slots(9))
    ipv4, ipv6 = listener.addresses
    assert (ipv4.host, ipv6.host, ipv4.port) == ("127.0.0.1", "::1", ipv6.port)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve)
        assert [await ask(ipv4), await ask(ipv6)] == [b"hello", b"hello"]
        nursery.cancel_scope.cancel()


async def test_everywhere_is_one_socket_for_both_families() -> None:
    listener = Listener(listen_everywhere(0), echo_once, slots=Slots(9))
    (address,) = listener.addresses
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve)
        for host in ("127.0.0.1", "::1"):
            assert await ask(Address(host, address.port)) == b"hello"
        nursery.cancel_scope.cancel()


def test_a_port_in_use_is_an_error_and_leaks_nothing() -> None:
    with listening_at("127.0.0.1") as taken:
        port = taken.getsockname()[1]
        before = open_descriptors()
        with pytest.raises(OSError, match="in use"):
            listen_on_loopback(port)
        with pytest.raises(OSError, match="in use"):
            listen_everywhere(port)
        assert open_descriptors() == before


def test_sockets_that_share_a_port_stand_beside_each_other() -> None:
    shared = Options(shared=True)
    with listen_everywhere(0, shared)[0] as first:
        port = first.getsockname()[1]
        with listen_everywhere(port, shared)[0] as second:
            assert second.getsockname()[1] == port
        with pytest.raises(OSError, match="in use"):
            listen_everywhere(port)


def test_a_port_in_use_on_ipv6_alone_is_an_error_too() -> None:
    with listening_at("::1") as taken:
        before = open_descriptors()
        with pytest.raises(OSError, match="in use"):
            listen_on_loopback(taken.getsockname()[1])
        assert open_descriptors() == before


async def test_a_mistake_ends_one_connection_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mistakes = iter([True, False])

    async def err_once(stream: TcpStream) -> None:
        assert not next(mistakes), "ours"
        await echo_once(stream)

    listener = Listener([listening_at("127.0.0.1")], err_once, slots=Slots(1))
    (address,) = listener.addresses
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve)
        async with await dial(address) as unlucky:
            assert await unlucky.receive_some() == b""
        assert await ask(address) == b"hello"
        nursery.cancel_scope.cancel()
    assert ["ended by a mistake" in record.message for record in caplog.records] == [True]


async def test_connections_beyond_the_slots_wait_until_one_ends() -> None:
    alive: list[TcpStream] = []
    most = 0

    async def count(stream: TcpStream) -> None:
        nonlocal most
        alive.append(stream)
        most = max(most, len(alive))
        await echo_once(stream)
        alive.remove(stream)

    listener = Listener([listening_at("127.0.0.1")], count, slots=Slots(2))
    (address,) = listener.addresses
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve)
        async with trio.open_nursery() as dialling:
            for _ in range(20):
                dialling.start_soon(ask, address)
        nursery.cancel_scope.cancel()
    assert most == 2


async def test_connections_beyond_the_slots_are_told_so_while_those_within_go_on() -> None:
    async def refuse(stream: TcpStream) -> None:
        await stream.send_all(b"full")

    slots = Slots(1, turned_away=1)
    listener = Listener([listening_at("127.0.0.1")], echo_once, slots=slots, turn_away=refuse)
    (address,) = listener.addresses
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve)
        async with await dial(address) as within:
            assert [await ask(address) for _ in range(3)] == [b"full"] * 3
            await within.send_all(b"within")
            assert await within.receive_some() == b"within"
        assert await ask(address) == b"hello"
        nursery.cancel_scope.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_what_was_dialled_before_the_stop_is_accepted_and_nothing_after_it(host: str) -> None:
    free = trio.Event()

    async def wait(stream: TcpStream) -> None:
        await free.wait()
        await echo_once(stream)

    listener = Listener([listening_at(host)], wait, slots=Slots(99))
    (address,) = listener.addresses
    dialled = [await dial(address) for _ in range(50)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve)
        listener.stop()
        with trio.move_on_after(0.5) as patience, pytest.raises(UpstreamError):
            await dial(address)
        assert patience.cancelled_caught, "its handshake has not even begun"
        free.set()
        for stream in dialled:
            async with stream:
                await stream.send_all(b"hello")
                assert await stream.receive_some() == b"hello"
    with pytest.raises(UpstreamError):
        await dial(address)


async def test_a_socket_that_a_worker_stopped_is_its_successors() -> None:
    listening = listening_at("127.0.0.1")
    kept = listening.dup()
    first = Listener([listening], echo_once, slots=Slots(9))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.serve)
        first.stop()
    second = Listener([kept], echo_once, slots=Slots(9))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(second.serve)
        assert await ask(second.addresses[0]) == b"hello"
        nursery.cancel_scope.cancel()


async def test_stop_closes_the_sockets_and_lets_connections_go_on() -> None:
    before = open_descriptors()
    listener = Listener(listen_on_loopback(0), echo_once, slots=Slots(9))
    address, _ = listener.addresses
    served = trio.Event()

    async def serve() -> None:
        await listener.serve()
        served.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        async with await dial(address) as live:
            await trio.testing.wait_all_tasks_blocked(0.01)
            listener.stop()
            await trio.sleep(LAST_CALL_SECONDS)
            await trio.testing.wait_all_tasks_blocked()
            with socket.socket() as late:
                assert late.connect_ex((address.host, address.port)) != 0
            assert not served.is_set()
            await live.send_all(b"still")
            assert await live.receive_some() == b"still"
    assert served.is_set()
    assert open_descriptors() == before


@pytest.mark.slow
async def test_without_descriptors_connections_wait_and_it_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listener = Listener([listening_at("127.0.0.1")], echo_once, slots=Slots(9))
    (address,) = listener.addresses
    async with await dial(address) as early, trio.open_nursery() as nursery:
        await early.send_all(b"early")
        with no_more_descriptors():
            nursery.start_soon(listener.serve)
            await trio.sleep(0.25)
        assert await early.receive_some() == b"early"
        nursery.cancel_scope.cancel()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "Too many open files" in caplog.text
