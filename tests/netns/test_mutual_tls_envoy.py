"""Mutual TLS with Envoy, as Istio configures it: each proves to the other who it is, and is refused where another is expected."""

import json
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Template
from typing import Any

import pytest
import trio

from fakes.mesh import APPS, QUIET, ROOT, Mesh, quiet_mesh, running_pods
from fakes.sidecars import handshakes
from fakes.two_ways import python
from tproxy.lab import Lab, Pod, attach
from tproxy.model.identity import Peer
from tproxy.stores.authority_files import AuthorityFiles, hand_out

pytestmark = pytest.mark.netns

GATE = Peer("cluster.local", "shop", "gate")
"""Whom Envoy proves to be; the server is `default/till` and the client `default/desk`."""
DESK = "spiffe://cluster.local/ns/default/sa/desk"
TILL = "spiffe://cluster.local/ns/default/sa/till"

SNI = "outbound_.8080_._.server.default.svc.cluster.local"
ECHO = ["socat", "TCP-LISTEN:7000,fork,reuseaddr", "PIPE"]
TO_ENVOY = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: envoy}
spec:
  host: envoy.shop.svc.cluster.local
  trafficPolicy:
    tls: {mode: ISTIO_MUTUAL}
    portLevelSettings:
    - port: {number: 8445}
      tls: {mode: ISTIO_MUTUAL, subjectAltNames: ["spiffe://cluster.local/ns/shop/sa/nobody"]}
"""
ONLY_PROVEN = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: all}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: not-the-gate}
spec:
  action: DENY
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/gate]}}], to: [{operation: {ports: ["8080"], paths: [/private]}}]}]
"""


