"""Istio's standard labels, so that dashboards made for it draw this proxy's traffic too.

Every label is always there: Kiali and Istio's dashboards drop a series that lacks one.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

from tproxy.model.flow import Direction
from tproxy.model.identity import UNKNOWN, Peer, Workload

OVERFLOW = "overflow"
"""What the labels say that would have made one series too many."""

Label = tuple[str, str]


class Destination(NamedTuple):
    """The service that a request goes to, as `destination_service*` name it."""

    service: str
    name: str
    namespace: str


PASSTHROUGH = Destination(UNKNOWN, "PassthroughCluster", UNKNOWN)
"""Anything that no mesh name was used for."""
OVERFLOWING = Destination(OVERFLOW, OVERFLOW, OVERFLOW)


class Proven(NamedTuple):
    """Who has proven to be at either end of the traffic; None where that is nobody."""

    source: Peer | None = None
    destination: Peer | None = None

    def overflowing(self) -> "Proven":
        """Say the same of nobody in particular."""
        return Proven(self.source and SOMEBODY, self.destination and SOMEBODY)


NOBODY = Proven()
SOMEBODY = Peer(OVERFLOW, OVERFLOW, OVERFLOW)
"""Stands for peers that have no series of their own."""

_MESH_NAME = re.compile(
    r"(?P<name>[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)"
    r"(\.(?P<namespace>[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)(?P<svc>\.svc(\.cluster\.local)?)?)?"
    r"\.?(:[0-9]{1,5})?"
)


def own_service(workload: Workload) -> Destination:
    """Name the service that this sidecar's application is."""
    if UNKNOWN in (workload.canonical_name, workload.namespace):
        return Destination(UNKNOWN, workload.canonical_name, workload.namespace)
    return _service(workload.canonical_name, workload.namespace)


def called_service(authority: bytes | str, host: str, namespace: str) -> Destination:
    """Name the service that `authority` at the address `host` is to an application in `namespace`."""
    text = authority if isinstance(authority, str) else authority.decode("latin-1")
    found = _MESH_NAME.fullmatch(text.lower())
    if found is None or found["name"].isdigit() or found["name"] == "localhost":
        return PASSTHROUGH
    # `example.com` could be a service in the namespace `com`, but then its address would not be a public one.
    if not (found["svc"] or ip_address(host).is_private):
        return PASSTHROUGH
    return _service(found["name"], found["namespace"] or namespace)


@lru_cache(maxsize=1024)
def cluster_service(host: str) -> Destination:
    """Name the service that policies send to by its host, which need not be one of the cluster's."""
    found = _MESH_NAME.fullmatch(host)
    if found is not None and found["svc"]:
        return _service(found["name"], found["namespace"])
    return Destination(host, host, UNKNOWN)


def _service(name: str, namespace: str) -> Destination:
    return Destination(f"{name}.{namespace}.svc.cluster.local", name, namespace)


def request_labels(
    own: Workload,
    direction: Direction,
    proven: Proven,
    destination: Destination,
    outcome: Iterable[Label],
) -> str:
    """Render all labels of one series; `outcome` are those that tell how it ended."""
    inbound = direction is Direction.INBOUND
    secured = "mutual_tls" if proven.source else "none"
    labels = (
        ("reporter", "destination" if inbound else "source"),
        *_side("source", None if inbound else own, proven.source),
        *_side("destination", own if inbound else None, proven.destination),
        ("destination_service", destination.service),
        ("destination_service_name", destination.name),
        ("destination_service_namespace", destination.namespace),
        *outcome,
        ("connection_security_policy", secured if inbound else UNKNOWN),
    )
    return ",".join(f'{name}="{escaped(value)}"' for name, value in labels)


def _side(side: str, own: Workload | None, peer: Peer | None) -> Iterable[Label]:
    """Tell one end of the traffic, our own or what the other one has proven."""
    workload = own or _proven_workload(peer)
    known = workload or Workload()
    return (
        (f"{side}_workload", known.name),
        (f"{side}_workload_namespace", known.namespace),
        (f"{side}_principal", _principal(peer)),
        (f"{side}_app", known.app),
        (f"{side}_version", known.version),
        (f"{side}_canonical_service", known.canonical_name),
        (f"{side}_canonical_revision", known.canonical_revision if workload else UNKNOWN),
        (f"{side}_cluster", known.cluster),
    )


def _proven_workload(peer: Peer | None) -> Workload | None:
    """Say what an identity tells: the service account goes for the workload while nobody knows more."""
    if peer is None or not peer.namespace:
        return None
    return Workload(peer.service_account, peer.namespace, peer.service_account)


def _principal(peer: Peer | None) -> str:
    """Write an identity as Istio's labels do, with its scheme."""
    if peer is None:
        return UNKNOWN
    return OVERFLOW if peer is SOMEBODY else peer.spiffe_id


def escaped(value: str) -> str:
    """Write a label's value as it stands between quotes."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
