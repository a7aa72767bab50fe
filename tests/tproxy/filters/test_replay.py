"""Bodies that are pulled again are what they were, or cannot be pulled again."""

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tproxy.filters.replay import Copy, Replay
from tproxy.model.http import NO_HEADERS, Headers
from tproxy.model.outcome import ProxyError

TRAILERS = Headers(((b"x-sum", b"1"),))


class Parts:
    """A body in several parts. What changes: which are left."""

    def __init__(self, *parts: bytes) -> None:
        self._left = list(parts)
        self.size = 0
        self.failure: ProxyError | None = None

    @property
    def trailers(self) -> Headers:
        return NO_HEADERS if self._left else TRAILERS

    @property
    def ready(self) -> bool:
        return True

    @property
    def ended(self) -> bool:
        return not self._left

    def __aiter__(self) -> "Parts":
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        part = self._left.pop(0)
        self.size += len(part)
        return part


async def some(copy: Copy, parts: int) -> list[bytes]:
    """Pull so many parts, or what there is."""
    pulled: list[bytes] = []
    while len(pulled) < parts and not copy.ended:
        assert copy.ready
        pulled.append(await copy.__anext__())
    return pulled


@pytest.mark.parametrize("first", range(4))
async def test_a_copy_begins_at_the_beginning_however_far_the_one_before_came(first: int) -> None:
    replay = Replay(Parts(b"a", b"b", b"c"), 100)
    assert await some(replay.copy(), first) == [b"a", b"b", b"c"][:first]
    again = replay.copy()
    assert [part async for part in again] == [b"a", b"b", b"c"]
    assert (again.size, again.trailers, again.failure, again.ended) == (3, TRAILERS, None, True)


async def test_what_is_more_than_the_bound_is_kept_no_more() -> None:
    replay = Replay(Parts(b"aa", b"b", b"c"), 3)
    copy = replay.copy()
    assert await some(copy, 2) == [b"aa", b"b"]
    assert replay.possible
    assert await some(copy, 9) == [b"c"]
    assert not replay.possible
    assert replay.recorded == []


async def test_a_copy_that_is_the_last_one_still_has_all_of_it() -> None:
    replay = Replay(Parts(b"a", b"b", b"c"), 100)
    await some(replay.copy(), 2)
    last = replay.copy()
    assert await some(last, 1) == [b"a"]
    replay.settle()
    assert await some(last, 9) == [b"b", b"c"]
    assert replay.recorded == []


class Gate:
    """A body whose next part comes when it is let. What changes: whether it has come, and how many were."""

    def __init__(self, part: bytes) -> None:
        self._part = part
        self.come = trio.Event()
        self.pulls = 0
        self.size = 0
        self.trailers = NO_HEADERS
        self.failure: ProxyError | None = None
        self.ready = False
        self.ended = False

    def __aiter__(self) -> "Gate":
        return self

    async def __anext__(self) -> bytes:
        self.pulls += 1
        await self.come.wait()
        return self._part


async def test_once_another_copy_is_promised_what_was_on_its_way_is_kept_and_no_more_is_pulled() -> (
    None
):
    body = Gate(b"more than the bound")
    replay = Replay(body, 3)
    upload = trio.CancelScope()

    async def sent() -> None:
        with upload:
            async for _ in replay.copy():
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sent)
        await trio.testing.wait_all_tasks_blocked()
        replay.promise()
        body.come.set()
        await trio.testing.wait_all_tasks_blocked()
        assert body.pulls == 1
        upload.cancel()
    assert replay.possible
    again = replay.copy()
    assert await some(again, 1) == [b"more than the bound"]
    await again.__anext__()
    assert (replay.possible, replay.recorded) == (False, [])


async def test_no_promise_makes_a_copy_possible_that_is_not() -> None:
    replay = Replay(Parts(b"aa", b"b", b"c"), 1)
    copy = replay.copy()
    await some(copy, 1)
    replay.promise()
    assert await some(copy, 9) == [b"b", b"c"]
    assert not replay.possible


@given(
    parts=st.lists(st.binary(min_size=1, max_size=4), max_size=8),
    pulls=st.lists(st.integers(0, 9), max_size=4),
    most=st.integers(0, 20),
)
async def test_every_copy_that_is_possible_is_whole(
    parts: list[bytes], pulls: list[int], most: int
) -> None:
    replay = Replay(Parts(*parts), most)
    for pull in pulls:
        if not replay.possible:
            break
        copy = replay.copy()
        pulled = await some(copy, pull)
        assert pulled == parts[:pull]
        assert sum(map(len, replay.recorded)) <= most
        if not replay.possible:
            assert pulled + await some(copy, 99) == parts
