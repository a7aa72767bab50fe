"""What attackers do costs them more than anybody else: others are answered, and memory stays."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from fakes.footprint import (
    answer,
    footprint,
    settled,
    sidecar_pids,
    slowest_echo,
    suffered,
    watched,
)
from fakes.mesh import APPS, Mesh, quiet_mesh, running_pods
from fakes.sidecars import handshakes
from fakes.siege import (
    FLOODS,
    HTTP1,
    HTTP2,
    STALLED,
    flooded,
    make_site,
    stalled,
)
from tproxy.lab import Lab, attach

pytestmark = [pytest.mark.netns, pytest.mark.timed, pytest.mark.slow]

FLOOD_SECONDS = 1.0
MOST_SECONDS = 2.0
MOST_MEMORY = 64 << 20
CONNECTS = 2000
BAD = 8090
HEAD_SECONDS = 3
HANDSHAKES = 100
"""At once: less than a flood begins, which in its first second meets this bound and no time-out."""
ECHO = ["socat", "TCP-LISTEN:7000,fork,reuseaddr", "PIPE"]
LIMITS = f"head-seconds={HEAD_SECONDS} stream-idle-seconds=5 handshakes={HANDSHAKES}"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LONG_SETTINGS = b"\0\6\0\4\0\0\0\0\0"
UPSTREAM_FAULTS = {
    "/gone": b"503",
    "/garbage": b"502",
    "/both-framings": b"502",
    "/informational": b"502",
    "/endless-head": b"502",
}


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A captured server's pod, an uncaptured client's, and one whose sidecar is the server's peer, for all tests here."""
    directory = tmp_path_factory.mktemp("floods")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TPROXY_LIMITS", LIMITS)
        lab = Lab(directory)
        with running_pods(lab, {"server": (), "client": ("--no-proxy",), "neighbour": ()}):
            yield lab


@pytest.fixture
async def siege(pods: Lab, tmp_path: Path) -> AsyncIterator[Mesh]:
    """The two pods, with servers of both HTTP versions behind the sidecar."""
    make_site(tmp_path)
    async with quiet_mesh(pods) as mesh:
        await mesh.serve(["nginx", "-c", str(tmp_path / "nginx.conf")], HTTP1)
        await mesh.serve(["nghttpd", "--no-tls", "-d", str(tmp_path), str(HTTP2)], HTTP2)
        yield mesh


@pytest.fixture
async def broken(siege: Mesh) -> Mesh:
    """The same, and an origin that is broken."""
    await siege.serve([sys.executable, str(APPS / "bad_origin.py"), str(BAD)], BAD)
    return siege


def there(siege: Mesh, port: int = HTTP1) -> tuple[str, int]:
    """Where the server is."""
    return siege.server.addresses.v4, port


# First, as memory that other tests made the allocator keep would hide what is held here.
@pytest.mark.parametrize(("name", "port"), [pytest.param(*each, id=each[0]) for each in STALLED])
async def test_a_thousand_readers_that_stall_cost_little(siege: Mesh, name: str, port: int) -> None:
    pids = sidecar_pids(siege.server)
    before = await settled(pids, within=30)
    async with stalled(siege.client, name, siege.server, port):
        now = await settled(pids, within=30)
    assert now.memory - before.memory <= MOST_MEMORY


@pytest.mark.parametrize(
    ("name", "port"), [pytest.param(name, port, id=name) for name, port in FLOODS]
)
async def test_others_are_answered_and_memory_stays(siege: Mesh, name: str, port: int) -> None:
    async with watched(siege.client, siege.server, there(siege)) as watch:
        await flooded(siege.client, name, siege.server, port, FLOOD_SECONDS)
    assert watch.slowest < MOST_SECONDS
    assert watch.growth <= MOST_MEMORY


