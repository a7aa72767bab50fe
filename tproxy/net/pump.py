"""Carry opaque bytes between two streams, both ways, faithfully: every byte, the ends, and the failures.

Small amounts are copied, which costs least until several reads in a row were full. Then the bytes stay in the kernel:
splice(2) moves them through a pipe, as long as each move is large. The rule that must not be broken: **a pipe is empty
before anything else is read from its source**, so bytes cannot overtake each other, and a pipe that would have to wait
for its source holds none. What TLS encrypts or decrypts is copied throughout, much at a time.
"""

import contextlib
import fcntl
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum

import msgspec
import trio

from tproxy.model.limits import Limits
from tproxy.net.bell import Bell
from tproxy.net.stream import EagerStream, SocketStream, private_room
from tproxy.net.tcp_stream import TcpStream
from tproxy.resilience.bandwidth import Bandwidth

COPY_BYTES = 65536
TLS_BYTES = 1 << 18
"""What is copied at once where splicing is out of the question."""
PIPE_BYTES = 1 << 20
TURN_BYTES = 1 << 21
"""What is copied in a row without waiting, at most, before other tasks get a turn: not quite a millisecond, with TLS. With
half of it others wait half as long, and a MiB takes 3 % more: a turn begins with caches that hold nothing but bulk."""
FULL_READS = 4
"""Full reads in a row that make a transfer bulk."""
SMALL_MOVE = 16384
"""A move of fewer bytes than this is as well copied."""
EAGER_ROUNDS = 8
"""Reads in a row without waiting before other tasks get a turn."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast one direction may go: as fast as the slowest of its limits."""

    limits: Sequence[Bandwidth]

    async def room(self) -> int:
        """Wait until a piece worth moving may pass, and say how much may."""
        while True:
            now = trio.current_time()
            wait = max(each.until_room(now) for each in self.limits)
            if not wait:
                return min(each.room(now) for each in self.limits)
            await trio.sleep(wait)

    def used(self, size: int) -> None:
        """Count bytes that have passed."""
        for each in self.limits:
            each.used(size)


class Meter(msgspec.Struct, eq=False):
    """Counts the bytes that one direction has delivered; whoever carries them adds, anybody may read."""

    bytes: int = 0
    pace: Pace | None = None
    """None where nothing limits it."""


class Traffic(msgspec.Struct, frozen=True):
    """Both directions of one connection, as its downstream sees them."""

    received: Meter = msgspec.field(default_factory=Meter)
    """From the downstream, delivered to the upstream."""
    sent: Meter = msgspec.field(default_factory=Meter)
    """From the upstream, delivered to the downstream."""

    @property
    def paced(self) -> bool:
        """Whether something limits how fast it goes."""
        return self.received.pace is not None or self.sent.pace is not None


class Ending(StrEnum):
    """How one direction ended."""

    ENDED = "ended"
    """Its source ended, and its sink was told so."""
    SOURCE_BROKE = "source broke"
    """Everything that came before was sent on."""
    SINK_BROKE = "sink broke"


class RelayEnd(StrEnum):
    """How a connection ended."""

    COMPLETE = "complete"
    DOWNSTREAM_BROKE = "downstream broke"
    UPSTREAM_BROKE = "upstream broke"
    HALTED = "halted"


@dataclass(frozen=True, slots=True)
class Pipe:
    """A pipe to splice through: its two ends, and how much it holds."""

    read_end: int
    write_end: int
    size: int

    def close(self) -> None:
        """Close both ends; what is inside is lost."""
        os.close(self.read_end)
        os.close(self.write_end)


