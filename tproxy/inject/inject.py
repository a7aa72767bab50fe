"""Add a sidecar to every pod of a manifest, and take it out again."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import msgspec

from tproxy.inject.aliases import separate
from tproxy.inject.annotations import STATUS, STATUS_VARIABLE, refuses_injection, wished
from tproxy.inject.containers import init_container, proxy_container, volumes
from tproxy.inject.findings import Manifest, Refused, Remark
from tproxy.inject.plain import plain
from tproxy.inject.probes import KINDS, Probe, hooks, is_rewritten, path_of, probe_of, rewritten
from tproxy.inject.refusals import INIT, PROXY, refuse
from tproxy.inject.shape import refuse_misshapen
from tproxy.inject.sidecar import VERSION, Platform, Sidecar
from tproxy.inject.workload import Found, pods_in
from tproxy.model.ports import Ports


@dataclass(frozen=True, slots=True)
class Injected:
    """A manifest whose pods have sidecars."""

    manifest: Manifest
    remarks: tuple[Remark, ...] = ()
    """What its author should know."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A manifest that stays as it is."""

    reason: str


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What injection did to a pod: enough to undo it exactly."""

    version: str
    annotations: list[str]
    """Those it has added."""
    probes: dict[str, Probe]
    """Those it has replaced, by the path at which the sidecar is asked instead."""
    made: list[str]
    """Keys that were not there: `metadata`, `annotations`, `initContainers`, `volumes`."""


def inject(manifest: Manifest, sidecar: Sidecar) -> Injected | Skipped:
    """Give every pod of `manifest` the sidecar; what had one before has this one then.

    Refused, with every reason, when one of them cannot have it.
    """
    made = _copied(manifest)
    reasons: list[str] = []
    remarks: list[Remark] = []
    refused: list[Remark] = []
    injected = 0
    for found in pods_in(made):
        try:
            refuse_misshapen(found.pod, found.path)
            reason = refuses_injection(found)
            if reason is None:
                remarks += _inject(found, sidecar)
                injected += 1
            else:
                reasons.append(reason)
        except Refused as error:
            refused += error.remarks
    if refused:
        raise Refused(*refused)
    if injected:
        return Injected(made, tuple(remarks))
    return Skipped(", ".join(reasons) or f"{manifest.get('kind', 'it')} runs no pods")


def uninject(manifest: Manifest) -> Injected | Skipped:
    """Take the sidecar out of every pod of `manifest`: it is as it was before."""
    made = _copied(manifest)
    pods = list(pods_in(made))
    for found in pods:
        refuse_misshapen(found.pod, found.path)
    injected = [found for found in pods if _status(found)]
    for found in injected:
        _undo(found)
    return Injected(made) if injected else Skipped("there is no sidecar of ours in it")


def _copied(manifest: Manifest) -> Manifest:
    made = deepcopy(manifest)
    separate(made)
    return made


def _inject(found: Found, sidecar: Sidecar) -> list[Remark]:
    if _status(found):
        _undo(found)
    wish = wished(found, sidecar)
    sidecar = wish.sidecar
    if sidecar.platform is Platform.PODMAN:
        sidecar = msgspec.structs.replace(sidecar, native=False)
    refuse(found, sidecar)
    asked, replaced = _probes(found, sidecar)
    added = {
        "init": init_container(sidecar),
        "proxy": proxy_container(found, sidecar, asked),
        "volumes": volumes(found, sidecar),
    }
    remarks = [
        *wish.remarks,
        *hooks(found),
        *_unprobed(found, sidecar),
        *_early(found, sidecar),
        *_endless(found, sidecar),
    ]
    made = _add(found, sidecar, added)
    annotations, known = _annotations(found, sidecar)
    _annotate(found, sidecar, annotations, Status(VERSION, [], replaced, made))
    return [*remarks, *known]


def _probes(found: Found, sidecar: Sidecar) -> tuple[dict[str, Probe], dict[str, Probe]]:
    """Turn the kubelet's probes to the sidecar; give what that has to ask, and what stood there."""
    asked: dict[str, Probe] = {}
    replaced: dict[str, Probe] = {}
    if not sidecar.rewrite_probes:
        return asked, replaced
    for path, container in found.containers():
        for kind in KINDS:
            probe = probe_of(path, container, kind)
            if probe is not None:
                at = path_of(container["name"], kind)
                asked[at], replaced[at] = plain(probe), plain(container[kind])
                container[kind] = rewritten(kind, container)
    return asked, replaced


def _unprobed(found: Found, sidecar: Sidecar) -> Iterator[Remark]:
    if sidecar.rewrite_probes:
        return
    for path, container in found.containers():
        for kind in KINDS:
            if probe_of(path, container, kind) is not None:
                yield Remark(
                    f"{path}.{kind}",
                    "is not rewritten, so mutual TLS that is STRICT refuses it; one that only connects is"
                    " answered by the sidecar, whether or not the application listens",
                )


def _early(found: Found, sidecar: Sidecar) -> Iterator[Remark]:
    """Name what runs before an ordinary sidecar does."""
    if sidecar.native:
        return
    for path, _ in found.containers():
        if ".initContainers[" in path:
            yield Remark(
                path,
                "runs before the sidecar, and so has no network but on exclude-outbound-ports;"
                " behind a native sidecar it has",
            )


def _endless(found: Found, sidecar: Sidecar) -> Iterator[Remark]:
    """Name a pod that may be meant to end, and would not; podman's are ended by whoever started them."""
    once = found.kind == "Pod" and found.spec.get("restartPolicy") in ("Never", "OnFailure")
    if once and not sidecar.native and sidecar.platform is Platform.KUBERNETES:
        yield Remark(
            f"{found.path}.spec.restartPolicy",
            "an ordinary sidecar goes on when the application has ended, so the pod never does;"
            " behind a native one it does",
        )


