"""Services that policies name, asked by a captured pod: who answers, what becomes of who does not, and what is not reached."""

import json
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from fakes.mesh import QUIET, ROOT
from tproxy.lab import Lab, Pod, PodSpec, Process, open_pod

pytestmark = pytest.mark.netns

STORE = "store.default.svc.cluster.local"
CLUSTER = f"outbound|80||{STORE}"
ONLY = (
    "apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\n"
    "spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}\n---\n"
)
UNNAMED = "192.0.2.1"
"""The bridge, which is no pod."""


def service(*addresses: str) -> str:
    """A service with endpoints that are asked in turn, and left out once they fail twice."""
    endpoints = ", ".join(f"{{address: {each}}}" for each in addresses)
    return (
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
        "metadata: {name: store, namespace: default}\n"
        "spec: {hosts: [store], location: MESH_INTERNAL, resolution: STATIC,"
        f" ports: [{{number: 80, name: http, targetPort: 8080}}], endpoints: [{endpoints}]}}\n"
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
        "metadata: {name: store, namespace: default}\n"
        "spec: {host: store, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN},"
        " outlierDetection: {consecutive5xxErrors: 2, maxEjectionPercent: 50}}}\n"
    )


@dataclass(frozen=True)
class Shop:
    """A captured client, two pods that serve, and what serves on each."""

    client: Pod
    pods: tuple[Pod, Pod]
    serving: tuple[Process, Process]

    async def ask(self, to: str, host: str, *, times: int = 1, port: int = 80) -> list[str]:
        """Ask for who answers: the status, and who it was."""
        url = f"http://{to}:{port}/who"
        command = ["curl", "-sS", "-H", f"Host: {host}", "-w", " %{http_code}\\n", *[url] * times]
        with trio.fail_after(30):
            done = await self.client.run(command, user=ROOT)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    async def logged(self, count: int) -> list[dict[str, Any]]:
        """Wait until the client's sidecar has logged so much, and return it."""
        with trio.fail_after(10):
            while len(lines := self.client.access_log_path.read_text().splitlines()) < count:  # noqa: ASYNC110
                await trio.sleep(0.05)
        return [json.loads(line) for line in lines]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the sidecar's user can enter."""
    with tempfile.TemporaryDirectory(dir="/run", prefix="tproxy-services-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def serve(pod: Pod, place: Path, name: str) -> Process:
    """Serve a pod's name."""
    (place / name).mkdir()
    (place / name / "who").write_text(name)
    command = [sys.executable, "-m", "http.server", "8080", "--directory", str(place / name)]
    serving = await pod.start(command, user=ROOT, stdio=QUIET)
    await serving.listens(8080)
    return serving


@asynccontextmanager
async def shop(place: Path, more: str = "") -> AsyncIterator[Shop]:
    """The scene, under the service's policies and more."""
    policies = place / "policies"
    policies.mkdir()
    lab = Lab(place / "lab")
    async with (
        open_pod(PodSpec("one", proxy=False), lab) as one,
        open_pod(PodSpec("two", proxy=False), lab) as two,
    ):
        text = more + service(one.addresses.v4, two.addresses.v4)
        (policies / "store.yaml").write_text(text)
        serving = (await serve(one, place, "one"), await serve(two, place, "two"))
        async with open_pod(PodSpec("client", policies=policies), lab) as client:
            yield Shop(client, (one, two), serving)


async def test_a_services_name_is_answered_by_each_of_its_endpoints_in_turn(place: Path) -> None:
    async with shop(place) as at:
        # Whichever address is dialled: one of an endpoint where nobody listens on that port, and one of nobody.
        for to in (at.pods[0].addresses.v4, UNNAMED):
            told = await at.ask(to, STORE, times=20)
            assert Counter(told) == {"one 200": 10, "two 200": 10}
        # An endpoint's own port is the endpoint's.
        own = await at.ask(at.pods[1].addresses.v4, STORE, times=4, port=8080)
        assert own == ["two 200"] * 4
        clusters = [line["upstream_cluster"] for line in await at.logged(44)]
        assert clusters == [CLUSTER] * 40 + ["PassthroughCluster"] * 4


async def test_an_endpoint_that_is_gone_costs_nobody_a_request(place: Path) -> None:
    async with shop(place) as at:
        assert set(await at.ask(UNNAMED, STORE, times=4)) == {"one 200", "two 200"}
        await at.serving[1].stop()
        told = await at.ask(UNNAMED, STORE, times=20)
        assert told == ["one 200"] * 20
        lines = await at.logged(24)
        assert Counter(attempts(line) for line in lines) == {1: 22, 2: 2}


def attempts(line: dict[str, Any]) -> int:
    """How often a request was sent."""
    return int(line["tproxy"]["attempts"])


DIAL = f"""
import socket
stream = socket.create_connection(("{UNNAMED}", 7000))
stream.sendall(b"\\0hello")
try:
    print(stream.recv(10))
except ConnectionResetError:
    print("reset")
"""


async def test_what_no_policy_names_is_not_reached_where_this_is_asked_for(place: Path) -> None:
    async with shop(place, ONLY) as at:
        assert await at.ask(UNNAMED, STORE) in (["one 200"], ["two 200"])
        assert await at.ask(UNNAMED, "b.example") == [" 502"]
        assert (await at.client.run([sys.executable, "-c", DIAL], user=ROOT)).stdout == "reset\n"
        # Pods are named by those who made them.
        assert await at.ask(at.pods[0].addresses.v4, "b.example", port=8080) == ["one 200"]
        refused = [
            line for line in await at.logged(4) if line["upstream_cluster"] == "BlackHoleCluster"
        ]
        told = [(line["response_code"], line["response_code_details"]) for line in refused]
        assert told == [(502, "direct_response"), (0, "block_all")]
