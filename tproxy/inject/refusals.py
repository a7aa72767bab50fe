"""Pods that may not have a sidecar, or would be harmed by one, and what would help."""

from collections.abc import Iterator

from tproxy.inject.findings import Manifest, Refused, Remark
from tproxy.inject.sidecar import Platform, Sidecar
from tproxy.inject.workload import Found
from tproxy.model.ports import PROXY_UID, Ports

INIT = "tproxy-init"
PROXY = "tproxy"
OTHERS = (
    "istio-proxy",
    "istio-init",
    "istio-validation",
    "linkerd-proxy",
    "linkerd-init",
    "envoy-sidecar",
)


IDENTITIES = {"runAsUser": "user", "runAsGroup": "group"}


def refuse(found: Found, sidecar: Sidecar) -> None:
    """Raise Refused with every reason why this pod cannot be injected."""
    remarks = [*_of_the_pod(found), *_of_containers(found), *_of_volumes(found)]
    if found.ends and not sidecar.native:
        remarks.append(
            Remark(
                found.path,
                f"a {found.kind} with an ordinary sidecar never ends: have a native one, whose pods end with"
                " the application",
            )
        )
    if sidecar.platform is Platform.PODMAN and _restarts(found):
        remarks.append(
            Remark(
                f"{found.path}.spec.restartPolicy",
                "podman starts init containers again for ever where it is Always, which it is unless"
                " the pod says otherwise: write OnFailure",
            )
        )
    if remarks:
        raise Refused(*remarks)


def _restarts(found: Found) -> bool:
    return bool(found.spec.get("restartPolicy", "Always") == "Always")


def _of_the_pod(found: Found) -> Iterator[Remark]:
    spec, path = found.spec, f"{found.path}.spec"
    if spec.get("hostNetwork"):
        yield Remark(
            f"{path}.hostNetwork",
            "the node's own traffic would be captured: give the pod a network of its own, or annotate it"
            ' with tproxy.io/inject: "false"',
        )
    if (spec.get("os") or {}).get("name", "linux") != "linux":
        yield Remark(f"{path}.os.name", "only Linux has what captures traffic")


def _of_containers(found: Found) -> Iterator[Remark]:
    own = {*Ports().all(), 15090}
    for path, container in found.containers():
        name = container.get("name")
        if name in (INIT, PROXY):
            yield Remark(f"{path}.name", f"{name} is the sidecar's own name, give it another one")
        elif name in OTHERS:
            yield Remark(
                f"{path}.name", f"{name} is another mesh's, and both would capture the same traffic"
            )
        yield from _as_proxy(found, path, container)
        for index, port in enumerate(container.get("ports") or ()):
            if port.get("containerPort") in own:
                yield Remark(
                    f"{path}.ports[{index}].containerPort",
                    f"{port['containerPort']} is one of the sidecar's own ports, listen on another one",
                )


def _of_volumes(found: Found) -> Iterator[Remark]:
    for index, volume in enumerate(found.spec.get("volumes") or ()):
        if str(volume.get("name")).startswith(f"{PROXY}-"):
            yield Remark(
                f"{found.path}.spec.volumes[{index}].name",
                f"names that begin with {PROXY}- are the sidecar's, give it another one",
            )


def _as_proxy(found: Found, path: str, container: Manifest) -> Iterator[Remark]:
    """Name what would pass by the sidecar; a container's own word wins over the pod's."""
    places = ((path, container), (f"{found.path}.spec", found.spec))
    for field, what in IDENTITIES.items():
        said = [
            (f"{place}.securityContext.{field}", number)
            for place, spec in places
            if (number := (spec.get("securityContext") or {}).get(field)) is not None
        ]
        if said and said[0][1] == PROXY_UID:
            yield Remark(
                said[0][0],
                f"{container.get('name')}: what runs as {what} {PROXY_UID} is not captured, as the sidecar is not:"
                f" run it as another {what}",
            )