def _add(found: Found, sidecar: Sidecar, added: Manifest) -> list[str]:
    """Put the containers first, and the volumes last; give the keys that were not there."""
    spec = found.spec
    made = [key for key in ("initContainers", "volumes") if spec.get(key) is None]
    first = [added["init"], *([added["proxy"]] if sidecar.native else [])]
    _prepend(spec, "initContainers", first)
    if not sidecar.native:
        _prepend(spec, "containers", [added["proxy"]])
    if added["volumes"]:
        _list(spec, "volumes").extend(added["volumes"])
    return [key for key in made if spec.get(key) is not None]


def _prepend(spec: Manifest, key: str, containers: list[Manifest]) -> None:
    there = _list(spec, key)
    for container in reversed(containers):
        there.insert(0, container)


def _list(spec: Manifest, key: str) -> list[Manifest]:
    """Give a list of the pod's, which may be missing, or empty in a way that YAML reads as null."""
    if spec.get(key) is None:
        spec[key] = []
    there: list[Manifest] = spec[key]
    return there


def _annotations(found: Found, sidecar: Sidecar) -> tuple[dict[str, str], list[Remark]]:
    """Say what the pod is annotated with, besides its status."""
    there = found.metadata.get("annotations") or {}
    wanted: dict[str, str] = {}
    if sidecar.platform is Platform.PODMAN:
        # Without it podman removes an init container that has ended, with what it said.
        wanted["io.podman.annotations.init.container.type"] = "always"
    scraped = [name for name in there if name.startswith("prometheus.io/")]
    if not sidecar.scrape:
        return wanted, []
    if not scraped:
        wanted |= {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(Ports().metrics),
            "prometheus.io/path": "/stats/prometheus",
        }
        return wanted, []
    place = f"{found.path}.metadata.annotations['{scraped[0]}']"
    text = f"stays, so Prometheus does not find the sidecar's metrics by itself: they are on port {Ports().metrics}"
    return wanted, [Remark(place, text)]


def _annotate(found: Found, sidecar: Sidecar, annotations: dict[str, str], status: Status) -> None:
    """Write what was done to the pod where uninject finds it."""
    missing = [
        key
        for key, there in (
            ("metadata", found.pod.get("metadata")),
            ("annotations", found.metadata.get("annotations")),
        )
        if there is None
    ]
    if found.pod.get("metadata") is None:
        found.pod["metadata"] = {}
    metadata = found.pod["metadata"]
    if metadata.get("annotations") is None:
        metadata["annotations"] = {}
    known = {key: value for key, value in annotations.items() if key not in metadata["annotations"]}
    metadata["annotations"] |= known
    whole = msgspec.structs.replace(
        status, annotations=sorted(known), made=[*status.made, *missing]
    )
    written = msgspec.json.encode(whole).decode()
    if sidecar.platform is Platform.PODMAN:
        # Its annotations have 63 characters at most.
        _init(found)["env"].append({"name": STATUS_VARIABLE, "value": written})
    else:
        metadata["annotations"][STATUS] = written


def _status(found: Found) -> Status | None:
    """Read what was done to a pod before; None for one that has no sidecar of ours."""
    text = (found.metadata.get("annotations") or {}).get(STATUS)
    place = f"{found.path}.metadata.annotations['{STATUS}']"
    if text is None:
        text, place = _variable(found), f"{found.path}, {STATUS_VARIABLE} of {INIT}"
    if text is None:
        return None
    try:
        return msgspec.json.decode(str(text), type=Status)
    except msgspec.MsgspecError as error:
        raise Refused(
            Remark(
                place,
                f"is not what injection has written ({error}): inject the manifest as it was before",
            )
        ) from None


def _variable(found: Found) -> str | None:
    """Read what was done to a pod from where podman lets it be written."""
    for variable in _init(found).get("env") or ():
        if variable.get("name") == STATUS_VARIABLE:
            return str(variable.get("value"))
    return None


def _init(found: Found) -> Manifest:
    """Find the init step in a pod; nothing where there is none."""
    for _, container in found.containers():
        if container.get("name") == INIT:
            return container
    return {}


def _undo(found: Found) -> None:
    status = _status(found)
    assert status is not None, "whoever calls has looked"
    spec, metadata = found.spec, found.metadata
    annotations = metadata.get("annotations") or {}
    for _, container in found.containers():
        for kind in KINDS:
            before = status.probes.get(path_of(container["name"], kind))
            # One that its author has changed since stays changed.
            if before is not None and is_rewritten(kind, container):
                container[kind] = before
    for key in ("initContainers", "containers"):
        _drop(spec, key, status, lambda name: name in (INIT, PROXY))
    _drop(spec, "volumes", status, lambda name: name.startswith(f"{PROXY}-"))
    for name in (STATUS, *status.annotations):
        annotations.pop(name, None)
    if not annotations and "annotations" in status.made:
        metadata.pop("annotations", None)
    if not metadata and "metadata" in status.made:
        found.pod.pop("metadata", None)


def _drop(spec: Manifest, key: str, status: Status, ours: Callable[[str], bool]) -> None:
    """Take what is ours out of a list in place, so that comments on what stays, stay."""
    there = spec.get(key) or []
    for index in reversed(range(len(there))):
        if ours(str(there[index].get("name"))):
            del there[index]
    if not there and key in status.made:
        spec.pop(key, None)
