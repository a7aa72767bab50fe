"""Two pods, by hand: the commands of docs/deploy.md, as they stand there, and what a kubelet makes of them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.cluster import Cluster, classic, documented
from fakes.podman import Outcome, until

pytestmark = [pytest.mark.netns, pytest.mark.cluster]
ASK = (Path(__file__).parents[1] / "pods" / "programs" / "ask.py").read_text()
URL = "http://httpbin:8000"
DENIED = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: secret}
spec:
  selector: {matchLabels: {app: httpbin}}
  action: DENY
  rules: [{to: [{operation: {paths: [/secret]}}]}]
"""


def ask(node: Cluster, url: str) -> Outcome:
    """Make one request from sleep."""
    return Outcome.read(node.python("deploy/sleep/sleep", ASK, url).splitlines()[-1])


def states(pod: Any) -> dict[str, Any]:  # noqa: ANN401 - a pod
    """How each container is."""
    status = pod["status"]
    found = (*status["initContainerStatuses"], *status["containerStatuses"])
    return {each["name"]: each for each in found}


@pytest.fixture(scope="module")
def said(node: Cluster) -> Iterator[str]:
    """What the commands said, in order; the pair stays for the tests here."""
    policies, pair = documented("Two pods, by hand")
    with node.emptied("default"):
        yield node.shell(policies + classic(pair)).stdout


def test_the_commands_answer_and_show_the_access_log(said: str) -> None:
    answer = json.loads(said[said.index("{\n") : said.index("\n}\n") + 2])
    assert answer["headers"]["Host"] == "httpbin:8000"
    assert "x-request-id" in {name.lower() for name in answer["headers"]}
    logged = [json.loads(line) for line in said.splitlines() if line.startswith('{"')]
    assert [each["response_code"] for each in logged if each["path"] == "/"] == [200]


@pytest.mark.usefixtures("said")
def test_the_init_step_has_programmed_the_pods_rules_and_ended(node: Cluster) -> None:
    for app in ("httpbin", "sleep"):
        assert states(node.pod(app))["tproxy-init"]["state"]["terminated"]["exitCode"] == 0
        logged = node.kubectl("logs", f"deploy/{app}", "--container=tproxy-init")
        assert "capturing IPv4 and IPv6 by" in logged.stdout


@pytest.mark.usefixtures("said")
def test_the_sidecar_can_nothing_that_an_ordinary_process_cannot(node: Cluster) -> None:
    text = node.python("deploy/httpbin/tproxy", "print(open('/proc/1/status').read())")
    status = dict(re.findall(r"^(\w+):\s*(.*)$", text, re.MULTILINE))
    assert {status[each] for each in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["Uid"].split() == ["1337"] * 4
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


@pytest.mark.usefixtures("said")
@pytest.mark.parametrize("container", ["tproxy", "httpbin"])
def test_root_file_systems_cannot_be_written(node: Cluster, container: str) -> None:
    write = ("exec", "deploy/httpbin", f"--container={container}", "--", "touch", "/written")
    ended = node.kubectl(*write, check=False)
    assert ended.returncode
    assert "Read-only file system" in ended.stderr


@pytest.mark.usefixtures("said")
def test_the_pods_labels_come_as_a_file(node: Cluster) -> None:
    labels = node.kubectl(
        "exec", "deploy/httpbin", "--container=tproxy", "--", "cat", "/etc/tproxy/podinfo/labels"
    )
    assert {'app="httpbin"', 'version="v1"'} <= set(labels.stdout.splitlines())


@pytest.mark.usefixtures("said")
def test_an_edit_of_the_config_map_is_in_force_without_a_restart(node: Cluster) -> None:
    def edit(*files: str) -> None:
        words = [f"--from-literal={name}" for name in files]
        make = ("create", "configmap", "tproxy-policies", *words, "--dry-run=client", "-o=yaml")
        node.kubectl("replace", "-f", "-", stdin=node.kubectl(*make).stdout)

    def status() -> int | None:
        return ask(node, f"{URL}/secret").status

    assert status() == 200
    edit(f"denied.yaml={DENIED}")
    until(status, 403, seconds=90)
    assert ask(node, f"{URL}/other").status == 200
    edit()
    until(status, 200, seconds=90)
    assert [each["restartCount"] for each in states(node.pod("httpbin")).values()] == [0, 0, 0]


@pytest.mark.usefixtures("said")
def test_a_sidecar_that_is_killed_is_started_again_and_nothing_passes_it(node: Cluster) -> None:
    before = states(node.pod("httpbin"))
    node.kill(before["tproxy"]["containerID"])

    def restarts() -> int:
        return int(states(node.pod("httpbin"))["tproxy"]["restartCount"])

    until(restarts, 1, seconds=60)
    until(lambda: ask(node, f"{URL}/again").status, 200, seconds=60)
    after = states(node.pod("httpbin"))
    assert after["httpbin"]["containerID"] == before["httpbin"]["containerID"]
    assert any(each["path"] == "/again" for each in node.access_log("deploy/httpbin"))