class Pipes:
    """Pipes, and a buffer, for whoever moves much just now. What changes: which are lent and which lie ready.

    `most` bounds them, as each may hold a MiB of kernel memory; with 0 everything is copied.
    """

    def __init__(self, most: int = 32) -> None:
        self._left = most
        self._refused = False
        self._ready: list[Pipe] = []
        self.buffer = private_room(TLS_BYTES)
        """One for all connections: what is in it is passed on, or copied, before anybody waits."""

    @contextlib.contextmanager
    def lent(self) -> Iterator[Pipe | None]:
        """Lend an empty pipe, or None when there is none left. One given back after a failure is not used again."""
        pipe = self._take()
        if pipe is None:
            yield None
            return
        try:
            yield pipe
        except BaseException:
            pipe.close()
            self._left += 1
            raise
        self._ready.append(pipe)
        if self._refused:
            self.close()

    def refuse(self) -> None:
        """Lend no more: this kernel does not splice sockets."""
        self._refused = True

    def close(self) -> None:
        """Close the pipes that lie ready."""
        while self._ready:
            self._ready.pop().close()

    def _take(self) -> Pipe | None:
        if self._ready:
            return self._ready.pop()
        if self._refused or not self._left:
            return None
        try:
            pipe = _open_pipe()
        except OSError:  # out of descriptors: copying needs none
            return None
        self._left -= 1
        return pipe


def _open_pipe() -> Pipe:
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # over fs.pipe-user-pages-soft: the small one does too
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return Pipe(read_end, write_end, fcntl.fcntl(write_end, fcntl.F_GETPIPE_SZ))


class _SourceBroke(Exception):
    """Receiving failed."""


class _SinkBroke(Exception):
    """Sending failed."""


async def pump(
    source: SocketStream, sink: SocketStream, *, meter: Meter, pipes: Pipes, rest: bytes = b""
) -> Ending:
    """Carry `source`'s bytes and its end to `sink`, beginning with the `rest` that was received already.

    A failure is told, not passed on: the caller resets what it must (`reset_when_sent`). Cancelled, it may have
    taken bytes that were not delivered.
    """
    try:
        if rest:
            await _send(sink, rest)
            meter.bytes += len(rest)
            del rest
        if meter.pace is not None:
            # Copied throughout: what a pipe takes in at once would be more than the pace allows.
            await _copy_paced(source, sink, meter, meter.pace, pipes.buffer)
        elif isinstance(source, TcpStream) and isinstance(sink, TcpStream):
            room = pipes.buffer[:COPY_BYTES]
            while not (
                await _copy(source, sink, meter, room, most_full=FULL_READS)
                or await _splice(source, sink, meter, pipes)
            ):
                pass
        else:
            await _copy(source, sink, meter, pipes.buffer, most_full=math.inf)
        await _end(sink)
    except _SourceBroke:
        return Ending.SOURCE_BROKE
    except _SinkBroke:
        return Ending.SINK_BROKE
    return Ending.ENDED


async def reset_when_sent(stream: EagerStream) -> None:
    """Reset `stream` once it has put on the wire what it was given; cancelled, at once."""
    try:
        if isinstance(stream, SocketStream):
            with contextlib.suppress(trio.ClosedResourceError):
                await stream.wait_all_sent()
    finally:
        stream.reset()


class Lane(msgspec.Struct, eq=False):
    """One direction of a connection. What changes: whether its source has ended, and what its sink did not take."""

    source: SocketStream
    sink: SocketStream
    meter: Meter
    source_broke: RelayEnd
    """What it means when its source breaks."""
    sink_broke: RelayEnd
    ended: bool = False
    rest: bytes = b""
    waits: bool = False
    """Whether it takes a task of its own to go on: its source has much to say, or its sink no room."""


