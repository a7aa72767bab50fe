"""The form of `ProxyConfig`: the sidecar itself."""

from enum import StrEnum
from typing import Annotated, assert_never

import msgspec

from tproxy.model.flow import Direction, Protocol
from tproxy.policy.schema.words import Form, Metadata, Name


class WorkloadSpec(Form, frozen=True):
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


class PortSpec(Form, frozen=True):
    """A port whose protocol is known: nothing is sniffed, so protocols where the server speaks first lose no time."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    protocol: PortProtocol
    direction: PortDirection | None = None
    """Both when it is left out."""
    upstream_protocol: UpstreamProtocol | None = None
    """What the other side is asked in, for HTTP; without it, what the client speaks."""


class DetectionSpec(Form, frozen=True):
    """How long and how far the opening of other connections is looked at."""

    timeout: str | None = None
    """A duration: `500ms`, `3s` (which it is when left out)."""
    max_bytes: int | str | None = None
    """A size: `8192`, `8KiB` (which it is when left out)."""


class LogFormat(StrEnum):
    """How a line of the access log is written."""

    JSON = "json"
    TEXT = "text"


class AccessLogSpec(Form, frozen=True):
    """The access log on standard output."""

    format: LogFormat = LogFormat.JSON
    """`text` is Istio's default format."""
    enabled: bool = True
    """Whether there is one."""


class TelemetrySpec(Form, frozen=True):
    """What the proxy tells of the traffic."""

    access_log: AccessLogSpec = AccessLogSpec()


class DefaultAction(StrEnum):
    """What happens to requests that no ALLOW policy is about."""

    ALLOW = "ALLOW"
    """It goes on."""
    AUDIT = "AUDIT"
    """It goes on, and is marked in the log."""
    DENY = "DENY"
    """It is refused."""


class PathNormalization(StrEnum):
    """How request paths are brought into one form before policies read them: Istio's modes."""

    NONE = "NONE"
    """As they are."""
    BASE = "BASE"
    """RFC 3986: dot segments are resolved, escaped unreserved characters decoded; a backslash is a slash."""
    MERGE_SLASHES = "MERGE_SLASHES"
    """And slashes in a row become one."""
    DECODE_AND_MERGE_SLASHES = "DECODE_AND_MERGE_SLASHES"
    """And escaped slashes and backslashes are decoded first."""


class OutboundMode(StrEnum):
    """What may be reached of that which no policy names."""

    ALLOW_ANY = "ALLOW_ANY"
    """All of it."""
    REGISTRY_ONLY = "REGISTRY_ONLY"
    """Nothing: requests are answered with 502, and connections that are no HTTP reset. It keeps mistakes in, and
    nobody who means harm."""


class OutboundTrafficPolicy(Form, frozen=True):
    """Whom the application may reach."""

    mode: OutboundMode = OutboundMode.ALLOW_ANY


class ProbeSpec(Form, frozen=True):
    """A health check that no policy refuses: its path, without a query, on one port."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    path: Annotated[str, msgspec.Meta(pattern="^/")]


class ProxyConfigSpec(Form, frozen=True):
    """How this one sidecar works."""

    root_namespace: Name = "istio-system"
    """Policies of this namespace are about the workloads of all namespaces."""
    default_action: DefaultAction = DefaultAction.ALLOW
    """What happens to what no ALLOW policy is about."""
    path_normalization: PathNormalization = PathNormalization.MERGE_SLASHES
    """How paths are spelled before policies read them, on ports where one does; elsewhere bytes pass untouched."""
    probes: tuple[ProbeSpec, ...] = ()
    """Requests that no policy refuses."""
    trust_domain: Name = "cluster.local"
    """Of the identities that endpoints of a ServiceEntry are expected to prove."""
    outbound_traffic_policy: OutboundTrafficPolicy = OutboundTrafficPolicy()

    workload: WorkloadSpec = WorkloadSpec()
    """Whose sidecar this is: which policies are about it, and what its records are labelled with."""
    ports: tuple[PortSpec, ...] = ()
    detection: DetectionSpec = DetectionSpec()
    telemetry: TelemetrySpec = TelemetrySpec()


class ProxyConfig(Form, frozen=True, tag_field="kind", tag="ProxyConfig"):
    """`tproxy.io/v1alpha1`, at most one."""

    api_version: str
    spec: ProxyConfigSpec
    metadata: Metadata = Metadata()
