"""The driver's laws: whoever waits reads for all, writing is shared, and an end reaches every stream."""

import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from fakes.h2_peer import frame
from fakes.sockets import tcp_pair
from tproxy.codec.h1 import Http1Client, Http1Server
from tproxy.codec.h2_client import Http2Client
from tproxy.codec.h2_frames import DATA, HEADERS, PREFACE, SETTINGS, WINDOW_UPDATE, FrameReader
from tproxy.codec.h2_server import Http2Server
from tproxy.model.http import NO_HEADERS, Content, Headers, HttpVersion, RequestHead, ResponseHead
from tproxy.model.limits import Limits
from tproxy.model.outcome import ProxyError, ResponseFlag
from tproxy.net.http_connection import HttpConnection
from tproxy.net.http_stream import HttpStream
from tproxy.net.tcp_stream import TcpStream

LIMITS = Limits()
OK = ResponseHead(200, Headers([(b"content-type", b"text/plain")]), HttpVersion.HTTP11)

both_versions = pytest.mark.parametrize(
    ("client_codec", "server_codec"),
    [
        pytest.param(Http1Client, Http1Server, id="http1"),
        pytest.param(Http2Client, Http2Server, id="http2"),
    ],
)
Http = tuple[HttpConnection, HttpConnection]


def request(path: bytes = b"/", method: bytes = b"GET") -> RequestHead:
    """A request for `path`."""
    return RequestHead(
        method, b"http", b"app", path, Headers([(b"host", b"app")]), HttpVersion.HTTP11
    )


async def heard(_: ResponseHead) -> None:
    """Take an informational response and do nothing about it."""


@asynccontextmanager
async def http2_pair() -> AsyncIterator[Http]:
    """Two ends of one HTTP/2 connection: client, server."""
    near, far = tcp_pair()
    client = HttpConnection(near, Http2Client(LIMITS), LIMITS)
    server = HttpConnection(far, Http2Server(LIMITS), LIMITS)
    try:
        yield client, server
    finally:
        client.close()
        server.close()


async def accepted(server: HttpConnection) -> HttpStream:
    """The next request, which must come."""
    stream = await server.accept()
    assert stream is not None
    return stream


async def ask(client: HttpConnection, path: bytes = b"/") -> HttpStream:
    """Send a request without a body."""
    stream = client.open()
    stream.send_head(request(path), ended=True)
    await stream.flush()
    return stream


async def content_of(stream: HttpStream) -> bytes:
    """Pull the whole body."""
    return b"".join([part async for part in stream])


@both_versions
async def test_an_exchange_passes_whole_in_both_directions(
    client_codec: type, server_codec: type
) -> None:
    near, far = tcp_pair()
    client = HttpConnection(near, client_codec(LIMITS), LIMITS)
    server = HttpConnection(far, server_codec(LIMITS), LIMITS)
    sent = b"x" * 300_000

    async def serve() -> None:
        stream = await accepted(server)
        if server.codec.multiplexed:
            nursery.start_soon(server.accept)
        assert stream.request.path == b"/up"
        body = await content_of(stream)
        await stream.transmit(OK, Content(body, Headers([(b"x-sum", b"1")])))
        stream.release()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        stream = client.open()
        stream.send_head(request(b"/up", b"POST"), ended=False)
        nursery.start_soon(stream.send_body, Content(sent))
        assert (await stream.response(heard)).status == 200
        assert await content_of(stream) == sent
        assert stream.trailers == Headers([(b"x-sum", b"1")])
        assert stream.complete
        stream.release()
        nursery.cancel_scope.cancel()
    assert client.reusable
    assert client.alive()
    client.close()
    server.close()


async def test_many_streams_share_one_reader_whoever_leaves_first() -> None:
    async with http2_pair() as (client, server), trio.open_nursery() as nursery:
        done: list[bytes] = []

        async def one(path: bytes) -> None:
            stream = await ask(client, path)
            await stream.response(heard)
            done.append(await content_of(stream))
            stream.release()

        for number in range(8):
            nursery.start_soon(one, b"/%d" % number)
        streams = [await accepted(server) for _ in range(8)]
        for stream in reversed(streams):
            await stream.transmit(OK, Content(stream.request.path))
            await trio.testing.wait_all_tasks_blocked()
        assert sorted(done) == [b"/%d" % number for number in range(8)]


async def test_a_cancelled_reader_hands_its_seat_on() -> None:
    async with http2_pair() as (client, server), trio.open_nursery() as nursery:
        first, second = await ask(client, b"/first"), await ask(client, b"/second")
        statuses: list[int] = []
        impatient = trio.CancelScope()

        async def give_up() -> None:
            with impatient:
                await first.response(heard)
            first.release()

        async def stay() -> None:
            statuses.append((await second.response(heard)).status)

        nursery.start_soon(give_up)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(stay)
        await trio.testing.wait_all_tasks_blocked()
        impatient.cancel()
        await trio.testing.wait_all_tasks_blocked()
        await (await accepted(server)).transmit(OK, Content())
        await trio.testing.wait_all_tasks_blocked()
        assert statuses == [200]


