"""What only HTTP/1 has: bytes as they were written, and connections that say when they end."""

import pytest
import trio

from fakes.engines import PARSERS
from fakes.path import Path, ask, reset, to_app, to_script
from fakes.talk import Broken, Call, answer, echo, whole
from fakes.talk_h1 import head_of, rest_of
from tproxy.codec.h1_parser import HeadParser
from tproxy.model.flow import Protocol
from tproxy.model.http import Field
from tproxy.net.tcp_stream import TcpStream

pytestmark = pytest.mark.parametrize("parser", PARSERS)


async def hello(call: Call) -> None:
    """Answer with what was asked for."""
    await whole(call)
    assert isinstance(call.heard.start, tuple)
    await answer(call, call.heard.start[1])


async def said(path: Path, data: bytes) -> tuple[TcpStream, bytes]:
    """Send raw bytes, end the stream, and read everything that comes back."""
    near = path.dial()
    await near.send_all(data)
    await near.send_eof()
    return near, await rest_of(near)


async def test_fields_keep_their_case_order_and_repetitions(parser: HeadParser) -> None:
    heard: list[bytes] = []

    async def script(stream: trio.SocketStream) -> None:
        heard.append(await head_of(stream))
        await stream.send_all(
            b"HTTP/1.1 200 All Right\r\nX-Zeta: 1\r\nSet-Cookie: a=1\r\nx-alpha: 2\r\n"
            b"Set-Cookie: b=2\r\nContent-Length: 0\r\n\r\n"
        )

    async with to_script(script, parser=parser) as path:
        near = path.dial()
        await near.send_all(
            b"GET /a HTTP/1.1\r\nX-Zeta: 1\r\nHost: shop\r\nx-B: 1\r\nAccept: a\r\nX-b: 2\r\nACCEPT: b\r\n\r\n"
        )
        response = await head_of(near)
    request_lines = heard[0].split(b"\r\n")
    assert request_lines[:7] == [
        b"GET /a HTTP/1.1",
        b"X-Zeta: 1",
        b"Host: shop",
        b"x-B: 1",
        b"Accept: a",
        b"X-b: 2",
        b"ACCEPT: b",
    ]
    assert response.split(b"\r\n")[:6] == [
        b"HTTP/1.1 200 All Right",
        b"X-Zeta: 1",
        b"Set-Cookie: a=1",
        b"x-alpha: 2",
        b"Set-Cookie: b=2",
        b"Content-Length: 0",
    ]


@pytest.mark.slow
async def test_an_upstream_that_reads_only_once_it_has_answered_is_heard_out(
    parser: HeadParser,
) -> None:
    size = 16 << 20
    body = b"x" * size

    async def script(stream: trio.SocketStream) -> None:
        got = await head_of(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + body[1:])
        left = size - len(got.partition(b"\r\n\r\n")[2])
        while left:
            left -= len(await stream.receive_some(65536))
        await stream.send_all(b"x")

    async with to_script(script, parser=parser) as path, trio.open_nursery() as nursery:
        call = await path.talk().call()

        async def upload() -> None:
            await call.say((b"POST", b"/"), [(b"content-length", b"%d" % size)])
            await call.send(body)
            await call.end()

        nursery.start_soon(upload)
        assert (await whole(call)).body == body


async def test_a_body_that_ends_with_its_connection_passes_whole(parser: HeadParser) -> None:
    async def script(stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 100_000)
        await stream.aclose()

    async with to_script(script, parser=parser) as path:
        assert (await path.get()).body == b"x" * 100_000


