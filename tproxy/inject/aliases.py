"""Take apart what YAML's aliases share: what is changed in one place stays as it was in the others."""

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from tproxy.inject.findings import Manifest
from tproxy.inject.workload import POD_IN

Place = tuple[Any, Any]
"""A mapping or a list, and the key or the index in it."""


def separate(manifest: Manifest) -> None:
    """Let every part of `manifest` that injection changes stand in one place only."""
    counts = _counted(manifest)
    for parent, key in _changed(manifest):
        if counts[id(parent[key])] > 1:
            parent[key] = deepcopy(parent[key])
            # What the copy holds twice is another's than what the original held.
            counts = _counted(manifest)


def _counted(whole: Manifest) -> Counter[int]:
    """Count the places in which each mapping and each list stands, by its identity."""
    counts: Counter[int] = Counter()
    waiting: list[Any] = [whole]
    while waiting:
        for child in _children(waiting.pop()):
            counts[id(child)] += 1
            if counts[id(child)] == 1:
                waiting.append(child)
    return counts


def _children(node: Any) -> list[Any]:  # noqa: ANN401 - a mapping or a list
    below = node.values() if isinstance(node, dict) else node
    return [each for each in below if isinstance(each, dict | list)]


def _changed(manifest: object) -> Iterator[Place]:
    """Go to what injection changes, from the outside to the inside; whoever asks may replace each on the way."""
    if not isinstance(manifest, dict):
        return
    if manifest.get("kind") == "List":
        yield from _inside(manifest, "items")
        for item in _list(manifest, "items"):
            yield from _changed(item)
        return
    pod: Any = manifest
    for step in POD_IN.get(str(manifest.get("kind")), ()):
        if not isinstance(pod, dict) or step not in pod:
            return
        yield pod, step
        pod = pod[step]
    if isinstance(pod, dict):
        yield from _of_a_pod(pod)


def _of_a_pod(pod: Manifest) -> Iterator[Place]:
    for key, lists in (
        ("metadata", ("annotations",)),
        ("spec", ("initContainers", "containers", "volumes")),
    ):
        if isinstance(pod.get(key), dict):
            yield pod, key
            for name in lists:
                yield from _inside(pod[key], name)


def _inside(parent: Manifest, key: str) -> Iterator[Place]:
    """Go to what stands below a key, and to its items where it is a list."""
    if key in parent:
        yield parent, key
    there = _list(parent, key)
    yield from ((there, index) for index in range(len(there)))


def _list(parent: Manifest, key: str) -> list[Any]:
    there = parent.get(key)
    return there if isinstance(there, list) else []
