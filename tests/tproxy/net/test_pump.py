import contextlib
import hashlib
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from socket import MSG_OOB, SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from typing import cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fakes.secure import Mesh, secured
from fakes.sockets import fill, open_descriptors, small_pair, tcp_pair
from tproxy.model.identity import Peer, Proof
from tproxy.model.limits import Limits
from tproxy.net.pump import Conduit, Ending, Meter, Pipe, Pipes, RelayEnd, Traffic, pump
from tproxy.net.stream import EagerStream, SocketStream
from tproxy.net.tls_stream import TlsStream
from tproxy.tls.steps import Ended, Filled, Wait

MESH = Mesh.new()
LIMITS = replace(Limits(), close_seconds=0.2)
BULK = 64 << 20


def pipes(most: int) -> Pipes:
    """Make a pool of `most` pipes."""
    return Pipes(most)


async def read_all(stream: EagerStream) -> bytes:
    """Read until the end."""
    parts = []
    while part := await stream.receive_some(1 << 20):
        parts.append(part)
    return b"".join(parts)


async def read_until_broken(stream: EagerStream) -> bytes:
    """Read until the connection breaks, which it must before it ends."""
    parts = [b""]
    with contextlib.suppress(trio.BrokenResourceError):
        while part := await stream.receive_some():
            parts.append(part)
        pytest.fail("the connection ended")
    return b"".join(parts)


Ends = tuple[SocketStream, SocketStream]


async def plain() -> Ends:
    """Connect two streams without TLS."""
    return tcp_pair()


ways = pytest.mark.parametrize(
    ("most", "first", "second"),
    [
        pytest.param(0, plain, plain, id="copied"),
        pytest.param(1, plain, plain, id="spliced"),
        pytest.param(1, plain, MESH.pair, id="encrypted"),
        pytest.param(1, MESH.pair, plain, id="decrypted"),
        pytest.param(1, MESH.pair, MESH.pair, id="from TLS to TLS"),
    ],
)


@pytest.mark.slow
@ways
async def test_bulk_arrives_whole_in_order_and_counted(
    most: int, first: Callable[[], Awaitable[Ends]], second: Callable[[], Awaitable[Ends]]
) -> None:
    before = open_descriptors()
    sender, source = await first()
    sink, receiver = await second()
    meter, pool = Meter(), pipes(most)
    block = random.Random(0).randbytes(1 << 20)
    sent, received = hashlib.blake2b(), hashlib.blake2b()

    async def send() -> None:
        for number in range(BULK >> 20):
            piece = number.to_bytes(4, "big") + block[4:]
            sent.update(piece)
            await sender.send_all(piece)
        await sender.send_eof()

    async def receive() -> None:
        while part := await receiver.receive_some(1 << 20):
            received.update(part)

    async with sender, source, sink, receiver, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        nursery.start_soon(receive)
        ending = await pump(source, sink, meter=meter, pipes=pool)
    pool.close()
    assert (ending, meter.bytes) == (Ending.ENDED, BULK)
    assert received.digest() == sent.digest()
    assert open_descriptors() == before


@ways
async def test_sizes_of_every_kind_arrive_in_order(
    most: int, first: Callable[[], Awaitable[Ends]], second: Callable[[], Awaitable[Ends]]
) -> None:
    sender, source = await first()
    sink, receiver = await second()
    dice = random.Random(1)
    pieces = [dice.randbytes(dice.choice([1, 700, 65536, 400_000])) for _ in range(80)]
    got: list[bytes] = []

    async def send() -> None:
        for piece in pieces:
            await sender.send_all(piece)
        await sender.aclose()

    async def receive() -> None:
        got.append(await read_all(receiver))

    async with source, sink, receiver, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        nursery.start_soon(receive)
        assert await pump(source, sink, meter=Meter(), pipes=pipes(most)) is Ending.ENDED
    assert got == [b"".join(pieces)]


