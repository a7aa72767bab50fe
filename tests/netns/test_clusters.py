"""Services in a captured pod: who asks for their names meets their instances, wherever the connection was going."""

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

from fakes.mesh import APPS, QUIET, ROOT
from tproxy.lab import Lab, Pod, PodSpec, Process, open_pod

pytestmark = pytest.mark.netns

ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop, namespace: default}
spec:
  hosts: [shop.example]
  resolution: %s
  ports:
  - {number: 80, name: http, protocol: HTTP, targetPort: 8080}
  - {number: 7000, name: tcp, protocol: TCP}
  endpoints: [{address: %s}, {address: %s}]
"""
RULE = """
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop, namespace: default}
spec:
  host: shop.example
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    outlierDetection: {consecutiveGatewayErrors: 2, interval: 10s, baseEjectionTime: 60s, maxEjectionPercent: 50}
"""


@dataclass(frozen=True)
class Scene:
    """A captured pod that asks, and two instances without a sidecar."""

    client: Pod
    instances: tuple[Pod, Pod]
    origins: tuple[Process, Process]

    async def ask(self, times: int) -> Counter[str]:
        """Ask for the service by its name, at an address where nobody listens, and count the answers."""
        to = f"shop.example:80:{self.instances[0].addresses.v4}:80"
        script = (
            f"for i in $(seq {times}); do curl -sS -m 10 -o /dev/null -w '%{{http_code}}\\n'"
            f" --connect-to {to} http://shop.example/; done"
        )
        with trio.fail_after(60):
            done = await self.client.run(["sh", "-c", script], user=ROOT)
        return Counter(done.stdout.split())

    async def page(self, words: str) -> str:
        """What the sidecar answers."""
        return (await self.client.run(["curl", "-sS", f"http://127.0.0.1:{words}"])).stdout

    async def requests(self) -> dict[str, int]:
        """How many requests each instance was sent."""
        page = json.loads(await self.page("15000/clusters?format=json"))
        (shop,) = page["cluster_statuses"]
        return {
            each["address"]["socket_address"]["address"]: count(each, "rq_total")
            for each in shop["host_statuses"]
        }


def count(status: dict[str, Any], name: str) -> int:
    """One count of an endpoint's."""
    return next(int(each["value"]) for each in status["stats"] if each["name"] == name)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the sidecar's user can enter."""
    with tempfile.TemporaryDirectory(dir="/run", prefix="tproxy-clusters-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@asynccontextmanager
async def scene(place: Path, resolution: str) -> AsyncIterator[Scene]:
    """The scene, where endpoints are named or numbered."""
    lab = Lab(place / "lab")
    policies = place / "policies"
    policies.mkdir()
    async with (
        open_pod(PodSpec("one", proxy=False), lab) as one,
        open_pod(PodSpec("two", proxy=False), lab) as two,
    ):
        named = resolution == "DNS"
        endpoints = ("one", "two") if named else (one.addresses.v4, two.addresses.v4)
        (policies / "shop.yaml").write_text(ENTRY % (resolution, *endpoints) + RULE)
        async with open_pod(PodSpec("client", policies=policies), lab) as client:
            argv = [sys.executable, f"{APPS}/echo_target.py", "8080"]
            origins = [await each.start(argv, user=ROOT, stdio=QUIET) for each in (one, two)]
            for origin in origins:
                await origin.listens(8080)
            yield Scene(client, (one, two), (origins[0], origins[1]))


@pytest.mark.parametrize("resolution", ["STATIC", "DNS"])
async def test_a_name_is_answered_by_its_instances_and_one_that_dies_is_left_out(
    place: Path, resolution: str
) -> None:
    async with scene(place, resolution) as shop:
        assert await shop.ask(10) == {"200": 10}
        asked = await shop.requests()
        one, two = (each.addresses.v4 for each in shop.instances)
        assert sum(asked.values()) == 10
        assert {asked[one], asked[two]} <= ({5} if resolution == "STATIC" else set(range(1, 9)))
        await shop.origins[0].stop()
        # What cannot be reached is asked of the other one at once, and soon not asked any more.
        assert await shop.ask(10) == {"200": 10}
        page = await shop.page("15000/clusters")
        assert f"outbound|80||shop.example::{one}:8080::health_flags::/failed_outlier_check" in page
        (spec,) = json.loads(await shop.page("15000/config_dump"))["clusters"]
        assert (spec["host"], spec["balancer"]["algorithm"]) == ("shop.example", "ROUND_ROBIN")
        metrics = await shop.page("15020/metrics")
        labels = 'cluster="outbound|80||shop.example"'
        ejected = "1.0" if resolution == "STATIC" else "2.0"  # in both families
        assert f"tproxy_outlier_ejections_active{{{labels}}} {ejected}" in metrics
        assert 'destination_service="shop.example"' in metrics
