"""Where in a manifest its pod is, and whose pod it is."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tproxy.inject.findings import Manifest

POD_IN: dict[str, tuple[str, ...]] = {
    "Pod": (),
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
"""Kinds that run pods, and the way to the pod in them."""
ENDING = frozenset({"Job", "CronJob"})
"""Kinds whose pods are to end by themselves."""

_HASHED = re.compile(r"(?P<name>.+)-[a-z0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Found:
    """A pod in a manifest."""

    kind: str
    path: str
    pod: Manifest
    """With `metadata` and `spec`, and a part of the manifest it was found in."""
    name: str
    """Of the workload, as people know it."""
    namespace: str

    @property
    def metadata(self) -> Manifest:
        """The pod's labels and annotations are in it."""
        return _object(self.pod.get("metadata"))

    @property
    def spec(self) -> Manifest:
        """What runs in it."""
        spec: Manifest = self.pod["spec"]
        return spec

    @property
    def service_account(self) -> str:
        """Whose identity it has."""
        return str(self.spec.get("serviceAccountName") or "default")

    @property
    def ends(self) -> bool:
        """Whether it is expected to end by itself."""
        owners = self.metadata.get("ownerReferences") or ()
        return self.kind in ENDING or any(owner.get("kind") == "Job" for owner in owners)

    def containers(self) -> Iterator[tuple[str, Manifest]]:
        """Give all containers with their places, those that prepare it among them."""
        for key in ("initContainers", "containers"):
            for index, container in enumerate(self.spec.get(key) or ()):
                yield f"{self.path}.spec.{key}[{index}]", container


def pods_in(manifest: object, path: str = "$") -> Iterator[Found]:
    """Find the pods of a manifest, or of all that a List holds."""
    if not isinstance(manifest, dict):
        return
    kind = manifest.get("kind")
    if kind == "List":
        for index, item in enumerate(_items(manifest.get("items"))):
            yield from pods_in(item, f"{path}.items[{index}]")
        return
    steps = POD_IN.get(str(kind))
    if steps is None:
        return
    pod: Any = manifest
    for step in steps:
        pod = pod.get(step) if isinstance(pod, dict) else None
    if isinstance(pod, dict) and isinstance(pod.get("spec"), dict):
        whole = ".".join((path, *steps))
        metadata = _object(manifest.get("metadata"))
        yield Found(str(kind), whole, pod, _name(metadata), str(metadata.get("namespace") or ""))


def _name(metadata: Manifest) -> str:
    """Find what people call a pod's workload; a pod itself bears a name that was made of it."""
    for owner in _items(metadata.get("ownerReferences")):
        name = str(_object(owner).get("name") or "")
        hashed = _HASHED.fullmatch(name)
        if _object(owner).get("kind") == "ReplicaSet" and hashed:
            return hashed["name"]
        return name
    return str(metadata.get("name") or metadata.get("generateName") or "unknown").rstrip("-")


def _object(value: object) -> Manifest:
    """Take what should be an object for an empty one where it is none: its shape is looked at later."""
    return value if isinstance(value, dict) else {}


def _items(value: object) -> list[Any]:
    """Take what should be a list for an empty one where it is none, as well."""
    return value if isinstance(value, list) else []
