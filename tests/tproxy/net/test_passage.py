"""Large content passes inside the kernel as if it were copied: every byte and none beyond, counted, and each failure told."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from socket import MSG_OOB

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fakes.sockets import open_descriptors, tcp_pair
from tproxy.codec.h1 import Http1Client, Http1Server
from tproxy.codec.h2_server import Http2Server
from tproxy.model.http import Content, ResponseHead
from tproxy.model.limits import Limits
from tproxy.model.outcome import ProxyError, ResponseFlag, stream_idle
from tproxy.net.http_connection import HttpConnection
from tproxy.net.http_stream import HttpStream
from tproxy.net.passage import LEAST_BYTES
from tproxy.net.pump import Pipe, Pipes
from tproxy.net.tcp_stream import TcpStream

LIMITS = Limits()
ASKED = b"GET / HTTP/1.1\r\nhost: app\r\n\r\n"
LARGE = Random(1).randbytes(8 << 20)


def counted(content: bytes) -> bytes:
    """A response of declared length."""
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(content), content)


async def nobody_informed(_: ResponseHead) -> None:
    """Pass no informational response on."""


@dataclass
class Between:
    """A proxy between two raw ends, with one exchange at a time. What changes: the exchange that is open."""

    client: TcpStream
    near: HttpConnection
    far: HttpConnection
    origin: TcpStream
    pool: Pipes = field(default_factory=Pipes)
    answered: HttpStream | None = None
    given: HttpStream | None = None

    async def carry(self) -> None:
        """Carry one exchange; what fails is raised."""
        self.near.pipes = self.pool
        self.given = asked = await self.near.accept()
        assert asked is not None
        self.answered = answering = self.far.open()
        try:
            answering.send_head(asked.request, ended=asked.ended)
            await answering.send_body(asked)
            head = await answering.response(nobody_informed)
            await asked.transmit(head, answering)
        finally:
            asked.release()
            answering.release()

    async def ask(self) -> None:
        """Have the client ask, and the origin be asked."""
        await self.client.send_all(ASKED)
        assert await self.origin.receive_some(65536)

    @property
    def spliced(self) -> bool:
        """Whether a pipe was used."""
        return bool(self.pool._ready)


@asynccontextmanager
async def between() -> AsyncIterator[Between]:
    """A client and an origin, and what carries between them; no descriptor is left."""
    before = open_descriptors()
    client, near = tcp_pair()
    far, origin = tcp_pair()
    downstream = HttpConnection(near, Http1Server(LIMITS), LIMITS)
    upstream = HttpConnection(far, Http1Client(LIMITS), LIMITS)
    at = Between(client, downstream, upstream, origin)
    try:
        yield at
    finally:
        for end in (client, origin, downstream, upstream):
            end.close()
        at.pool.close()
    assert open_descriptors() == before


async def read(stream: TcpStream, size: int) -> bytes:
    """Read exactly so much."""
    parts = []
    while size and (part := await stream.receive_some(min(size, 1 << 20))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


async def refused(carry: Callable[[], Awaitable[None]], told: list[ProxyError]) -> None:
    """Carry an exchange that fails."""
    with pytest.raises(ProxyError) as failure:
        await carry()
    told.append(failure.value)


async def test_large_content_passes_whole_and_counted_exchange_after_exchange() -> None:
    async with between() as at:
        for content in (LARGE, LARGE[::-1]):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(at.carry)
                await at.ask()
                nursery.start_soon(at.origin.send_all, counted(content))
                assert await read(at.client, len(counted(content))) == counted(content)
            assert at.answered is not None
            assert at.given is not None
            assert at.answered.size == len(content)
            assert at.given.complete
            assert at.answered.complete
            assert at.far.reusable
        assert at.spliced
        assert at.near.progress == 2 * len(counted(LARGE))


async def test_content_that_comes_in_pieces_passes_as_it_comes() -> None:
    content = LARGE[: 4 * LEAST_BYTES]
    async with between() as at:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(at.carry)
            await at.ask()
            said = counted(content)
            for start in range(0, len(said), 50_000):
                piece = said[start : start + 50_000]
                await at.origin.send_all(piece)
                assert await read(at.client, len(piece)) == piece
                await wait_all_tasks_blocked()
        assert at.spliced


@pytest.mark.parametrize(
    ("said", "spliced"),
    [
        pytest.param(counted(LARGE[: LEAST_BYTES - 1]), False, id="little"),
        pytest.param(counted(LARGE[: 2 * LEAST_BYTES]), True, id="much"),
    ],
)
async def test_only_what_is_worth_a_pipe_takes_one(said: bytes, spliced: bool) -> None:
    async with between() as at:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(at.carry)
            await at.ask()
            head = said.index(b"\r\n\r\n") + 4
            await at.origin.send_all(said[:head])
            assert await read(at.client, head) == said[:head]
            await wait_all_tasks_blocked()
            await at.origin.send_all(said[head:])
            assert await read(at.client, len(said) - head) == said[head:]
        assert at.spliced is spliced


async def test_what_follows_the_content_is_left_and_ends_the_connection() -> None:
    async with between() as at:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(at.carry)
            await at.ask()
            nursery.start_soon(at.origin.send_all, counted(LARGE) + b"HTTP/1.1 200 OK\r\n\r\n")
            assert await read(at.client, len(counted(LARGE))) == counted(LARGE)
        assert not at.far.alive(look=True)
        assert at.near.codec.reusable


async def test_chunks_are_read() -> None:
    said = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    said %= (len(LARGE), LARGE)
    async with between() as at:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(at.carry)
            await at.ask()
            nursery.start_soon(at.origin.send_all, said)
            got = b""
            while not got.endswith(b"0\r\n\r\n"):
                got += await at.client.receive_some(1 << 20)
        assert not at.spliced
        assert len(got) >= len(said)


@pytest.mark.parametrize("most", [0, 1])
async def test_where_no_pipe_is_left_or_none_takes_sockets_content_is_copied(most: int) -> None:
    async with between() as at:
        at.pool = Pipes(0)
        if most:
            no_pipe = os.memfd_create("no pipe")
            at.pool._ready.append(Pipe(no_pipe, os.dup(no_pipe), 1 << 20))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(at.carry)
            await at.ask()
            nursery.start_soon(at.origin.send_all, counted(LARGE))
            assert await read(at.client, len(counted(LARGE))) == counted(LARGE)
        assert not at.spliced


async def test_urgent_data_does_not_stop_it() -> None:
    async with between() as at, trio.open_nursery() as nursery:
        nursery.start_soon(at.carry)
        await at.ask()
        said = counted(LARGE)
        await at.origin.send_all(said[:300_000])
        assert await read(at.client, 300_000) == said[:300_000]
        await wait_all_tasks_blocked()
        assert at.origin.socket.send(said[300_000:300_001], MSG_OOB) == 1
        nursery.start_soon(at.origin.send_all, said[300_001:])
        assert await read(at.client, len(said) - 300_000) == said[300_000:]


@pytest.mark.parametrize("reset", [pytest.param(False, id="ends"), pytest.param(True, id="resets")])
async def test_an_upstream_that_is_gone_too_early_is_told(reset: bool) -> None:
    told: list[ProxyError] = []
    async with between() as at:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused, at.carry, told)
            await at.ask()
            half = counted(LARGE)[: 1 << 20]
            nursery.start_soon(at.origin.send_all, half)
            assert await read(at.client, len(half)) == half
            await wait_all_tasks_blocked()
            (at.origin.reset if reset else at.origin.close)()
        assert at.given is not None
        assert at.given.truncated
        assert not at.far.reusable
    assert [each.flag for each in told] == [ResponseFlag.UPSTREAM_CLOSED]


async def test_a_downstream_that_is_gone_is_told_and_its_pipe_is_closed() -> None:
    told: list[ProxyError] = []
    async with between() as at:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused, at.carry, told)
            await at.ask()
            sending = trio.CancelScope()

            async def send() -> None:
                with sending:
                    await at.origin.send_all(counted(LARGE * 4))

            nursery.start_soon(send)
            await read(at.client, 1 << 20)
            await wait_all_tasks_blocked(0.05)  # the client reads no more
            at.client.reset()
            while not told:
                await trio.lowlevel.checkpoint()
            sending.cancel()
        assert not at.spliced
    assert [each.flag for each in told] == [ResponseFlag.DOWNSTREAM_GONE]


async def test_a_downstream_that_does_not_read_is_one_that_is_waited_for_and_may_be_left() -> None:
    told: list[ProxyError] = []
    async with between() as at, trio.open_nursery() as nursery:
        nursery.start_soon(refused, at.carry, told)
        await at.ask()
        sending = nursery.cancel_scope
        nursery.start_soon(at.origin.send_all, counted(LARGE * 4))
        while not at.near.blocked:
            await wait_all_tasks_blocked(0.05)
        assert at.given is not None
        before = at.given.progress
        await wait_all_tasks_blocked(0.05)
        assert at.given.progress == before
        at.near.abandon(stream_idle(request_whole=True))
        while not told:
            await trio.lowlevel.checkpoint()
        sending.cancel()
    assert [each.flag for each in told] == [ResponseFlag.IDLE_TIMEOUT]


async def test_who_waits_for_more_is_interrupted_by_a_failure() -> None:
    told: list[ProxyError] = []
    async with between() as at, trio.open_nursery() as nursery:
        nursery.start_soon(refused, at.carry, told)
        await at.ask()
        half = counted(LARGE)[: 1 << 20]
        nursery.start_soon(at.origin.send_all, half)
        assert await read(at.client, len(half)) == half
        await wait_all_tasks_blocked()
        assert at.answered is not None
        at.answered.stall()
    assert [each.flag for each in told] == [ResponseFlag.IDLE_TIMEOUT]


async def test_who_waits_for_more_learns_that_its_connection_was_closed() -> None:
    told: list[ProxyError] = []
    async with between() as at, trio.open_nursery() as nursery:
        nursery.start_soon(refused, at.carry, told)
        await at.ask()
        half = counted(LARGE)[: 1 << 20]
        nursery.start_soon(at.origin.send_all, half)
        assert await read(at.client, len(half)) == half
        await wait_all_tasks_blocked()
        at.far.close()
    assert [each.flag for each in told] == [ResponseFlag.UPSTREAM_CLOSED]


async def test_cancelled_it_leaves_no_pipe_with_something_in_it() -> None:
    async with between() as at:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(at.carry)
            await at.ask()
            nursery.start_soon(at.origin.send_all, counted(LARGE * 4))
            while not at.near.blocked:
                await wait_all_tasks_blocked(0.05)
            nursery.cancel_scope.cancel()
        assert not at.spliced
        assert not at.far.reusable


async def test_a_client_of_http2_gets_it_copied() -> None:
    async with between() as at:
        at.near.codec = Http2Server(LIMITS)
        at.near.pipes = at.pool
        stream = HttpStream(at.near, 1)
        answering = at.far.open()
        assert answering.connection is at.far
        await stream._pass_on(answering)
        await stream._pass_on(Content(b"ours"))
        assert not at.spliced


def posted(content: bytes) -> bytes:
    """A request of declared length."""
    return b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: %d\r\n\r\n%b" % (len(content), content)


async def test_large_content_of_requests_passes_alike() -> None:
    async with between() as at:
        for content in (LARGE, LARGE[::-1]):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(at.carry)
                nursery.start_soon(at.client.send_all, posted(content))
                assert await read(at.origin, len(posted(content))) == posted(content)
                await at.origin.send_all(counted(b"thanks"))
                assert await read(at.client, len(counted(b"thanks"))) == counted(b"thanks")
            assert at.given is not None
            assert at.given.size == len(content)
            assert at.given.complete
            assert at.far.reusable
        assert at.spliced


@pytest.mark.parametrize(
    ("whose", "flag"),
    [
        pytest.param("client", ResponseFlag.DOWNSTREAM_GONE, id="downstream"),
        pytest.param("origin", ResponseFlag.UPSTREAM_CLOSED, id="upstream"),
    ],
)
async def test_who_is_gone_before_all_of_a_request_has_passed_is_told(
    whose: str, flag: ResponseFlag
) -> None:
    told: list[ProxyError] = []
    async with between() as at, trio.open_nursery() as nursery:
        nursery.start_soon(refused, at.carry, told)
        await at.client.send_all(posted(LARGE)[: 1 << 20])
        await read(at.origin, 1 << 20)
        await wait_all_tasks_blocked()
        getattr(at, whose).reset()
        if whose == "origin":
            await wait_all_tasks_blocked(0.01)
            nursery.start_soon(at.client.send_all, posted(LARGE)[1 << 20 :])
        while not told:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert [each.flag for each in told] == [flag]
