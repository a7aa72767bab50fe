"""An application asked over HTTP as a kubelet asks it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio

from tproxy.codec.h1 import Http1Client
from tproxy.model.app_probe import AppProbe, HttpGet, HttpHeader
from tproxy.model.limits import Limits
from tproxy.upstream.app_probe import MOST_CONTENT, AppProber, Health
from tproxy.upstream.connector import Connector

HOST = "127.0.0.1"
WELL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell"


def away(place: str, status: int = 302) -> bytes:
    """An answer that sends elsewhere."""
    return f"HTTP/1.1 {status} Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode(
        "latin-1"
    )


@dataclass
class Application:
    """Answers as it is told, one answer a connection, and keeps what it was asked."""

    port: int = 0
    answers: list[bytes] = field(default_factory=list)
    asked: list[bytes] = field(default_factory=list)

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer once."""
        self.asked.append(await stream.receive_some(65536))
        await stream.send_all(self.answers.pop(0))
        await stream.aclose()

    async def health(self, *answers: bytes, **probe: object) -> Health:
        """Ask it, and let it answer so."""
        self.answers = [answer.replace(b"PORT", b"%d" % self.port) for answer in answers]
        limits = Limits()
        prober = AppProber(Connector(limits), lambda _: Http1Client(limits), limits)
        asks = HttpGet(port=self.port, **probe)  # type: ignore[arg-type]
        return await prober.ask(AppProbe(http_get=asks), HOST)

    def lines(self) -> list[str]:
        """The request lines that it heard."""
        return [each.partition(b" HTTP/1.1")[0].decode() for each in self.asked]


@asynccontextmanager
async def listening() -> AsyncIterator[Application]:
    """An application on loopback."""
    application = Application()
    listeners = await trio.open_tcp_listeners(0, host=HOST)
    application.port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, application.serve, listeners)
        yield application
        nursery.cancel_scope.cancel()


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    """An application on loopback."""
    async with listening() as each:
        yield each


@pytest.mark.parametrize(
    ("path", "line"),
    [
        pytest.param("/healthz", "GET /healthz", id="as it is"),
        pytest.param("healthz", "GET /healthz", id="without a slash"),
        pytest.param("/a?b=%20c", "GET /a?b=%20c", id="with a query"),
        pytest.param("/a b", "GET /a%20b", id="with a space"),
        pytest.param("/a#b", "GET /a", id="with a fragment"),
        pytest.param("/\u00e4", "GET /%C3%A4", id="beyond ASCII"),
    ],
)
async def test_a_path_is_asked_for_as_a_request_line_can_say_it(
    application: Application, path: str, line: str
) -> None:
    assert await application.health(WELL, path=path) == Health(200, b"well")
    assert application.lines() == [line]


async def test_fields_of_the_probe_replace_the_usual_ones(application: Application) -> None:
    fields = {"Host": "a.example", "User-Agent": "b", "Content-Length": "5", "X-C": "d"}
    headers = tuple(HttpHeader(name=name, value=value) for name, value in fields.items())
    assert (await application.health(WELL, http_headers=headers)).status == 200
    assert application.asked[0].split(b"\r\n")[1:] == [
        b"Host: a.example", b"accept: */*", b"connection: close", b"User-Agent: b", b"X-C: d", b"", b"",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "line"),
    [
        pytest.param("/b", "GET /b", id="a path"),
        pytest.param("b?c", "GET /b?c", id="beside it"),
        pytest.param(f"http://{HOST}:PORT/b", "GET /b", id="this pod"),
        pytest.param("/b c\xff", "GET /b%20c%FF", id="what no URL may say"),
    ],
)
async def test_a_redirect_to_the_pod_itself_is_followed(
    application: Application, place: str, line: str
) -> None:
    assert (await application.health(away(place), WELL)).status == 200
    assert application.lines() == ["GET /", line]


async def test_a_redirect_to_another_port_of_the_pod_is_followed(application: Application) -> None:
    async with listening() as other:
        other.answers = [b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"]
        assert await application.health(away(f"http://{HOST}:{other.port}/b")) == Health(500, b"no")
        assert f"Host: {HOST}:{other.port}".encode() in other.asked[0]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(away("http://192.0.2.9/"), id="another host"),
        pytest.param(away("ftp://127.0.0.1/"), id="another protocol"),
        pytest.param(away("http://[bad/"), id="no URL"),
        pytest.param(away("/b", 300), id="a choice"),
        pytest.param(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", id="nowhere"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\n\r\n", id="no redirect"),
    ],
)
async def test_any_other_redirect_is_success(application: Application, answer: bytes) -> None:
    assert (await application.health(answer)).status == 200
    assert len(application.asked) == 1


async def test_redirects_have_an_end(application: Application) -> None:
    health = await application.health(*[away("/")] * 11)
    assert health == Health(503, b"more than 10 redirects\n")
    assert len(application.asked) == 10


async def test_no_more_of_an_answer_than_a_kubelet_reads_is_passed_on(
    application: Application,
) -> None:
    length = 3 * MOST_CONTENT
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (length, b"x" * length)
    assert await application.health(answer) == Health(200, b"x" * MOST_CONTENT)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"SSH-2.0-x\r\n", id="something else"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", id="half of it"),
    ],
)
async def test_who_does_not_answer_in_http_is_unwell(
    application: Application, answer: bytes
) -> None:
    assert (await application.health(answer)).status == 503
