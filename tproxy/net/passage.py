"""Pass the content of large HTTP/1 responses on inside the kernel, from socket to socket through a pipe.

The rule that must not be broken: **a pipe is empty before anything else is read from its source or written to its
sink**. What is in one counts as pulled. Only what is known to be content passes here: heads, framing, ends and failures
are met where parts are pulled.
"""

from typing import TYPE_CHECKING

import trio

from tproxy.codec.h1_client import Http1Client
from tproxy.codec.h1_server import Http1Server
from tproxy.net.pump import Pipe, Pipes
from tproxy.net.tcp_stream import TcpStream

if TYPE_CHECKING:
    from tproxy.net.http_stream import HttpStream

LEAST_BYTES = 131072
"""What is shorter is as well copied."""
EAGER_MOVES = 4
"""Pipes filled in a row before other tasks get a turn."""


async def pass_content(source: "HttpStream", sink: "HttpStream", pipes: Pipes) -> None:
    """Pass on what can be of the content that `source` is owed, at the pace of both, as if `sink` had pulled it."""
    passage = Passage.between(source, sink)
    if passage is not None:
        try:
            await passage.run(pipes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            sink.connection.deaf = True


class Passage:
    """The way of one response's content. What changes: how far it is, in the codecs at both ends."""

    __slots__ = ("_asked", "_far", "_given", "_near", "_sink", "_source")

    def __init__(
        self,
        source: "HttpStream",
        sink: "HttpStream",
        *,
        far: tuple[TcpStream, Http1Client],
        near: tuple[TcpStream, Http1Server],
    ) -> None:
        self._source = source
        self._sink = sink
        self._far, self._asked = far
        self._near, self._given = near

    @classmethod
    def between(cls, source: "HttpStream", sink: "HttpStream") -> "Passage | None":
        """Find the way between two streams; None where there is none, or little is left."""
        match source.connection.transport, source.connection.codec:
            case TcpStream() as far, Http1Client() as asked if asked.owed >= LEAST_BYTES:
                pass
            case _:
                return None
        match sink.connection.transport, sink.connection.codec:
            case TcpStream() as near, Http1Server() as given if given.owing == asked.owed:
                return cls(source, sink, far=(far, asked), near=(near, given))
        return None

    async def run(self, pipes: Pipes) -> None:
        """Pass on until all has passed, or it takes reading to go on; what breaks the sink is raised."""
        told = False
        while True:
            moves = await self._pass_arrived(pipes)
            # Told of something that does not move: urgent data, at which splice(2) stops for ever.
            if moves is None or (told and not moves):
                return
            self._far.exhausted()
            await self._source.connection.arrived()
            if self._failed:
                return
            told = True

    async def _pass_arrived(self, pipes: Pipes) -> int | None:
        """Pass on what has arrived, and say in how many moves; None where all has, or reading goes on.

        The pipe is lent for just that: who waits for a slow source needs none.
        """
        with pipes.lent() as pipe:
            moves = 0
            while pipe is not None and (owed := self._asked.owed):
                try:
                    moved = self._far.try_splice_to(pipe.write_end, min(owed, pipe.size))
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return None
                except OSError:  # this kernel does not splice sockets
                    pipes.refuse()
                    return None
                if not moved:
                    return None if moved == 0 else moves
                await self._drain(pipe, moved)
                moves += 1
                if moves % EAGER_MOVES == 0:
                    await trio.lowlevel.checkpoint()
        return None

    async def _drain(self, pipe: Pipe, held: int) -> None:
        """Write what the pipe holds."""
        self._source.passed(held)
        end = self._asked.skip(held)
        while held:
            moved = self._near.try_splice_from(pipe.read_end, held)
            held -= moved
            self._given.skip(moved)
            self._sink.sent(moved)
            if not moved:
                await self._sink.connection.roomy()
        if end is not None:
            self._source.tell(end)

    @property
    def _failed(self) -> bool:
        """Whether either end has."""
        ends = self._source, self._sink
        return any(each.failure is not None or each.connection.ended for each in ends)
