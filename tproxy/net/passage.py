"""Pass large content of HTTP/1 messages on inside the kernel, from socket to socket through a pipe.

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

Counted = Http1Client | Http1Server
"""Codecs whose content stands apart from its framing."""


async def pass_content(source: "HttpStream", sink: "HttpStream", pipes: Pipes) -> None:
    """Pass on what can be of the content that `source` is owed, at the pace of both, as if `sink` had pulled it."""
    passage = Passage.between(source, sink)
    if passage is not None:
        try:
            await passage.run(pipes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            sink.connection.deaf = True


class Passage:
    """The way of one message's content. What changes: how far it is, in the codecs at both ends."""

    __slots__ = ("_from", "_reader", "_sink", "_source", "_to", "_writer")

    def __init__(
        self,
        source: "HttpStream",
        sink: "HttpStream",
        *,
        reading: tuple[TcpStream, Counted],
        writing: tuple[TcpStream, Counted],
    ) -> None:
        self._source = source
        self._sink = sink
        self._from, self._reader = reading
        self._to, self._writer = writing

    @classmethod
    def between(cls, source: "HttpStream", sink: "HttpStream") -> "Passage | None":
        """Find the way between two streams; None where there is none, or little is left."""
        reading, writing = _counted(source), _counted(sink)
        if reading is None or writing is None:
            return None
        owed = reading[1].owed
        if owed < LEAST_BYTES or writing[1].owing != owed:
            return None
        return cls(source, sink, reading=reading, writing=writing)

    async def run(self, pipes: Pipes) -> None:
        """Pass on until all has passed, or it takes reading to go on; what breaks the sink is raised."""
        told = False
        while True:
            moves = await self._pass_arrived(pipes)
            # Told of something that does not move: urgent data, at which splice(2) stops for ever.
            if moves is None or (told and not moves):
                return
            self._from.exhausted()
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
            while pipe is not None and (owed := self._reader.owed):
                try:
                    moved = self._from.try_splice_to(pipe.write_end, min(owed, pipe.size))
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
        end = self._reader.skip_received(held)
        while held:
            moved = self._to.try_splice_from(pipe.read_end, held)
            held -= moved
            self._writer.skip_sent(moved)
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


def _counted(stream: "HttpStream") -> tuple[TcpStream, Counted] | None:
    """Give the socket and the codec of a stream whose content could be told from its framing."""
    match stream.connection.transport, stream.connection.codec:
        case TcpStream() as transport, (Http1Client() | Http1Server()) as codec:
            return transport, codec
    return None
