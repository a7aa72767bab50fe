"""Pods from images: an init container, a sidecar and an application each, mutual TLS, and policies from ConfigMaps."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from fakes.manifests import PROXY_IMAGE
from fakes.podman import Podman, until
from pods.conftest import CALLERS, STRICT, URL, Authority

pytestmark = [pytest.mark.netns, pytest.mark.pods]
SLEEP = "spiffe://cluster.local/ns/default/sa/sleep"
ASKED = 1000


def process_status(mesh: Podman, container: str) -> dict[str, str]:
    """What the kernel says of a container's first process."""
    text = Path(f"/proc/{mesh.inspect(container)['State']['Pid']}/status").read_text()
    return dict(re.findall(r"^(\w+):\s*(.*)$", text, re.MULTILINE))


def metric(mesh: Podman, pod: str, name: str) -> float:
    """A sample of a sidecar's, asked where it is."""
    ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:15020/metrics').read().decode())"
    page = mesh.run("exec", f"{pod}-tproxy", "python3", "-c", ask).stdout
    return float(re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE)[0])


def edit(mesh: Podman, config_map: str, file: str, text: str) -> None:
    """Change one file of a ConfigMap, whole at once."""
    directory = mesh.volume(config_map)
    draft = directory / ".draft"
    draft.write_text(text)
    draft.chmod(0o644)
    draft.replace(directory / file)


def test_who_is_allowed_is_served_and_known_by_its_identity(mesh: Podman) -> None:
    outcome = mesh.ask("sleep", f"{URL}/headers")
    assert outcome.status == 200
    assert f"URI={SLEEP}" in outcome.told["headers"]["x-forwarded-client-cert"]
    assert outcome.told["uid"] == 1000
    for pod in ("sleep", "httpbin"):
        assert mesh.access_log(pod)[-1]["tproxy"]["tls"] == "mutual"


def test_a_path_that_policies_leave_out_is_denied(mesh: Podman) -> None:
    outcome = mesh.ask("sleep", f"{URL}/secret")
    assert (outcome.status, outcome.body) == (403, "RBAC: access denied")


def test_a_pod_outside_of_the_mesh_is_not_heard(mesh: Podman) -> None:
    outcome = mesh.ask("outsider", f"{URL}/headers")
    assert "ConnectionResetError" in outcome.failed


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        pytest.param("httpbin", "capturing IPv4 and IPv6 by iptables", id="iptables"),
        pytest.param("sleep", "capturing IPv4 and IPv6 by nft", id="nft"),
    ],
)
def test_the_init_container_captures_by(mesh: Podman, pod: str, said: str) -> None:
    ended = mesh.run("logs", f"{pod}-tproxy-init")
    assert said in ended.stdout + ended.stderr
    assert mesh.inspect(f"{pod}-tproxy-init")["State"]["ExitCode"] == 0


def test_the_sidecar_can_nothing_that_an_ordinary_process_cannot(mesh: Podman) -> None:
    status = process_status(mesh, "httpbin-tproxy")
    assert {status[each] for each in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["Uid"].split() == ["1337"] * 4
    assert status["Gid"].split() == ["1337"] * 4
    assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize("container", ["httpbin-tproxy", "httpbin-app"])
def test_root_file_systems_cannot_be_written(mesh: Podman, container: str) -> None:
    ended = mesh.run("exec", "--user=0", container, "touch", "/written", check=False)
    assert ended.returncode
    assert "Read-only file system" in ended.stderr


def test_whoever_asks_from_outside_hears_that_the_pod_is_ready(mesh: Podman) -> None:
    outcome = mesh.ask("outsider", "http://httpbin:15021/healthz/ready")
    assert outcome.status == 200


def test_the_sidecar_asks_the_application_for_who_probes_it(mesh: Podman) -> None:
    outcome = mesh.ask("outsider", "http://httpbin:15021/app-health/app/readyz")
    assert outcome.status == 200
    # The example of an application that serves nothing.
    outcome = mesh.ask("outsider", "http://sleep:15021/app-health/app/readyz")
    assert outcome.status == 503


def test_the_image_s_health_check_finds_the_sidecar_ready(mesh: Podman) -> None:
    kind, *command = mesh.inspect(PROXY_IMAGE)["Healthcheck"]["Test"]
    assert kind == "CMD"
    mesh.run("exec", "httpbin-tproxy", *command)


def test_an_edited_policy_is_in_force_without_a_lost_request(mesh: Podman) -> None:
    asking = ("exec", "sleep-app", "python3", "/app/ask.py", f"{URL}/get", str(ASKED))
    with mesh.begun(*asking) as asked:
        for policies, status in [(CALLERS.replace("/secret", "/other"), 200), (CALLERS, 403)]:
            edit(mesh, "httpbin-policies", "authz.yaml", policies)
            until(lambda: mesh.ask("sleep", f"{URL}/secret").status, status)
        said = asked.communicate(timeout=60)[0].splitlines()
    statuses = Counter(json.loads(line).get("status") for line in said if line.startswith("{"))
    assert statuses == {200: ASKED}


def test_a_bad_edit_changes_nothing_and_is_told(mesh: Podman) -> None:
    edit(mesh, "httpbin-policies", "mtls.yaml", "kind: Nonsense\n")
    until(lambda: metric(mesh, "httpbin", "tproxy_policy_last_reload_successful"), 0)
    assert mesh.ask("sleep", f"{URL}/get").status == 200
    assert mesh.ask("sleep", f"{URL}/secret").status == 403
    assert "mtls.yaml" in mesh.run("logs", "httpbin-tproxy").stderr
    edit(mesh, "httpbin-policies", "mtls.yaml", STRICT)
    until(lambda: metric(mesh, "httpbin", "tproxy_policy_last_reload_successful"), 1)


def test_a_new_certificate_is_taken_without_a_restart(mesh: Podman, authority: Authority) -> None:
    name = "tproxy_cert_last_reload_timestamp_seconds"
    before = metric(mesh, "httpbin", name)
    authority.issue("httpbin")
    until(lambda: metric(mesh, "httpbin", name) > before, expected=True)
    assert mesh.ask("sleep", f"{URL}/get").status == 200


def test_the_sidecar_alone_can_be_started_again(mesh: Podman) -> None:
    began = mesh.inspect("httpbin-app")["State"]["StartedAt"]
    mesh.run("restart", "--time=20", "httpbin-tproxy")
    mesh.ready("httpbin")
    assert mesh.ask("sleep", f"{URL}/get").status == 200
    assert mesh.ask("sleep", f"{URL}/secret").status == 403
    assert mesh.inspect("httpbin-app")["State"]["StartedAt"] == began