async def test_a_request_taken_back_in_the_same_breath_is_told_and_not_served() -> None:
    async with http2_pair() as (client, server):
        refused: list[ProxyError] = []
        server.on_refused = refused.append
        await ask(client, b"/first")
        second = client.open()
        second.send_head(request(b"/taken-back"), ended=False)
        second.release()
        await ask(client, b"/third")
        assert (await accepted(server)).request.path == b"/first"
        assert (await accepted(server)).request.path == b"/third"
        assert [error.flag for error in refused] == [ResponseFlag.DOWNSTREAM_RESET]


async def test_a_slow_consumer_holds_only_its_own_stream() -> None:
    async with http2_pair() as (client, server), trio.open_nursery() as nursery:
        slow, quick = await ask(client, b"/slow"), await ask(client, b"/quick")
        for number in range(2):
            stream = await accepted(server)
            nursery.start_soon(
                stream.transmit, OK, Content(b"x" * LIMITS.stream_window * (2 - number))
            )
        nursery.start_soon(server.accept)
        with trio.fail_after(5):
            await slow.response(heard)
            await quick.response(heard)
            assert len(await content_of(quick)) == LIMITS.stream_window
            assert len(await content_of(slow)) == LIMITS.stream_window * 2
        nursery.cancel_scope.cancel()


UPLOAD = 8 << 20


@asynccontextmanager
async def overfull() -> AsyncIterator[tuple[HttpConnection, HttpStream, TcpStream]]:
    """A client whose upload has filled the socket, so that the rest stands unsent and nobody waits to write it."""
    near, far = tcp_pair()
    client = HttpConnection(near, Http2Client(LIMITS), LIMITS)
    most = (2**31 - 1 - 65535).to_bytes(4, "big")
    await far.send_all(frame(SETTINGS, 0, 0, b"\0\4" + most) + frame(WINDOW_UPDATE, 0, 0, most))
    await client.greeted()
    stream = client.open()
    stream.send_head(request(method=b"POST"), ended=False)
    client.codec.send_data(stream.number, b"x" * UPLOAD)
    assert not client.try_flush()
    try:
        yield client, stream, far
    finally:
        client.close()
        far.close()


async def test_what_stands_unsent_is_written_while_an_answer_is_awaited() -> None:
    async with overfull() as (client, stream, far), trio.open_nursery() as nursery:
        answered = trio.Event()

        async def await_answer() -> None:
            assert (await stream.response(heard)).status == 200
            answered.set()

        nursery.start_soon(await_answer)
        await trio.testing.wait_all_tasks_blocked()
        reader = FrameReader(preface=PREFACE, frame_bytes=1 << 24, block_bytes=0)
        uploaded = 0
        with trio.fail_after(5):
            while uploaded < UPLOAD:
                said = reader.feed(await far.receive_some(65536))
                uploaded += sum(len(each.payload) for each in said if each.kind == DATA)
            assert not client.blocked
            await far.send_all(frame(HEADERS, 5, stream.number, b"\x88"))
            await answered.wait()


async def test_an_answer_is_pulled_from_a_peer_that_does_not_read_meanwhile() -> None:
    async with overfull() as (client, stream, far):
        part = frame(DATA, 0, stream.number, b"x" * 16000)
        await far.send_all(frame(HEADERS, 4, stream.number, b"\x88") + part * 16)
        with trio.fail_after(5):
            await stream.response(heard)
            while stream.size < 16 * 16000:
                await anext(stream)
        assert client.blocked


async def test_a_peer_that_resets_while_much_stands_unsent_ends_the_wait_for_its_answer() -> None:
    async with overfull() as (_, stream, far), trio.open_nursery() as nursery:

        async def leave() -> None:
            await trio.testing.wait_all_tasks_blocked()
            far.reset()

        nursery.start_soon(leave)
        with trio.fail_after(5), pytest.raises(ProxyError) as gone:
            await stream.response(heard)
        assert gone.value.flag is ResponseFlag.UPSTREAM_CLOSED


async def test_a_task_cancelled_in_mid_write_leaves_the_rest_to_the_next() -> None:
    near, far = tcp_pair()
    limits = Limits(stream_window=16 << 20, connection_window=16 << 20)
    client = HttpConnection(near, Http2Client(limits), limits)
    server = HttpConnection(far, Http2Server(limits), limits)
    await server.flush()
    await client.greeted()
    upload = client.open()
    with trio.move_on_after(0.05):
        await upload.transmit(request(method=b"PUT"), Content(b"x" * (12 << 20)))
    stream = await accepted(server)
    received = 0

    async def count() -> None:
        nonlocal received
        async for part in stream:
            received += len(part)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.accept)
        nursery.start_soon(count)
        await client.flush()
        await trio.testing.wait_all_tasks_blocked(0.05)
        nursery.cancel_scope.cancel()
    assert received == 12 << 20
    client.close()
    server.close()


