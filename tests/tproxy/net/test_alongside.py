"""Two things at once, of which each ends the other, and neither is told in a group."""

import pytest
import trio

from tproxy.model.outcome import UpstreamError, downstream_gone, upstream_gone
from tproxy.net.alongside import alongside


async def for_ever() -> None:
    """Work without end."""
    await trio.sleep_forever()


async def failing() -> None:
    """Fail as a peer would have it."""
    await trio.lowlevel.checkpoint()
    raise downstream_gone()


async def test_the_work_ends_with_the_block() -> None:
    ended: list[bool] = []

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(True)

    async with alongside() as start:
        start(work)
        await trio.testing.wait_all_tasks_blocked()
    assert ended == [True]


async def test_the_block_can_wait_for_the_work() -> None:
    async with alongside() as start:
        await start(trio.lowlevel.checkpoint).wait()


async def test_work_that_is_cancelled_is_done() -> None:
    async with alongside() as start:
        work = start(for_ever)
        work.cancel()
        await work.wait()


async def test_a_failure_of_the_block_comes_out_as_itself() -> None:
    error = upstream_gone(response_begun=False)

    async def block() -> None:
        async with alongside() as start:
            start(for_ever)
            raise error

    with pytest.raises(UpstreamError) as caught:
        await block()
    assert caught.value is error


async def test_a_failure_of_the_work_ends_the_block_and_comes_out_as_itself() -> None:
    async def block() -> None:
        async with alongside() as start:
            start(failing)
            await trio.sleep_forever()

    with pytest.raises(type(downstream_gone())):
        await block()