async def test_urgent_data_arrives_in_line_also_where_splicing_meets_it() -> None:
    sender, source = tcp_pair()
    sink, receiver = tcp_pair()
    pool = pipes(1)
    arrived = bytearray()

    async def receive() -> None:
        while part := await receiver.receive_some(1 << 20):
            arrived.extend(part)

    async def send() -> None:
        while pool._left or pool._ready:  # until whoever splices waits for more
            await sender.send_all(bytes(4 << 20))
            await wait_all_tasks_blocked()
        sender.socket.send(b"!", MSG_OOB)
        await wait_all_tasks_blocked()  # never, if it were spinning
        await sender.send_all(b"and after")
        await sender.send_eof()

    async with sender, source, sink, receiver, trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        nursery.start_soon(send)
        with trio.fail_after(10):
            await pump(source, sink, meter=Meter(), pipes=pool)
    pool.close()
    assert bytes(arrived).strip(bytes(1)) == b"!and after"


async def test_cancelled_in_mid_splice_it_leaks_nothing() -> None:
    before = open_descriptors()
    sender, source = tcp_pair()
    sink, receiver = tcp_pair()
    pool = pipes(1)
    async with sender, source, sink, receiver, trio.open_nursery() as nursery:
        nursery.start_soon(sender.send_all, bytes(BULK))
        with trio.move_on_after(0.1) as waiting:
            await pump(source, sink, meter=Meter(), pipes=pool)
        assert waiting.cancelled_caught
        nursery.cancel_scope.cancel()
    assert open_descriptors() == before


async def test_where_the_kernel_refuses_to_splice_it_copies() -> None:
    sender, source = tcp_pair()
    sink, receiver = tcp_pair()
    pool, meter = pipes(0), Meter()
    no_pipe = os.memfd_create("no pipe")
    pool._ready.append(Pipe(no_pipe, os.dup(no_pipe), 1 << 20))
    got: list[bytes] = []

    async def receive() -> None:
        got.append(await read_all(receiver))

    async def send() -> None:
        await sender.send_all(bytes(8 << 20))
        await sender.aclose()

    before = open_descriptors()
    async with source, sink, receiver, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        nursery.start_soon(receive)
        assert await pump(source, sink, meter=meter, pipes=pool) is Ending.ENDED
    assert (got, meter.bytes) == ([bytes(8 << 20)], 8 << 20)
    assert len(open_descriptors() - before) == 0


async def test_pipes_are_bounded_and_used_again() -> None:
    pool = pipes(1)
    with pool.lent() as first, pool.lent() as second:
        assert first is not None
        assert second is None
    with pool.lent() as again:
        assert again is first
    pool.close()


def test_what_one_worker_carries_is_not_in_anothers_memory() -> None:
    buffer = pipes(1).buffer
    child = os.fork()
    if not child:
        buffer[:6] = b"secret"
        os._exit(0)
    assert os.waitpid(child, 0) == (child, 0)
    assert bytes(buffer[:6]) == bytes(6)


async def test_connections_that_move_much_at_the_same_time_keep_their_bytes_apart() -> None:
    pool = pipes(1)
    got: dict[int, set[int]] = {}

    async def carry(mark: int) -> None:
        sender, source = tcp_pair()
        sink, receiver = await secured(*small_pair(65536), MESH)

        async def send() -> None:
            await sender.send_all(bytes((mark,)) * (4 << 20))
            await sender.send_eof()

        async with sender, source, sink, receiver, trio.open_nursery() as nursery:
            nursery.start_soon(send)
            nursery.start_soon(partial(pump, source, sink, meter=Meter(), pipes=pool))
            got[mark] = set(await read_all(receiver))

    async with trio.open_nursery() as nursery:
        for mark in range(1, 5):
            nursery.start_soon(carry, mark)
    assert got == {mark: {mark} for mark in range(1, 5)}


