"""Node's clients and servers see the same through two sidecars as they see without any."""

from typing import Any

import pytest

from fakes.mesh import Mesh
from fakes.two_ways import both_ways, node

pytestmark = pytest.mark.netns

HTTP1, HTTP2 = 8080, 8081


@pytest.fixture
async def mesh(mesh: Mesh) -> Mesh:
    """The pods with Node's origin in the server's; what a test starts in them is ended after it."""
    await mesh.serve(node("node_origin.mjs", str(HTTP1), str(HTTP2)), HTTP1, HTTP2)
    return mesh


def steps(printed: str) -> dict[str, str]:
    """What each step printed, the last line where there are several."""
    return dict(line.split(" ", 1) for line in printed.splitlines() if " " in line)


def told(lines: list[dict[str, Any]], path: str) -> set[tuple[int, str]]:
    """What the access logs say of a path: status and flags."""
    return {
        (line["response_code"], line["response_flags"]) for line in lines if line["path"] == path
    }


async def test_node_http_and_fetch_see_the_same(mesh: Mesh) -> None:
    done = await both_ways(mesh, *node("node_http1.mjs", f"http://server:{HTTP1}"))
    seen = steps(done.stdout)
    assert "true" in seen["kept"], "the agent's connection was used again"
    assert seen["chunked"].endswith("} 40"), "a trailer went up and came back"
    assert seen["expecting"].startswith("200 [ 'continue', ")
    assert seen["refused"] == "417 [] no"
    assert seen["hinted"].startswith("200 [ [ 103, '</style.css>; rel=preload' ], [ 102, ")
    assert seen["early"] == "413 large"
    assert seen["pipelined"] == "[ '200', '1', '200', '2', '200', '3' ]"
    assert seen["upgraded"] == "101 shout 0 HELLO BYE"
    lines = await mesh.both(20)
    assert told(lines, "/endless?get") == told(lines, "/endless?fetch") == {(200, "DC")}
    assert told(lines, "/") == {(101, "-")}


async def test_node_http2_sees_the_same(mesh: Mesh) -> None:
    done = await both_ways(mesh, *node("node_http2.mjs", f"http://server:{HTTP2}", "seen"))
    seen = steps(done.stdout)
    assert seen["many"].count("200 0 ") == 200
    assert "} 40 [" in seen["trailing"], "a trailer went up and came back"
    assert seen["hinted"] == "200 [ [ 103, '</style.css>; rel=preload' ] ]"
    assert seen["early"] == "413 large 0 undefined"
    assert seen["reset"] == "200 half ERR_HTTP2_STREAM_ERROR 2"
    assert seen["connected"] == "true websocketHELLOBYE 0"
    lines = await mesh.both(207)
    assert told(lines, "/reset") == {(200, "UR")}
    assert told(lines, "/endless?stream") == {(200, "DR")}
    assert told(lines, "/early") == {(413, "-")}


async def test_what_node_leaves_or_refuses_ends_no_connection_but_its_own(mesh: Mesh) -> None:
    done = await mesh.run(*node("node_http2.mjs", f"http://server:{HTTP2}", "leaving"))
    assert done.stdout.splitlines() == [
        "leaving /leave 200 0",
        "leaving /echo 200 0",
        "leaving /leave 200 0",
        "leaving /echo 200 0",
        "leaving /refuse 503 0",
        "leaving /echo 200 0",
        "closed",
    ], done.stderr
    lines = await mesh.lines(mesh.server, 6)
    assert told(lines, "/refuse") == {(503, "UR")}
