"""A mesh whose pods prove who they are: a server's and a client's with sidecars, and an outsider's without one."""

import json
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio
from prometheus_client.parser import text_string_to_metric_families

from fakes.ca import FakeCa
from fakes.footprint import answer
from fakes.mesh import ROOT, Mesh, running_pods
from fakes.sidecars import ADMIN
from tproxy.lab import Lab, Pod, attach
from tproxy.lab.namespaces import enter_network, in_thread
from tproxy.stores.authority_files import AuthorityFiles

WEB = "cluster.local/ns/default/sa/web"
SLEEP = "cluster.local/ns/default/sa/sleep"
SERVICE = "server.default.svc.cluster.local"
PODS = {
    "server": ("--service-account", "web", "--label", "app=web"),
    "client": ("--service-account", "sleep", "--label", "app=sleep"),
    "outsider": ("--no-proxy",),
}
HANDSHAKE_SECONDS = 2
HANDSHAKES = 60
LIMITS = (f"handshake-seconds={HANDSHAKE_SECONDS}", f"handshakes={HANDSHAKES}")
"""Little patience, and little room."""
POLICIES = """
apiVersion: tproxy.io/v1alpha1
kind: ProxyConfig
spec: {detection: {timeout: 500ms}}
"""
METRICS = ("127.0.0.1", 15020)
ETH_P_ALL = 0x0003
SO_RCVBUFFORCE = 33
TAPPED_BYTES = 64 << 20
"""What a tap holds until it is read: more than any test that listens sends."""
MARKER = b"what-only-the-two-applications-know."


def peer_authentication(spec: str, *, name: str = "mode", namespace: str = "default") -> str:
    """Write which connections must be mutual TLS."""
    return (
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n---\n"
    )


def mode(word: str) -> str:
    """Write one mode for all ports."""
    return peer_authentication(f"{{mtls: {{mode: {word}}}}}")


def authorization(spec: str, *, name: str = "who", namespace: str = "default") -> str:
    """Write who may do what."""
    return (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n---\n"
    )


def plaintext_to(host: str) -> str:
    """Write that no mutual TLS is used towards a host."""
    return (
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
        "metadata: {name: plain, namespace: default}\n"
        f"spec: {{host: {host}, trafficPolicy: {{tls: {{mode: DISABLE}}}}}}\n---\n"
    )


@dataclass(frozen=True, slots=True)
class Mutual:
    """The mesh, its outsider, and where each sidecar's policies are written."""

    mesh: Mesh
    outsider: Pod
    lab: Lab

    @property
    def client(self) -> Pod:
        """Who dials, as SLEEP."""
        return self.mesh.client

    @property
    def server(self) -> Pod:
        """Who is dialled, WEB."""
        return self.mesh.server

    async def decree(self, pod: Pod, *policies: str) -> dict[str, Any]:
        """Put policies in force in a pod, and return what its sidecar says of all that are."""
        directory = policies_of(self.lab, pod.name)
        # At once: half of a file is another policy.
        (directory / "test.draft").write_text("".join(policies))
        (directory / "test.draft").replace(directory / "test.yaml")
        said = b"POST /policy/reload HTTP/1.0\r\n\r\n"
        head, _, body = (await answer(pod, ADMIN, said)).partition(b"\r\n\r\n")
        assert head.split()[1] == b"200", body
        dump: dict[str, Any] = json.loads(body)
        return dump

    async def outside(self, *argv: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        """Run a client without a sidecar to its end."""
        with trio.fail_after(30):
            return await self.outsider.run(argv, user=ROOT, stdin=stdin)

    async def metric(self, pod: Pod, name: str, **labels: str) -> float:
        """Read the sum of a pod's series that have these labels."""
        said = b"GET /metrics HTTP/1.0\r\n\r\n"
        whole = (await answer(pod, METRICS, said)).partition(b"\r\n\r\n")[2].decode()
        # To parse thousands of others would take longer than what is measured.
        text = "".join(line for line in whole.splitlines(keepends=True) if line.startswith(name))
        return sum(
            each.value
            for family in text_string_to_metric_families(text)
            for each in family.samples
            if each.name == name and labels.items() <= each.labels.items()
        )

    async def proven(self, count: int = 1) -> list[dict[str, Any]]:
        """Return what both logs say once they agree that each of at least `count` was SLEEP's, to WEB."""
        lines = await self.mesh.both(count)
        assert {line["tproxy"]["tls"] for line in lines} == {"mutual"}, lines
        for line in lines:
            own = line["tproxy"]
            if own["direction"] == "inbound":
                assert own["source_principal"] == SLEEP
            else:
                assert own["destination_principal"] == WEB
        return lines


def authority_of(lab: Lab) -> FakeCa:
    """Take the authority of the pods, which signs for strangers here, and whatever it is told to."""
    root = AuthorityFiles(lab.authority("cluster.local")).read().signing
    return FakeCa(root.certificate, root.key, datetime.now(UTC))


def policies_of(lab: Lab, name: str) -> Path:
    """Return where a pod's policies are."""
    return lab.root.parent / name


@contextmanager
def known_pods() -> Iterator[Lab]:
    """A lab of its own with all of `PODS`."""
    with TemporaryDirectory(dir="/run", prefix="tproxy-mutual-") as name:
        (root := Path(name)).chmod(0o755)
        lab = Lab(root / "lab")
        with running_pods(lab, {name: _options(lab, name) for name in PODS}):
            yield lab


def _options(lab: Lab, name: str) -> tuple[str, ...]:
    directory = policies_of(lab, name)
    directory.mkdir(parents=True)
    (directory / "proxy.yaml").write_text(POLICIES)
    options = PODS[name]
    if "--no-proxy" in options:
        return options
    limited = (f"--run-arg=--limit={limit}" for limit in LIMITS)
    return (*options, "--policies", str(directory), *limited)


@asynccontextmanager
async def quiet(mesh: Mesh, lab: Lab) -> AsyncIterator[Mutual]:
    """The mesh under no policies but those that it began with."""
    mutual = Mutual(mesh, attach(lab, "outsider"), lab)
    for pod in (mesh.server, mesh.client):
        if (policies_of(lab, pod.name) / "test.yaml").exists():
            await mutual.decree(pod)
    yield mutual
    for process in mutual.outsider.started:
        await process.kill()


class Tap:
    """Listens to all that comes to a pod and leaves it. What changes: what the kernel keeps for it."""

    def __init__(self, packets: socket.socket) -> None:
        self._packets = packets

    def heard(self) -> bytes:
        """Take all frames since the last time."""
        frames = []
        while True:
            try:
                frames.append(self._packets.recv(1 << 17))
            except BlockingIOError:
                return b"\0".join(frames)


@contextmanager
def tapped(pod: Pod, interface: str = "eth0") -> Iterator[Tap]:
    """Listen on a pod's wire for as long as the block lasts."""

    def step() -> socket.socket:
        enter_network(pod.netns_path)
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)

    packets = in_thread(step)
    with closing(packets):
        packets.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, TAPPED_BYTES)
        packets.setblocking(False)
        packets.bind((interface, ETH_P_ALL))
        yield Tap(packets)