class Conduit:
    """Carries both directions of one connection. What changes: how far it has come, and whether it is to end early.

    While little is said it needs no task: it copies what arrives right where the kernel's news of it are read. Its own
    task sleeps meanwhile; it goes on with a task for each direction once one has much to say.
    """

    __slots__ = ("_bell", "_far", "_halted", "_lanes", "_near", "_scope", "_traffic")

    def __init__(self, downstream: SocketStream, upstream: SocketStream, traffic: Traffic) -> None:
        ours, theirs = RelayEnd.DOWNSTREAM_BROKE, RelayEnd.UPSTREAM_BROKE
        self._near = downstream
        self._far = upstream
        self._lanes = (
            Lane(downstream, upstream, traffic.received, ours, theirs),
            Lane(upstream, downstream, traffic.sent, theirs, ours),
        )
        self._traffic = traffic
        self._bell = Bell()
        self._halted = False
        self._scope: trio.CancelScope | None = None
        """Of the tasks for each direction."""

    async def run(self, pipes: Pipes, limits: Limits) -> RelayEnd:
        """Carry until both sides have ended, or one broke, which the other then sees as a reset, or until halted."""
        # Where it is paced each direction has a task from the beginning, as each may have to wait.
        if not (self._traffic.paced or self._halted):
            await self._converse()
        if self._lanes[0].ended and self._lanes[1].ended:
            return RelayEnd.COMPLETE
        end = RelayEnd.HALTED if self._halted else await self._pump_both(pipes, limits)
        if end in (RelayEnd.DOWNSTREAM_BROKE, RelayEnd.UPSTREAM_BROKE):
            await self._reset(limits)
        return end

    def halt(self) -> None:
        """Carry no more."""
        self._halted = True
        self._bell.ring()
        if self._scope is not None:
            self._scope.cancel()

    def ring(self) -> None:
        """Copy what has arrived, and wake the task only if there is more to do."""
        try:
            silent = self._copy() is _Next.SILENCE
        except Exception as mistake:  # noqa: BLE001 - it is for this connection's task, and not for whoever tells all
            self._bell.fail(mistake)
        else:
            if not silent:
                self._bell.ring()

    def fail(self, error: Exception) -> None:
        """Wake the task with `error`: a stream was closed."""
        self._bell.fail(error)

    async def _converse(self) -> None:
        """Copy what little is said; return when both sides have ended, or when it takes two tasks to go on."""
        _copied(self._lanes[0])  # first of all, so that the kernel does not tell of it, too
        arrivals = near, far = self._near.arrival(), self._far.arrival()
        near.hearer = far.hearer = self
        far.exhausted()  # nobody has read from it yet, so whatever is there will be told
        try:
            while (following := self._copy()) is not _Next.END:
                if following is _Next.SILENCE:
                    await self._bell.rung()
                else:
                    await trio.lowlevel.checkpoint()
        finally:
            for arrival in arrivals:
                arrival.hearer = arrival.bell

    def _copy(self) -> "_Next":
        """Copy what there is both ways, without waiting."""
        received, sent = self._lanes
        for _ in range(EAGER_ROUNDS):
            if self._halted or received.waits or sent.waits or (received.ended and sent.ended):
                return _Next.END
            if not (_copied(received) | _copied(sent)):
                return _Next.SILENCE
        return _Next.MORE

    async def _pump_both(self, pipes: Pipes, limits: Limits) -> RelayEnd:
        """Carry both directions on, each in a task of its own."""
        ends: list[RelayEnd] = []

        async def carry(lane: Lane) -> None:
            rest, lane.rest = lane.rest, b""
            ending = await pump(lane.source, lane.sink, meter=lane.meter, pipes=pipes, rest=rest)
            match ending:
                case Ending.SOURCE_BROKE:
                    ends.append(lane.source_broke)
                    nursery.cancel_scope.cancel()
                case Ending.SINK_BROKE:
                    # What the broken side said before is still on its way, and may explain.
                    ends.append(lane.sink_broke)
                    nursery.cancel_scope.deadline = trio.current_time() + limits.close_seconds
                case Ending.ENDED:
                    pass

        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            for lane in self._lanes:
                if not lane.ended:
                    nursery.start_soon(carry, lane)
        if ends:
            return ends[0]
        return RelayEnd.HALTED if self._halted else RelayEnd.COMPLETE

    async def _reset(self, limits: Limits) -> None:
        """Reset both sides, as soon as they have sent what they were given."""
        try:
            with trio.move_on_after(limits.close_seconds):
                await reset_when_sent(self._near)
                await reset_when_sent(self._far)
        finally:  # time may have been over before the second's turn, and a close would pass for an end
            self._near.reset()
            self._far.reset()


class _Next(Enum):
    """What follows when all is copied that could be."""

    SILENCE = "until something arrives"
    MORE = "after a turn for others"
    END = "by other means, or not at all"


