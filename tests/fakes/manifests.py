"""Pods as manifests for `podman kube play`: an application, and what the mesh adds to it."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tproxy.inject.findings import Manifest
from tproxy.inject.inject import Injected, inject
from tproxy.inject.sidecar import Platform, Sidecar

VERSION = version("tproxy")
PROXY_IMAGE = f"localhost/tproxy:{VERSION}"
INIT_IMAGE = f"localhost/tproxy-init:{VERSION}"
PROGRAMS = Path(__file__).parents[1] / "pods" / "programs"
LOCKED: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def config_map(name: str, files: Mapping[str, str]) -> Manifest:
    """Files by their names."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {**files}}


def programs() -> Manifest:
    """The applications, as every pod mounts them."""
    return config_map("programs", {path.name: path.read_text() for path in PROGRAMS.glob("*.py")})


def application(name: str, command: str, *, restart: str = "OnFailure") -> Manifest:
    """A pod without a sidecar; its program runs in our own image, which has a Python."""
    app = {
        "name": "app",
        "image": PROXY_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", command],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8000}},
        "securityContext": {**LOCKED, "runAsUser": 1000},
        "volumeMounts": [{"name": "programs", "mountPath": "/app", "readOnly": True}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": restart,
            "serviceAccountName": name,
            "containers": [app],
            "volumes": [{"name": "programs", "configMap": {"name": "programs"}}],
        },
    }


def meshed(pod: Manifest, *, certificates: Path, **capture: str) -> Manifest:
    """The same pod with an init container and a sidecar, and with policies of its name."""
    sidecar = Sidecar(
        init_image=INIT_IMAGE,
        proxy_image=PROXY_IMAGE,
        image_pull_policy="Never",
        platform=Platform.PODMAN,
        native=False,
        policies=f"{pod['metadata']['name']}-policies",
        certificates=f"hostPath:{certificates}",
        capture={option.replace("_", "-"): value for option, value in capture.items()},
    )
    made = inject(pod, sidecar)
    assert isinstance(made, Injected)
    return made.manifest


def started_by(pod: Manifest, args: list[str], *capabilities: str) -> Manifest:
    """A meshed pod whose init container is called otherwise, and may do no more than that."""
    init = pod["spec"]["initContainers"][0]
    init["args"] = args
    init["securityContext"]["capabilities"]["add"] = [*capabilities]
    return pod