class Relayed:
    """A relay between two connections; the test holds their far ends."""

    def __init__(self, client: Ends | None = None, server: Ends | None = None) -> None:
        self.client, self.downstream = client or tcp_pair()
        self.upstream, self.server = server or tcp_pair()
        self.traffic = Traffic()
        self.pipes = Pipes()
        self.end: RelayEnd | None = None

    async def run(self) -> None:
        """Relay, and remember how it ended."""
        async with self.downstream, self.upstream:
            self.conduit = Conduit(self.downstream, self.upstream, self.traffic)
            self.end = await self.conduit.run(self.pipes, LIMITS)


async def plaintext() -> Relayed:
    """Relay between two connections in plaintext."""
    return Relayed()


async def inbound() -> Relayed:
    """Relay from TLS to plaintext."""
    return Relayed(client=await MESH.pair())


async def outbound() -> Relayed:
    """Relay from plaintext to TLS."""
    return Relayed(server=await MESH.pair())


Made = Callable[[], Awaitable[Relayed]]
relays = pytest.mark.parametrize(
    "made",
    [
        pytest.param(plaintext, id="plaintext"),
        pytest.param(inbound, id="TLS to plaintext"),
        pytest.param(outbound, id="plaintext to TLS"),
    ],
)


@relays
async def test_a_half_closed_connection_goes_on_the_other_way(made: Made) -> None:
    relayed = await made()
    async with relayed.client, relayed.server, trio.open_nursery() as nursery:
        nursery.start_soon(relayed.run)
        await relayed.client.send_all(b"question")
        await relayed.client.send_eof()
        assert await read_all(relayed.server) == b"question"
        await relayed.server.send_all(b"the answer")
        await relayed.server.send_eof()
        assert await read_all(relayed.client) == b"the answer"
    assert relayed.end is RelayEnd.COMPLETE
    assert (relayed.traffic.received.bytes, relayed.traffic.sent.bytes) == (8, 10)


@pytest.mark.parametrize(
    ("breaks", "expected"),
    [
        pytest.param("client", RelayEnd.DOWNSTREAM_BROKE, id="downstream"),
        pytest.param("server", RelayEnd.UPSTREAM_BROKE, id="upstream"),
    ],
)
async def test_a_reset_is_passed_on_behind_what_came_before_it(
    breaks: str, expected: RelayEnd
) -> None:
    relayed = Relayed()
    breaking = relayed.client if breaks == "client" else relayed.server
    other = relayed.server if breaks == "client" else relayed.client
    async with other, trio.open_nursery() as nursery:
        nursery.start_soon(relayed.run)
        await breaking.send_all(b"last words" * 20000)
        breaking.reset()
        got = await read_until_broken(other)
        # what the kernel had not sent when it was told to reset never left the breaking end
        assert (b"last words" * 20000).startswith(got)
    assert relayed.end is expected
    assert len(got) in (relayed.traffic.received.bytes, relayed.traffic.sent.bytes)


@pytest.mark.parametrize("breaks", ["client", "server"])
async def test_a_reset_in_mid_bulk_reaches_the_other_side(breaks: str) -> None:
    before = open_descriptors()
    relayed = Relayed()
    async with relayed.client, relayed.server, trio.open_nursery() as nursery:
        nursery.start_soon(relayed.run)

        async def send() -> None:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await relayed.client.send_all(bytes(BULK))

        nursery.start_soon(send)
        got = 0
        while got < 8 << 20:
            got += len(await relayed.server.receive_some())
        (relayed.client if breaks == "client" else relayed.server).reset()
        if breaks == "client":
            await read_until_broken(relayed.server)
    assert relayed.end is (
        RelayEnd.DOWNSTREAM_BROKE if breaks == "client" else RelayEnd.UPSTREAM_BROKE
    )
    relayed.pipes.close()
    assert open_descriptors() == before


async def test_an_upstream_that_closes_early_resets_the_downstream_after_its_answer() -> None:
    relayed = Relayed()
    async with relayed.client, trio.open_nursery() as nursery:
        nursery.start_soon(relayed.run)
        await relayed.server.send_all(b"go away")
        await relayed.server.aclose()
        assert await read_all(relayed.client) == b"go away"
        with pytest.raises(trio.BrokenResourceError):
            await relayed.client.send_all(bytes(BULK))
    assert relayed.end is RelayEnd.UPSTREAM_BROKE


