"""The life of a sidecar process: ready, reloaded, drained, and why it does not start."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from fakes.sidecars import said
from tproxy.lab import Lab, Pod, PodSpec, Process, Stdio, User, open_pod

pytestmark = pytest.mark.netns

APPS = Path(__file__).parent / "apps"
QUIET = Stdio(subprocess.DEVNULL, subprocess.DEVNULL, subprocess.DEVNULL)
ROOT = User.parse("0")
CONFIG = "apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\nspec: {{workload: {{name: {name}}}}}\n"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the sidecar's user can enter."""
    with tempfile.TemporaryDirectory(dir="/run", prefix="tproxy-run-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@asynccontextmanager
async def served(place: Path, **spec: object) -> AsyncIterator[tuple[Pod, Process]]:
    """A captured pod with a web server in it, and its sidecar."""
    async with open_pod(PodSpec("app", **spec), Lab(place / "lab")) as pod:  # type: ignore[arg-type]
        assert pod.sidecar is not None
        argv = [sys.executable, str(APPS / "http_sink.py"), "8080"]
        await (await pod.start(argv, user=ROOT, stdio=QUIET)).listens(8080)
        yield pod, pod.sidecar


async def curl(pod: Pod, *words: str) -> str:
    """What curl prints."""
    with trio.fail_after(20):
        return (await pod.run(["curl", "-sS", *words], user=ROOT)).stdout


async def test_a_drain_lets_what_is_in_flight_end_and_exits_0(place: Path) -> None:
    async with (
        served(place) as (app, sidecar),
        open_pod(PodSpec("client", proxy=False), Lab(place / "lab")) as client,
        trio.open_nursery() as nursery,
    ):
        slow: list[str] = []
        done = trio.Event()
        url = f"http://{app.addresses.v4}:8080"

        async def download() -> None:
            slow.append(
                await curl(
                    client,
                    "--limit-rate",
                    "4M",
                    "-o",
                    "/dev/null",
                    "-w",
                    "%{size_download}",
                    f"{url}/16000000",
                )
            )
            done.set()

        idle = await client.start(
            [sys.executable, "-c", IDLE, app.addresses.v4], user=ROOT, stdio=QUIET
        )
        nursery.start_soon(download)
        await said(app.access_log_path, '"path":"/7"')
        await trio.sleep(0.3)
        sidecar.send_signal(signal.SIGTERM)
        await said(app.sidecar_log_path, "draining")
        assert await idle.wait() == 0, "an idle peer is told at once"
        refused = await client.run(["curl", "-sS", f"{url}/1"], user=ROOT)
        assert refused.returncode != 0
        with trio.fail_after(20):
            assert await sidecar.wait() == 0
            await done.wait()
        assert slow == ["16000000"]


IDLE = """
import socket, sys
peer = socket.create_connection((sys.argv[1], 8080))
peer.sendall(b"GET /7 HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
seen = b""
while part := peer.recv(4096):
    seen += part
sys.exit(0 if seen.startswith(b"HTTP/1.1 200") else 1)
"""


HELD_CONNECTION = 'tproxy_connections_active{direction="inbound",protocol="opaque"} 1.0'
HELD = """
import socket, sys
peer = socket.create_connection((sys.argv[1], 7000))
peer.sendall(b"\\0held")
peer.recv(1)
"""


async def test_a_second_signal_ends_the_drain(place: Path) -> None:
    async with (
        served(place) as (app, sidecar),
        open_pod(PodSpec("client", proxy=False), Lab(place / "lab")) as client,
    ):
        services = [sys.executable, str(APPS / "tcp_services.py"), "digest:7000"]
        await (await app.start(services, user=ROOT, stdio=QUIET)).listens(7000)
        held = await client.start(
            [sys.executable, "-c", HELD, app.addresses.v4], user=ROOT, stdio=QUIET
        )
        with trio.fail_after(10):
            metrics = ("http://127.0.0.1:15020/metrics",)
            while HELD_CONNECTION not in await curl(app, *metrics):  # noqa: ASYNC110 - as in said()
                await trio.sleep(0.05)
        sidecar.send_signal(signal.SIGTERM)
        await said(app.sidecar_log_path, "draining: 1 connections are open")
        assert sidecar.returncode is None
        sidecar.send_signal(signal.SIGTERM)
        with trio.fail_after(5):
            assert await sidecar.wait() == 0
            await held.wait()


async def test_policies_are_read_again_on_sighup_and_bad_ones_change_nothing(place: Path) -> None:
    policies = place / "policies"
    policies.mkdir()
    file = policies / "proxy.yaml"
    file.write_text(CONFIG.format(name="first"))
    async with served(place, policies=policies) as (app, sidecar):
        dump = ("http://127.0.0.1:15000/config_dump",)
        assert '"name": "first"' in await curl(app, *dump)
        file.write_text(CONFIG.format(name="second"))
        sidecar.send_signal(signal.SIGHUP)
        await said(app.sidecar_log_path, "policies of generation 2 are in force")
        file.write_text(CONFIG.format(name="third").replace("workload", "wrokload"))
        sidecar.send_signal(signal.SIGHUP)
        await said(app.sidecar_log_path, "the policies of generation 2 stay in force")
        assert "did you mean 'workload'?" in app.sidecar_log_path.read_text()
        assert '"name": "second"' in await curl(app, *dump)
        metrics = await curl(app, "http://127.0.0.1:15020/metrics")
        assert "tproxy_policy_generation 2.0" in metrics
        assert "tproxy_policy_last_reload_successful 0.0" in metrics
        assert (
            await curl(
                app, "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:15021/healthz/ready"
            )
            == "200"
        )


async def test_only_post_stops_the_sidecar(place: Path) -> None:
    async with served(place) as (app, sidecar):
        status = ("-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:15000/quitquitquit")
        info = await curl(app, "http://127.0.0.1:15000/server_info")
        assert '"state": "LIVE"' in info
        assert '"http": "httptools"' in info
        assert '"http2": "own"' in info
        assert await curl(app, *status) == "405"
        assert sidecar.returncode is None
        assert await curl(app, "-X", "POST", *status) == "200"
        with trio.fail_after(10):
            assert await sidecar.wait() == 0


async def test_the_sidecar_has_no_privilege_left(place: Path) -> None:
    async with served(place) as (_, sidecar):
        status = Path(f"/proc/{sidecar.pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert fields["Uid"].split() == ["1337"] * 4
    assert fields["Gid"].split() == ["1337"] * 4
    assert fields["Groups"].split() == []
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0


async def test_inbound_tproxy_carries_both_families_and_calls_to_itself(place: Path) -> None:
    mode = "--inbound-mode=tproxy"
    async with (
        served(place, init_args=(mode,), run_args=(mode,)) as (app, _),
        open_pod(PodSpec("client", proxy=False), Lab(place / "lab")) as client,
    ):
        status = ("-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10")
        for family in ("-4", "-6"):
            assert await curl(client, family, *status, "http://app:8080/7") == "200"
        assert await curl(app, *status, "http://app:8080/7") == "200"
        await said(app.access_log_path, f"[{app.addresses.v6}]:8080")
        # To one of the proxy's own ports there is no way, from outside or from inside.
        for port in (15001, 15006):
            assert await curl(client, *status, f"http://app:{port}/") == "000"


async def test_a_port_that_somebody_else_holds_is_named(place: Path) -> None:
    async with served(place) as (app, _):
        command = [sys.executable, "-m", "tproxy", "run"]
        done = await app.run(command, user=ROOT)
        assert done.returncode == 3
        assert "cannot start" in done.stderr
        assert "Address already in use (TCP port 15006)" in done.stderr


def test_only_root_can_become_somebody_else() -> None:
    code = (
        "import os; from tproxy.launch import become; from tproxy.settings import User;"
        "os.setgid(1338); os.setuid(1338); become(User(1338, 1338)); become(User(1337, 1337))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=10, check=False
    )
    assert "--user 1337:1337: only root can become another user" in done.stderr


@pytest.mark.parametrize(
    ("argv", "policy", "code", "words"),
    [
        pytest.param([], "kind: Nonsense\n", 2, "TPX0107", id="bad policies"),
        pytest.param(["--inbound-port", "15001"], "", 2, "are both 15001", id="one port for two"),
        pytest.param(["--user", "somebody"], "", 2, "is not UID or UID:GID", id="a user by name"),
        pytest.param(["--label", "novalue"], "", 2, "is not KEY=VALUE", id="half a label"),
    ],
)
def test_what_keeps_it_from_starting_is_said(
    place: Path, argv: list[str], policy: str, code: int, words: str
) -> None:
    (place / "proxy.yaml").write_text(policy)
    command = [sys.executable, "-m", "tproxy", "run", "--policies", str(place), *argv]
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", 'ip link set lo up; exec "$0" "$@"', *command],
        capture_output=True, text=True, timeout=10, check=False, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert words in done.stderr
