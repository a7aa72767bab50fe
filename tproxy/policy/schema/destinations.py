"""The forms of `DestinationRule` and `ServiceEntry`: who the upstreams are, and how they are spoken to."""

from enum import StrEnum
from typing import Annotated

import msgspec

from tproxy.policy.schema.words import Form, Metadata, Name, Port, Selector, Texts


class TlsModeName(StrEnum):
    """How connections to a destination are secured."""

    DISABLE = "DISABLE"
    """No TLS of ours: what the application sends goes as it is."""
    SIMPLE = "SIMPLE"
    """TLS in which the destination proves its name."""
    MUTUAL = "MUTUAL"
    """TLS in which we show the certificate of `clientCertificate` too."""
    ISTIO_MUTUAL = "ISTIO_MUTUAL"
    """TLS in which both sides show the identity of their workload."""


class ClientTls(Form, frozen=True):
    """How connections to a destination are secured, and who may answer them."""

    mode: TlsModeName
    client_certificate: str | None = None
    """The file of the certificate that we show, with those that lead to a root; for MUTUAL."""
    private_key: str | None = None
    """The file of its key."""
    ca_certificates: str | None = None
    """The file of roots for SIMPLE and MUTUAL; without it, those of the system."""
    ca_crl: str | None = None
    """The file of revoked certificates."""
    subject_alt_names: Texts | None = None
    """Who may answer, one of them: SPIFFE ids, for SIMPLE and MUTUAL DNS names too."""
    sni: str | None = None
    """The name that is asked for; without it, the host's."""
    insecure_skip_verify: bool = False
    """Whether anybody may answer; for SIMPLE and MUTUAL."""


class PortSelector(Form, frozen=True):
    """A port of the destination, by its number."""

    number: Port


class PortTrafficPolicy(Form, frozen=True):
    """What holds for one port in place of what holds for the others: nothing of that is inherited."""

    port: PortSelector
    tls: ClientTls | None = None
    """Without it, automatic mutual TLS, whatever holds for the other ports."""


class TrafficPolicy(Form, frozen=True):
    """How connections to the destination are made."""

    tls: ClientTls | None = None
    """Without it, automatic mutual TLS."""
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()


class ExportTo(StrEnum):
    """Who may use a rule."""

    EVERYBODY = "*"
    """Workloads of every namespace."""
    NAMESPACE = "."
    """Workloads of its own namespace."""


class DestinationRuleSpec(Form, frozen=True):
    """How the workload's connections to one destination, or several, are secured."""

    host: str
    """A name, `*.suffix` or `*`; one without a dot is a service of the rule's own namespace."""
    traffic_policy: TrafficPolicy = TrafficPolicy()
    workload_selector: Selector | None = None
    """Whose connections; without one, those of every workload that may use the rule."""
    export_to: Annotated[tuple[ExportTo, ...], msgspec.Meta(min_length=1)] = (ExportTo.EVERYBODY,)
    """Who may use it, one word; with a selector, only its own namespace."""


class DestinationRule(Form, frozen=True, tag_field="kind", tag="DestinationRule"):
    """Istio's `networking.istio.io/v1`, by what it says of TLS."""

    api_version: str
    spec: DestinationRuleSpec
    metadata: Metadata


class ServiceProtocol(StrEnum):
    """What a port of a service speaks."""

    HTTP = "HTTP"
    HTTPS = "HTTPS"
    HTTP2 = "HTTP2"
    GRPC = "GRPC"
    GRPC_WEB = "GRPC-Web"
    MONGO = "MONGO"
    TLS = "TLS"
    TCP = "TCP"


class ServicePort(Form, frozen=True):
    """A port of the service."""

    number: Port
    """At its addresses."""
    name: Name
    protocol: ServiceProtocol | None = None
    """It changes nothing: `spec.ports` of ProxyConfig declares what a port speaks."""
    target_port: Port | None = None
    """At its endpoints; without it, the same number."""


class Location(StrEnum):
    """Whether a service is part of the mesh."""

    MESH_EXTERNAL = "MESH_EXTERNAL"
    """It is not: there is no automatic mutual TLS."""
    MESH_INTERNAL = "MESH_INTERNAL"
    """It is: endpoints that have a sidecar are spoken to by mutual TLS."""


class Resolution(StrEnum):
    """Where the service's connections end. They go where the application dials: no endpoint is chosen."""

    NONE = "NONE"
    """At the address that is dialled."""
    STATIC = "STATIC"
    """At one of the endpoints."""


class ServiceEndpoint(Form, frozen=True):
    """An instance of the service."""

    address: str
    """An IP address."""
    ports: dict[str, Port] = {}
    """Its numbers of the service's ports, by their names, where they are others."""
    labels: dict[str, str] = {}
    """`security.istio.io/tlsMode: istio` says that a sidecar stands beside it."""
    service_account: Name | None = None
    """As which it proves itself, in the entry's own namespace."""


class ServiceEntrySpec(Form, frozen=True):
    """The names of addresses, and who is expected there."""

    hosts: Texts
    """Names or `*.suffix`; one without a dot is a service of the entry's own namespace."""
    addresses: tuple[str, ...] = ()
    """The service's own: IP addresses and networks (`192.0.2.0/24`)."""
    ports: tuple[ServicePort, ...] = ()
    """Without any, every port of these addresses."""
    location: Location = Location.MESH_EXTERNAL
    resolution: Resolution = Resolution.NONE
    endpoints: tuple[ServiceEndpoint, ...] = ()
    subject_alt_names: Texts | None = None
    """Who may answer, one of them, in place of the endpoints' service accounts."""


class ServiceEntry(Form, frozen=True, tag_field="kind", tag="ServiceEntry"):
    """Istio's `networking.istio.io/v1`, by which addresses have names."""

    api_version: str
    spec: ServiceEntrySpec
    metadata: Metadata
