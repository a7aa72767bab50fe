"""TLS over real sockets, both ends ours: what a stream promises holds, and no end is taken for another."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from OpenSSL import SSL
from trio.testing import check_half_closeable_stream, wait_all_tasks_blocked

from fakes.ca import FakeCa, Leaf, Papers
from fakes.records import ALERT, ASKING, CLOSE_NOTIFY, DATA, HANDSHAKE, KEY_UPDATE, written_to
from fakes.secure import MUTUAL, OPAQUE_OFFER, SLEEP, Mesh, secured
from fakes.sockets import fill, small_pair, tcp_pair
from tproxy.model.identity import Peer
from tproxy.net.tls_stream import WRITE_BYTES, TlsStream, handshake
from tproxy.tls.credentials import Credentials
from tproxy.tls.reasons import NotSecured
from tproxy.tls.session import MOST_STEPS

MESH = Mesh.new()
STRANGER = FakeCa.new("stranger")
PATTERN = bytes(range(256)) * 4096


async def clog(stream: TlsStream) -> int:
    """Send until the kernel takes no more, and say how much that was."""
    sent = 0
    while True:
        step = stream.try_send(memoryview(PATTERN)[sent : sent + 65536])
        sent += step
        if not step:
            with trio.move_on_after(0.05) as waiting:
                await stream.wait_send_all_might_not_block()
            if waiting.cancelled_caught:
                return sent


async def clogged_pair() -> tuple[TlsStream, TlsStream]:
    """Make a pair of which neither end can send any more, until the other receives."""
    left, right = await secured(*small_pair(), MESH)
    for end in (left, right):
        with trio.move_on_after(0.1):
            await end.send_all(PATTERN)
    return left, right


@pytest.mark.slow
async def test_keeps_the_contract_of_trio_streams() -> None:
    await check_half_closeable_stream(MESH.pair, clogged_pair)


async def test_both_ends_know_who_the_other_is() -> None:
    client, server = await MESH.pair()
    async with client, server:
        assert client.identity == Peer("cluster.local", "default", "web")
        assert server.identity == Peer("cluster.local", "default", "sleep")
        assert (client.alpn, server.alpn) == ("tproxy-tcp", "tproxy-tcp")
        proof = server.proof()
        assert (proof.own, proof.version) == (client.identity, "TLSv1.3")
        assert len(proof.certificate) == 64
        assert client.local == server.peer
        assert client.trouble == ""


async def test_eager_calls_say_when_they_would_wait() -> None:
    client, server = await MESH.pair()
    async with client, server:
        assert server.try_receive(10) is None
        assert server.try_peek(10) is None
        assert client.try_send(b"hello") == 5
        await server.wait_readable()
        assert server.try_peek(10) == b"hello"
        assert server.try_receive(4) == b"hell"
        assert server.try_receive(4) == b"o"


async def test_a_send_that_would_wait_says_so_until_there_is_room() -> None:
    client, server = await secured(*small_pair(), MESH)
    async with client, server:
        sent = await clog(client)
        assert client.try_send(memoryview(PATTERN)[sent:]) == 0
        received = 0
        while not client.try_send(memoryview(PATTERN)[sent:]):
            received += len(await server.receive_some(65536))
        assert sent <= received < sent + WRITE_BYTES


async def test_what_a_cancelled_task_has_begun_goes_first() -> None:
    client, server = await clogged_pair()
    received = bytearray()

    async def receive() -> None:
        while not received.endswith(b"the next"):
            received.extend(await server.receive_some(65536))

    async with client, server, trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await client.send_all(b"the next")
    assert PATTERN.startswith(received.removesuffix(b"the next"))


async def test_what_was_begun_is_finished_with_more_behind_it() -> None:
    client, server = await secured(*small_pair(32768), MESH)
    received = bytearray()

    async def send() -> None:
        sent = 0
        while sent < len(
            PATTERN
        ):  # each time a little more than before, as a buffer that fills up does
            some = sent + 20_000 + sent % 7
            sent += client.try_send(memoryview(PATTERN)[sent:some])
            await client.wait_send_all_might_not_block()
        await client.send_eof()

    async with client, server, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while data := await server.receive_some(65536):
            received.extend(data)
    assert bytes(received) == PATTERN


async def test_a_cancelled_task_is_finished_for_by_each_that_is_cancelled_in_turn() -> None:
    client, server = await clogged_pair()
    with trio.move_on_after(0.05):
        await client.send_all(b"never begun")
    received = bytearray()
    async with client, server, trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"the end")
        while not received.endswith(b"the end"):
            received.extend(await server.receive_some(65536))
    assert PATTERN.startswith(received.removesuffix(b"the end"))


async def test_a_peek_gathers_records_until_it_has_seen_enough() -> None:
    client, server = await MESH.pair()
    async with client, server:
        for byte in b"GET /":
            client.try_send(bytes((byte,)))
            await server.wait_readable()
            server.try_peek(4)
        assert server.try_peek(4) == b"GET "
        assert await server.receive_some(100) == b"GET "
        assert await server.receive_some(100) == b"/"


async def test_a_peek_wakes_whoever_waits_for_the_bytes_that_it_has_decrypted() -> None:
    client, server = await MESH.pair()
    async with client, server, trio.open_nursery() as nursery:
        received: list[bytes] = []

        async def receive() -> None:
            received.append(await server.receive_some(100))

        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        client.try_send(b"hello")
        while server.try_peek(100) is None:
            pass
        with trio.fail_after(1):
            while not received:
                await trio.lowlevel.checkpoint()
    assert received == [b"hello"]


async def test_the_end_is_told_and_the_other_direction_goes_on() -> None:
    client, server = await MESH.pair()
    async with client, server:
        await client.send_all(b"last words")
        await client.send_eof()
        assert await server.receive_some(100) == b"last words"
        assert await server.receive_some(100) == b""
        assert server.try_peek(1) == b""
        assert server.try_receive(1) == b""
        await server.send_all(b"an answer")
        assert await client.receive_some(100) == b"an answer"
        with pytest.raises(trio.ClosedResourceError):
            await client.send_all(b"x")
        with pytest.raises(trio.ClosedResourceError):
            client.try_send(b"x")


async def test_a_buffer_is_filled_with_what_there_is() -> None:
    client, server = await MESH.pair()
    room = memoryview(bytearray(40_000))
    async with client, server:
        assert server.try_receive_into(room) is None
        client.try_send(b"peeked")
        await server.wait_readable()
        client.try_send(b" first")
        client.try_send(b" then")
        assert server.try_receive_into(room[:4]) == 4
        await server.wait_for_bytes()
        assert server.try_receive_into(room[4:]) == 2
        assert server.try_receive_into(room[6:]) == 11
        assert bytes(room[:17]) == b"peeked first then"
        client.try_send(PATTERN[:50_000])
        client.end()
        await server.wait_for_bytes()
        assert server.try_receive_into(room) == 40_000
        assert bytes(room) == PATTERN[:40_000]
        assert server.try_receive_into(room) == 10_000
        assert bytes(room[:10_000]) == PATTERN[40_000:50_000]
        await server.wait_for_bytes()
        assert server.try_receive_into(room) == 0
        assert server.try_receive_into(room) == 0
    with pytest.raises(trio.ClosedResourceError):
        server.try_receive_into(room)


async def test_what_came_before_a_failure_fills_a_buffer_first() -> None:
    dialled, accepted = tcp_pair()
    client, server = await secured(dialled, accepted, MESH)
    room = memoryview(bytearray(100))
    async with server:
        client.try_send(b"whole")
        dialled.end()
        await server.wait_readable()
        assert server.try_receive_into(room) == 5
        with pytest.raises(trio.BrokenResourceError, match="EOF"):
            server.try_receive_into(room)
    dialled.close()


async def test_a_close_is_an_end_to_the_peer() -> None:
    client, server = await MESH.pair()
    async with server:
        client.try_send(b"bye")
        client.close()
        client.close()
        assert await server.receive_some(100) == b"bye"
        assert await server.receive_some(100) == b""


async def test_an_end_of_the_connection_without_one_of_tls_is_a_failure() -> None:
    dialled, accepted = tcp_pair()
    _client, server = await secured(dialled, accepted, MESH)
    async with server:
        dialled.end()  # as anybody on the way could do
        await server.wait_readable()
        with pytest.raises(trio.BrokenResourceError, match="EOF"):
            await server.receive_some(100)
        with pytest.raises(trio.BrokenResourceError):
            server.try_peek(1)
        assert "EOF" in server.trouble
    dialled.close()


async def test_bytes_in_front_of_a_failure_are_still_given() -> None:
    dialled, accepted = tcp_pair()
    client, server = await secured(dialled, accepted, MESH)
    async with server:
        client.try_send(b"whole")
        dialled.try_send(b"\x17\x03\x03\x00\x20" + bytes(32))  # a record that nobody has encrypted
        await server.wait_readable()
        assert server.try_receive(100) == b"whole"
        with pytest.raises(trio.BrokenResourceError, match="mac"):
            server.try_receive(100)
        client.close()


@pytest.mark.parametrize(
    "together", [pytest.param(True, id="with the bytes"), pytest.param(False, id="after them")]
)
async def test_an_end_behind_the_last_bytes_is_met_whenever_it_is_told(*, together: bool) -> None:
    dialled, accepted = tcp_pair()
    client, server = await secured(dialled, accepted, MESH)
    async with server:
        client.try_send(b"first")
        assert await server.receive_some(100) == b"first"
        assert not server.expectant
        client.try_send(b"last")
        if together:
            dialled.end()
        assert await server.receive_some(100) == b"last"
        if not together:
            dialled.end()
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError, match="EOF"):
            await server.receive_some(100)
    dialled.close()


async def test_a_reset_is_a_failure_on_both_directions() -> None:
    client, server = await MESH.pair()
    async with server:
        client.reset()
        await server.wait_readable()
        with pytest.raises(trio.BrokenResourceError):
            server.try_receive(100)
        with pytest.raises(trio.BrokenResourceError):
            await server.send_all(PATTERN)


tellings = pytest.mark.parametrize(
    "tell",
    [
        pytest.param(lambda stream: stream.try_send(b"more"), id="more"),
        pytest.param(TlsStream.end, id="an end"),
    ],
)


@tellings
async def test_what_a_peer_said_before_it_reset_is_given_to_whoever_could_not_tell_it(
    tell: Callable[[TlsStream], object],
) -> None:
    client, server = await MESH.pair()
    async with client:
        client.try_send(PATTERN[:1000])
        await server.wait_readable()
        server.try_send(b"too large")
        server.reset()
        with pytest.raises(trio.BrokenResourceError, match="has reset"):
            tell(client)
        assert client.try_receive(100) == b"too large"
        with pytest.raises(trio.BrokenResourceError, match="RESET"):
            client.try_receive(100)


async def test_whom_the_peer_refuses_after_the_handshake_is_told_why() -> None:
    dialled, accepted = tcp_pair()
    papers = STRANGER.issue(Leaf(uris=(SLEEP,)))
    known = Papers(papers.certificate, papers.key, papers.bundle + MESH.ca.bundle)
    client = Credentials(known.identity())

    async def refuse() -> None:
        with pytest.raises(NotSecured, match="untrusted"):
            await handshake(accepted, MESH.server.accept(accepted.socket))
        accepted.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse)
        steps = client.connect(dialled.socket, MUTUAL, OPAQUE_OFFER)
        stream = await handshake(dialled, steps)
    async with stream:
        with pytest.raises(trio.BrokenResourceError):
            stream.try_send(b"asked")
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some(100)
        assert "alert unknown ca" in stream.trouble


@tellings
async def test_a_reset_that_only_a_write_has_met_is_what_reads_fail_by(
    tell: Callable[[TlsStream], object],
) -> None:
    client, server = await MESH.pair()
    async with client:
        with trio.move_on_after(0.01):
            await client.receive_some(100)
        server.reset()
        with pytest.raises(trio.BrokenResourceError, match="ECONNRESET"):
            tell(client)
        with pytest.raises(trio.BrokenResourceError, match="ECONNRESET"):
            await client.receive_some(100)
        assert client.trouble == "ECONNRESET"


@tellings
async def test_what_one_connection_has_failed_by_is_not_told_of_another(
    tell: Callable[[TlsStream], object],
) -> None:
    client, server = await MESH.pair()
    dialled, accepted = tcp_pair()
    other, _ = await secured(dialled, accepted, MESH)
    async with client, other:
        for each in (client, other):
            with trio.move_on_after(0.01):
                await each.receive_some(100)
        server.reset()
        with pytest.raises(trio.BrokenResourceError, match="ECONNRESET"):
            tell(client)
        other.expect()
        assert other.try_receive(100) is None
        accepted.close()
        with pytest.raises(trio.BrokenResourceError, match="Unexpected EOF"):
            await other.receive_some(100)


async def test_no_end_is_told_behind_what_is_only_half_sent() -> None:
    client, server = await secured(*small_pair(), MESH)
    async with server:
        sent = await clog(client)
        client.close()
        received = bytearray()

        async def receive() -> None:
            while data := await server.receive_some(1 << 20):
                received.extend(data)

        with pytest.raises(trio.BrokenResourceError):
            await receive()
        # Of what is written at once all but its last record may be on its way before it is told.
        assert sent <= len(received) < sent + WRITE_BYTES
        assert PATTERN.startswith(received)


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([len(PATTERN)], id="at once"),
        pytest.param([1, 16383, 16384, 16385, 70000], id="about the size of records"),
    ],
)
async def test_every_byte_arrives_in_order(pieces: list[int]) -> None:
    client, server = await MESH.pair()
    received = bytearray()

    async def receive() -> None:
        while data := await server.receive_some(50000):
            received.extend(data)

    async def send() -> None:
        start, turn = 0, 0
        while start < len(PATTERN):
            piece = PATTERN[start : start + pieces[turn % len(pieces)]]
            await client.send_all(piece)
            start, turn = start + len(piece), turn + 1
        await client.send_eof()

    async with client, server, trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        nursery.start_soon(send)
    assert bytes(received) == PATTERN


async def test_two_tasks_may_not_do_the_same() -> None:
    client, server = await secured(*small_pair(), MESH)
    async with client, server, trio.open_nursery() as nursery:
        nursery.start_soon(server.receive_some, 10)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            server.try_receive(10)
        with pytest.raises(trio.BusyResourceError):
            await server.receive_some(10)
        with pytest.raises(trio.BusyResourceError):
            server.try_receive_into(memoryview(bytearray(10)))
        with pytest.raises(trio.BusyResourceError):
            await server.wait_for_bytes()
        nursery.start_soon(client.send_all, PATTERN)
        await wait_all_tasks_blocked()
        for attempt in (client.try_send, client.send_all):
            with pytest.raises(trio.BusyResourceError):
                await attempt(b"x")  # type: ignore[misc]  # try_send raises before there is anything to await
        with pytest.raises(trio.BusyResourceError):
            await client.send_eof()
        nursery.cancel_scope.cancel()


async def test_whoever_waits_can_be_interrupted() -> None:
    client, server = await MESH.pair()
    async with client, server, trio.open_nursery() as nursery:
        interrupted = trio.Event()

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await server.receive_some(10)
            interrupted.set()

        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        server.interrupt()
        await interrupted.wait()
        client.try_send(b"still open")
        assert await server.receive_some(100) == b"still open"


async def test_nothing_is_tried_on_a_descriptor_that_may_be_anothers() -> None:
    client, server = await MESH.pair()
    server.close()
    client.close()
    assert client.fileno() == -1
    for attempt in (client.try_send, client.try_receive, client.try_peek):
        with pytest.raises(trio.ClosedResourceError):
            attempt(b"x" if attempt == client.try_send else 1)  # type: ignore[arg-type]
    with pytest.raises(trio.ClosedResourceError):
        client.end()
    with pytest.raises(trio.ClosedResourceError):
        await client.receive_some(1)


async def test_a_handshake_waits_for_room_too() -> None:
    dialled, accepted = tcp_pair()
    filled = await fill(dialled)
    async with trio.open_nursery() as nursery:

        async def drain() -> None:
            await wait_all_tasks_blocked()
            rest = filled
            while rest:
                rest -= len(await accepted.receive_some(min(rest, 1 << 20)))
            await handshake(accepted, MESH.server.accept(accepted.socket))

        nursery.start_soon(drain)
        steps = MESH.client.connect(dialled.socket, MUTUAL, OPAQUE_OFFER)
        client = await handshake(dialled, steps)
    assert client.identity == Peer("cluster.local", "default", "web")
    client.reset()
    accepted.reset()


async def test_keys_change_between_any_two_records() -> None:
    stream, writer = await written_to(MESH)
    async with stream, writer.tcp:
        records = writer.records
        for piece in (b"one", b"two", b"three"):
            await writer.send(records.update(), records.record(DATA, piece), records.update(ASKING))
            assert await stream.receive_some(100) == piece
            await stream.send_all(piece)
        await writer.send(records.record(DATA, b""), records.record(ALERT, CLOSE_NOTIFY))
        assert await stream.receive_some(100) == b""


async def filled(stream: TlsStream) -> int:
    """Wait for bytes, and have them read into a buffer."""
    room = memoryview(bytearray(100))
    while (size := stream.try_receive_into(room)) is None:
        await stream.wait_for_bytes()
    return size


@pytest.mark.parametrize(
    "receive",
    [
        pytest.param(TlsStream.receive_some, id="bytes"),
        pytest.param(filled, id="into a buffer"),
    ],
)
async def test_whoever_says_nothing_without_end_is_cut_off(
    receive: Callable[[TlsStream], Awaitable[object]],
) -> None:
    stream, writer = await written_to(MESH)
    updates = [writer.records.update() for _ in range(MOST_STEPS // 3)]
    async with stream, writer.tcp, trio.open_nursery() as nursery:
        nursery.start_soon(writer.send, *updates)
        with pytest.raises(trio.BrokenResourceError, match="carry nothing"):
            await receive(stream)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("reads", [True, False], ids=["read by another task", "read by nobody"])
@pytest.mark.parametrize(
    "say",
    [
        pytest.param(lambda stream: stream.send_all(b"answer"), id="bytes"),
        pytest.param(TlsStream.send_eof, id="an end"),
    ],
)
async def test_what_is_said_while_a_message_is_only_begun_waits_for_the_rest(
    say: Callable[[TlsStream], Awaitable[None]], *, reads: bool
) -> None:
    stream, writer = await written_to(MESH)
    records = writer.records
    async with stream, writer.tcp, trio.open_nursery() as nursery:
        await writer.send(records.record(HANDSHAKE, KEY_UPDATE[:4]))
        with trio.move_on_after(0.01):
            await stream.receive_some(100)
        nursery.start_soon(say, stream)
        if reads:
            nursery.start_soon(stream.receive_some, 100)
        with trio.fail_after(2):
            await wait_all_tasks_blocked()
            await writer.send(records.update(KEY_UPDATE[4:]), records.record(DATA, b"more"))
            while nursery.child_tasks:
                await trio.lowlevel.checkpoint()


async def test_nothing_is_said_twice_where_a_message_is_begun_while_much_is_half_said() -> None:
    stream, writer = await written_to(MESH, small_pair(100000))
    records, heard = writer.records, bytearray()

    async def say() -> None:
        with pytest.raises(trio.BrokenResourceError, match="begun amid ours"):
            await stream.send_all(PATTERN)
        with pytest.raises(trio.BrokenResourceError, match="begun amid ours"):
            await stream.send_eof()
        stream.close()

    async with stream, writer.tcp, trio.open_nursery() as nursery:
        nursery.start_soon(say)
        await wait_all_tasks_blocked(0.01)
        await writer.send(records.record(HANDSHAKE, KEY_UPDATE[:4]))
        assert stream.try_receive(100) is None
        with trio.fail_after(5), pytest.raises(SSL.SysCallError):
            await writer.hear(heard)
    assert PATTERN.startswith(heard)


async def test_a_change_of_keys_that_finds_no_room_has_one_task_wait_for_it() -> None:
    ours, theirs = tcp_pair()
    stream, writer = await written_to(MESH, (ours, theirs))
    records = writer.records
    async with stream, writer.tcp, trio.open_nursery() as nursery:
        await writer.send(records.update(ASKING), records.record(DATA, b"asked"))
        assert await stream.receive_some(100) == b"asked"
        await fill(ours)
        nursery.start_soon(stream.send_all, b"answer")
        nursery.start_soon(stream.receive_some, 100)
        await wait_all_tasks_blocked()
        await writer.data(b"more")
        await wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "receive",
    [
        pytest.param(lambda stream: len(stream.try_receive(65536)), id="bytes"),
        pytest.param(
            lambda stream: stream.try_receive_into(memoryview(bytearray(65536))),
            id="into a buffer",
        ),
    ],
)
async def test_one_read_takes_only_so_many_records_however_small(
    receive: Callable[[TlsStream], int],
) -> None:
    stream, writer = await written_to(MESH)
    async with stream, writer.tcp:
        await writer.send(*(writer.records.record(DATA, b"x") for _ in range(200)))
        await stream.wait_for_bytes()
        assert [receive(stream) for _ in range(4)] == [64, 64, 64, 8]
        await writer.data(b"more")
        await stream.wait_for_bytes()
        assert receive(stream) == 4
