"""Thousands of connections at once pass a captured pair of pods, and none of them is lost."""

import json
import resource
import signal
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
import trio

from fakes.footprint import Memory, descriptors, memory, sidecar_pids
from fakes.mesh import ROOT, Mesh, two_pods
from fakes.sidecars import open_connections
from fakes.two_ways import python
from tproxy.lab import Lab, Process, attach

pytestmark = [pytest.mark.netns, pytest.mark.timed]

COUNT = 5000
PATIENCE = 180
"""Seconds until a busy machine must have carried them all."""
PER_CONNECTION = 96 << 10
"""Bytes of a sidecar's memory that a connection with an exchange in flight may take at most, in mutual TLS."""


@pytest.fixture(scope="module")
def pods(policies: str) -> Iterator[Lab]:
    """Two pods that live as long as the tests of this file, started with as few descriptors as programs mostly are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        with two_pods(policies) as lab:
            yield lab
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def rested(pods: Lab) -> list[Memory]:
    """What both sidecars hold before their first connection."""
    return [memory(sidecar_pids(attach(pods, name))) for name in ("client", "server")]


async def full(mesh: Mesh, server: Process) -> list[Memory]:
    """What both sidecars hold once they, and the server, have every connection."""
    pods = (mesh.client, mesh.server)
    with trio.fail_after(PATIENCE):
        while descriptors([server.pid]) < COUNT:  # noqa: ASYNC110 - another process's doing has no event
            await trio.sleep(0.05)
        for pod in pods:
            while await open_connections(pod) < COUNT:  # noqa: ASYNC110 - nor has this
                await trio.sleep(0.05)
    return [memory(sidecar_pids(pod)) for pod in pods]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "lines"),
    # The lighter first: what it leaves to the allocator is not much of what the other takes.
    [pytest.param("tcp", COUNT, id="TCP"), pytest.param("http", 2 * COUNT, id="HTTP/1")],
)
async def test_five_thousand_connections_are_open_and_each_is_answered_twice(
    mesh: Mesh,
    rested: list[Memory],
    kind: str,
    lines: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = await mesh.serve(python("many_connections.py", "serve", "8080"), 8080)
    outcome: dict[str, object] = {}

    async def call() -> None:
        words = ("call", kind, "server", "8080", str(COUNT))
        with trio.fail_after(PATIENCE):
            done = await mesh.client.run(python("many_connections.py", *words), user=ROOT)
        outcome.update(json.loads(done.stdout))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        taken = await full(mesh, server)
        server.send_signal(signal.SIGUSR1)
    assert outcome == {"first": COUNT, "second": COUNT, "failures": {}}
    each = [now.less(before).over(COUNT) for now, before in zip(taken, rested, strict=True)]
    with capsys.disabled():
        sys.stdout.write(
            f"\n{kind}, bytes per connection: client's {each[0]}, server's {each[1]}\n"
        )
    assert max(memory.rss for memory in each) < PER_CONNECTION
    logged = await mesh.both(lines)
    assert Counter(line["response_flags"] for line in logged) == {"-": 2 * lines}
