"""Several workers are one sidecar: a crash of one costs only what it was doing, a drain nothing at all."""

import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from fakes.mesh import APPS, QUIET, ROOT
from fakes.sidecars import said, workers
from tproxy.lab import Lab, Pod, PodSpec, Process, open_pod

pytestmark = [pytest.mark.netns, pytest.mark.timed, pytest.mark.slow]

CONFIG = "apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\nspec: {{workload: {{name: {name}}}}}\n"
NGINX = """
worker_processes 1; daemon off; pid {place}/pid; error_log {place}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000; client_body_temp_path {place}/b; proxy_temp_path {place}/p;
  fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;
  server {{ listen [::]:8080 ipv6only=off backlog=1024; root {place}; }}
}}
"""


@dataclass(frozen=True)
class Scene:
    """A captured pod that serves 1000 bytes under `/1000`, and a client's pod without a sidecar."""

    app: Pod
    client: Pod

    @property
    def sidecar(self) -> Process:
        """The supervisor, or the only worker."""
        assert self.app.sidecar is not None
        return self.app.sidecar

    def workers(self) -> list[int]:
        """The workers' pids, as this process sees them."""
        return workers(self.sidecar)

    async def page(self, address: str) -> str:
        """What the sidecar answers."""
        return (
            await self.app.run(["curl", "-sS", f"http://127.0.0.1:{address}"], user=ROOT)
        ).stdout

    async def said(self, text: str, *, times: int = 1) -> None:
        """Wait until the sidecar's own log says something."""
        await said(self.app.sidecar_log_path, text, times=times, seconds=20)

    async def carried(self, lines: int) -> None:
        """Wait until so many requests are in the access log."""
        with trio.fail_after(60):
            while self.app.access_log_path.read_bytes().count(b"\n") < lines:  # noqa: ASYNC110
                await trio.sleep(0.02)

    async def load(self, connections: int, requests: int) -> dict[str, Any]:
        """Ask so many times, and give the account of it."""
        words = (self.app.addresses.v4, "8080", str(connections), str(requests))
        with trio.fail_after(120):
            done = await self.client.run([sys.executable, f"{APPS}/steady.py", *words], user=ROOT)
        assert done.returncode == 0, done.stderr
        account: dict[str, Any] = json.loads(done.stdout)
        return account


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the sidecar's user can enter."""
    with tempfile.TemporaryDirectory(dir="/run", prefix="tproxy-workers-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@asynccontextmanager
async def scene(place: Path, *options: str, policies: Path | None = None) -> AsyncIterator[Scene]:
    """The scene, with a sidecar that was given `options`."""
    lab = Lab(place / "lab")
    (place / "1000").write_bytes(bytes(1000))
    (place / "nginx.conf").write_text(NGINX.format(place=place))
    async with (
        # First, so that the sidecar knows all pods from the start: its policies then have one generation.
        open_pod(PodSpec("client", proxy=False), lab) as client,
        open_pod(PodSpec("app", run_args=options, policies=policies), lab) as app,
    ):
        nginx = ["nginx", "-e", f"{place}/error.log", "-c", f"{place}/nginx.conf"]
        await (await app.start(nginx, user=ROOT, stdio=QUIET)).listens(8080)
        yield Scene(app, client)


@asynccontextmanager
async def loaded(at: Scene, *, connections: int, requests: int) -> AsyncIterator[dict[str, Any]]:
    """Load the pod while the block lasts, and beyond it until the load ends; the account is complete then."""
    account: dict[str, Any] = {}

    async def load() -> None:
        account.update(await at.load(connections, requests))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(load)
        yield account


async def test_a_killed_worker_loses_its_own_requests_and_no_other(place: Path) -> None:
    async with scene(place, "--workers", "2") as at:
        async with loaded(at, connections=16, requests=6000) as account:
            await at.carried(1000)
            os.kill(at.workers()[0], signal.SIGKILL)
            began = trio.current_time()
            await at.said("ready:", times=3)
            assert trio.current_time() - began < 1.0, "the next one carries within a second"
        assert account["refused"] == 0, "no connection finds nobody"
        assert len(account["lost"]) <= 16, "one request for each connection that it had"
        assert account["answered"] + len(account["lost"]) == 6000


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_drain_under_load_loses_no_request(place: Path, workers: str) -> None:
    async with scene(place, "--workers", workers) as at:
        async with loaded(at, connections=16, requests=100_000) as account:
            await at.carried(1500)
            at.sidecar.send_signal(signal.SIGTERM)
            with trio.fail_after(20):
                assert await at.sidecar.wait() == 0
        assert account["lost"] == []
        assert account["answered"] >= 1500
        assert account["refused"] == 16, "each went on until nobody took its connection any more"
        lines = at.app.access_log_path.read_text().splitlines()
        assert len(lines) == account["answered"]
        assert {json.loads(line)["response_code"] for line in lines} == {200}


async def test_the_desks_speak_for_all_workers(place: Path) -> None:
    async with scene(place, "--workers", "3", "--http", "httptools") as at:
        account = await at.load(connections=30, requests=300)
        assert account["answered"] == 300
        metrics = await at.page("15020/stats/prometheus")
        counts = re.findall(r'^istio_requests_total\{worker="(\d)".* (\d+)$', metrics, re.MULTILINE)
        assert sum(int(count) for _, count in counts) == 300
        assert {number for number, _ in counts} == {"1", "2", "3"}
        info = json.loads(await at.page("15000/server_info"))
        assert len({each["pid"] for each in info["workers"].values()}) == 3
        assert {each["http"] for each in info["workers"].values()} == {"httptools"}
        assert (await at.page("15000/clusters")).count("worker ") == 3
        changed = await at.app.run(
            ["curl", "-sS", "-X", "POST", "http://127.0.0.1:15000/logging?level=debug"], user=ROOT
        )
        assert changed.stdout == "worker 1: debug\nworker 2: debug\nworker 3: debug\n"
        assert (await at.page("15021/healthz/ready")).startswith("LIVE\n")
        stopped = await at.app.run(
            ["curl", "-sS", "-X", "POST", "http://127.0.0.1:15000/quitquitquit"], user=ROOT
        )
        assert stopped.stdout == "draining\n"
        with trio.fail_after(10):
            assert await at.sidecar.wait() == 0


async def test_a_worker_that_comes_later_has_the_policies_of_the_others(place: Path) -> None:
    policies = place / "policies"
    policies.mkdir()
    (policies / "proxy.yaml").write_text(CONFIG.format(name="first"))

    def write(text: str) -> None:
        # At once: half of a file is another policy.
        (policies / "proxy.draft").write_text(text)
        (policies / "proxy.draft").replace(policies / "proxy.yaml")

    async with scene(place, "--workers", "2", policies=policies) as at:
        write(CONFIG.format(name="second"))
        at.sidecar.send_signal(signal.SIGHUP)
        await at.said("policies of generation 2 are in force", times=2)
        write("kind: Nonsense\n")
        os.kill(at.workers()[0], signal.SIGKILL)
        await at.said("ready:", times=3)
        dumps = json.loads(await at.page("15000/config_dump"))["workers"].values()
        assert {(each["generation"], each["workload"]["name"]) for each in dumps} == {(2, "second")}


async def test_a_second_sidecar_on_the_same_ports_is_refused(place: Path) -> None:
    async with scene(place, "--workers", "2") as at:
        for workers in ("1", "2"):
            argv = [sys.executable, "-m", "tproxy", "run", "--workers", workers]
            second = await at.app.run(argv, user=ROOT)
            assert second.returncode == 3
            assert "Address already in use" in second.stderr


FULL = """
import socket, sys
host, port, said = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode().decode("unicode_escape").encode("latin-1")
held = [socket.create_connection((host, port)) for _ in range(4)]
for each in held:
    each.sendall(b"GET /1000 HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    assert each.recv(65536).startswith(b"HTTP/1.1 200 ")
late = socket.create_connection((host, port))
late.settimeout(5)
late.sendall(said)
try:
    heard = b"".join(iter(lambda: late.recv(65536), b""))
except ConnectionResetError:
    heard = b"reset"
held.pop().close()
print(heard.decode("latin-1"))
for each in held:
    each.sendall(b"GET /1000 HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    assert each.recv(65536).startswith(b"HTTP/1.1 200 ")
"""


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        pytest.param(r"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 503 ", id="http1"),
        pytest.param(r"\x00\x01bytes", "reset", id="bytes"),
        pytest.param("", "reset", id="silence"),
    ],
)
async def test_a_connection_beyond_the_bound_is_told_so(place: Path, said: str, heard: str) -> None:
    async with scene(place, "--max-connections", "4") as at:
        words = (at.app.addresses.v4, "8080", said)
        with trio.fail_after(30):
            done = await at.client.run([sys.executable, "-c", FULL, *words], user=ROOT)
        assert done.stdout.startswith(heard), done.stderr
        with trio.fail_after(5):
            while '"UO"' not in at.app.access_log_path.read_text():  # noqa: ASYNC110
                await trio.sleep(0.02)
        lines = map(json.loads, at.app.access_log_path.read_text().splitlines())
        (line,) = [each for each in lines if each["response_flags"] == "UO"]
        assert line["response_code_details"] == "overload"


