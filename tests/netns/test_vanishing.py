"""Clients and servers that leave at every point of an exchange: the other side learns of it, and nothing is left behind."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from fakes.footprint import descriptors, sidecar_pids
from fakes.mesh import ROOT, Mesh, two_pods
from fakes.sidecars import open_connections
from fakes.two_ways import node, python
from tproxy.lab import Lab, Pod, attach

pytestmark = [pytest.mark.netns, pytest.mark.timed]

PORTS = {"http1": 8080, "http2": 8081, "tcp": 8082}
BODY_BYTES = 200_000

ways = pytest.mark.parametrize("way", ["end", "reset", "die"])
versions = pytest.mark.parametrize("version", ["http1", "http2"])

Ending = tuple[int, str]
"""What an access log says: status and flag."""


@pytest.fixture(scope="module")
def pods(policies: str) -> Iterator[Lab]:
    """Two pods that live as long as the tests of this file; in the end their sidecars hold what they held before."""
    with two_pods(policies, "pool-idle-seconds=0.5") as lab:
        before = [descriptors(sidecar_pids(attach(lab, name))) for name in ("client", "server")]
        yield lab
        trio.run(_held, lab, before)


async def _held(lab: Lab, expected: list[int]) -> None:
    pods = [attach(lab, name) for name in ("client", "server")]
    with trio.move_on_after(15):
        while [descriptors(sidecar_pids(pod)) for pod in pods] != expected:  # noqa: ASYNC110 - another process's doing has no event
            await trio.sleep(0.1)
    assert [descriptors(sidecar_pids(pod)) for pod in pods] == expected
    assert [await open_connections(pod) for pod in pods] == [0, 0]


def endings(lines: list[dict[str, Any]]) -> dict[str, Ending]:
    """How each exchange ended, by its path."""
    return {line["path"]: (line["response_code"], line["response_flags"]) for line in lines}


def flags(lines: list[dict[str, Any]]) -> Counter[str]:
    """How many connections ended how."""
    return Counter(line["response_flags"] for line in lines)


# Clients

LEFT = {
    "/read?2": "after the head",
    "/read?3": "inside the body",
    "/hold?4": "before the response",
    "/begin?5": "inside the response",
}


@ways
@versions
async def test_an_origin_learns_that_its_client_left(mesh: Mesh, version: str, way: str) -> None:
    await mesh.serve(node("witness.mjs", "8080", "8081"), 8080, 8081)
    done = await mesh.run(
        *python("vanishing_client.py", version, way, "server", str(PORTS[version]))
    )
    assert done.returncode == 0, done.stderr
    assert await noted(mesh) == {**dict.fromkeys(LEFT, "left"), "/read?6": "answered"}
    # Over HTTP/2 the client's sidecar takes back a request, and keeps the connection for others.
    for pod, flag in ((mesh.client, "DC"), (mesh.server, "DC" if version == "http1" else "DR")):
        assert endings(await requests(mesh, pod, 5)) == {
            "/read?2": (0, flag),
            "/read?3": (0, flag),
            "/hold?4": (0, flag),
            "/begin?5": (200, flag),
            "/read?6": (200, "-"),
        }


async def requests(mesh: Mesh, pod: Pod, count: int) -> list[dict[str, Any]]:
    """The lines of a pod's access log that are about requests, so many at least."""
    with trio.fail_after(10):
        while len(lines := [line for line in await mesh.lines(pod) if line["path"]]) < count:  # noqa: ASYNC110
            await trio.sleep(0.02)
    return lines


async def noted(mesh: Mesh) -> dict[str, str]:
    """What the origin noted, once it has noted all or had enough time for it."""
    seen: dict[str, str] = {}
    with trio.move_on_after(10):
        while len(seen := await outcomes(mesh)) <= len(LEFT):  # noqa: ASYNC110 - so has this
            await trio.sleep(0.1)
    return seen


async def outcomes(mesh: Mesh) -> dict[str, str]:
    """What the origin has noted so far."""
    asked = ["curl", "-sS", "http://localhost:8080/outcomes"]
    return dict(json.loads((await mesh.server.run(asked, user=ROOT)).stdout))