@pytest.mark.parametrize(
    ("name", "result", "least"),
    [
        pytest.param("tls-slow-hellos", "ok", 1, id="hellos that trickle"),
        pytest.param("tls-half-handshakes", "overload", HANDSHAKES, id="handshakes without an end"),
        pytest.param("tls-garbage", "protocol", HANDSHAKES, id="garbage behind a hello"),
        pytest.param("tls-handshakes", "ok", HANDSHAKES, id="handshakes to their end"),
    ],
)
async def test_handshakes_of_others_and_what_is_open_go_on(
    pods: Lab, siege: Mesh, name: str, result: str, least: int
) -> None:
    await siege.serve(ECHO, 7000)
    neighbour = attach(pods, "neighbour")
    before = await handshakes(siege.server)
    async with watched(neighbour, siege.server, there(siege, 7000), slowest_echo) as watch:
        identity = pods.identity("neighbour")
        await flooded(siege.client, name, siege.server, HTTP1, FLOOD_SECONDS, identity=identity)
    assert watch.slowest < MOST_SECONDS
    assert watch.growth <= MOST_MEMORY
    assert (await handshakes(siege.server) - before)[result] >= least


async def test_stalled_streams_leave_other_streams_alone(siege: Mesh) -> None:
    async with stalled(siege.client, "stalled-few-streams", siege.server, HTTP2):
        await settled(sidecar_pids(siege.server), within=30)
        url = f"http://{siege.server.addresses.v4}:{HTTP2}/1m"
        asked = ("curl", "-sS", "-m5", "--http2-prior-knowledge", "-o", "/dev/null")
        done = await siege.run(*asked, "-w", "%{http_code} %{size_download}", url)
    assert (done.stdout, done.stderr) == ("200 1048576", "")


async def test_connects_that_are_reset_leave_no_descriptor(siege: Mesh) -> None:
    pids = sidecar_pids(siege.server)
    before = await settled(pids, within=30)
    made = await flooded(siege.client, "connects", siege.server, HTTP1, CONNECTS)
    assert int(made) == CONNECTS
    with trio.fail_after(20):
        while footprint(pids).descriptors > before.descriptors:  # noqa: ASYNC110
            await trio.sleep(0.1)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param((b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"x"), id="http1"),
        pytest.param((PREFACE + LONG_SETTINGS, b"\0"), id="http2"),
    ],
)
async def test_heads_that_trickle_are_dropped(siege: Mesh, said: tuple[bytes, bytes]) -> None:
    with trio.fail_after(HEAD_SECONDS + 10):
        seconds = await suffered(siege.client, there(siege), *said)
    assert HEAD_SECONDS <= seconds < HEAD_SECONDS + 4


@pytest.mark.parametrize(("path", "status"), UPSTREAM_FAULTS.items())
async def test_an_upstreams_fault_is_told_as_what_it_is(
    broken: Mesh, path: str, status: bytes
) -> None:
    said = await answer(broken.client, there(broken, BAD), asking(path))
    assert said.split(b" ", 2)[1] == status


async def test_upstreams_that_never_answer_are_given_up(broken: Mesh) -> None:
    said = await answer(broken.client, there(broken, BAD), asking("/never"))
    assert said.startswith(b"HTTP/1.1 504 ")


@pytest.mark.parametrize("path", ["/cut-counted", "/cut-chunked", "/cut-delimited"])
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
async def test_a_body_that_was_cut_never_looks_whole(
    broken: Mesh, path: str, version: bytes
) -> None:
    if version == b"HTTP/1.0" and path != "/cut-counted":
        # Without a length, an end would complete the body.
        with pytest.raises(trio.BrokenResourceError):
            await answer(broken.client, there(broken, BAD), asking(path, version))
        return
    said = await answer(broken.client, there(broken, BAD), asking(path, version), broken=True)
    head, _, body = said.partition(b"\r\n\r\n")
    if b"content-length: 100" in head.lower():
        assert len(body) < 100
    else:
        assert b"transfer-encoding: chunked" in head.lower()
        assert not body.endswith(b"0\r\n\r\n")


def asking(path: str, version: bytes = b"HTTP/1.1") -> bytes:
    """A request that asks for one answer."""
    return b"GET %b %b\r\nHost: server\r\nConnection: close\r\n\r\n" % (path.encode(), version)
