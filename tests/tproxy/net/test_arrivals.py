"""Whoever waits for bytes is woken by them, once and for good, and by nobody else's."""

import os
import socket

import pytest
import trio

from fakes.sockets import socket_pair, tcp_pair
from tproxy.model.address import Address
from tproxy.net.arrivals import Arrivals
from tproxy.net.tcp_stream import TcpStream


async def told() -> None:
    """Give the kernel's news the time to arrive."""
    await trio.testing.wait_all_tasks_blocked(0.01)


async def test_a_reader_that_waits_gets_what_comes() -> None:
    near, far = tcp_pair()
    async with near, far, trio.open_nursery() as nursery:
        got: list[bytes] = []

        async def read() -> None:
            got.append(await far.receive_some(100))

        for word in (b"one", b"two"):
            nursery.start_soon(read)
            await told()
            await near.send_all(word)
            await told()
    assert got == [b"one", b"two"]


async def test_what_was_left_is_read_without_being_told_again() -> None:
    near, far = tcp_pair()
    async with near, far:
        await near.send_all(b"abcdef")
        assert await far.receive_some(4) == b"abcd"
        await told()
        assert far.try_receive(4) == b"ef"
        assert far.try_receive(4) is None


async def test_the_kernel_is_not_asked_before_it_tells() -> None:
    near, far = tcp_pair()
    async with near, far:
        await near.send_all(b"x")
        assert await far.receive_some(100) == b"x"
        assert not far.expectant
        near.socket.send(b"y")
        assert far.try_receive(100) is None
        await told()
        assert far.expectant
        assert far.try_receive(100) == b"y"


async def test_whoever_must_know_can_ask_before_it_tells() -> None:
    near, far = tcp_pair()
    async with near, far:
        await near.send_all(b"x")
        await far.receive_some(100)
        near.socket.send(b"y")
        far.expect()
        assert far.try_receive(100) == b"y"


async def test_sockets_are_told_of_even_without_the_instrument() -> None:
    near, far = tcp_pair()
    async with near, far:
        far.arrival()
        await told()
        # As trio does with one that has failed.
        trio.lowlevel.remove_instrument(Arrivals.of_this_run())
        near.socket.send(b"x")
        assert await far.receive_some(100) == b"x"
        await told()
        near.socket.send(b"y")
        assert await far.receive_some(100) == b"y"


@pytest.mark.parametrize("size", [4, 100], ids=["a full read", "a read that is not full"])
async def test_an_end_told_together_with_bytes_is_not_forgotten(size: int) -> None:
    near, far = tcp_pair()
    async with near, far:
        far.arrival()
        await near.send_all(b"last")
        await near.send_eof()
        await told()
        assert await far.receive_some(size) == b"last"
        assert far.try_receive(size) == b""
        assert await far.receive_some(size) == b""


async def test_a_reset_behind_bytes_is_told_after_them() -> None:
    near, far = tcp_pair()
    async with far:
        far.arrival()
        await near.send_all(b"last")
        await told()
        assert await far.receive_some(100) == b"last"
        near.reset()
        with pytest.raises(trio.BrokenResourceError):
            await far.receive_some(100)


async def test_a_number_that_is_used_again_belongs_to_its_new_connection() -> None:
    near, far = tcp_pair()
    far.arrival()
    number = far.fileno()
    near.socket.send(b"for the first")
    dialled, accepted = socket_pair()
    far.close()
    os.dup2(accepted.fileno(), number)
    accepted.close()
    again = TcpStream(socket.socket(fileno=number), Address("127.0.0.1", 1))
    async with near, again, trio.open_nursery() as nursery:
        got: list[bytes] = []

        async def read() -> None:
            got.append(await again.receive_some(100))

        nursery.start_soon(read)
        await told()
        assert got == []
        dialled.send(b"for the second")
    assert got == [b"for the second"]
    dialled.close()


async def test_a_reader_is_woken_when_its_stream_is_closed_and_only_one_may_wait() -> None:
    near, far = tcp_pair()
    async with near, trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await far.receive_some(100)

        nursery.start_soon(read)
        await told()
        with pytest.raises(trio.BusyResourceError):
            await far.receive_some(100)
        far.close()


async def test_a_reader_that_gave_up_takes_nothing_along() -> None:
    near, far = tcp_pair()
    async with near, far:
        with trio.move_on_after(0.01) as scope:
            await far.receive_some(100)
        assert scope.cancelled_caught
        await near.send_all(b"still here")
        assert await far.receive_some(100) == b"still here"


async def test_a_read_stops_in_front_of_urgent_data_and_the_next_one_goes_on() -> None:
    near, far = tcp_pair()
    async with near, far:
        far.arrival()
        near.socket.send(b"before")
        near.socket.send(b"!", socket.MSG_OOB)
        near.socket.send(b"after")
        await told()
        got = b""
        while len(got) < len(b"before!after"):
            got += await far.receive_some(100)
        assert got == b"before!after"
