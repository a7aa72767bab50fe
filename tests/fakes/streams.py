"""Two ends of a stream in memory, for tests that need no socket."""

import trio
import trio.testing

from tproxy.net.stream import EagerStream

Stapled = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]


class MemoryStream(EagerStream):
    """One end. What changes: whether it was reset, which the other end then sees; nothing is ever possible at once."""

    def __init__(self, stapled: Stapled) -> None:
        self.stapled = stapled
        self.other: MemoryStream | None = None
        self.was_reset = False

    @property
    def expectant(self) -> bool:
        """Whatever has arrived, it has to be waited for."""
        return True

    def expect(self) -> None:
        """Go on expecting."""

    def try_receive(self, max_bytes: int) -> bytes | None:
        """Answer that it would have to wait, whatever has arrived."""
        assert max_bytes > 0
        return None

    def try_send(self, data: bytes | memoryview) -> int:
        """Answer that it would have to wait."""
        return 0 * len(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for bytes; after the other end's reset, what it sent before and then the error."""
        data = bytes(await self.stapled.receive_some(max_bytes))
        if not data and self.other is not None and self.other.was_reset:
            raise trio.BrokenResourceError("Connection reset by peer")
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Hand all of `data` to the other end, which buffers without bound."""
        await self.stapled.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Return after a turn: memory is never full."""
        await self.stapled.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """End this direction."""
        await self.stapled.send_eof()

    def interrupt(self) -> None:
        """Wake nobody: what stands still in memory is not looked at."""

    def reset(self) -> None:
        """Close so that the other end's receiver sees an error."""
        self.was_reset = True
        self.stapled.send_stream.close()
        self.stapled.receive_stream.close()

    def end(self) -> bool:
        """End this direction."""
        self.stapled.send_stream.close()
        return True

    def close(self) -> None:
        """Close both directions."""
        self.stapled.send_stream.close()
        self.stapled.receive_stream.close()

    async def aclose(self) -> None:
        """Close both directions."""
        await self.stapled.aclose()


def memory_pair() -> tuple[MemoryStream, MemoryStream]:
    """Make two ends of one stream: what is sent on either is received on the other."""
    left, right = (MemoryStream(stapled) for stapled in trio.testing.memory_stream_pair())
    left.other, right.other = right, left
    return left, right
