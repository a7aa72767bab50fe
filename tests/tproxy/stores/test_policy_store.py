"""A swap is seen at once, and wakes whoever must decide again."""

import trio
from trio.testing import wait_all_tasks_blocked

from tproxy.policy.snapshot import Snapshot
from tproxy.stores.policy_store import PolicyStore


def test_current_is_the_last_snapshot_put_in_force() -> None:
    store = PolicyStore(Snapshot(1))
    taken = store.current
    store.swap(Snapshot(2))

    assert (taken.generation, store.current.generation) == (1, 2)


async def test_every_swap_wakes_those_who_wait_for_it_once() -> None:
    store = PolicyStore(Snapshot(1))
    seen: list[int] = []

    async def watch() -> None:
        while store.current.generation < 3:
            await store.superseded()
            seen.append(store.current.generation)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        nursery.start_soon(watch)
        await wait_all_tasks_blocked()
        assert seen == []
        store.swap(Snapshot(2))
        await wait_all_tasks_blocked()
        assert seen == [2, 2]
        store.swap(Snapshot(3))

    assert seen == [2, 2, 3, 3]
