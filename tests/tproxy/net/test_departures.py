"""Peers that leave are noticed though nobody reads from them, and nobody else is taken for them."""

import pytest
import trio

from fakes.sockets import tcp_pair
from tproxy.net.departures import Departures


class Told:
    """What was told."""

    def __init__(self) -> None:
        self.resets: list[bool] = []

    def __call__(self, *, reset: bool) -> None:
        self.resets.append(reset)


async def test_an_end_and_a_reset_are_told_apart_and_once() -> None:
    departures = Departures()
    ended, broken = tcp_pair(), tcp_pair()
    end, reset = Told(), Told()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(departures.run)
        with departures.watched(ended[1], end), departures.watched(broken[1], reset):
            await trio.testing.wait_all_tasks_blocked()
            assert end.resets == reset.resets == []
            await ended[0].send_eof()
            broken[0].reset()
            await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()
    assert (end.resets, reset.resets) == ([False], [True])
    for stream in (*ended, *broken):
        stream.close()


async def test_an_end_behind_bytes_is_told_once_they_have_been_read(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    departures, told = Departures(), Told()
    near, far = tcp_pair()
    async with near, far, trio.open_nursery() as nursery:
        nursery.start_soon(departures.run)
        with departures.watched(far, told):
            await near.send_all(b"wait, there is more")
            await near.send_eof()
            await trio.sleep(5)
            assert told.resets == []
            await far.receive_some(100)
            await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert told.resets == [False]


@pytest.mark.parametrize(
    "ends", [pytest.param(False, id="at once"), pytest.param(True, id="after an end")]
)
async def test_a_reset_behind_bytes_is_told_at_once(*, ends: bool) -> None:
    departures, told = Departures(), Told()
    near, far = tcp_pair()
    async with near, far, trio.open_nursery() as nursery:
        nursery.start_soon(departures.run)
        with departures.watched(far, told):
            await near.send_all(b"wait, there is more")
            if ends:
                await near.send_eof()
                await trio.testing.wait_all_tasks_blocked(0.01)
            near.reset()
            await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()
    assert told.resets == [True]


async def test_a_stream_that_is_closed_with_bytes_unread_is_not_told_of(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    departures, told = Departures(), Told()
    near, far = tcp_pair()
    async with near, trio.open_nursery() as nursery:
        nursery.start_soon(departures.run)
        with departures.watched(far, told):
            await near.send_all(b"wait, there is more")
            await near.send_eof()
            await trio.sleep(5)
            far.close()
            await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert told.resets == []


async def test_a_descriptor_that_is_used_again_is_another_connection() -> None:
    departures, first, second = Departures(), Told(), Told()
    near, far = tcp_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(departures.run)
        watched = departures.watched(far, first)
        with watched:
            number = far.fileno()
            far.close()
            other_near, other_far = tcp_pair()
            if other_near.fileno() == number:
                other_near, other_far = other_far, other_near
            again = departures.watched(other_far, second)
            again.__enter__()
        other_near.close()
        await trio.testing.wait_all_tasks_blocked(0.01)
        again.__exit__(None, None, None)
        nursery.cancel_scope.cancel()
    assert (other_far.fileno(), first.resets, second.resets) == (number, [], [False])
    for stream in (near, other_far):
        stream.close()
