"""The forms of `DestinationRule` and `ServiceEntry`: who the upstreams are, and how they are spoken to."""

from enum import StrEnum
from typing import Annotated

import msgspec

from tproxy.policy.schema.traffic_policy import (
    ConnectionPool,
    LoadBalancer,
    OutlierDetection,
    RetryBudget,
)
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
    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None
    retry_budget: RetryBudget | None = None


class TrafficPolicy(Form, frozen=True):
    """How connections to the destination are made."""

    tls: ClientTls | None = None
    """Without it, automatic mutual TLS."""
    load_balancer: LoadBalancer | None = None
    """Without it, LEAST_REQUEST."""
    connection_pool: ConnectionPool | None = None
    """Without it, no bounds but those of the proxy."""
    outlier_detection: OutlierDetection | None = None
    """Without it, endpoints get requests however they answer."""
    retry_budget: RetryBudget | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()


class Subset(Form, frozen=True):
    """Some of the destination's endpoints, under a name that routes may send to."""

    name: Name
    labels: dict[str, str] = {}
    """Which its endpoints have; without any, all belong to it."""
    traffic_policy: TrafficPolicy = TrafficPolicy()
    """What it says replaces what the rule says of the same, part by part."""


class ExportTo(StrEnum):
    """Who may use it."""

    EVERYBODY = "*"
    """Workloads of every namespace."""
    NAMESPACE = "."
    """Workloads of its own namespace."""


class DestinationRuleSpec(Form, frozen=True):
    """How the workload's connections to one destination, or several, are secured, spread and bounded."""

    host: str
    """A name, `*.suffix` or `*`; one without a dot is a service of the rule's own namespace."""
    traffic_policy: TrafficPolicy = TrafficPolicy()
    subsets: tuple[Subset, ...] = ()
    workload_selector: Selector | None = None
    """Whose connections; without one, those of every workload that may use the rule."""
    export_to: Annotated[tuple[ExportTo, ...], msgspec.Meta(min_length=1)] = (ExportTo.EVERYBODY,)
    """Who may use it, one word; with a selector, only its own namespace."""


class DestinationRule(Form, frozen=True, tag_field="kind", tag="DestinationRule"):
    """Istio's `networking.istio.io/v1`: how destinations are spoken to."""

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
    """Where the service's connections end."""

    NONE = "NONE"
    """At the address that is dialled."""
    STATIC = "STATIC"
    """At one of the endpoints."""
    DNS = "DNS"
    """At one of the addresses that the endpoints' names lead to; without endpoints, those of the host."""
    DNS_ROUND_ROBIN = "DNS_ROUND_ROBIN"
    """At the first address that a name leads to at the time."""


MOST_WEIGHT = 1_000_000
"""An endpoint's: more than that is not told apart, and sums stay small."""


class ServiceEndpoint(Form, frozen=True):
    """An instance of the service."""

    address: str
    """An IP address; with DNS a name too. One that begins with `_` is asked for SRV, which tells ports and weights."""
    ports: dict[str, Port] = {}
    """Its numbers of the service's ports, by their names, where they are others."""
    labels: dict[str, str] = {}
    """`security.istio.io/tlsMode: istio` says that a sidecar stands beside it."""
    service_account: Name | None = None
    """As which it proves itself, in the entry's own namespace."""
    weight: Annotated[int, msgspec.Meta(ge=0, le=MOST_WEIGHT)] = 1
    """Its share among the endpoints, as far as the load balancer takes it; with 0 it gets nothing."""
    locality: str = ""
    """`region/zone`; it is shown, and decides nothing."""


class ServiceEntrySpec(Form, frozen=True):
    """The names of services and addresses, where their endpoints are, and who is expected there."""

    hosts: Texts
    """Names or `*.suffix`; one without a dot is a service of the entry's own namespace."""
    addresses: tuple[str, ...] = ()
    """The service's own: IP addresses and networks (`192.0.2.0/24`)."""
    ports: tuple[ServicePort, ...] = ()
    """On these, what asks for a host goes to its service, wherever it was going. Without any, every port of the
    addresses."""
    location: Location = Location.MESH_EXTERNAL
    resolution: Resolution = Resolution.NONE
    endpoints: tuple[ServiceEndpoint, ...] = ()
    subject_alt_names: Texts | None = None
    """Who may answer, one of them, in place of the endpoints' service accounts."""
    export_to: Annotated[tuple[ExportTo, ...], msgspec.Meta(min_length=1)] = (ExportTo.EVERYBODY,)
    """For whom it is, one word."""


class ServiceEntry(Form, frozen=True, tag_field="kind", tag="ServiceEntry"):
    """Istio's `networking.istio.io/v1`: which services there are, and where."""

    api_version: str
    spec: ServiceEntrySpec
    metadata: Metadata
