"""The webhook as a real API server asks it: what is stored has its sidecar, or is not stored at all."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
import yaml

from fakes.kubernetes import Tools

pytestmark = pytest.mark.admission

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "deploy" / "helm" / "tproxy"
ETCD, PEERS, API, HOOK, DESK = 33790, 33791, 36443, 28443, 28080
TOKEN = "t0ken"


@contextmanager
def process(log: Path, *argv: str, env: dict[str, str] | None = None) -> Iterator[None]:
    """A program for as long as the block lasts."""
    with (
        log.open("w") as said,
        subprocess.Popen(
            argv, stdout=said, stderr=said, env={**os.environ, **(env or {})}
        ) as running,
    ):
        try:
            yield
        finally:
            running.terminate()


class Cluster:
    """An API server, and kubectl for it."""

    def __init__(self, tools: Tools, place: Path) -> None:
        self._kubectl = str(tools.kubectl)
        self._tools = tools
        self.place = place

    def template(self) -> list[Any]:
        """What `helm upgrade` would send, with what it finds in the cluster."""
        words = [f"--kube-apiserver=https://127.0.0.1:{API}", f"--kube-token={TOKEN}"]
        words += ["--kube-insecure-skip-tls-verify", "--dry-run=server", "--is-upgrade"]
        return list(yaml.safe_load_all(self._tools.template(CHART, *words)))

    def kubectl(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Ask it something."""
        to = [f"--server=https://127.0.0.1:{API}", "--insecure-skip-tls-verify", f"--token={TOKEN}"]
        return subprocess.run(
            [self._kubectl, *to, *words],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env={"HOME": str(self.place), "PATH": os.environ["PATH"]},
        )

    def apply(self, manifest: object, *words: str) -> subprocess.CompletedProcess[str]:
        """Have it keep something."""
        return self.kubectl(
            "create", "--validate=false", "-f", "-", *words, stdin=yaml.safe_dump(manifest)
        )

    def pod(self, name: str, namespace: str) -> Any:  # noqa: ANN401 - a manifest
        """What it has kept."""
        found = self.kubectl("get", "pod", name, "-n", namespace, "-o", "json")
        return json.loads(found.stdout)


async def until(done: Any) -> None:  # noqa: ANN401 - a question
    """Ask until the answer is yes."""
    with trio.fail_after(60):
        while not done():  # noqa: ASYNC110 - another process's doing has no event
            await trio.sleep(0.2)


def certify(authority: trustme.CA, place: Path) -> None:
    """Write the webhook's certificate."""
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.private_key_pem.write_to_path(place / "tls.key.new")
    issued.cert_chain_pems[0].write_to_path(place / "tls.crt.new")
    for name in ("tls.key", "tls.crt"):
        (place / f"{name}.new").replace(place / name)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who vouches for the webhook."""
    return trustme.CA()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[Cluster]:
    """An API server that asks the webhook about pods in labelled namespaces."""
    place = tmp_path_factory.mktemp("cluster")
    server = subprocess.run(
        [str(ROOT / ".ci" / "kubernetes"), "kube-apiserver"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (place / "tokens.csv").write_text(f'{TOKEN},admin,1,"system:masters"\n')
    subprocess.run(["openssl", "genrsa", "-out", str(place / "sa.key"), "2048"], check=True)
    # Native sidecars came with Kubernetes 1.29.
    (place / "sidecar.yaml").write_text("{policies: tproxy-policies, native: false}\n")
    certify(authority, place)
    tools = Tools(place / "tools")
    with ExitStack() as running:
        running.enter_context(
            process(
                place / "etcd.log",
                "etcd",
                f"--data-dir={place}/etcd",
                *(
                    f"--{kind}-client-urls=http://127.0.0.1:{ETCD}"
                    for kind in ("listen", "advertise")
                ),
                f"--listen-peer-urls=http://127.0.0.1:{PEERS}",
            )
        )
        running.enter_context(
            process(
                place / "api.log",
                server,
                f"--etcd-servers=http://127.0.0.1:{ETCD}",
                "--bind-address=127.0.0.1",
                f"--secure-port={API}",
                f"--cert-dir={place}/certs",
                "--service-account-issuer=https://tests.example",
                f"--service-account-key-file={place}/sa.key",
                f"--service-account-signing-key-file={place}/sa.key",
                "--service-cluster-ip-range=198.51.100.0/24",
                f"--token-auth-file={place}/tokens.csv",
                "--authorization-mode=RBAC",
                "--disable-admission-plugins=ServiceAccount",
                "--endpoint-reconciler-type=none",
                "--advertise-address=192.0.2.2",
            )
        )
        argv = [sys.executable, "-m", "tproxy", "injector", "--config", str(place / "sidecar.yaml")]
        argv += ["--tls-certificate", str(place / "tls.crt"), "--tls-key", str(place / "tls.key")]
        argv += ["--port", str(HOOK), "--health-port", str(DESK)]
        running.enter_context(process(place / "injector.log", *argv))
        made = Cluster(tools, place)
        trio.run(until, lambda: made.kubectl("get", "--raw", "/readyz").stdout == "ok")
        _configure(made, tools, authority)
        yield made


def _configure(cluster: Cluster, tools: Tools, authority: trustme.CA) -> None:
    """Apply the chart's webhook, at a URL, as there is no network of pods here."""
    chart = tools.template(CHART)
    (hook,) = [
        each
        for each in yaml.safe_load_all(chart)
        if each and each["kind"] == "MutatingWebhookConfiguration"
    ]
    bundle = authority.cert_pem.bytes()
    hook["webhooks"][0]["clientConfig"] = {
        "url": f"https://127.0.0.1:{HOOK}/inject",
        "caBundle": base64.b64encode(bundle).decode(),
    }
    # Since 1.21 API servers set this label themselves.
    for name, labels in (("meshed", {"tproxy.io/injection": "enabled"}), ("plain", {})):
        labels["kubernetes.io/metadata.name"] = name
        metadata = {"name": name, "labels": labels}
        done = cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        assert done.returncode == 0, done.stderr
    done = cluster.apply(hook)
    assert done.returncode == 0, done.stderr
    # An API server learns of webhooks a moment later.
    probe = pod("probe", "meshed")
    trio.run(
        until,
        lambda: "tproxy" in cluster.apply(probe, "--dry-run=server", "-o", "json").stdout,
    )


