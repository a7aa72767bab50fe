"""How pods begin, are probed and end under a kubelet, with what `tproxy inject --classic` makes of them."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from fakes.cluster import PYTHON, Cluster, containers
from fakes.manifests import application, config_map
from fakes.podman import Outcome, until

pytestmark = [pytest.mark.netns, pytest.mark.cluster]
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: default}
spec: {mtls: {mode: STRICT}}
"""
SERVING = "exec python3 /app/origin.py"
WHEN_TOLD = "until [ -e /state/begin ]; do sleep 0.2; done; exec python3 /app/probed.py 9000"


@pytest.fixture(scope="module")
def pods(node: Cluster) -> Iterator[Cluster]:
    """A cluster with the programs of the applications, some policies, and a pod without a sidecar."""
    with node.emptied("default"):
        node.apply(
            node.programs(),
            config_map("none", {}),
            config_map("strict", {"strict.yaml": STRICT}),
            config_map("bad", {"bad.yaml": "kind: Nonsense\n"}),
            resting("outsider"),
        )
        node.kubectl("wait", "--for=condition=Ready", "pod/outsider", "--timeout=120s")
        yield node


def resting(name: str, command: str = "exec sleep infinity") -> Any:  # noqa: ANN401 - a manifest
    """A pod that nobody calls."""
    pod = application(name, command, restart="Always")
    del pod["spec"]["containers"][0]["readinessProbe"]
    del pod["spec"]["serviceAccountName"]
    return pod


def serving(name: str) -> Any:  # noqa: ANN401 - a manifest
    """A pod that answers."""
    pod = application(name, SERVING, restart="Always")
    del pod["spec"]["serviceAccountName"]
    return pod


def probed() -> Any:  # noqa: ANN401 - a manifest
    """A pod whose containers are probed by HTTP, by TCP and by a command."""
    pod = resting("probed", "exec python3 /app/probed.py 8000")
    pod["spec"]["volumes"].append({"name": "state", "emptyDir": {}})
    (web,) = pod["spec"]["containers"]
    web["volumeMounts"].append({"name": "state", "mountPath": "/state"})
    often: dict[str, Any] = {"periodSeconds": 1, "failureThreshold": 1}
    for kind, path in [("readinessProbe", "/ready"), ("livenessProbe", "/alive")]:
        web[kind] = {**often, "httpGet": {"path": path, "port": 8000}}
    others: list[tuple[str, str, dict[str, Any]]] = [
        ("port", WHEN_TOLD, {"tcpSocket": {"port": 9000}}),
        ("file", "exec sleep infinity", {"exec": {"command": ["test", "-e", "/state/file"]}}),
    ]
    for name, command, probe in others:
        own = {key: web[key] for key in ("image", "securityContext", "volumeMounts")}
        own |= {"name": name, "command": ["sh", "-c", command]}
        pod["spec"]["containers"].append(own | {"readinessProbe": {**often, **probe}})
    return pod


def ready(pods: Cluster, name: str) -> dict[str, bool]:
    """Which containers the kubelet has found ready."""
    found = containers(pods.get("pod", name))
    return {each: found[each]["ready"] for each in found if each != "tproxy-init"}


def test_the_kubelet_learns_through_the_sidecar_how_the_application_is(pods: Cluster) -> None:
    pods.inject(probed(), "--policies=strict")
    well = {"tproxy": True, "app": True, "port": True, "file": True}
    until(lambda: ready(pods, "probed"), {**well, "port": False, "file": False}, seconds=90)
    pods.within("probed", "app", "touch", "/state/begin", "/state/file")
    until(lambda: ready(pods, "probed"), well, seconds=60)
    pods.within("probed", "app", "touch", "/state/no-ready")
    until(lambda: ready(pods, "probed"), {**well, "app": False}, seconds=60)
    pods.within("probed", "app", "rm", "/state/no-ready")
    until(lambda: ready(pods, "probed"), well, seconds=60)
    asked = {
        path: each.get("httpGet", {}).get("port")
        for container in pods.get("pod", "probed")["spec"]["containers"]
        for path, each in container.items()
        if path.endswith("Probe") and "exec" not in each
    }
    assert asked == {"readinessProbe": 15021, "livenessProbe": 15021}
    address = pods.get("pod", "probed")["status"]["podIP"]
    assert "Reset" in pods.ask(f"http://{address}:8000/ready", "outsider/app").failed


def test_an_application_that_is_dead_is_started_again_and_its_sidecar_is_not(pods: Cluster) -> None:
    pods.within("probed", "app", "touch", "/state/no-alive")

    def restarts() -> dict[str, int]:
        found = containers(pods.get("pod", "probed"))
        return {each: found[each]["restartCount"] for each in ("tproxy", "app")}

    until(restarts, {"tproxy": 0, "app": 1}, seconds=90)


def test_an_applications_first_call_is_carried(pods: Cluster) -> None:
    pods.inject(serving("called"), "--policies=none")
    pods.kubectl("wait", "--for=condition=Ready", "pod/called", "--timeout=120s")
    address = pods.get("pod", "called")["status"]["podIP"]
    url = f"http://{address}:8000/first"
    pods.inject(
        resting("eager", f"python3 /app/ask.py {url}; exec sleep infinity"), "--policies=none"
    )
    pods.kubectl("wait", "--for=condition=Ready", "pod/eager", "--timeout=120s")
    until(lambda: "{" in pods.kubectl("logs", "eager", "--container=app").stdout, expected=True)
    said = pods.kubectl("logs", "eager", "--container=app").stdout.splitlines()
    assert Outcome.read(said[-1]).status == 200
    for pod in ("eager", "called"):
        assert "/first" in {each["path"] for each in pods.access_log(pod)}


