import pytest
import trio
from trio.testing import check_half_closeable_stream

from fakes.streams import MemoryStream, memory_pair


async def test_the_memory_stream_keeps_the_contract_of_trio_streams() -> None:
    async def pair() -> tuple[MemoryStream, MemoryStream]:
        return memory_pair()

    await check_half_closeable_stream(pair, None)


async def test_the_memory_stream_would_always_wait() -> None:
    left, right = memory_pair()
    assert left.try_send(b"x") == 0
    await left.send_all(b"x")
    assert right.try_receive(1) is None
    assert await right.receive_some(1) == b"x"


async def test_a_reset_memory_stream_breaks_the_other_end_after_its_last_bytes() -> None:
    left, right = memory_pair()
    await left.send_all(b"x")
    left.reset()
    assert await right.receive_some() == b"x"
    with pytest.raises(trio.BrokenResourceError):
        await right.receive_some()