async def test_a_not_modified_answer_keeps_its_length(parser: HeadParser) -> None:
    async def script(stream: trio.SocketStream) -> None:
        while True:
            await head_of(stream)
            await stream.send_all(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n")

    async with to_script(script, parser=parser) as path:
        talk = path.talk()
        for _ in range(2):
            assert (await ask(talk)).get(b"content-length") == [b"5"]
        assert len(path.origin.accepted) == 1


async def test_pipelined_requests_are_answered_in_order(parser: HeadParser) -> None:
    async with to_app(hello, Protocol.HTTP1, parser=parser) as path:
        near = path.dial()
        await near.send_all(
            b"".join(b"GET /%d HTTP/1.1\r\nHost: shop\r\n\r\n" % number for number in range(20))
        )
        data = b""
        while not data.endswith(b"/19"):
            data += await near.receive_some(65536)
        bodies = [part.rpartition(b"\r\n\r\n")[2] for part in data.split(b"HTTP/1.1 200 ")[1:]]
        assert bodies == [b"/%d" % number for number in range(20)]


@pytest.mark.parametrize(
    ("request_head", "stays"),
    [
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", False, id="1.0"),
        pytest.param(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True, id="1.0 kept"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n", True, id="1.1 kept"),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n", False, id="1.1 closed"
        ),
    ],
)
async def test_a_connection_stays_as_long_as_its_requests_say(
    parser: HeadParser, request_head: bytes, stays: bool
) -> None:
    async with to_app(hello, Protocol.HTTP1, parser=parser) as path:
        near = path.dial()
        await near.send_all(request_head)
        head = await head_of(near)
        assert head.startswith(b"HTTP/1.1 200 ")
        if stays:
            await near.send_all(request_head)
            assert b"HTTP/1.1 200 " in await head_of(near)
        else:
            assert b"connection: close" in head.lower()
            assert (head + await rest_of(near)).endswith(b"\r\n\r\n/")


async def test_a_downstream_that_ends_its_stream_behind_its_last_request_gets_its_answer(
    parser: HeadParser,
) -> None:
    asked, answering = trio.Event(), trio.Event()

    async def slow(call: Call) -> None:
        await whole(call)
        asked.set()
        await answering.wait()
        await answer(call, b"there you are")

    async with to_app(slow, Protocol.HTTP1, parser=parser) as path:
        near = path.dial()
        await near.send_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
        await asked.wait()
        await near.send_eof()
        await trio.testing.wait_all_tasks_blocked(0.01)
        answering.set()
        assert (await rest_of(near)).endswith(b"there you are")
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (200, "-")


async def test_requests_sent_together_with_the_streams_end_are_all_answered(
    parser: HeadParser,
) -> None:
    async with to_app(hello, Protocol.HTTP1, parser=parser) as path:
        request = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n"
        _, data = await said(path, request * 3)
        assert data.count(b"HTTP/1.1 200 ") == 3


@pytest.mark.parametrize("rude", [pytest.param(True, id="reset"), pytest.param(False, id="closed")])
async def test_a_downstream_that_leaves_while_its_answer_is_awaited_cancels_the_exchange(
    parser: HeadParser,
    rude: bool,
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    asked, left = trio.Event(), trio.Event()

    async def silent(stream: trio.SocketStream) -> None:
        await head_of(stream)
        asked.set()
        assert await stream.receive_some(1) == b""
        left.set()

    async with to_script(silent, parser=parser) as path:
        near = path.dial()
        await near.send_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
        await asked.wait()
        near.reset() if rude else near.close()
        await left.wait()
        (line,) = await path.logged()
        assert line["response_code"] == 0
        assert line["response_flags"] == "DC"
        assert line["response_code_details"] == "downstream_remote_disconnect"


async def test_a_malformed_request_is_refused_and_logged_once(parser: HeadParser) -> None:
    async with to_app(hello, Protocol.HTTP1, parser=parser) as path:
        _, data = await said(path, b"GET / HTTP/1.1\r\nHost : shop\r\n\r\n")
        assert data.startswith(b"HTTP/1.1 400 ")
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (400, "DPE")


async def test_a_malformed_body_ends_its_exchange_and_is_logged_once(parser: HeadParser) -> None:
    async with to_app(echo, Protocol.HTTP1, parser=parser) as path:
        near = path.dial()
        head = b"POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n"
        await near.send_all(head + b"5\r\nhello\r\n")
        data = await head_of(near)
        while b"hello" not in data:
            data += await near.receive_some(65536)
        await near.send_all(b"nonsense\r\n")
        with pytest.raises(trio.BrokenResourceError):
            await near.receive_some(65536)
        (line,) = await path.logged()
        assert (line["method"], line["response_code"]) == ("POST", 200)
        assert line["response_flags"] == "DPE"


async def test_an_idle_connection_that_the_upstream_resets_under_a_get_is_replaced(
    parser: HeadParser,
) -> None:
    async def app(stream: trio.SocketStream) -> None:
        """Answer each connection's first request, and reset it at the second."""
        await head_of(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await head_of(stream)
        reset(stream)

    async with to_script(app, parser=parser) as path:
        talk = path.talk()
        for _ in range(4):
            assert (await ask(talk)).start == 200
        assert len(path.origin.accepted) == 4


async def test_a_post_over_an_idle_connection_is_not_repeated(parser: HeadParser) -> None:
    async def app(stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await head_of(stream)
        reset(stream)

    async with to_script(app, parser=parser) as path:
        talk = path.talk()
        assert (await ask(talk)).start == 200
        assert (await ask(talk, method=b"POST")).start == 503
        assert (await path.logged(2))[1]["response_flags"] == "UC"
        assert len(path.origin.accepted) == 1


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", id="counted"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n", id="chunked"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="close-delimited"),
    ],
)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_what_the_upstream_broke_off_is_never_whole_downstream(
    parser: HeadParser, head: bytes, version: bytes
) -> None:
    breaking = trio.Event()

    async def script(stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(head + b"some")
        await breaking.wait()
        reset(stream)

    async with to_script(script, parser=parser) as path:
        near = path.dial()
        await near.send_all(b"GET / HTTP/%b\r\nHost: shop\r\n\r\n" % version)
        data = await head_of(near)
        while b"some" not in data:
            data += await near.receive_some(65536)
        breaking.set()
        with pytest.raises(trio.BrokenResourceError):
            await near.receive_some(65536)
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (200, "UC")
        assert line["response_code_details"] == (
            "upstream_reset_after_response_started{connection_termination}"
        )


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome", id="counted"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n", id="chunked"
        ),
    ],
)
async def test_a_body_that_its_upstream_ends_too_early_is_broken_downstream(
    parser: HeadParser, sent: bytes
) -> None:
    async def script(stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(sent)
        await stream.aclose()

    async with to_script(script, parser=parser) as path:
        with pytest.raises(Broken):
            await path.get()
        (line,) = await path.logged()
        assert (line["response_code"], line["response_flags"]) == (200, "UC")


async def test_a_request_without_an_authority_names_the_upstream(parser: HeadParser) -> None:
    heard: list[bytes] = []

    async def script(stream: trio.SocketStream) -> None:
        heard.append(await head_of(stream))
        await stream.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with to_script(script, parser=parser) as path:
        _, data = await said(path, b"GET / HTTP/1.0\r\n\r\n")
        assert data.startswith(b"HTTP/1.1 204 ")
        assert b"\r\nHost: " + str(path.origin.address).encode() in heard[0]


@pytest.mark.parametrize(
    ("asked", "answered", "kept"),
    [
        pytest.param((), (b"WWW-Authenticate", b"NTLM"), False, id="challenge"),
        pytest.param(
            (), (b"www-authenticate", b"Basic realm=x, negotiate"), False, id="one of two"
        ),
        pytest.param((), (b"Proxy-Authenticate", b"Negotiate oRQw"), False, id="a proxy's"),
        pytest.param(
            ((b"Authorization", b"Negotiate YII"),), (b"X", b"y"), False, id="credentials"
        ),
        pytest.param(
            ((b"Proxy-Authorization", b"NTLM TlR"),), (b"X", b"y"), False, id="to a proxy"
        ),
        pytest.param(((b"Authorization", b"Basic bnRsbTo="),), (b"X", b"y"), True, id="Basic"),
        pytest.param((), (b"WWW-Authenticate", b"Negotiated"), True, id="another scheme"),
    ],
)
async def test_a_connection_that_is_one_users_own_goes_to_nobody_else(
    parser: HeadParser, asked: tuple[Field, ...], answered: Field, kept: bool
) -> None:
    async def app(call: Call) -> None:
        await whole(call)
        await answer(call, b"hello", fields=[answered])

    async with to_app(app, Protocol.HTTP1, parser=parser) as path:
        assert (await path.get(fields=asked)).body == b"hello"
        assert (await path.get()).body == b"hello"
        assert len(path.origin.accepted) == (1 if kept else 2)