def pod(name: str, namespace: str, **spec: object) -> dict[str, Any]:
    """A pod of one container."""
    containers = [{"name": "app", "image": "app:1"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"containers": containers, **spec},
    }


def names(kept: Any) -> list[str]:  # noqa: ANN401 - a manifest
    """Who is in a pod, in order."""
    spec = kept["spec"]
    return [each["name"] for each in (*spec.get("initContainers", ()), *spec["containers"])]


def test_a_pod_of_a_labelled_namespace_is_kept_with_its_sidecar(cluster: Cluster) -> None:
    assert cluster.apply(pod("web", "meshed")).returncode == 0
    kept = cluster.pod("web", "meshed")
    assert names(kept) == ["tproxy-init", "tproxy", "app"]
    volumes = {each["name"] for each in kept["spec"]["volumes"]}
    assert volumes == {"tproxy-policies", "tproxy-podinfo"}


def test_a_pod_of_another_namespace_is_kept_as_it_is(cluster: Cluster) -> None:
    assert cluster.apply(pod("web", "plain")).returncode == 0
    assert names(cluster.pod("web", "plain")) == ["app"]


def test_a_pod_that_declines_is_kept_as_it_is(cluster: Cluster) -> None:
    declining = pod("declining", "meshed")
    declining["metadata"]["annotations"] = {"tproxy.io/inject": "false"}
    assert cluster.apply(declining).returncode == 0
    assert names(cluster.pod("declining", "meshed")) == ["app"]


def test_a_pod_on_the_nodes_network_is_denied_and_told_why(cluster: Cluster) -> None:
    done = cluster.apply(pod("host", "meshed", hostNetwork=True))
    assert done.returncode != 0
    assert "$.spec.hostNetwork: the node's own traffic would be captured" in done.stderr


def test_who_makes_a_pod_is_warned(cluster: Cluster) -> None:
    warned = pod("warned", "meshed")
    warned["metadata"]["annotations"] = {"sidecar.istio.io/bootstrapOverride": "x"}
    done = cluster.apply(warned)
    assert done.returncode == 0
    assert "Warning: tproxy: $.metadata.annotations" in done.stderr


async def test_a_new_certificate_is_taken_while_pods_are_made(
    cluster: Cluster, authority: trustme.CA
) -> None:
    for number in range(20):
        if number % 5 == 0:
            certify(authority, cluster.place)
        done = await trio.to_thread.run_sync(cluster.apply, pod(f"many-{number}", "meshed"))
        assert done.returncode == 0, done.stderr
    said = (cluster.place / "injector.log").read_text()
    assert said.count("its certificate ends at") > 1


async def test_new_settings_are_taken_and_bad_ones_change_nothing(cluster: Cluster) -> None:
    settings = cluster.place / "sidecar.yaml"

    def image() -> str:
        made = cluster.apply(pod("probe", "meshed"), "--dry-run=server", "-o", "json")
        return str(json.loads(made.stdout)["spec"]["initContainers"][0]["image"])

    settings.write_text("{initImage: other:2, native: false}\n")
    await until(lambda: image() == "other:2")
    settings.write_text("initImages: third:3\n")
    log = cluster.place / "injector.log"
    await until(lambda: "unknown field `initImages`" in log.read_text())
    assert image() == "other:2"


def test_an_upgrade_keeps_the_certificate_that_is_there(cluster: Cluster) -> None:
    def made() -> tuple[Any, str]:
        kinds = {each["kind"]: each for each in cluster.template()}
        (hook,) = kinds["MutatingWebhookConfiguration"]["webhooks"]
        return kinds["Secret"], hook["clientConfig"]["caBundle"]

    secret, bundle = made()
    assert made()[1] != bundle
    own = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tproxy-system"}}
    for each in (own, secret):
        done = cluster.apply(each)
        assert done.returncode == 0, done.stderr
    assert made() == (secret, secret["data"]["ca.crt"])


def test_a_real_server_takes_what_needs_no_native_sidecars(cluster: Cluster) -> None:
    manifests = cluster.kubectl("kustomize", str(ROOT / "deploy" / "overlays" / "classic")).stdout
    done = cluster.kubectl(
        "create", "--validate=false", "--dry-run=server", "-f", "-", stdin=manifests
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("created (server dry run)") == manifests.count("\nkind: ")


def test_a_real_server_takes_the_chart(cluster: Cluster) -> None:
    for each in cluster.template():
        # The webhook is there already.
        if each["kind"] != "MutatingWebhookConfiguration":
            done = cluster.apply(_in_namespace(each, "plain"), "--dry-run=server")
            assert done.returncode == 0, done.stderr


def _in_namespace(manifest: Any, namespace: str) -> Any:  # noqa: ANN401 - a manifest
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}
