"""Connections have their bounds, and whoever waits longest comes next."""

import pytest
import trio

from tproxy.model.cluster import Bounds
from tproxy.model.outcome import UpstreamError
from tproxy.stores.rooms import Room, Rooms


async def test_a_cluster_without_a_bound_has_no_room() -> None:
    rooms = Rooms()
    assert rooms.of("a", Bounds()) is None
    assert rooms.waiting("a") == 0
    room = rooms.of("a", Bounds(connections=1))
    assert room is not None
    assert rooms.of("a", Bounds()) is room


async def test_rooms_that_nobody_uses_are_forgotten() -> None:
    rooms = Rooms()
    first, second = (rooms.of(each, Bounds(connections=1)) for each in "ab")
    assert first is not None
    assert second is not None
    await second.enter()
    rooms.of("c", Bounds(connections=1))
    assert rooms.of("a", Bounds(connections=1)) is not first
    rooms.of("d", Bounds(connections=1))
    assert rooms.of("b", Bounds(connections=1)) is second


async def test_places_pass_to_whoever_waits_longest() -> None:
    room, order = Room(Bounds(connections=1, pending=2)), list[int]()
    await room.enter()

    async def wait(number: int) -> None:
        await room.enter()
        order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(2):
            nursery.start_soon(wait, number)
            await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(UpstreamError, match="overflow"):
            await room.enter()
        room.leave()
        await trio.testing.wait_all_tasks_blocked()
        assert (order, room.users, room.waiting) == ([0], 1, 1)
        room.leave()
    assert order == [0, 1]
    room.leave()
    assert room.empty


async def test_whoever_gives_up_waiting_leaves_no_trace() -> None:
    room = Room(Bounds(connections=1, pending=1))
    await room.enter()
    with trio.move_on_after(0):
        await room.enter()
    assert room.waiting == 0
    room.leave()
    assert room.empty


async def test_other_bounds_hold_at_once() -> None:
    room, order = Room(Bounds(connections=1, pending=9)), list[int]()
    await room.enter()

    async def wait(number: int) -> None:
        await room.enter()
        order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(wait, number)
            await trio.testing.wait_all_tasks_blocked()
        room.resize(Bounds(connections=3, pending=9))
        await trio.testing.wait_all_tasks_blocked()
        assert (sorted(order), room.users) == ([0, 1], 3)
        room.resize(Bounds(connections=1, pending=9))
        for _ in range(2):
            room.leave()
        assert (room.users, room.waiting) == (1, 1)
        room.leave()
    assert (sorted(order), room.users) == ([0, 1, 2], 1)


async def test_what_earlier_policies_say_resizes_nothing() -> None:
    rooms = Rooms()
    assert rooms.find("a", Bounds()) is None
    room = rooms.of("a", Bounds(connections=1))
    assert room is not None
    assert rooms.find("a", Bounds(connections=50)) is room
    assert room.bounds == Bounds(connections=1)
