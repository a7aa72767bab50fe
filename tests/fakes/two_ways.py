"""What a client sees through two sidecars, held against what it sees with none; and what both access logs say of it."""

import re
import subprocess
import sys
from typing import Any

from fakes.mesh import APPS, ROOT, Mesh

Exchange = tuple[str, str, int, int, int, str]
"""What both access logs say of a request: method, path, status, body bytes received and sent, flags."""

DIFFERENT = re.compile("(date|connection|x-envoy-upstream-service-time):", re.IGNORECASE)


def python(app: str, *words: str) -> list[str]:
    """One of the tests' own programs."""
    return [sys.executable, str(APPS / app), *words]


def node(app: str, *words: str) -> list[str]:
    """One of those that are Node's."""
    return ["node", str(APPS / app), *words]


async def both_ways(mesh: Mesh, *argv: str) -> subprocess.CompletedProcess[str]:
    """What a client of `//server` prints in its pod: the same as beside the server with no sidecar between."""
    through = await mesh.run(*argv)
    beside = [word.replace("//server:", "//localhost:") for word in argv]
    direct = await mesh.server.run(beside, user=ROOT)
    assert (through.returncode, direct.returncode) == (0, 0), through.stderr + direct.stderr
    assert same(through.stdout) == same(direct.stdout)
    return through


def same(printed: str) -> list[str]:
    """Printed responses without what no two have in common, or belongs to one connection, or only sidecars add.

    So are reason phrases, which HTTP/2 has not; and lines are in no order, because a framing field may move.
    """
    printed = re.sub("(?m)(HTTP/[0-9.]+ [0-9]+).*$", r"\1", printed)
    lines = re.sub("(boundary=|--)[0-9]{20}", "boundary", printed).splitlines()
    return sorted(line for line in lines if not DIFFERENT.match(line))


async def logged(mesh: Mesh, *expected: Exchange) -> None:
    """Both access logs have these exchanges, and no others."""
    for pod in (mesh.client, mesh.server):
        lines = await mesh.lines(pod, len(expected))
        assert sorted(map(exchange, lines)) == sorted(expected)


def exchange(line: dict[str, Any]) -> Exchange:
    """An access-log line in short."""
    return (
        line["method"],
        line["path"],
        line["response_code"],
        line["bytes_received"],
        line["bytes_sent"],
        line["response_flags"],
    )
