"""The format of policy files: this is its reference, and what it does not name is refused."""

from enum import StrEnum
from typing import Annotated, assert_never

import msgspec

from tproxy.model.flow import Direction, Protocol

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
"""A Kubernetes name."""


class _Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What all parts of the format share: camelCase, as Kubernetes writes it, and no field beyond those named."""


class Metadata(_Spec, frozen=True):
    """Which object this is."""

    name: Name = "default"
    namespace: Name | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class WorkloadSpec(_Spec, frozen=True):
    """Whose sidecar this is, as metrics and logs tell it."""

    name: Name | None = None
    namespace: Name | None = None
    service_account: Name | None = None
    labels: dict[str, str] = {}


class PortProtocol(StrEnum):
    """What a port speaks, in the words of Kubernetes' `appProtocol`, and how it is carried."""

    HTTP = "HTTP"
    HTTP2 = "HTTP2"
    GRPC = "GRPC"
    TLS = "TLS"
    TCP = "TCP"

    @property
    def carried_as(self) -> Protocol:
        """What the connection's opening would have been taken for."""
        match self:
            case PortProtocol.HTTP:
                return Protocol.HTTP1
            case PortProtocol.HTTP2 | PortProtocol.GRPC:
                return Protocol.HTTP2
            case PortProtocol.TLS:
                return Protocol.TLS
            case PortProtocol.TCP:
                return Protocol.OPAQUE
        assert_never(self)


class UpstreamProtocol(StrEnum):
    """An HTTP version to translate requests to."""

    HTTP = "HTTP"
    HTTP2 = "HTTP2"

    @property
    def asked_in(self) -> Protocol:
        """The data path's word for it."""
        return PortProtocol(self).carried_as


class PortDirection(StrEnum):
    """Connections to the application's port, or to that port of somebody else's."""

    INBOUND = "INBOUND"
    OUTBOUND = "OUTBOUND"

    @property
    def direction(self) -> Direction:
        """The data path's word for it."""
        return Direction[self.name]


class PortSpec(_Spec, frozen=True):
    """A port whose protocol is known: nothing is sniffed, so protocols where the server speaks first lose no time."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    protocol: PortProtocol
    direction: PortDirection | None = None
    """Both when it is left out."""
    upstream_protocol: UpstreamProtocol | None = None
    """What the other side is asked in, for HTTP; without it, what the client speaks."""


class DetectionSpec(_Spec, frozen=True):
    """How long and how far the opening of other connections is looked at."""

    timeout: str | None = None
    """A duration: `500ms`, `3s`."""
    max_bytes: int | str | None = None
    """A size: `8192`, `8KiB`."""


class LogFormat(StrEnum):
    """How a line of the access log is written."""

    JSON = "json"
    TEXT = "text"


class AccessLogSpec(_Spec, frozen=True):
    """The access log on standard output."""

    format: LogFormat = LogFormat.JSON
    enabled: bool = True


class TelemetrySpec(_Spec, frozen=True):
    """What the proxy tells of the traffic."""

    access_log: AccessLogSpec = AccessLogSpec()


class ProxyConfigSpec(_Spec, frozen=True):
    """How this one sidecar works."""

    workload: WorkloadSpec = WorkloadSpec()
    ports: tuple[PortSpec, ...] = ()
    detection: DetectionSpec = DetectionSpec()
    telemetry: TelemetrySpec = TelemetrySpec()


class ProxyConfig(_Spec, frozen=True, tag_field="kind", tag="ProxyConfig"):
    """`tproxy.io/v1alpha1`, at most one."""

    api_version: str
    spec: ProxyConfigSpec
    metadata: Metadata = Metadata()


Config = ProxyConfig
"""Any object that a policy file can hold: the union of the kinds, told apart by `kind`."""

KINDS: dict[tuple[str, str], type[Config]] = {("tproxy.io/v1alpha1", "ProxyConfig"): ProxyConfig}
"""The kinds that are supported, by `apiVersion` and `kind`."""

FOREIGN_GROUPS = (
    "security.istio.io/",
    "networking.istio.io/",
    "telemetry.istio.io/",
    "extensions.istio.io/",
    "gateway.networking.k8s.io/",
)
"""API groups whose objects are meant for a proxy like this one: to leave one out would open what it closes."""
