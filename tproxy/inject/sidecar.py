"""What injection adds to pods: settings for all of them, which each pod's annotations change."""

from enum import StrEnum
from importlib.metadata import version
from typing import Literal

import msgspec

from tproxy.inject.values import CAPTURE, size

VERSION = version("tproxy")


class Platform(StrEnum):
    """Who runs the pods."""

    KUBERNETES = "kubernetes"
    PODMAN = "podman"
    """`podman kube play`: no native sidecars, no downward API but names, no secrets as volumes."""


class Resources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the sidecar asks for, and what it may have at most."""

    requests: dict[str, str] = msgspec.field(
        default_factory=lambda: {"cpu": "50m", "memory": "64Mi"}
    )
    limits: dict[str, str] = msgspec.field(default_factory=lambda: {"memory": "256Mi"})
    """Of memory only: a bound on CPU time stalls a proxy in the middle of requests."""


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What is added. As a file, its fields are written in camel case, and unknown ones are refused."""

    init_image: str = f"tproxy-init:{VERSION}"
    proxy_image: str = f"tproxy:{VERSION}"
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    platform: Platform = Platform.KUBERNETES
    native: bool = True
    """As an init container that goes on running (Kubernetes 1.29); else as the first ordinary container, which is the
    only form that podman knows."""
    policies: str = ""
    """The ConfigMap with policy files; none without one. A pod does not start without it."""
    certificates: str = ""
    """`secret:NAME`, `csi:DRIVER`, `hostPath:DIRECTORY` or `none`; `{service_account}` in it is the pod's."""
    rewrite_probes: bool = True
    """Have the kubelet ask the sidecar, which asks the application: past policies and mutual TLS."""
    scrape: bool = True
    """Tell Prometheus where the sidecar's metrics are, where the pod says nothing of the kind."""
    verify: bool = True
    """Have the init step dial through its rules, for which it needs SETUID and SETGID."""
    capture: dict[str, str] = {}
    """Options of the init step, by their names: `exclude-outbound-ports: "3306"`."""
    environment: dict[str, str] = {}
    """More of the sidecar's: any option of `tproxy run` as `TPROXY_…`."""
    workers: int = 1
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    resources: Resources = msgspec.field(default_factory=Resources)

    def __post_init__(self) -> None:
        """Refuse what the init step would refuse, before a pod is made of it."""
        for option, text in self.capture.items():
            read = CAPTURE.get(option)
            if read is None:
                raise ValueError(f"capture: {option} is none of {', '.join(CAPTURE)}")
            try:
                read(text)
            except ValueError as error:
                raise ValueError(f"capture: {option}: {error}") from None


class BadSettings(Exception):
    """Settings that cannot be meant."""


def read_settings(content: bytes) -> Sidecar:
    """Read a file of settings; BadSettings says which field is wrong."""
    try:
        sidecar = msgspec.yaml.decode(content, type=Sidecar)
        _refuse_unmeant(sidecar.resources)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadSettings(str(error)) from None
    return sidecar


def _refuse_unmeant(resources: Resources) -> None:
    """Refuse what Kubernetes would refuse of every pod."""
    for resource, text in {**resources.limits, **resources.requests}.items():
        asked, most = (
            resources.requests.get(resource, text),
            resources.limits.get(resource, text),
        )
        if size(asked) > size(most):
            raise ValueError(f"resources: {resource}: {asked} is more than the limit, {most}")