async def test_a_broken_sink_does_not_wait_for_ever_for_the_other_direction() -> None:
    relayed = Relayed()
    async with relayed.client, trio.open_nursery() as nursery:
        nursery.start_soon(relayed.run)
        with trio.move_on_after(0.1):
            await relayed.server.send_all(bytes(BULK))
        relayed.server.reset()
        with trio.fail_after(5):
            await relayed.client.send_all(b"x")
            nursery.cancel_scope.deadline = trio.current_time() + 5
    assert relayed.end is RelayEnd.UPSTREAM_BROKE


async def test_what_was_cut_off_does_not_end_well_though_nobody_takes_the_answer() -> None:
    dialled, accepted = tcp_pair()
    dialled.socket.setsockopt(SOL_SOCKET, SO_RCVBUF, 4096)
    accepted.socket.setsockopt(SOL_SOCKET, SO_SNDBUF, 4096)
    client, downstream = await secured(dialled, accepted, MESH)
    relayed = Relayed(client=(client, downstream))
    async with relayed.server, trio.open_nursery() as nursery:
        nursery.start_soon(relayed.run)
        await client.send_all(b"half of it")
        assert await relayed.server.receive_some(100) == b"half of it"
        # One read's worth: what the relay holds then does not make the kernel reset by itself.
        await relayed.server.send_all(bytes(60_000))
        await trio.testing.wait_all_tasks_blocked(0.05)
        dialled.end()  # no close_notify: anybody on the way could do this
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            await relayed.server.receive_some(100)
    assert relayed.end is RelayEnd.DOWNSTREAM_BROKE
    client.reset()


async def tasks_below(nursery: trio.Nursery) -> int:
    """Count the tasks of a nursery, and theirs, once nothing moves."""
    await trio.testing.wait_all_tasks_blocked(0.01)
    waiting, count = list(nursery.child_tasks), 0
    while waiting:
        task = waiting.pop()
        count += 1
        waiting += [child for inner in task.child_nurseries for child in inner.child_tasks]
    return count


@relays
async def test_small_talk_takes_one_task_and_bulk_two_more(made: Made) -> None:
    relayed = await made()
    async with relayed.client, relayed.server, trio.open_nursery() as nursery:
        nursery.start_soon(relayed.run)
        for question in (b"how", b"are", b"you"):
            await relayed.client.send_all(question)
            assert await relayed.server.receive_some(100) == question
            await relayed.server.send_all(b"fine")
            assert await relayed.client.receive_some(100) == b"fine"
        assert await tasks_below(nursery) == 1
        nursery.start_soon(relayed.client.send_all, bytes(BULK))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert await tasks_below(nursery) == 3 + 1
        got = 0
        while got < BULK:
            got += len(await relayed.server.receive_some())
        await relayed.server.send_all(b"that was much")
        assert await relayed.client.receive_some(100) == b"that was much"
        await relayed.client.send_eof()
        await relayed.server.send_eof()
    assert relayed.end is RelayEnd.COMPLETE
    assert relayed.traffic.received.bytes == 9 + BULK
    relayed.pipes.close()


async def test_an_end_for_which_there_is_no_room_is_told_once_there_is() -> None:
    near, far = tcp_pair()
    relayed = Relayed(server=await secured(near, far, MESH))
    async with relayed.client, relayed.server, trio.open_nursery() as nursery:
        rest = await fill(near)
        nursery.start_soon(relayed.run)
        await relayed.client.send_eof()
        assert await tasks_below(nursery) == 3, "one of them waits for room"
        while rest:
            rest -= len(await far.receive_some(min(rest, 1 << 20)))
        assert await relayed.server.receive_some(100) == b""
        await relayed.server.send_eof()
        assert await read_all(relayed.client) == b""
    assert relayed.end is RelayEnd.COMPLETE