LIMIT = """
apiVersion: tproxy.io/v1alpha1
kind: RateLimitPolicy
metadata: {{name: p}}
spec: {{direction: INBOUND, limits: [{{name: a, {}}}]}}
"""


async def remembered(at: Scene) -> set[int]:
    """How many keys a limit remembers, as each worker says."""
    dumps = json.loads(await at.page("15000/config_dump"))["workers"].values()
    return {limit["keys_remembered"] for dump in dumps for limit in dump["rate_limits"]}


async def test_all_workers_together_let_through_exactly_what_a_limit_says(place: Path) -> None:
    policies = place / "policies"
    policies.mkdir()
    limit = "key: source.ip, algorithm: FIXED_WINDOW, requests: 500, window: 60m"
    (policies / "limits.yaml").write_text(LIMIT.format(limit))
    async with scene(place, "--workers", "3", policies=policies) as at:
        account = await at.load(connections=12, requests=800)
        assert account["answered"] == 500
        assert account["lost"] == ["HTTP/1.1 429 Too Many Requests"] * 300
        metrics = await at.page("15020/stats/prometheus")
        counts = re.findall(
            r'^tproxy_ratelimit_total\{.*result="(\w+)".*worker="(\d)".*\} (\d+)|'
            r'^tproxy_ratelimit_total\{.*worker="(\d)".*result="(\w+)".*\} (\d+)',
            metrics,
            re.MULTILINE,
        )
        said = [(first or last, int(one or other)) for first, _, one, _, last, other in counts]
        assert sum(times for result, times in said if result == "ok") == 500
        assert sum(times for result, times in said if result == "limited") == 300
        assert await remembered(at) == {1}
        os.kill(at.workers()[0], signal.SIGKILL)
        await at.said("ready:", times=4)
        assert (await at.load(connections=3, requests=20))["answered"] == 0


async def test_nothing_of_a_killed_worker_counts_as_under_way_for_ever(place: Path) -> None:
    policies = place / "policies"
    policies.mkdir()
    (policies / "limits.yaml").write_text(LIMIT.format("algorithm: CONCURRENCY, requests: 40"))
    async with scene(place, "--workers", "2", policies=policies) as at:
        async with loaded(at, connections=16, requests=3000) as account:
            await at.carried(500)
            os.kill(at.workers()[0], signal.SIGKILL)
            await at.said("ready:", times=3)
        assert account["refused"] == 0
        assert await remembered(at) == {0}
        assert (await at.load(connections=4, requests=100))["answered"] == 100
