"""A machine for containers with both images, and a mesh of pods on it, which the tests here share."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fakes.manifests import application, config_map, meshed, programs, started_by
from fakes.podman import CannotRunContainersError, Podman, podman, until

URL = "http://httpbin:8000"
SERVING = "tproxy wait && exec python3 /app/origin.py"
RESTING = "tproxy wait && exec sleep infinity"
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: default}
spec: {mtls: {mode: STRICT}}
"""
CALLERS = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: default}
spec:
  selector: {matchLabels: {app: httpbin}}
  action: ALLOW
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/sleep]}}]
    to: [{operation: {methods: [GET], notPaths: [/secret]}}]
"""
SERVICES = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: httpbin, namespace: default}
spec:
  hosts: [httpbin.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: DNS
  ports: [{number: 8000, name: http}]
  endpoints:
  - {address: httpbin, serviceAccount: httpbin, labels: {security.istio.io/tlsMode: istio}}
"""


@dataclass(frozen=True, slots=True)
class Authority:
    """`tproxy ca`, and where it puts identities."""

    directory: Path

    def issue(self, account: str) -> Path:
        """An identity of a service account; a new one each time."""
        into = self.directory / account
        self._ca(
            "issue",
            str(self.directory / "ca"),
            "--namespace=default",
            "--owner=1337",
            f"--service-account={account}",
            f"--out={into}",
        )
        return into

    def found(self) -> None:
        """Begin."""
        self._ca("init", str(self.directory / "ca"), "--trust-domain=cluster.local")

    def _ca(self, *argv: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "tproxy", "ca", *argv], check=True, capture_output=True
        )


@pytest.fixture(scope="session")
def engine() -> Iterator[Podman]:
    """Podman on a machine of its own, with both images."""
    try:
        with podman() as engine:
            yield engine
    except CannotRunContainersError as why:
        pytest.exit(f"this machine cannot run containers: {why}", returncode=3)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The mesh's own certificate authority."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    authority.found()
    return authority


@pytest.fixture(scope="module")
def mesh(engine: Podman, authority: Authority) -> Iterator[Podman]:
    """httpbin, which only sleep may call, by mutual TLS; sleep; and an outsider without a sidecar."""
    with engine.cleaned():
        engine.play(
            programs(),
            config_map("httpbin-policies", {"mtls.yaml": STRICT, "authz.yaml": CALLERS}),
            config_map("sleep-policies", {"services.yaml": SERVICES}),
            meshed(application("httpbin", SERVING), certificates=authority.issue("httpbin")),
            # One of both captures by nft, which needs less.
            started_by(
                meshed(application("sleep", RESTING), certificates=authority.issue("sleep")),
                ["apply", "--backend=nft"],
                "NET_ADMIN",
            ),
            application("outsider", "exec sleep infinity"),
        )
        engine.ready("httpbin", "sleep")
        until(lambda: engine.ask("sleep", f"{URL}/headers").status, 200)
        yield engine