@dataclass(frozen=True)
class Scene:
    """Envoy's pod, without a sidecar, beside a client's and a server's that have one."""

    envoy: Pod
    mesh: Mesh
    log: Path
    """Envoy's, of this test."""

    async def ask(self, pod: Pod, url: str, *words: str) -> str:
        """Body and status of one request."""
        with trio.fail_after(20):
            curl = ("curl", "-sS", "-m10", "-w", " %{http_code}", *words, url)
            done = await pod.run(curl, user=ROOT)
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def echoed(self, pod: Pod, to: str) -> str:
        """What an echo hears."""
        with trio.fail_after(20):
            done = await pod.run(["socat", "-t5", "-", f"TCP:{to}"], user=ROOT, stdin=b"heard")
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def envoys(self) -> dict[str, Any]:
        """What Envoy has logged first."""
        with trio.fail_after(10):
            while not (self.log.exists() and (text := self.log.read_text()).endswith("\n")):  # noqa: ASYNC110
                await trio.sleep(0.02)
        line: dict[str, Any] = json.loads(text.splitlines()[0])
        return line


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that a sidecar's user can enter."""
    with tempfile.TemporaryDirectory(dir="/run", prefix="tproxy-envoy-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def pods(place: Path) -> Iterator[Lab]:
    """A captured server, a captured client, and a pod for Envoy."""
    lab = Lab(place / "lab")
    own = ("--namespace", GATE.namespace, "--service-account", GATE.service_account)
    options: dict[str, tuple[str, ...]] = {"envoy": ("--no-proxy", *own)}
    for name, account, text in (("server", "till", ONLY_PROVEN), ("client", "desk", TO_ENVOY)):
        (directory := place / name).mkdir()
        (directory / "policies.yaml").write_text(text)
        options[name] = ("--service-account", account, "--policies", str(directory))
    with running_pods(lab, options):
        yield lab


@pytest.fixture
async def scene(pods: Lab, tmp_path: Path) -> AsyncIterator[Scene]:
    """The pods with all that serves in them, for one test."""
    envoy = attach(pods, "envoy")
    async with quiet_mesh(pods) as mesh:
        await mesh.serve(python("echo_target.py", "8080"), 8080)
        await mesh.serve(["nghttpd", "--no-tls", "-d", str(APPS), "8081"], 8081)
        await mesh.serve(ECHO, 7000)
        scene = Scene(envoy, mesh, tmp_path / "envoy.log")
        for argv, port in (
            (python("echo_target.py", "9000"), 9000),
            (ECHO, 7000),
            (configured(pods, tmp_path, mesh.server), 8443),
        ):
            process = await envoy.start(argv, user=ROOT, stdio=QUIET)
            with trio.fail_after(10):
                await process.listens(port)
        yield scene
        for process in envoy.started:
            await process.kill()


def configured(lab: Lab, place: Path, server: Pod) -> list[str]:
    """Give Envoy an identity of the lab's own authority, and what it is to do; says how to start it."""
    authority = AuthorityFiles(lab.authority(GATE.trust_domain))
    issued = authority.issue(GATE, ttl=timedelta(hours=1), now=datetime.now(UTC))
    hand_out(*issued, place / "identity", (0, 0))
    config = Template((APPS / "envoy_peer.yaml").read_text()).substitute(
        identity=place / "identity",
        log=place / "envoy.log",
        client=DESK,
        server=server.addresses.v4,
    )
    (place / "envoy.yaml").write_text(config)
    envoy = [f"{sys.prefix}/bin/envoy", "-c", str(place / "envoy.yaml"), "--concurrency", "1"]
    return [*envoy, "--disable-hot-restart", "--file-flush-interval-msec", "20"]


@pytest.mark.parametrize(
    ("version", "protocol"),
    [
        pytest.param("--http1.1", "HTTP/1.1", id="HTTP/1.1"),
        pytest.param("--http2-prior-knowledge", "HTTP/2", id="HTTP/2"),
    ],
)
async def test_requests_to_envoy_prove_both(scene: Scene, version: str, protocol: str) -> None:
    answer = await scene.ask(scene.mesh.client, "http://envoy.shop:8443/asked", version)
    assert answer == "/asked 200"
    told = await scene.envoys()
    assert (told["protocol"], told["downstream"]) == (protocol, DESK)
    assert told["asked_for"] == "envoy.shop.svc.cluster.local"
    [line] = await scene.mesh.lines(scene.mesh.client)
    assert line["tproxy"]["destination_principal"] == GATE.principal
    assert line["tproxy"]["tls"] == "mutual"


async def test_bytes_to_envoy_prove_both(scene: Scene) -> None:
    assert await scene.echoed(scene.mesh.client, "envoy.shop:8443") == "heard"
    assert (await scene.envoys())["downstream"] == DESK
    [line] = await scene.mesh.lines(scene.mesh.client)
    assert (line["bytes_sent"], line["bytes_received"]) == (5, 5)
    assert line["tproxy"]["destination_principal"] == GATE.principal


async def test_envoy_is_refused_where_somebody_else_is_expected(scene: Scene) -> None:
    answer = await scene.ask(scene.mesh.client, "http://envoy.shop:8445/asked")
    assert answer.endswith(" 503")
    [line] = await scene.mesh.lines(scene.mesh.client)
    assert line["response_flags"] == "UF"
    cause = line["upstream_transport_failure_reason"]
    assert cause == f"TLS: wrong_identity: it is {GATE.spiffe_id}"
    assert (await handshakes(scene.mesh.client))["wrong_identity"] == 1


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
async def test_envoy_refuses_us_where_it_expects_somebody_else(scene: Scene, version: str) -> None:
    answer = await scene.ask(scene.mesh.client, "http://envoy.shop:8444/asked", version)
    assert answer.endswith(" 503")
    [line] = await scene.mesh.lines(scene.mesh.client)
    assert "CERTIFICATE_VERIFY_FAILED" in (await scene.envoys())["refused"]
    assert line["response_flags"] == "UC"
    # A reset that comes in the very moment of our write hides the alert in front of it.
    causes = ("tls alert certificate unknown", "EPIPE", "ECONNRESET")
    assert line["upstream_transport_failure_reason"] in causes


@pytest.mark.parametrize(
    ("offer", "path", "port", "detection"),
    [
        pytest.param("istio-http/1.1", "/asked", 8080, "alpn", id="istio-http/1.1"),
        pytest.param("istio", "/asked", 8080, "http11", id="istio"),
        pytest.param("istio-h2", "/steady.py", 8081, "alpn", id="istio-h2"),
        pytest.param("h2", "/steady.py", 8081, "alpn", id="h2"),
    ],
)
async def test_requests_of_envoys_prove_both(
    scene: Scene, offer: str, path: str, port: int, detection: str
) -> None:
    answer = await scene.ask(
        scene.envoy, f"http://127.0.0.1:10000{path}", "-H", f"cluster: {offer}"
    )
    assert answer.endswith(" 200")
    assert (await scene.envoys())["upstream"] == TILL
    [line] = await scene.mesh.lines(scene.mesh.server)
    own = line["tproxy"]
    assert (own["source_principal"], own["tls"]) == (GATE.principal, "mutual")
    assert (own["detection"], line["requested_server_name"]) == (detection, SNI)
    assert own["original_dst"].endswith(f":{port}")


async def test_bytes_of_envoys_prove_both(scene: Scene) -> None:
    assert await scene.echoed(scene.envoy, "127.0.0.1:10003") == "heard"
    assert (await scene.envoys())["upstream"] == TILL
    [line] = await scene.mesh.lines(scene.mesh.server)
    assert (line["bytes_sent"], line["bytes_received"]) == (5, 5)
    assert line["tproxy"]["source_principal"] == GATE.principal


async def test_policies_know_envoy_by_what_it_has_proven(scene: Scene) -> None:
    url = "http://127.0.0.1:10000/private"
    answer = await scene.ask(scene.envoy, url, "-H", "cluster: istio-http/1.1")
    assert answer == "RBAC: access denied 403"


async def test_we_are_refused_by_an_envoy_that_expects_somebody_else(scene: Scene) -> None:
    url = "http://127.0.0.1:10000/asked"
    answer = await scene.ask(scene.envoy, url, "-H", "cluster: stranger")
    assert answer.endswith(" 503")
    assert "CERTIFICATE_VERIFY_FAILED" in (await scene.envoys())["failure"]
    [line] = await scene.mesh.lines(scene.mesh.server)
    assert line["connection_termination_details"] == "rejected: tls alert certificate unknown"
    assert (await handshakes(scene.mesh.server))["rejected"] == 1


async def test_envoy_in_plaintext_is_refused(scene: Scene) -> None:
    server = scene.mesh.server.addresses.v4
    with trio.fail_after(20):
        done = await scene.envoy.run(["curl", "-sS", f"http://{server}:8080/asked"], user=ROOT)
    assert done.returncode == 56, done.stdout
    [line] = await scene.mesh.lines(scene.mesh.server)
    assert line["tproxy"]["tls"] is None
