"""Pods as manifests for `podman kube play`: an application, and what the mesh adds to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

VERSION = version("tproxy")
PROXY_IMAGE = f"localhost/tproxy:{VERSION}"
INIT_IMAGE = f"localhost/tproxy-init:{VERSION}"
PROGRAMS = Path(__file__).parents[1] / "pods" / "programs"
LOCKED: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True, slots=True)
class Capture:
    """How a pod's init container is called, and what it may."""

    args: Sequence[str] = ("apply", "--verify")
    capabilities: Sequence[str] = ("NET_ADMIN", "NET_RAW", "SETUID", "SETGID")


def config_map(name: str, files: Mapping[str, str]) -> dict[str, Any]:
    """Files by their names."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {**files}}


def programs() -> dict[str, Any]:
    """The applications, as every pod mounts them."""
    return config_map("programs", {path.name: path.read_text() for path in PROGRAMS.glob("*.py")})


def application(name: str, command: str, *, restart: str = "OnFailure") -> dict[str, Any]:
    """A pod without a sidecar; its program runs in our own image, which has a Python."""
    app = {
        "name": "app",
        "image": PROXY_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", command],
        "securityContext": {**LOCKED, "runAsUser": 1000},
        "volumeMounts": [{"name": "programs", "mountPath": "/app", "readOnly": True}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": restart,
            "containers": [app],
            "volumes": [{"name": "programs", "configMap": {"name": "programs"}}],
        },
    }


def meshed(
    pod: Mapping[str, Any], *, certificates: Path, capture: Capture = Capture()
) -> dict[str, Any]:
    """The same pod with an init container and a sidecar, and with policies of its name."""
    metadata, spec = pod["metadata"], pod["spec"]
    name = metadata["name"]
    # Without it podman removes an init container, and its log, as soon as it has ended.
    keep = {"io.podman.annotations.init.container.type": "always"}
    return {
        **pod,
        "metadata": {**metadata, "annotations": keep},
        "spec": {
            **spec,
            "initContainers": [_init(capture)],
            "containers": [_sidecar(name), *spec["containers"]],
            "volumes": [
                {"name": "tproxy-policies", "configMap": {"name": f"{name}-policies"}},
                {"name": "tproxy-certificates", "hostPath": {"path": str(certificates)}},
                *spec["volumes"],
            ],
        },
    }


def _init(capture: Capture) -> dict[str, Any]:
    capabilities = {"drop": ["ALL"], "add": [*capture.capabilities]}
    return {
        "name": "tproxy-init",
        "image": INIT_IMAGE,
        "imagePullPolicy": "Never",
        "args": [*capture.args],
        "securityContext": {
            **LOCKED,
            "runAsUser": 0,
            "runAsNonRoot": False,
            "capabilities": capabilities,
        },
    }


def _sidecar(name: str) -> dict[str, Any]:
    environment = {
        "TPROXY_POLICIES": "/etc/tproxy/policies",
        "TPROXY_CERTIFICATES": "/etc/tproxy/certificates",
        "TPROXY_NAMESPACE": "default",
        "TPROXY_SERVICE_ACCOUNT": name,
        "TPROXY_WORKLOAD": name,
        "TPROXY_LABELS": f"app={name}",
    }
    mounts = {
        "tproxy-policies": "/etc/tproxy/policies",
        "tproxy-certificates": "/etc/tproxy/certificates",
    }
    return {
        "name": "tproxy",
        "image": PROXY_IMAGE,
        "imagePullPolicy": "Never",
        "args": ["run"],
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "securityContext": {**LOCKED, "runAsUser": 1337, "runAsGroup": 1337, "runAsNonRoot": True},
        "volumeMounts": [
            {"name": key, "mountPath": path, "readOnly": True} for key, path in mounts.items()
        ],
    }
