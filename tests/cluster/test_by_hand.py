"""Two pods, by hand: the commands of docs/deploy.md, as they stand there, and what a kubelet makes of them."""

import json
import re
from collections.abc import Iterator

import pytest

from fakes.cluster import Cluster, classic, containers, documented
from fakes.podman import until

pytestmark = [pytest.mark.netns, pytest.mark.cluster]
URL = "http://httpbin:8000"
INJECT = "tproxy inject --classic deploy/examples/httpbin.yaml deploy/examples/sleep.yaml"
DENIED = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: secret}
spec:
  selector: {matchLabels: {app: httpbin}}
  action: DENY
  rules: [{to: [{operation: {paths: [/secret]}}]}]
"""


@pytest.fixture(scope="module")
def said(node: Cluster) -> Iterator[str]:
    """What the commands said, in order; the pair stays for the tests here."""
    policies, pair = documented("Two pods, by hand")
    with node.emptied("default"):
        yield node.shell(policies + classic(pair)).stdout


@pytest.fixture
def pair(node: Cluster, said: str) -> Cluster:
    """The cluster in which the commands have succeeded."""
    assert said
    return node


def test_the_commands_answer(said: str) -> None:
    answer = json.loads(said[said.index("{\n") : said.index("\n}\n") + 2])
    assert answer["headers"]["Host"] == "httpbin:8000"
    assert "x-request-id" in answer["headers"]


def test_the_access_log_has_what_was_asked(pair: Cluster) -> None:
    def asked() -> list[int]:
        return [each["response_code"] for each in pair.access_log("httpbin") if each["path"] == "/"]

    # A line takes a moment from the sidecar to `kubectl logs`.
    until(lambda: asked()[:1], [200], seconds=30)


@pytest.mark.parametrize("app", ["httpbin", "sleep"])
def test_the_init_step_has_programmed_the_pods_rules_and_ended(pair: Cluster, app: str) -> None:
    assert containers(pair.pod(app))["tproxy-init"]["state"]["terminated"]["exitCode"] == 0
    logged = pair.kubectl("logs", f"deploy/{app}", "--container=tproxy-init").stdout
    assert "capturing IPv4 and IPv6 by" in logged
    assert "ok: IPv4 inbound reaches the proxy" in logged


def test_the_sidecar_can_nothing_that_an_ordinary_process_cannot(pair: Cluster) -> None:
    text = pair.within("deploy/httpbin", "tproxy", "cat", "/proc/1/status")
    status = dict(re.findall(r"^(\w+):\s*(.*)$", text, re.MULTILINE))
    assert {status[each] for each in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["Uid"].split() == ["1337"] * 4
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


@pytest.mark.parametrize("container", ["tproxy", "httpbin"])
def test_root_file_systems_cannot_be_written(pair: Cluster, container: str) -> None:
    write = ("exec", "deploy/httpbin", f"--container={container}", "--", "touch", "/written")
    ended = pair.kubectl(*write, check=False)
    assert ended.returncode
    assert "Read-only file system" in ended.stderr


def test_the_pods_labels_come_as_a_file(pair: Cluster) -> None:
    labels = pair.within("deploy/httpbin", "tproxy", "cat", "/etc/tproxy/podinfo/labels")
    assert {'app="httpbin"', 'version="v1"'} <= set(labels.splitlines())


def test_an_edit_of_the_config_map_is_in_force_without_a_restart(pair: Cluster) -> None:
    def edit(*files: str) -> None:
        words = [f"--from-literal={name}" for name in files]
        make = ("create", "configmap", "tproxy-policies", *words, "--dry-run=client", "-o=yaml")
        pair.kubectl("replace", "-f", "-", stdin=pair.kubectl(*make).stdout)

    def status() -> int | None:
        return pair.ask(f"{URL}/secret").status

    assert status() == 200
    edit(f"denied.yaml={DENIED}")
    until(status, 403, seconds=90)
    assert pair.ask(f"{URL}/other").status == 200
    edit()
    until(status, 200, seconds=90)
    assert {each["restartCount"] for each in containers(pair.pod("httpbin")).values()} == {0}


def test_a_sidecar_that_is_killed_is_started_again_beside_the_same_application(
    pair: Cluster,
) -> None:
    pod = pair.pod("httpbin")
    before = containers(pod)
    pair.kill(before["tproxy"]["containerID"])
    until(lambda: containers(pair.pod("httpbin"))["tproxy"]["restartCount"], 1, seconds=60)
    pair.kubectl("wait", "--for=condition=Ready", f"pod/{pod['metadata']['name']}", "--timeout=60s")
    until(lambda: pair.ask(f"{URL}/again").status, 200, seconds=60)
    after = containers(pair.pod("httpbin"))
    assert after["httpbin"]["containerID"] == before["httpbin"]["containerID"]
    assert any(each["path"] == "/again" for each in pair.access_log("httpbin"))


def test_whoever_injects_again_replaces_what_was_injected(pair: Cluster) -> None:
    image = "registry.example/tproxy:0.1.0"
    first = pair.shell(INJECT).stdout
    (pair.place / "first.yaml").write_text(first)
    pair.shell(
        f"tproxy inject --classic --policies tproxy-policies --proxy-image {image}"
        f" {pair.place}/first.yaml | kubectl apply -f -"
    )
    pair.available("httpbin", "sleep")
    pod = pair.pod("httpbin")
    assert [each["name"] for each in pod["spec"]["containers"]] == ["tproxy", "httpbin"]
    assert pod["spec"]["containers"][0]["image"] == image
    assert pair.ask(f"{URL}/newer").status == 200
    assert any(each["path"] == "/newer" for each in pair.access_log("httpbin"))


def test_whoever_uninjects_has_the_workload_as_it_was(pair: Cluster) -> None:
    (pair.place / "injected.yaml").write_text(pair.shell(INJECT).stdout)
    pair.shell(f"tproxy uninject <{pair.place}/injected.yaml | kubectl apply -f -")
    pair.available("httpbin", "sleep")
    spec = pair.pod("httpbin")["spec"]
    assert [each["name"] for each in spec["containers"]] == ["httpbin"]
    assert "initContainers" not in spec
    assert "x-request-id" not in pair.ask(URL).told["headers"]
