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
    async with alongside(for_ever) as done:
        assert not done.is_set()


async def test_the_block_can_wait_for_the_work() -> None:
    async with alongside(trio.lowlevel.checkpoint) as done:
        await done.wait()


async def test_a_failure_of_the_block_comes_out_as_itself() -> None:
    error = upstream_gone(response_begun=False)
    with pytest.raises(UpstreamError) as caught:
        async with alongside(for_ever):
            raise error
    assert caught.value is error


async def test_a_failure_of_the_work_ends_the_block_and_comes_out_as_itself() -> None:
    with pytest.raises(type(downstream_gone())):
        async with alongside(failing):
            await trio.sleep_forever()