def _copied(lane: Lane) -> bool:
    """Copy what one read takes, or the end, and say whether there was anything, be it a reason to wait."""
    if lane.ended or not lane.source.expectant:
        return False
    try:
        data = lane.source.try_receive(COPY_BYTES)
        if data is None:
            lane.waits = lane.source.wants_room
            return lane.waits
        if not data:
            lane.ended = lane.sink.end()
            lane.waits = not lane.ended
            return True
        lane.rest = data  # should the sink break, `pump` meets it again with this
        sent = lane.sink.try_send(data)
    except trio.BrokenResourceError:
        lane.waits = True  # it will be met again, and told then
        return True
    lane.meter.bytes += sent
    lane.rest = data[sent:]
    lane.waits = len(data) == COPY_BYTES or sent < len(data)
    return True


async def _copy(
    source: SocketStream, sink: SocketStream, meter: Meter, room: memoryview, *, most_full: float
) -> bool:
    """Copy until the source ends (True) or so many reads in a row have filled `room` that it must be bulk (False)."""
    reads = full_reads = 0
    while full_reads < most_full:
        size = await _receive(source, room)
        if not size:
            return True
        await _send(sink, room[:size])
        meter.bytes += size
        full_reads = full_reads + 1 if size == len(room) else 0
        reads += 1
        if reads % (TURN_BYTES // len(room)) == 0:
            await trio.lowlevel.checkpoint()
    return False


async def _copy_paced(
    source: SocketStream, sink: SocketStream, meter: Meter, pace: Pace, room: memoryview
) -> None:
    """Copy until the source ends, no faster than its pace."""
    while True:
        most = min(await pace.room(), COPY_BYTES)
        size = await _receive(source, room[:most])
        if not size:
            return
        pace.used(size)
        await _send(sink, room[:size])
        meter.bytes += size
        await trio.lowlevel.checkpoint()


async def _receive(source: SocketStream, room: memoryview) -> int:
    try:
        while (size := source.try_receive_into(room)) is None:
            await source.wait_for_bytes()
    except trio.BrokenResourceError as error:
        raise _SourceBroke from error
    return size


async def _send(sink: SocketStream, data: bytes | memoryview) -> None:
    try:
        sent = sink.try_send(data)
        if sent < len(data):
            await sink.send_all(bytes(data[sent:]))
    except trio.BrokenResourceError as error:
        raise _SinkBroke from error


async def _end(sink: SocketStream) -> None:
    try:
        await sink.send_eof()
    except trio.BrokenResourceError as error:
        raise _SinkBroke from error


async def _splice(source: TcpStream, sink: TcpStream, meter: Meter, pipes: Pipes) -> bool:
    """Splice until the source ends (True) or is better copied (False)."""
    with pipes.lent() as pipe:
        if pipe is None:
            await trio.lowlevel.checkpoint()
            return False
        while True:
            try:
                moved = await _fill(pipe, source)
            except OSError:
                pipes.refuse()
                return False
            if moved is None:
                return False
            await _drain(pipe, sink, moved, meter)
            if moved < SMALL_MOVE:
                return moved == 0
            await trio.lowlevel.checkpoint()


async def _fill(pipe: Pipe, source: TcpStream) -> int | None:
    """Move what has arrived, or arrives next; None where only a read goes on: splice(2) stops at urgent data for ever."""
    try:
        moved = source.try_splice_to(pipe.write_end, pipe.size)
        if moved is None:
            await source.wait_readable()
            moved = source.try_splice_to(pipe.write_end, pipe.size)
    except trio.BrokenResourceError as error:
        raise _SourceBroke from error
    return moved


async def _drain(pipe: Pipe, sink: TcpStream, held: int, meter: Meter) -> None:
    try:
        while held:
            moved = sink.try_splice_from(pipe.read_end, held)
            held -= moved
            meter.bytes += moved
            if not moved:
                await sink.wait_send_all_might_not_block()
    except trio.BrokenResourceError as error:
        raise _SinkBroke from error