@pytest.mark.parametrize(
    "server_codec",
    [pytest.param(Http1Server, id="http1"), pytest.param(Http2Server, id="http2")],
)
async def test_what_a_refused_peer_sent_is_gone_with_its_connection(server_codec: type) -> None:
    gc.disable()
    try:
        near, far = tcp_pair()
        server = HttpConnection(far, server_codec(LIMITS), LIMITS)
        await near.send_all(b"nonsense\r\n\r\n" * 10)
        with pytest.raises(ProxyError):
            await server.accept()
        server.close()
        left = weakref.ref(server)
        del server
        assert left() is None
        near.close()
    finally:
        gc.enable()


@both_versions
async def test_a_reset_completes_nothing(client_codec: type, server_codec: type) -> None:
    near, far = tcp_pair()
    client = HttpConnection(near, client_codec(LIMITS), LIMITS)
    server = HttpConnection(far, server_codec(LIMITS), LIMITS)
    stream = await ask(client)
    answer = await accepted(server)
    answer.send_head(OK, ended=False)
    await answer.flush()
    assert (await stream.response(heard)).status == 200
    far.reset()
    with pytest.raises(ProxyError) as caught:
        await content_of(stream)
    assert caught.value.flag is ResponseFlag.UPSTREAM_CLOSED
    assert caught.value.details == "upstream_reset_after_response_started{connection_termination}"
    assert not client.reusable
    client.close()


@both_versions
async def test_a_downstream_that_leaves_fails_its_stream_and_ends_accepting(
    client_codec: type, server_codec: type
) -> None:
    near, far = tcp_pair()
    client = HttpConnection(near, client_codec(LIMITS), LIMITS)
    server = HttpConnection(far, server_codec(LIMITS), LIMITS)
    stream = client.open()
    stream.send_head(request(method=b"POST"), ended=False)
    await stream.flush()
    request_body = await accepted(server)
    client.close()
    if server.codec.multiplexed:
        assert await server.accept() is None
    with pytest.raises(ProxyError) as caught:
        await content_of(request_body)
    assert caught.value.flag is ResponseFlag.DOWNSTREAM_GONE
    request_body.release()
    assert await server.accept() is None
    server.close()


async def test_writing_to_a_downstream_that_is_gone_fails_instead_of_going_on_for_ever() -> None:
    near, far = tcp_pair()
    server = HttpConnection(far, Http1Server(LIMITS), LIMITS)
    await near.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    stream = await accepted(server)
    near.reset()

    class Endless(Content):
        ended = False
        ready = False

        async def __anext__(self) -> bytes:
            await trio.lowlevel.checkpoint()
            return b"x" * 65536

    with trio.fail_after(5), pytest.raises(ProxyError) as caught:
        await stream.transmit(OK, Endless())
    assert caught.value.flag is ResponseFlag.DOWNSTREAM_GONE
    server.close()


async def test_what_a_peer_broke_is_answered_before_it_is_told() -> None:
    near, far = tcp_pair()
    server = HttpConnection(far, Http1Server(LIMITS), LIMITS)
    await near.send_all(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n")
    with pytest.raises(ProxyError) as caught:
        await server.accept()
    assert caught.value.flag is ResponseFlag.DOWNSTREAM_PROTOCOL
    assert (await near.receive_some(65536)).startswith(b"HTTP/1.1 400 ")
    near.close()
    server.close()


@pytest.mark.parametrize(
    "farewell",
    [
        pytest.param(b"", id="closed"),
        pytest.param(b"HTTP/1.1 408 Request Timeout\r\n\r\n", id="answered without a request"),
    ],
)
async def test_an_idle_upstream_that_said_anything_is_not_used_again(farewell: bytes) -> None:
    near, far = tcp_pair()
    client = HttpConnection(near, Http1Client(LIMITS), LIMITS)
    assert client.alive()
    await (far.send_all(farewell) if farewell else far.send_eof())
    await near.wait_readable()
    assert not client.alive()
    client.close()
    far.close()


async def test_an_idle_upstream_that_pinged_before_it_left_is_not_used_again() -> None:
    async with http2_pair() as (client, server):
        await server.flush()
        await client.greeted()
        assert client.alive()
        ping = bytes.fromhex("000008 06 00 00000000") + b"farewell"
        await server.transport.send_all(ping)
        await server.transport.send_eof()
        assert isinstance(client.transport, TcpStream)
        await client.transport.wait_readable()
        assert not client.alive()


async def test_pipelined_requests_are_answered_in_order() -> None:
    near, far = tcp_pair()
    server = HttpConnection(far, Http1Server(LIMITS), LIMITS)
    await near.send_all(
        b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(3))
    )
    for number in range(3):
        stream = await accepted(server)
        assert stream.request.path == b"/%d" % number
        await stream.transmit(ResponseHead(204, NO_HEADERS, HttpVersion.HTTP11), Content())
        stream.release()
    await near.send_eof()
    assert await server.accept() is None
    near.close()
    server.close()
