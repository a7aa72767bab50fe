"""Read the policy directory, as people keep it or as Kubernetes mounts a ConfigMap; nothing in it goes unmentioned."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tproxy.policy.findings import Code, Finding, Mark
from tproxy.policy.nodes import MAX_BYTES, SourceFile
from tproxy.stores.data_link import pinned_version, place_in

SUFFIXES = frozenset((".yaml", ".yml"))


@dataclass(frozen=True, slots=True)
class Reading:
    """What a directory held."""

    files: tuple[SourceFile, ...] = ()
    findings: tuple[Finding, ...] = ()
    """Policy files, or the directory itself, that could not be read."""
    skipped: tuple[str, ...] = ()
    """Names that are no policy files; the kubelet's own (`..data`) are not told."""


def read_directory(directory: Path, *, discovered: bool = False) -> Reading:
    """Read all `*.yaml` and `*.yml` of `directory`, in the order of their names, without its subdirectories.

    `discovered` ones hold endpoints that something else than people writes. It waits for the disk: call it in a
    thread once traffic flows.
    """
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        return Reading(findings=(_unreadable(str(directory), error.strerror or str(error)),))
    version = pinned_version(directory)
    results = [_read(path, version, discovered=discovered) for path in _policies(directory, names)]
    return Reading(
        tuple(each for each in results if isinstance(each, SourceFile)),
        tuple(each for each in results if isinstance(each, Finding)),
        tuple(name for name in names if not _is_policy(name) and not name.startswith("..")),
    )


def _is_policy(name: str) -> bool:
    return Path(name).suffix in SUFFIXES and not name.startswith(".")


def _policies(directory: Path, names: list[str]) -> Iterator[Path]:
    return (directory / name for name in names if _is_policy(name))


def _read(path: Path, version: Path, *, discovered: bool) -> SourceFile | Finding:
    place = place_in(version, path)
    if not place.is_file():
        return _unreadable(str(path), "is no regular file, or a link to none")
    try:
        with place.open("rb") as file:
            return SourceFile(str(path), file.read(MAX_BYTES + 1), discovered)
    except OSError as error:
        return _unreadable(str(path), error.strerror or str(error))


def _unreadable(name: str, why: str) -> Finding:
    return Finding(name, Mark(), Code.UNREADABLE, (), why)
