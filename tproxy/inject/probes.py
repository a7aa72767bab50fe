"""Have the kubelet ask the sidecar how the application is.

The kubelet is no member of the mesh: where plaintext is refused, so are its probes; and a probe that only connects
is answered by whoever carries the connection, even if nobody listens behind. So the sidecar asks, and says what it heard.
"""

from typing import Any

from tproxy.inject.findings import Manifest, Refused, Remark
from tproxy.inject.workload import Found
from tproxy.model.ports import Ports

KINDS = {"livenessProbe": "livez", "readinessProbe": "readyz", "startupProbe": "startupz"}
HANDLERS = ("httpGet", "tcpSocket", "grpc")
HOOKS = ("postStart", "preStop")

Probe = dict[str, Any]


def path_of(container: str, kind: str) -> str:
    """Give the path at which the sidecar is asked instead."""
    return f"/app-health/{container}/{KINDS[kind]}"


def rewritten(kind: str, container: Manifest) -> Probe:
    """Make the probe that the kubelet shall send, of the one in `container`."""
    probe = container[kind]
    kept = {key: value for key, value in probe.items() if key not in HANDLERS}
    asks = {"path": path_of(container["name"], kind), "port": Ports().health}
    return {"httpGet": asks, **kept}


def is_rewritten(kind: str, container: Manifest) -> bool:
    """Tell whether a container's probe is one that we have made."""
    asks = (container.get(kind) or {}).get("httpGet") or {}
    return bool(asks.get("path") == path_of(str(container.get("name")), kind))


def probe_of(path: str, container: Manifest, kind: str) -> Probe | None:
    """Say what the sidecar has to ask in the kubelet's place; None for what the kubelet can do itself."""
    probe = container.get(kind)
    for handler in HANDLERS:
        asks = (probe or {}).get(handler)
        if probe is None or asks is None or (asks.get("host") not in (None, "")):
            continue
        number = _number(f"{path}.{kind}.{handler}.port", asks.get("port"), container)
        return {
            handler: {
                **{key: value for key, value in asks.items() if key != "host"},
                "port": number,
            },
            "timeoutSeconds": probe.get("timeoutSeconds") or 1,
        }
    return None


def hooks(found: Found) -> tuple[Remark, ...]:
    """Name the hooks that the kubelet sends over the network: they meet policies as anybody's requests do."""
    return tuple(
        Remark(
            f"{path}.lifecycle.{hook}.{handler}",
            "the kubelet sends it without an identity, so mutual TLS that is STRICT refuses it",
        )
        for path, container in found.containers()
        for hook in HOOKS
        for handler in ("httpGet", "tcpSocket")
        if handler in ((container.get("lifecycle") or {}).get(hook) or {})
    )


def _number(path: str, port: object, container: Manifest) -> int:
    number = _resolved(path, port, container)
    if number in Ports().all():
        text = f"{number} is the sidecar's: probe the application's own port"
        raise Refused(Remark(path, f"{text} (was {container['name']} renamed after injection?)"))
    return number


def _resolved(path: str, port: object, container: Manifest) -> int:
    if isinstance(port, int):
        return port
    if str(port).isdecimal():
        return int(str(port))
    for each in container.get("ports") or ():
        if each.get("name") == port:
            number: int = each["containerPort"]
            return number
    raise Refused(
        Remark(path, f"no port of this container is called {port!r}: name one, or write its number")
    )