def test_without_capture_the_application_never_starts(pods: Cluster) -> None:
    (made,) = yaml.safe_load_all(pods.injected(serving("alone"), "--policies=none"))
    (init,) = made["spec"]["initContainers"]
    init["securityContext"]["capabilities"]["add"] = ["NET_RAW"]
    pods.apply(made)

    def failed() -> bool:
        state = containers(pods.get("pod", "alone")).get("tproxy-init", {})
        ended = state.get("lastState", {}).get("terminated") or state.get("state", {}).get(
            "terminated"
        )
        return bool(ended and ended["exitCode"])

    until(lambda: "initContainerStatuses" in pods.get("pod", "alone")["status"], expected=True)
    until(failed, expected=True, seconds=60)
    for name, each in containers(pods.get("pod", "alone")).items():
        assert name == "tproxy-init" or each["state"]["waiting"]["reason"] == "PodInitializing"
    said = pods.kubectl("logs", "alone", "--container=tproxy-init").stdout
    assert "CAP_NET_ADMIN is needed" in said


def test_an_application_whose_sidecar_cannot_start_is_cut_off(pods: Cluster) -> None:
    pods.inject(resting("lost"), "--policies=bad")
    until(lambda: containers_of(pods, "lost").get("app", {}).get("started"), True, seconds=90)
    address = pods.get("pod", "called")["status"]["podIP"]
    assert "ConnectionRefused" in pods.ask(f"http://{address}:8000/", "lost/app").failed
    assert ready(pods, "lost") == {"tproxy": False, "app": True}
    said = pods.kubectl("logs", "lost", "--container=tproxy", "--previous", check=False).stdout
    assert re.search(r"bad\.yaml:1:1 TPX0107", said)


def containers_of(pods: Cluster, name: str) -> dict[str, Any]:
    """How each container is, as soon as the kubelet has told."""
    pod = pods.get("pod", name)
    return containers(pod) if "containerStatuses" in pod["status"] else {}


def test_a_pod_that_is_deleted_answers_what_it_has_begun_and_ends(pods: Cluster) -> None:
    kept = serving("deleted")
    # Whoever reads how it has ended has time for it.
    kept["metadata"]["finalizers"] = ["tproxy.io/being-read"]
    pods.inject(kept, "--policies=none")
    pods.kubectl("wait", "--for=condition=Ready", "pod/deleted", "--timeout=120s")
    url = f"http://{pods.get('pod', 'deleted')['status']['podIP']}:8000/held"
    with pods.begun("exec", "eager", "-c", "app", "--", PYTHON, "/app/ask.py", url) as asked:
        assert asked.stdout
        assert asked.stdout.readline() == "begun\n"
        pods.kubectl("delete", "pod", "deleted", "--wait=false")
        until(lambda: "draining" in pods.kubectl("logs", "deleted", "-c", "tproxy").stdout, True)
        assert asked.poll() is None
        pods.within("deleted", "app", "sh", "-c", "kill -USR1 1")
        outcome = Outcome.read(asked.communicate(timeout=60)[0].splitlines()[-1])

    def codes() -> set[int | None]:
        found = containers(pods.get("pod", "deleted")).values()
        return {each["state"].get("terminated", {}).get("exitCode") for each in found}

    try:
        assert outcome.status == 200
        until(codes, {0}, seconds=60)
    finally:
        free = '{"metadata": {"finalizers": null}}'
        pods.kubectl("patch", "pod", "deleted", "--type=merge", f"--patch={free}")


def test_services_of_unlucky_names_do_no_harm(pods: Cluster) -> None:
    for word in ("tproxy", "tproxy-inbound", "tproxy-outbound", "tproxy-dns", "tproxy-admin"):
        pods.kubectl("create", "service", "clusterip", word, "--tcp=80:80")
    pods.inject(serving("unlucky"), "--policies=none")
    pods.kubectl("wait", "--for=condition=Ready", "pod/unlucky", "--timeout=120s")
    variables = pods.within("unlucky", "tproxy", "env").splitlines()
    assert "TPROXY_ADMIN_PORT=15000" in variables
    assert any(each.startswith("TPROXY_PORT=tcp://") for each in variables)
    address = pods.get("pod", "unlucky")["status"]["podIP"]
    assert pods.ask(f"http://{address}:8000/unlucky", "outsider/app").status == 200
    assert "/unlucky" in {each["path"] for each in pods.access_log("unlucky")}


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_other_controllers_pods_are_served_by_their_sidecars(pods: Cluster, kind: str) -> None:
    name = kind.lower()
    pod = serving(name)
    spec: dict[str, Any] = {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": pod["metadata"], "spec": pod["spec"]},
    }
    if kind == "StatefulSet":
        spec["serviceName"] = name
    made = {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    pods.inject(made, "--policies=none")
    pods.kubectl("rollout", "status", f"{kind}/{name}", "--timeout=120s")
    address = pods.pod(name)["status"]["podIP"]
    assert pods.ask(f"http://{address}:8000/{name}", "outsider/app").status == 200
    assert f"/{name}" in {each["path"] for each in pods.access_log(name)}