class Answering:
    """TLS that has to answer something before it gives anything. What changes: what is still to come."""

    peer = Peer("cluster.local", "default", "web")
    alpn = ""

    def __init__(self, *reads: bytes | Wait) -> None:
        self.reads = list(reads)

    def proof(self) -> Proof:
        """Tell how it was proven."""
        return Proof(self.peer, "", "")

    def handshake(self) -> Wait | None:
        """Have shaken hands."""

    def fill(self, room: memoryview) -> Filled:
        """Give what comes next."""
        match self.reads.pop(0):
            case b"":
                return 0, Ended.ENDED
            case bytes(part):
                room[: len(part)] = part
                return len(part), None
            case wait:
                return 0, wait

    def write(self, piece: bytes | memoryview) -> Wait | None:
        """Take everything."""

    def end(self) -> Wait | None:
        """Have told the end."""


async def test_what_is_read_only_after_an_answer_of_tls_itself_is_relayed() -> None:
    near, far = tcp_pair()
    stream = TlsStream(near, Answering(Wait.WRITABLE, b"answer", b""))
    relayed = Relayed(server=(stream, far))
    async with relayed.client, relayed.server, trio.open_nursery() as nursery:
        nursery.start_soon(relayed.run)
        await far.send_all(b"what TLS reads instead")
        with trio.fail_after(5):
            assert await relayed.client.receive_some(100) == b"answer"
            await relayed.client.send_eof()
            await relayed.server.send_eof()
    assert relayed.end is RelayEnd.COMPLETE


@relays
async def test_a_silent_connection_that_breaks_is_reset_on_the_other_side(made: Made) -> None:
    relayed = await made()
    async with relayed.server, trio.open_nursery() as nursery:
        nursery.start_soon(relayed.run)
        await relayed.client.send_all(b"hello")
        assert await relayed.server.receive_some(100) == b"hello"
        relayed.client.reset()
        assert await read_until_broken(relayed.server) == b""
    assert relayed.end is RelayEnd.DOWNSTREAM_BROKE


async def test_a_conduit_that_is_halted_before_it_runs_carries_nothing() -> None:
    relayed = Relayed()
    async with relayed.client, relayed.server, relayed.downstream, relayed.upstream:
        await relayed.client.send_all(b"too late")
        conduit = Conduit(relayed.downstream, relayed.upstream, relayed.traffic)
        conduit.halt()
        assert await conduit.run(relayed.pipes, LIMITS) is RelayEnd.HALTED
    assert relayed.traffic.received.bytes == 0


@relays
async def test_a_conduit_can_be_halted_while_nothing_is_said(made: Made) -> None:
    relayed = await made()
    async with relayed.client, relayed.server, trio.open_nursery() as nursery:
        nursery.start_soon(relayed.run)
        await relayed.client.send_all(b"question")
        assert await relayed.server.receive_some(100) == b"question"
        relayed.conduit.halt()
    assert relayed.end is RelayEnd.HALTED


async def test_a_conduit_can_be_halted_in_mid_bulk() -> None:
    relayed = Relayed()
    async with relayed.client, relayed.server, trio.open_nursery() as nursery:
        nursery.start_soon(relayed.run)
        with trio.move_on_after(0.1):
            await relayed.client.send_all(bytes(BULK))
        relayed.conduit.halt()
    assert relayed.end is RelayEnd.HALTED


async def test_a_mistake_made_while_news_is_read_ends_the_connection_that_made_it() -> None:
    relayed, other = Relayed(), Relayed()
    relayed.traffic.received.bytes = cast("int", None)
    async with (
        relayed.client,
        relayed.server,
        other.client,
        other.server,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(other.run)

        async def fail() -> None:
            with pytest.raises(TypeError):
                await relayed.run()

        nursery.start_soon(fail)
        await trio.testing.wait_all_tasks_blocked()
        await relayed.client.send_all(b"x")
        await other.client.send_all(b"question")
        assert await other.server.receive_some(100) == b"question"
        other.conduit.halt()
