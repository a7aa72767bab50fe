"""Envoy as an application's server, in both HTTP versions: its clients see through two sidecars what they see beside it."""

import sys
from pathlib import Path

import pytest

from fakes.mesh import APPS, Mesh
from fakes.two_ways import both_ways, logged, python

pytestmark = pytest.mark.netns

PORT = 8080
ORIGIN = f"http://server:{PORT}"
MEBIBYTE = bytes(range(256)) * 4096
VERSIONS = {"HTTP/1": "--http1.1", "HTTP/2": "--http2-prior-knowledge"}
versions = pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)


@pytest.fixture
async def mesh(mesh: Mesh) -> Mesh:
    """The pods with Envoy in the server's; what a test starts in them is ended after it."""
    envoy = [f"{sys.prefix}/bin/envoy", "-c", f"{APPS}/envoy_origin.yaml"]
    await mesh.serve([*envoy, "--concurrency", "2", "--disable-hot-restart"], PORT)
    return mesh


async def serve_asgi(mesh: Mesh) -> None:
    """Have hypercorn serve `asgi_origin` to Envoy."""
    hypercorn = [sys.executable, "-m", "hypercorn", "-w0", "-k", "trio", "-b", "[::1]:9000"]
    await mesh.serve([*hypercorn, f"{APPS}/asgi_origin.py:app"], 9000)


@versions
@pytest.mark.parametrize(
    ("path", "status", "size"),
    [
        pytest.param("/direct", 200, 7, id="answers"),
        pytest.param("/moved", 301, 0, id="redirects"),
        pytest.param("/gone", 503, None, id="can not ask anybody"),
    ],
)
async def test_envoy_itself(
    mesh: Mesh, version: str, path: str, status: int, size: int | None
) -> None:
    done = await both_ways(mesh, "curl", "-siS", version, "-H", "Host: shop", f"{ORIGIN}{path}")
    body = done.stdout.replace("\r", "").partition("\n\n")[2]
    assert size is None or len(body) == size
    await logged(mesh, ("GET", path, status, 0, len(body), "-"))


@versions
async def test_an_application_behind_envoy(mesh: Mesh, tmp_path: Path, version: str) -> None:
    await serve_asgi(mesh)
    (tmp_path / "upload").write_bytes(MEBIBYTE)
    up = ["curl", "-siS", version, "-T", f"{tmp_path}/upload", f"{ORIGIN}/echo"]
    answer = (await both_ways(mesh, *up)).stdout.splitlines()[-1]
    assert '"size": 1048576' in answer
    await both_ways(mesh, "curl", "-sS", version, "-o", f"{tmp_path}/down", f"{ORIGIN}/stream")
    size = 64 * 16384
    assert (tmp_path / "down").stat().st_size == size
    await logged(
        mesh,
        ("PUT", "/echo", 200, len(MEBIBYTE), len(answer), "-"),
        ("GET", "/stream", 200, 0, size, "-"),
    )


@pytest.mark.parametrize("path", ["/direct", "/empty"])
@pytest.mark.parametrize("version", ["--h1", "-ph2c"], ids=["HTTP/1", "HTTP/2"])
async def test_no_request_is_lost_to_connections_that_envoy_leaves(
    mesh: Mesh, version: str, path: str
) -> None:
    await serve_asgi(mesh)
    load = ["h2load", "-n1000", "-c4", "-m16", version, "--connect-to=server:8080"]
    done = await mesh.run(*load, f"{ORIGIN}{path}")
    assert "1000 succeeded, 0 failed, 0 errored" in done.stdout, done.stdout
    lines = await mesh.both(1000)
    assert {(line["response_code"], line["response_flags"]) for line in lines} == {
        (200 if path == "/direct" else 204, "-")
    }
    connections = {
        line["upstream_local_address"] for line in lines if line["tproxy"]["direction"] == "inbound"
    }
    assert len(connections) > 5, "Envoy leaves a connection after a hundred requests"


async def test_grpc_behind_envoy(mesh: Mesh) -> None:
    await mesh.serve(python("grpc_echo.py", "serve", "50051"), 50051)
    done = await mesh.run(*python("grpc_echo.py", "call", f"server:{PORT}"))
    assert done.stdout.splitlines() == [
        "unary b'HELLO' {'x-seen': 'yes', 'x-raw-bin': b'\\x00\\xff'}",
        "upload b'2000000'",
        "download 500",
        "talk [b'ba', b'dc']",
        "refused FAILED_PRECONDITION as asked",
    ], done.stderr
    lines = await mesh.both(5)
    assert {(line["response_code"], line["response_flags"]) for line in lines} == {(200, "-")}


async def test_websockets_behind_envoy(mesh: Mesh) -> None:
    await mesh.serve(python("websocket_talk.py", "serve", "9000"), 9000)
    done = await mesh.run(*python("websocket_talk.py", "call", f"ws://server:{PORT}"))
    assert "pong True" in done.stdout, done.stderr
    lines = await mesh.both(2)
    assert {(line["response_code"], line["response_flags"]) for line in lines} == {(101, "-")}