@ways
async def test_a_tcp_server_learns_that_its_client_left(
    mesh: Mesh, tmp_path: Path, way: str
) -> None:
    notes = tmp_path / "notes"
    await mesh.serve(python("witness_tcp.py", "8082", str(notes)), 8082)
    done = await mesh.run(*python("vanishing_client.py", "tcp", way, "server", "8082"))
    assert done.returncode == 0, done.stderr
    # A process that dies with nothing unread ends its connections.
    ending, flag = ("reset", "DR") if way == "reset" else ("end", "-")
    # Seven connections: one says nothing, which leaves no line, and one too little to be asked by.
    lines = await mesh.both(6)
    assert flags(lines) == {flag: 12}
    wanted = sorted(f"{asked} {ending}" for asked in ("", "", *LEFT, "/read?6"))
    # The last sidecar's line may come before the server has noted what it met.
    with trio.move_on_after(10):
        while len(notes.read_text().splitlines()) < len(wanted):  # noqa: ASYNC110
            await trio.sleep(0.02)
    assert sorted(notes.read_text().splitlines()) == wanted


# Servers

SERVED = [
    "/before",
    "/in-head",
    "/after-head",
    "/in-body",
    "/waiting",
    "/in-answers-head",
    "/in-answer",
    "/after",
]
"""What is asked of each port of `vanishing_server`, in its order of points."""
NO_ANSWER = SERVED[:6]
TERMINATED = "upstream connect error or disconnect/reset before headers. reset reason: connection termination"
INTERNAL_ERROR = 2


@ways
async def test_a_client_learns_over_http1_that_its_server_left(
    mesh: Mesh, tmp_path: Path, way: str
) -> None:
    await mesh.serve(python("vanishing_server.py", "http1", way, "9000"), 9007)
    (tmp_path / "body").write_bytes(bytes(BODY_BYTES))
    words = ["-sS", "--data-binary", f"@{tmp_path}/body", "-w", " %{http_code}"]
    seen: dict[str, tuple[int, str]] = {}

    async def ask(number: int, path: str) -> None:
        done = await mesh.run("curl", *words, f"http://server:{9000 + number}{path}")
        seen[path] = done.returncode, done.stdout

    async with trio.open_nursery() as nursery:
        for number, path in enumerate(SERVED):
            nursery.start_soon(ask, number, path)
    assert seen == {
        **dict.fromkeys(NO_ANSWER, (0, f"{TERMINATED} 503")),
        "/in-answer": (56, "hello 200"),
        "/after": (0, "helloworld 200"),
    }
    await told(mesh, "UC")


@ways
async def test_a_client_learns_over_http2_that_its_server_left(mesh: Mesh, way: str) -> None:
    await mesh.serve(python("vanishing_server.py", "http2", way, "9000"), 9007)
    done = await mesh.run(*node("node_asker.mjs", "server", "9000", str(BODY_BYTES), *SERVED))
    seen = {path: (status, body, code) for path, status, body, code in json.loads(done.stdout)}
    *_, code = seen.pop("/in-answer")
    assert code == INTERNAL_ERROR, "which may overtake the rest"
    assert seen == {
        **dict.fromkeys(NO_ANSWER, (503, TERMINATED, 0)),
        "/after": (200, "helloworld", 0),
    }
    await told(mesh, "UR")


async def told(mesh: Mesh, cut: str) -> None:
    """Both access logs tell of each exchange, and the client's of the one that was cut by a flag of its own."""
    assert endings(await mesh.lines(mesh.server, len(SERVED))) == {
        **dict.fromkeys(NO_ANSWER, (503, "UC")),
        "/in-answer": (200, "UC"),
        "/after": (200, "-"),
    }
    # Whoever has the whole answer to a request that is still being sent may leave before that is over.
    client = endings(await mesh.lines(mesh.client, len(SERVED)))
    assert {path: (status, flag.replace("DC", "-")) for path, (status, flag) in client.items()} == {
        **dict.fromkeys(NO_ANSWER, (503, "-")),
        "/in-answer": (200, cut),
        "/after": (200, "-"),
    }


@ways
async def test_a_tcp_client_learns_that_its_server_left(mesh: Mesh, way: str) -> None:
    await mesh.serve(python("vanishing_server.py", "tcp", way, "9000"), 9004)
    done = await mesh.run(*python("tcp_asker.py", "server", "9000", "5"))
    seen = done.stdout.splitlines()
    assert [line.split(", ")[0] for line in seen] == ["", "", "", "hello", "helloworld"], (
        done.stderr
    )
    # A process that dies with something unread resets its connection: the first two may have that.
    certain = slice(2 if way == "die" else 0, None)
    ending, flag = ("reset", "UR") if way == "reset" else ("end", "-")
    assert [line.split(", ")[1] for line in seen][certain] == [ending] * len(seen[certain])
    lines = await mesh.both(5)
    assert flags(lines)[flag] >= 2 * len(seen[certain])
    assert set(flags(lines)) <= {"UR", flag}
