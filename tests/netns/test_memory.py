"""A sidecar loads what it needs, and no more: each megabyte is one in every pod."""

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tproxy.lab import Lab, PodSpec, Stdio, User, open_pod

pytestmark = pytest.mark.netns

ROOT = User.parse("0")
IMPORTED = re.compile(r"^import time: +\d+ \| +\d+ \| +(\S+)$", re.MULTILINE)
NEVER = {
    # OpenSSL as Python has it, and what lets it in
    *("_hashlib", "_ssl", "hashlib", "hmac", "ssl"),
    # servers and clients that are not ours
    *("asyncio", "http.client", "http.server", "prometheus_client", "urllib.request"),
    # archives, names beyond ASCII
    *("bz2", "idna", "importlib.metadata", "lzma", "zipfile"),
    *("dns", "h2.connection", "multiprocessing", "pyroute2", "re2"),
    *("tproxy.doctor", "tproxy.inject", "tproxy.injector", "tproxy.lab", "tproxy.policy.explain"),
    *("tproxy.siblings", "tproxy.stores.shared_limits", "tproxy.supervisor"),
}
MUTUAL_TLS = {"cryptography", "email", "OpenSSL", "tproxy.tls.credentials"}
POLICIES = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec: {rules: [{to: [{operation: {methods: [GET]}}]}]}
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the sidecar's user can enter, with a policy and an identity."""
    with tempfile.TemporaryDirectory(dir="/run", prefix="tproxy-memory-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "policies").mkdir()
        (directory / "policies" / "readers.yaml").write_text(POLICIES)
        ca = [sys.executable, "-m", "tproxy", "ca"]
        authority, identity = str(directory / "authority"), str(directory / "identity")
        for verb in (
            ["init", "--trust-domain", "cluster.local", authority],
            ["issue", authority, "spiffe://cluster.local/ns/shop/sa/web", "--out", identity],
        ):
            subprocess.run([*ca, *verb], check=True, capture_output=True)
        yield directory


async def imported(place: Path, *options: str) -> set[str]:
    """What a sidecar has imported that became ready and told its metrics."""
    run = [sys.executable, "-X", "importtime", "-m", "tproxy", "run", "--namespace", "shop"]
    with (place / "log").open("w") as log:
        stdio = Stdio(subprocess.DEVNULL, subprocess.DEVNULL, log.fileno())
        async with open_pod(PodSpec("app", proxy=False), Lab(place / "lab")) as pod:
            argv = [*run, "--policies", str(place / "policies"), *options]
            sidecar = await pod.start(argv, user=ROOT, stdio=stdio)
            await sidecar.listens(15021)
            scrape = ["curl", "-fsS", "-o", "/dev/null", "http://127.0.0.1:15020/metrics"]
            assert (await pod.run(scrape, user=ROOT)).returncode == 0
            sidecar.send_signal(signal.SIGTERM)
            with trio.fail_after(20):
                assert await sidecar.wait() == 0
    return set(IMPORTED.findall((place / "log").read_text()))


async def test_a_plain_sidecar_loads_nothing_that_it_never_calls(place: Path) -> None:
    found = await imported(place)
    assert "tproxy.app" in found
    assert found & (NEVER | MUTUAL_TLS) == set()


async def test_mutual_tls_brings_one_openssl_and_not_two(place: Path) -> None:
    found = await imported(place, "--certificates", str(place / "identity"))
    assert found >= MUTUAL_TLS
    assert found & NEVER == set()
