"""A captured client's pod and a captured server's, for tests that send real traffic through two sidecars."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio

from tproxy.lab import Lab, Pod, Process, Stdio, User, attach

APPS = Path(__file__).parent.parent / "netns" / "apps"
QUIET = Stdio(subprocess.DEVNULL, subprocess.DEVNULL, subprocess.DEVNULL)
ROOT = User.parse("0")
"""Who runs the tests' own programs: the checkout and its virtual environment may be root's alone."""


@dataclass(frozen=True)
class Mesh:
    """A client's pod and a server's, both captured; and when the test began, as access logs write it."""

    client: Pod
    server: Pod
    began: str

    def host(self, family: str) -> str:
        """The server's address in one family, `-4` or `-6`."""
        addresses = self.server.addresses
        return addresses.v4 if family == "-4" else addresses.v6

    async def lines(self, pod: Pod, count: int = 1) -> list[dict[str, Any]]:
        """The lines that this test's traffic left in a pod's access log, at least `count`."""
        with trio.fail_after(5):
            while len(lines := _lines(pod, self.began)) < count:  # noqa: ASYNC110
                await trio.sleep(0.02)
        return lines

    async def both(self, count: int = 1) -> list[dict[str, Any]]:
        """The same of both pods, the client's first."""
        return [*await self.lines(self.client, count), *await self.lines(self.server, count)]

    async def serve(self, argv: list[str], *ports: int) -> Process:
        """Start a server and wait until it serves."""
        process = await self.server.start(argv, user=ROOT, stdio=QUIET)
        for port in ports:
            with trio.fail_after(10):
                await process.listens(port)
        return process

    async def run(self, *argv: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        """Run a client to its end."""
        with trio.fail_after(60):
            return await self.client.run(argv, user=ROOT, stdin=stdin)


def _lines(pod: Pod, began: str) -> list[dict[str, Any]]:
    whole = pod.access_log_path.read_text().rpartition("\n")[0]
    lines = [json.loads(line) for line in whole.splitlines()]
    return [line for line in lines if line["start_time"] >= began]


@contextmanager
def running_pods(lab: Lab, pods: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """Pods for as long as the block lasts, started together, captured unless their options say otherwise."""
    with ExitStack() as scopes:
        held = {name: _begun(name, lab, options) for name, options in pods.items()}
        for each in held.values():
            scopes.callback(each.wait, 30)
        for each in held.values():
            scopes.callback(each.terminate)
        for name, each in held.items():
            trio.run(ready, lab, name, each)
        yield


def _begun(name: str, lab: Lab, options: Sequence[str]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tproxy", "pod", "run", name, *options, "--", "sleep", "3600"]
    return subprocess.Popen(command, env={**os.environ, "TPROXY_LAB_DIR": str(lab.root)})


async def ready(lab: Lab, name: str, held: "subprocess.Popen[bytes]") -> None:
    """Wait until a pod that was started is up."""
    with trio.fail_after(30):
        while (record := lab.find(name)) is None or not record.ready:
            assert held.poll() is None, f"{name} did not start"
            await trio.sleep(0.05)


@contextmanager
def two_pods(policies: str, *limits: str) -> Iterator[Lab]:
    """A lab of its own with the pods `server` and `client`, both captured and under `policies` and `limits`."""
    with TemporaryDirectory(dir="/run", prefix="tproxy-mesh-") as name:
        (root := Path(name)).chmod(0o755)
        (directory := root / "policies").mkdir()
        (directory / "proxy.yaml").write_text(policies)
        lab = Lab(root / "lab")
        limited = (f"--run-arg=--limit={limit}" for limit in limits)
        options = ("--policies", str(directory), *limited)
        with running_pods(lab, dict.fromkeys(("server", "client"), options)):
            yield lab


@asynccontextmanager
async def quiet_mesh(pods: Lab) -> AsyncIterator[Mesh]:
    """The two pods with nothing but their sidecars in them; what the block starts there ends with it."""
    client, server = attach(pods, "client"), attach(pods, "server")
    yield Mesh(client, server, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3])
    for process in (*client.started, *server.started):
        await process.kill()
