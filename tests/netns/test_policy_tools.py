"""The policy tools beside a sidecar that carries: what it decided is explained, and its log is replayed."""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from fakes.mesh import QUIET, ROOT
from tproxy.lab import Lab, Pod, PodSpec, open_pod

pytestmark = [pytest.mark.netns, pytest.mark.slow]

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: readers}}
spec: {{rules: [{{to: [{{operation: {{paths: ["{paths}"], ports: ["8080"]}}}}]}}]}}
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the sidecar's user can enter."""
    with tempfile.TemporaryDirectory(dir="/run", prefix="tproxy-tools-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def policies(place: Path, name: str, paths: str) -> Path:
    """A directory of one policy that allows these paths."""
    directory = place / name
    directory.mkdir()
    (directory / "authz.yaml").write_text(POLICY.format(paths=paths))
    return directory


async def policy(pod: Pod, *words: str) -> str:
    """Call `tproxy policy` in a pod."""
    with trio.fail_after(30):
        done = await pod.run([sys.executable, "-m", "tproxy", "policy", *words], user=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def asked(client: Pod, app: Pod, path: str) -> str:
    """The status with which a request is answered; its id is its path."""
    url = f"http://{app.addresses.v4}:8080{path}"
    argv = ["curl", "-sS", "--path-as-is", "-o", "/dev/null", "-w", "%{http_code}"]
    with trio.fail_after(30):
        return (await client.run([*argv, "-H", f"x-request-id: id{path}", url], user=ROOT)).stdout


async def test_what_workers_decided_is_explained_and_their_log_replayed(place: Path) -> None:
    current, candidate = policies(place, "current", "/a*"), policies(place, "candidate", "/b*")
    lab = Lab(place / "lab")
    async with (
        # First, so that the sidecar knows all pods from the start: its policies then have one generation.
        open_pod(PodSpec("client", proxy=False), lab) as client,
        open_pod(PodSpec("app", run_args=("--workers", "2"), policies=current), lab) as app,
    ):
        server = [sys.executable, "-m", "http.server", "8080", "--bind", "0.0.0.0"]
        await (await app.start(server, user=ROOT, stdio=QUIET)).listens(8080)
        assert await asked(client, app, "/a/x") == "404"
        assert await asked(client, app, "/a/../b") == "403"
        assert await asked(client, app, "/c") == "403"
        with trio.fail_after(10):
            while app.access_log_path.read_bytes().count(b"\n") < 3:  # noqa: ASYNC110
                await trio.sleep(0.02)

        assert (await policy(app, "explain", "--last-denied")).startswith(
            "request id/c: DENY, no_allow_match, by generation 1 of the policies\n"
        )
        told = json.loads(await policy(app, "explain", "--id", "id/a/../b", "--format", "json"))
        assert told["explanation"]["request"]["path"] == "/b"
        (missed,) = told["explanation"]["policies"][0]["rules"][0]["missed"]
        assert (missed["wanted"], missed["seen"]) == (["/a*"], "/b")
        assert "\n  rule 0 of default/readers matches" in await policy(
            app, "explain", "--id", "id/a/x"
        )
        words = ("--candidate", str(candidate), "--namespace", "default", "--format", "json")
        log = str(app.access_log_path)
        replayed = json.loads(await policy(app, "diff", "--log", log, *words))
    changes = {
        (each["request"], each["from"]["verdict"], each["to"]["verdict"])
        for each in replayed["changes"]
    }
    assert (replayed["lines"], replayed["same"], replayed["skipped"]) == (3, 1, {})
    assert changes == {("GET /a/x", "ALLOW", "DENY"), ("GET /a/../b", "DENY", "ALLOW")}
