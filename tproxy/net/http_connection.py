"""Drive a codec over a stream: one driver for both HTTP versions and both sides.

The rule that must not be broken: **whoever waits for an event and finds nobody reading, reads for all**, and hands
the seat on when it has what it waited for. So a connection needs no task of its own; an HTTP/1 exchange stays in one
task from its first byte to its last; and a reader never waits for another stream's consumer, because what a consumer
has not pulled is bounded by the window that the codec granted.

Writing is shared likewise: bytes leave in the order in which the codec gave them, whichever task happens to write
them, and a task that is cancelled while the socket is full leaves the rest for the next one. Whoever reads an answer
does not wait for room to write: the peer may not read before it has written, and both would wait for ever.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Collection
from time import perf_counter

import trio

from tproxy.codec.codec import Codec
from tproxy.codec.events import (
    Data,
    Ended,
    Event,
    Failed,
    Informed,
    Leaving,
    Refused,
    RequestStarted,
    ResponseStarted,
    Room,
)
from tproxy.model.limits import Limits
from tproxy.model.outcome import ProxyError, upstream_gone
from tproxy.net.bell import Bell
from tproxy.net.http_stream import HttpStream
from tproxy.net.pump import Pipes
from tproxy.net.stream import EagerStream, SocketStream

EAGER_READS = 16
"""Reads in a row that found bytes waiting before other tasks get a turn: a busy peer must not starve the rest."""

FIRST_READ_BYTES = 4096
"""Reads begin with so much: a head fits, and of what is costly to read not too much."""

LEAST_READ_BYTES = 512
NOTHING = memoryview(b"")
SHED_BYTES = 4096
"""Less is not worth a copy of what is left."""

LONG_TURN = 0.002
"""Seconds that one read may keep the others waiting; after one that took longer, less is read."""


class HttpConnection:
    """One HTTP connection, either side. What changes: its streams, who reads, what is not written yet."""

    def __init__(self, transport: EagerStream, codec: Codec, limits: Limits) -> None:
        self.transport = transport
        self.codec = codec
        self.pipes: Pipes | None = None
        """Through what content may pass inside the kernel, in either direction; None where it does not (server side)."""
        self._limits = limits
        self._streams: dict[int, HttpStream] = {}
        self._opened: deque[HttpStream] = deque()
        self.deaf = False
        """The peer takes no more bytes. It may still have said something: an early response, or why."""
        self.progress = 0
        """Bytes written."""
        self.on_refused: Callable[[ProxyError], None] = _nobody_counts
        """Called for each request that the codec refused, alone or with the whole connection left as it was."""
        self.error: ProxyError | None = None
        """What ended the connection, if the peer's mistake did."""
        self._ended = False
        self._reading = False
        self._interrupted = False
        self._parked: dict[Bell, None] = {}
        self._unsent: memoryview = NOTHING
        """What the socket has not taken yet of what was written."""
        self._awaits_socket = False
        self._awaits_writer = trio.lowlevel.ParkingLot()
        self._eager = 0
        self._read_bytes = min(FIRST_READ_BYTES, limits.part_bytes)

    @property
    def reusable(self) -> bool:
        """Whether one more request can be carried."""
        # To the codec, those whose content nobody has pulled yet are over.
        if self._ended or self.error is not None:
            return False
        return len(self._streams) < self._limits.streams and self.codec.reusable

    @property
    def streams(self) -> Collection[HttpStream]:
        """The exchanges that are open."""
        return self._streams.values()

    @property
    def blocked(self) -> bool:
        """Whether something waits to be written, and may still be."""
        return (bool(self._unsent) or self._awaits_socket) and not self.ended

    @property
    def ended(self) -> bool:
        """Whether no event will come any more."""
        return self._ended or self.error is not None

    async def accept(self) -> HttpStream | None:
        """Wait for the next request (server side); None when none will come.

        With several streams at once the accepting task keeps the reader's seat for good, so that no other is woken
        only to find it taken again. A ProxyError is what the peer did wrong; the parting words are already written.
        """
        self._reading = self.codec.multiplexed
        while (stream := self._next_opened()) is None:
            self.resume()
            if self._opened:
                continue
            if self.error is not None:
                raise self.error.again()
            if self._ended or self.codec.finished:
                return None
            await self._receive()
            # A peer that does not read its answers is not asked for more requests.
            if self._unsent:
                await self.flush()
        return stream

    def _next_opened(self) -> HttpStream | None:
        """Take the next request that still wants an answer: one taken back at once must not cost more than it did."""
        while self._opened:
            stream = self._opened.popleft()
            if stream.failure is None:
                return stream
            self.on_refused(stream.failure)
            stream.release()
        return None

    async def greeted(self) -> None:
        """Wait until the peer has said what it takes, if its version has that: no request before (client side)."""
        await self.flush()
        while not self.codec.reusable:
            if self.ended:
                raise self._parting()
            await self._receive()

    def _parting(self) -> ProxyError:
        """Build the error for whom the connection's end leaves without a stream (client side)."""
        return self.error.again() if self.error else upstream_gone(response_begun=False)

    def open(self) -> HttpStream:
        """Open a stream for one more request (client side)."""
        stream = HttpStream(self, self.codec.next_stream())
        self._streams[stream.number] = stream
        return stream

    def alive(self, *, look: bool = False) -> bool:
        """Take what has arrived on an idle connection and say whether it can still be used (client side).

        An end may stand behind other news: HTTP/2 peers ping and widen windows before they go. With `look` the kernel
        is asked what nobody has been told yet.
        """
        if look:
            self.transport.expect()
        if self._reading or not self.transport.expectant:
            return self.reusable
        for _ in range(EAGER_READS):
            if not (self.reusable and self._take_arrived()):
                break
        self.try_flush()
        return self.reusable

    def _take_arrived(self) -> bool:
        """Take one read's worth without waiting; False when there is nothing."""
        try:
            data = self.transport.try_receive(self._limits.part_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._lose()
            return False
        if data is not None:
            self._take(data)
        return data is not None

    def resume(self) -> None:
        """Take what became due without new bytes (server side)."""
        if events := self.codec.resume():
            self._deliver(events)

    async def until(self, bell: Bell, ready: Callable[[], bool]) -> None:
        """Wait until `ready()`, reading for everybody unless another task does; `bell` tells when to look again."""
        try:
            while not ready():
                if self._reading:
                    await self.park(bell)
                    continue
                self._reading = True
                try:
                    while True:
                        await self._receive()
                        if ready():
                            return
                finally:
                    self._reading = False
        finally:
            if self._parked:
                self._offer_seat()

    async def flush(self) -> None:
        """Write everything that the codec has to say, for whichever stream."""
        while not self.try_flush():
            await self._writable()

    def try_flush(self) -> bool:
        """Write what the socket takes now, and say whether that was everything."""
        while data := self._unsent or self.codec.outbox():
            sent = self._try_send(data)
            self.progress += sent
            if sent == len(data):
                self._unsent = NOTHING
            else:
                self._keep(data, sent)
                if not sent:
                    return False
        return True

    def _keep(self, data: bytes | memoryview, sent: int) -> None:
        """Keep what the socket did not take, without what it took: whoever does not read may leave it so for long."""
        rest = memoryview(data)[sent:]
        held = rest.obj
        assert isinstance(held, bytes), "what was written is bytes"
        self._unsent = memoryview(bytes(rest)) if len(held) > len(rest) + SHED_BYTES else rest

    async def arrived(self) -> None:
        """Wait until something may have arrived, and leave it there; an interruption ends the waiting."""
        assert isinstance(self.transport, SocketStream), "whoever waits for no bytes has a socket"
        self._reading = True
        try:
            await self.transport.arrival().wait()
        except trio.ClosedResourceError:
            if not self._interrupted:
                self._lose()
            self._interrupted = False
        finally:
            self._reading = False

    async def roomy(self) -> None:
        """Wait until the socket may take more."""
        await self._writable()

    def leave(self) -> None:
        """Take no further requests; what is open goes on. The peer hears of it at once, if the socket has room."""
        if self.error is None:
            self.codec.farewell()
            self.try_flush()

    async def send_eof(self) -> None:
        """End our direction, once everything is written; the peer may go on."""
        await self.flush()
        if self._awaits_socket:
            # Somebody waits for room who has not seen yet that it came.
            await self._awaits_writer.park()
        # A peer that has reset the connection has been told worse.
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.transport.send_eof()

    def close(self) -> None:
        """Close now; streams that are still open fail."""
        self._lose()
        self.transport.close()

    def expire(self) -> None:
        """Give up waiting for the rest of a request's head; the refusal is left to be written (server side)."""
        self._fail(self.codec.expire())

    def abandon(self, error: ProxyError) -> None:
        """Reset the connection, as its peer takes nothing that is written; every stream ends by `error`."""
        self._fail(error)
        self.transport.reset()

    def interrupt(self) -> None:
        """Have the task that reads look up: what it waits for may have failed."""
        self._interrupted = True
        self.transport.interrupt()

    def forget(self, stream: HttpStream) -> None:
        """Stop keeping events for `stream`."""
        self._streams.pop(stream.number, None)

    async def park(self, bell: Bell) -> None:
        """Wait for `bell` without reading for anybody, unless it rings because somebody should."""
        self._parked[bell] = None
        try:
            await bell.rung()
        finally:
            del self._parked[bell]

    def _offer_seat(self) -> None:
        """Have one parked task read, unless somebody does: one that was woken already will look for itself."""
        if not self._reading:
            any(bell.ring() for bell in self._parked)

    async def _receive(self) -> None:
        try:
            data = self.transport.try_receive(self._read_bytes)
            if data is None:
                self._eager = 0
                if self._unsent and not self._awaits_socket:
                    data = await self._receive_while_writing()
                else:
                    data = await self.transport.receive_some(self._read_bytes)
        except trio.BrokenResourceError:
            self._lose()
            return
        except trio.ClosedResourceError:
            if not self._interrupted:
                self._lose()
            self._interrupted = False
            return
        began = perf_counter()
        # Every stream has been told of a failure; the parting words remain to be written.
        self._take(data)
        took = perf_counter() - began
        if self.codec.multiplexed or self.error is not None:
            self.try_flush()  # what the codec has answered by itself
        self._eager += 1
        if took > LONG_TURN or self._eager == EAGER_READS or len(data) == self._read_bytes:
            await self._take_turns(len(data), long=took > LONG_TURN)

    async def _take_turns(self, received: int, *, long: bool) -> None:
        """Let others have a turn after a long one or many short ones, and choose how much to read in the next.

        What a byte costs differs by a thousand: content is passed on as it is, small HTTP/2 frames are not.
        """
        if long:
            self._read_bytes = max(LEAST_READ_BYTES, self._read_bytes // 2)
        elif received == self._read_bytes:
            self._read_bytes = min(self._limits.part_bytes, self._read_bytes * 2)
        if long or self._eager >= EAGER_READS:
            self._eager = 0
            await trio.lowlevel.checkpoint()

    async def _receive_while_writing(self) -> bytes:
        """Wait for bytes while what could not be written, and nobody waits to write, goes on."""
        data, failure = b"", None
        async with trio.open_nursery() as writing:
            writing.start_soon(self.flush)
            try:
                data = await self.transport.receive_some(self._read_bytes)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                failure = error
            writing.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return data

    def _take(self, data: bytes) -> None:
        """Feed the codec what was read; an error ends every stream, and makes the connection unusable."""
        if not data:
            self._ended = True
        try:
            events = self.codec.receive(data)
        except ProxyError as error:
            self._fail(error.again())
        else:
            self._deliver(events)

    def _fail(self, error: ProxyError) -> None:
        self.error = error
        for stream in self._streams.values():
            stream.fail(error)

    def _lose(self) -> None:
        """End after a reset: unlike an end of stream, it completes nothing."""
        self._ended = True
        for stream in self._streams.values():
            stream.lose()

    def _deliver(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case RequestStarted():
                    stream = HttpStream(self, event.stream, event)
                    self._streams[event.stream] = stream
                    self._opened.append(stream)
                case Refused():
                    self.on_refused(event.error)
                case Leaving():
                    pass  # the codec is no longer reusable, and that is all there is to know
                case Room(stream=0):
                    for stream in self._streams.values():
                        stream.roomier()
                case _:
                    self._tell(event)

    def _tell(self, event: Informed | ResponseStarted | Data | Ended | Failed | Room) -> None:
        stream = self._streams.get(event.stream)
        if stream is not None:
            stream.tell(event)
        elif isinstance(event, Data):
            self.codec.consumed(event.stream, event.credit)

    def _try_send(self, data: bytes | memoryview) -> int:
        try:
            return self.transport.try_send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.deaf = True
            return len(data)

    async def _writable(self) -> None:
        if self._awaits_socket:
            await self._awaits_writer.park()
            return
        self._awaits_socket = True
        try:
            with contextlib.suppress(
                trio.BrokenResourceError, trio.ClosedResourceError
            ):  # the next try finds out
                await self.transport.wait_send_all_might_not_block()
        finally:
            self._awaits_socket = False
            self._awaits_writer.unpark_all()


def _nobody_counts(_: ProxyError) -> None:
    """Do nothing about a request that was refused: its peer knows."""
