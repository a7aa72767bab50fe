import errno

import pytest
import trio
from trio.testing import assert_checkpoints, check_half_closeable_stream, wait_all_tasks_blocked

from fakes.sockets import send_reset, socket_pair, tcp_pair
from tproxy.model.address import Address
from tproxy.net.tcp_stream import TcpStream


async def clogged_pair() -> tuple[TcpStream, TcpStream]:
    """Make a pair of which neither end can send any more, until the other receives."""
    left, right = tcp_pair()
    await clog(left)
    await clog(right)
    return left, right


async def clog(stream: TcpStream) -> None:
    """Fill the kernel's buffers until they have stopped growing: what fits, and what epoll calls writable, differ."""
    full = False
    while not full:
        while stream.try_send(bytes(1 << 20)):
            pass
        with trio.move_on_after(0.05) as waiting:
            await stream.wait_send_all_might_not_block()
        full = waiting.cancelled_caught and not stream.try_send(b"x")


@pytest.mark.slow
async def test_keeps_the_contract_of_trio_streams() -> None:
    async def pair() -> tuple[TcpStream, TcpStream]:
        return tcp_pair()

    await check_half_closeable_stream(pair, clogged_pair)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_knows_both_ends(host: str) -> None:
    left, right = tcp_pair(host)
    async with left, right:
        assert (left.local, left.peer) == (right.peer, right.local)
        assert left.local.host == host
        assert left.fileno() != -1


async def test_eager_calls_say_when_they_would_wait() -> None:
    left, right = tcp_pair()
    async with left, right:
        assert right.try_receive(10) is None
        assert right.try_peek(10) is None
        assert left.try_send(b"hello") == 5
        await right.wait_readable()
        assert right.try_peek(10) == b"hello"
        assert right.try_receive(4) == b"hell"
        await clog(left)
        assert left.try_send(b"x") == 0
        await left.send_eof()


async def test_the_end_is_empty_bytes_and_stays() -> None:
    left, right = tcp_pair()
    async with left, right:
        await left.send_eof()
        await right.wait_readable()
        assert right.try_receive(10) == b""
        assert right.try_receive(10) == b""
        assert await right.receive_some(10) == b""


async def test_a_reset_breaks_after_what_came_before_it() -> None:
    left, right = tcp_pair()
    async with right:
        left.try_send(b"last words")
        left.reset()
        await right.wait_readable()
        assert right.try_receive(100) == b"last words"
        with pytest.raises(trio.BrokenResourceError) as broken:
            right.try_receive(100)
        assert isinstance(broken.value.__cause__, ConnectionResetError)


async def test_a_reset_that_a_send_found_is_no_end_to_the_receiver() -> None:
    left, right = tcp_pair()
    async with right:
        left.try_send(b"last words")
        left.reset()
        await right.wait_readable()
        with pytest.raises(trio.BrokenResourceError):
            right.try_send(b"x")
        assert right.try_receive(100) == b"last words"
        for look in (right.try_receive, right.try_peek) * 2:
            with pytest.raises(trio.BrokenResourceError):
                look(100)


async def test_a_peer_that_ended_and_takes_no_more_has_still_ended() -> None:
    left, right = tcp_pair()
    async with right:
        left.try_send(b"answer")
        left.close()
        await right.send_all(b"which the peer answers with a reset")
        with pytest.raises(trio.BrokenResourceError) as broken:
            await right.send_all(b"more")
        assert isinstance(broken.value.__cause__, BrokenPipeError)
        assert await right.receive_some(100) == b"answer"
        assert await right.receive_some(100) == b""


async def test_ending_towards_a_peer_that_reset_breaks() -> None:
    left, right = tcp_pair()
    async with right:
        left.reset()
        await right.wait_readable()
        with pytest.raises(trio.BrokenResourceError) as broken:
            await right.send_eof()
        assert isinstance(broken.value.__cause__, OSError)
        assert broken.value.__cause__.errno == errno.ENOTCONN


async def test_closing_twice_and_resetting_afterwards_do_nothing() -> None:
    left, right = tcp_pair()
    await left.aclose()
    left.close()
    left.reset()
    right.reset()
    for use in (lambda: left.try_receive(1), lambda: left.try_send(b"x"), lambda: left.try_peek(1)):
        with pytest.raises(trio.ClosedResourceError):
            use()
    with assert_checkpoints():
        await left.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await left.send_eof()


async def test_eager_calls_refuse_to_get_between_a_waiting_task_and_its_bytes() -> None:
    left, right = tcp_pair()
    await clog(left)
    async with left, right, trio.open_nursery() as nursery:
        nursery.start_soon(left.receive_some)
        nursery.start_soon(left.send_all, b"x")
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            left.try_receive(1)
        with pytest.raises(trio.BusyResourceError):
            left.try_send(b"y")
        with pytest.raises(trio.BusyResourceError):
            await left.send_eof()
        nursery.cancel_scope.cancel()


async def test_wait_all_sent_waits_for_a_peer_that_does_not_read() -> None:
    left, right = tcp_pair()
    async with left, right:
        left.try_send(b"little")
        await left.wait_all_sent()
        await clog(left)
        events: list[str] = []
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                await wait_all_tasks_blocked()
                events.append("reading")
                while True:
                    await right.receive_some()

            nursery.start_soon(read)
            await left.wait_all_sent()
            events.append("all sent")
            nursery.cancel_scope.cancel()
        assert events == ["reading", "all sent"]


async def test_a_raised_mark_lets_less_sleep_and_an_end_wake() -> None:
    left, right = tcp_pair()
    async with left, right:
        left.try_send(b"abc")
        await right.wait_readable()
        right.wake_receiver_at(4)
        with trio.move_on_after(0.05) as asleep:
            await right.wait_readable()
        assert asleep.cancelled_caught
        await left.send_eof()
        with trio.fail_after(5):
            await right.wait_readable()


async def test_a_raised_mark_lets_a_reset_wake() -> None:
    dialled, accepted = socket_pair()
    stream = TcpStream(accepted, Address("127.0.0.1", dialled.getsockname()[1]))
    async with stream:
        stream.wake_receiver_at(4)
        send_reset(dialled)
        with trio.fail_after(5):
            await stream.wait_readable()
        with pytest.raises(trio.BrokenResourceError):
            stream.try_peek(1)


async def test_a_reset_is_known_before_what_was_said_before_it_is_read() -> None:
    dialled, accepted = socket_pair()
    stream = TcpStream(accepted, Address("127.0.0.1", dialled.getsockname()[1]))
    async with stream:
        dialled.sendall(b"last words")
        await stream.wait_readable()
        assert not stream.reset_by_peer
        send_reset(dialled)
        with trio.fail_after(5):
            while not stream.reset_by_peer:  # noqa: ASYNC110
                await trio.sleep(0.01)
