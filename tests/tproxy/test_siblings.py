"""One page for all workers, also while one of them is silent."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial

import pytest
import trio

from fakes.desk import plain_view
from fakes.sockets import listening_at
from tproxy.admin import ADMIN, METRICS, Desk
from tproxy.codec.h1 import Http1Server
from tproxy.model.http import Content, Headers, HttpVersion, Request, RequestHead, Response
from tproxy.model.limits import Limits
from tproxy.net.http_connection import HttpConnection
from tproxy.net.listener import Listener, Slots
from tproxy.net.tcp_stream import TcpStream
from tproxy.proxy.http_server import HttpServer
from tproxy.siblings import SharedDesk, Siblings

LIMITS = Limits()


async def reload(sound: bool) -> bool:
    """Have the policies be as the files say, or not."""
    return sound


def desk(number: int) -> Desk:
    """The desk of one worker; the second's policies are bad."""
    view = replace(
        plain_view(),
        server_info=lambda: {"pid": number},
        config=lambda: {"generation": number},
        clusters=lambda: f"192.0.2.{number}:80 connections 1\n",
        certificates=lambda: {"certificates": [number]},
        reload=partial(reload, number != 2),
    )
    return Desk({**ADMIN, **METRICS}, view)


async def serve(number: int, stream: TcpStream) -> None:
    """Be a worker that answers the others."""
    connection = HttpConnection(stream, Http1Server(LIMITS), LIMITS)
    await HttpServer(connection, desk(number).answer, LIMITS).run()


@contextmanager
def silent_port() -> Iterator[int]:
    """A worker that has crashed: its socket is there, and nobody accepts."""
    with listening_at("127.0.0.1") as listening:
        yield listening.getsockname()[1]


@asynccontextmanager
async def shared() -> AsyncIterator[SharedDesk]:
    """The first of three workers' desk; the second answers, the third has crashed."""
    second = Listener([listening_at("127.0.0.1")], partial(serve, 2), slots=Slots(9))
    with silent_port() as third:
        ports = {1: 1, 2: second.addresses[0].port, 3: third}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(second.serve)
            yield SharedDesk(desk(1), Siblings(1, ports, LIMITS))
            nursery.cancel_scope.cancel()


async def ask(at: SharedDesk, target: str, method: bytes = b"GET") -> tuple[Response, str]:
    """The answer and its content."""
    head = RequestHead(method, b"http", b"a", target.encode(), Headers(), HttpVersion.HTTP11)
    response = await at.answer(Request(head, Content()))
    return response, b"".join([part async for part in response.body]).decode()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param("/server_info", {"workers": {"1": {"pid": 1}, "2": {"pid": 2}}}, id="facts"),
        pytest.param(
            "/config_dump",
            {"workers": {"1": {"generation": 1}, "2": {"generation": 2}}},
            id="configuration",
        ),
        pytest.param(
            "/certs",
            {"workers": {"1": {"certificates": [1]}, "2": {"certificates": [2]}}},
            id="certificates",
        ),
        pytest.param(
            "/decisions?last=denied",
            {"workers": {"1": {"decisions": []}, "2": {"decisions": []}}},
            id="decisions",
        ),
    ],
)
async def test_facts_stand_under_the_number_of_their_worker(
    target: str,
    expected: object,
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    async with shared() as at:
        assert json.loads((await ask(at, target))[1]) == expected


async def test_lines_say_whose_they_are(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (as above)
) -> None:
    async with shared() as at:
        assert (await ask(at, "/clusters"))[1].splitlines() == [
            "worker 1: 192.0.2.1:80 connections 1",
            "worker 2: 192.0.2.2:80 connections 1",
        ]
        assert "worker 2: info\n" in (await ask(at, "/logging?level=info", b"POST"))[1]
        for target in ("/metrics", "/stats?filter=build"):
            text = (await ask(at, target))[1]
            assert 'istio_build{worker="1",component="proxy",tag="1"} 1.0' in text
            assert 'istio_build{worker="2",component="proxy",tag="1"} 1.0' in text


async def test_what_is_no_page_or_one_workers_own_is_asked_of_nobody_else() -> None:
    async with shared() as at:
        assert (await ask(at, "/nothing"))[0].head.status == 404
        assert (await ask(at, "/ready"))[1] == "LIVE\npolicies generation 1 hash -\n"
        response, _ = await ask(at, "/stats", b"POST")
        assert (response.head.status, response.head.headers.get(b"allow")) == (405, b"GET")


async def test_a_head_has_the_fields_of_the_whole_page(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (as above)
) -> None:
    async with shared() as at:
        response, content = await ask(at, "/server_info", b"HEAD")
        whole = (await ask(at, "/server_info"))[1]
        assert content == ""
        assert response.head.headers.get(b"content-length") == str(len(whole)).encode()


async def test_one_worker_that_cannot_take_the_policies_is_not_passed_over(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (as above)
) -> None:
    async with shared() as at:
        response, content = await ask(at, "/policy/reload", b"POST")
        assert response.head.status == 422
        assert json.loads(content)["workers"].keys() == {"1", "2"}
