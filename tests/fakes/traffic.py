"""Traffic policies as text, and a service of several versions to try them on."""

import json
import re
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

import trio

from fakes.mesh import APPS, QUIET, ROOT
from fakes.mutual import Mutual
from tproxy.lab import Process

HOST, VIP = "shop.example", "198.51.100.10"
URL = f"http://{VIP}/"
VERSIONS = {"v1": 8081, "v2": 8082, "v3": 8083}
_SUMMARY = re.compile(r"(\d+) total.* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")
_CODES = re.compile(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx")


def istio(kind: str, spec: str, name: str = "shop") -> str:
    """Write one object of Istio's networking."""
    return (
        f"apiVersion: networking.istio.io/v1\nkind: {kind}\n"
        f"metadata: {{name: {name}, namespace: default}}\nspec: {{{spec}}}\n---\n"
    )


def own(kind: str, spec: str, name: str = "shop") -> str:
    """Write one object of a kind of ours."""
    return (
        f"apiVersion: tproxy.io/v1alpha1\nkind: {kind}\n"
        f"metadata: {{name: {name}, namespace: default}}\nspec: {{{spec}}}\n---\n"
    )


def service(address: str, *versions: str) -> str:
    """Name the service and its endpoints, which are all at one address."""
    endpoints = ", ".join(
        f"{{address: {address}, ports: {{http: {VERSIONS[each]}}}, labels: {{version: {each}}}}}"
        for each in versions
    )
    return istio(
        "ServiceEntry",
        f"hosts: [{HOST}], addresses: [{VIP}], ports: [{{number: 80, name: http, protocol: HTTP}}],"
        f" location: MESH_INTERNAL, resolution: STATIC, endpoints: [{endpoints}]",
    )


def rule(policy: str = "", *versions: str) -> str:
    """Write what holds of the service's connections, and its subsets."""
    subsets = ", ".join(f"{{name: {each}, labels: {{version: {each}}}}}" for each in versions)
    return istio(
        "DestinationRule", f"host: {HOST}, trafficPolicy: {{{policy}}}, subsets: [{subsets}]"
    )


def routes(http: str) -> str:
    """Write where the service's requests go."""
    return istio("VirtualService", f"hosts: [{HOST}], http: [{http}]")


def to(subset: str, weight: int | None = None) -> str:
    """Write a destination."""
    weighted = "" if weight is None else f", weight: {weight}"
    return f"{{destination: {{host: {HOST}, subset: {subset}}}{weighted}}}"


@dataclass(frozen=True, slots=True)
class Load:
    """What a load generator saw."""

    codes: tuple[int, ...]
    """Answers of 2xx, 3xx, 4xx and 5xx."""
    failed: int
    """What was not answered, or not by 2xx."""


@dataclass(frozen=True, slots=True)
class Shop:
    """The service's versions, run in the server's pod, and its client."""

    mutual: Mutual
    processes: dict[str, Process]

    async def ask(self, *options: str) -> tuple[str, str]:
        """Send one request: the status, and the version that answered."""
        done = await self.mutual.mesh.run(
            "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %header{x-version}", *options, URL
        )
        status, _, version = done.stdout.partition(" ")
        return status, version

    async def load(self, requests: int, clients: int = 4, *options: str) -> Load:
        """Send many, over so many connections."""
        done = await self.mutual.mesh.run(
            "h2load", "--h1", f"-n{requests}", f"-c{clients}", *options, URL
        )
        summary, codes = _SUMMARY.search(done.stdout), _CODES.search(done.stdout)
        assert summary, done.stdout + done.stderr
        assert codes, done.stdout
        return Load(tuple(map(int, codes.groups())), requests - int(codes[1]))

    async def seen(self, version: str) -> list[dict[str, str]]:
        """The requests that a version has had."""
        done = await self._inside(version, "seen")
        found: list[dict[str, str]] = json.loads(done)
        return found

    async def counts(self) -> Counter[str]:
        """How many requests each version has had."""
        return Counter({each: len(await self.seen(each)) for each in self.processes})

    async def busy(self, version: str, requests: int) -> None:
        """Wait until a version has had so many."""
        with trio.fail_after(20):
            while len(await self.seen(version)) < requests:  # noqa: ASYNC110 - another process's doing has no event
                await trio.sleep(0.02)

    async def until(self, version: str) -> None:
        """Ask until that version answers well."""
        with trio.fail_after(10):
            while await self.ask() != ("200", version):  # noqa: ASYNC110
                await trio.sleep(0.05)

    async def mood(self, version: str, **mood: Any) -> None:  # noqa: ANN401
        """Tell a version what to answer."""
        await self._inside(version, "mood", "-X", "PUT", "-d", json.dumps(mood))

    async def _inside(self, version: str, path: str, *options: str) -> str:
        url = f"http://127.0.0.1:{VERSIONS[version]}/{path}"
        with trio.fail_after(10):
            server = self.mutual.server
            done = await server.run(["curl", "-sS", *options, url], user=ROOT)
        assert done.returncode == 0, done.stderr
        return done.stdout


async def shop(mutual: Mutual, *versions: str) -> Shop:
    """Serve versions of the service, each by a process of its own."""
    processes = {}
    for each in versions:
        argv = [sys.executable, str(APPS / "versioned.py"), f"{each}:{VERSIONS[each]}"]
        processes[each] = await mutual.server.start(argv, user=ROOT, stdio=QUIET)
    for each, process in processes.items():
        with trio.fail_after(10):
            await process.listens(VERSIONS[each])
    return Shop(mutual, processes)
