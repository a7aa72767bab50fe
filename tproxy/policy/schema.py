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
    """Without one, the workload's own."""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    """`istio.io/dry-run: "true"` has an AuthorizationPolicy evaluated and never enforced."""


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
    """A duration: `500ms`, `3s` (which it is when left out)."""
    max_bytes: int | str | None = None
    """A size: `8192`, `8KiB` (which it is when left out)."""


class LogFormat(StrEnum):
    """How a line of the access log is written."""

    JSON = "json"
    TEXT = "text"


class AccessLogSpec(_Spec, frozen=True):
    """The access log on standard output."""

    format: LogFormat = LogFormat.JSON
    """`text` is Istio's default format."""
    enabled: bool = True
    """Whether there is one."""


class TelemetrySpec(_Spec, frozen=True):
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


class ProbeSpec(_Spec, frozen=True):
    """A health check that no policy refuses: its path, without a query, on one port."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    path: Annotated[str, msgspec.Meta(pattern="^/")]


class ProxyConfigSpec(_Spec, frozen=True):
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

    workload: WorkloadSpec = WorkloadSpec()
    """Whose sidecar this is: which policies are about it, and what its records are labelled with."""
    ports: tuple[PortSpec, ...] = ()
    detection: DetectionSpec = DetectionSpec()
    telemetry: TelemetrySpec = TelemetrySpec()


class ProxyConfig(_Spec, frozen=True, tag_field="kind", tag="ProxyConfig"):
    """`tproxy.io/v1alpha1`, at most one."""

    api_version: str
    spec: ProxyConfigSpec
    metadata: Metadata = Metadata()


Values = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
"""Any of these: exact, `prefix*`, `*suffix`, or `*` for anything that is there. An empty list would mean anything at all."""


class Selector(_Spec, frozen=True):
    """Which workloads: those that have all of these labels."""

    match_labels: dict[str, str] = {}
    """Exact values: there are no wildcards."""


class Source(_Spec, frozen=True):
    """Who asks. Several fields are all meant; the `not…` forms refuse any of their values."""

    principals: Values | None = None
    """`cluster.local/ns/foo/sa/bar`, proven by mutual TLS."""
    not_principals: Values | None = None
    namespaces: Values | None = None
    """Of whoever dials, proven by mutual TLS."""
    not_namespaces: Values | None = None
    service_accounts: Values | None = None
    """`foo/bar`, or `bar` of the policy's own namespace; proven by mutual TLS."""
    not_service_accounts: Values | None = None
    ip_blocks: Values | None = None
    """Addresses or networks (`192.0.2.0/24`) of whoever dialled."""
    not_ip_blocks: Values | None = None
    remote_ip_blocks: Values | None = None
    """The same of the last address in `x-forwarded-for`, or without one of whoever dialled."""
    not_remote_ip_blocks: Values | None = None


class From(_Spec, frozen=True):
    """One alternative of who asks."""

    source: Source


class Operation(_Spec, frozen=True):
    """What is asked. On a connection that is not HTTP there are only ports."""

    hosts: Values | None = None
    """Without regard to case, and to the port unless one is given."""
    not_hosts: Values | None = None
    ports: Values | None = None
    """Of the workload, not of a service: `"8080"`."""
    not_ports: Values | None = None
    methods: Values | None = None
    """In upper case; gRPC is POST."""
    not_methods: Values | None = None
    paths: Values | None = None
    """Normalised and without their query; `{*}` is one segment, `{**}` any number at the end."""
    not_paths: Values | None = None


class To(_Spec, frozen=True):
    """One alternative of what is asked."""

    operation: Operation


class Condition(_Spec, frozen=True):
    """A further condition."""

    key: Annotated[str, msgspec.Meta(min_length=1)]
    """`request.headers[NAME]`, `source.ip`, `remote.ip`, `source.namespace`, `source.principal`,
    `source.serviceAccount`, `destination.ip`, `destination.port` or `connection.sni`."""
    values: Values | None = None
    """Any of these."""
    not_values: Values | None = None
    """What is absent is none of them either."""


class Rule(_Spec, frozen=True, rename={"from_": "from"}):
    """Who asks what, under which conditions: all three must hold, and a list that is left out always does."""

    from_: Annotated[tuple[From, ...], msgspec.Meta(min_length=1)] | None = None
    """Any of these."""
    to: Annotated[tuple[To, ...], msgspec.Meta(min_length=1)] | None = None
    """Any of these."""
    when: Annotated[tuple[Condition, ...], msgspec.Meta(min_length=1)] | None = None
    """All of these."""


class Action(StrEnum):
    """What becomes of a request that a rule matches."""

    ALLOW = "ALLOW"
    """It goes on; once an ALLOW policy applies, what none of them allows is refused."""
    DENY = "DENY"
    """It is refused, whatever allows it."""
    AUDIT = "AUDIT"
    """It is marked in the log; nothing is decided."""


class AuthorizationPolicySpec(_Spec, frozen=True):
    """Whose requests are allowed or denied; deny wins."""

    selector: Selector | None = None
    """Without one, all workloads of the namespace."""
    action: Action = Action.ALLOW
    rules: tuple[Rule, ...] | None = None
    """Any of them. ALLOW without any allows nothing."""


class AuthorizationPolicy(_Spec, frozen=True, tag_field="kind", tag="AuthorizationPolicy"):
    """Istio's `security.istio.io/v1`."""

    api_version: str
    spec: AuthorizationPolicySpec
    metadata: Metadata


class MutualTlsMode(StrEnum):
    """Whether connections must be mutual TLS."""

    UNSET = "UNSET"
    """As the next wider policy says; PERMISSIVE where none does."""
    DISABLE = "DISABLE"
    """Plaintext is taken."""
    PERMISSIVE = "PERMISSIVE"
    """Both are taken."""
    STRICT = "STRICT"
    """Plaintext is refused."""


class MutualTls(_Spec, frozen=True):
    """The mode of a workload or a port."""

    mode: MutualTlsMode = MutualTlsMode.UNSET


class PeerAuthenticationSpec(_Spec, frozen=True):
    """Which connections must prove who dials."""

    selector: Selector | None = None
    """Without one, all workloads of the namespace; of the root namespace, all of the mesh."""
    mtls: MutualTls | None = None
    port_level_mtls: dict[str, MutualTls] = {}
    """By the workload's port; it needs a selector."""


class PeerAuthentication(_Spec, frozen=True, tag_field="kind", tag="PeerAuthentication"):
    """Istio's `security.istio.io/v1`."""

    api_version: str
    spec: PeerAuthenticationSpec
    metadata: Metadata


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


Texts = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class ClientTls(_Spec, frozen=True):
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


class PortSelector(_Spec, frozen=True):
    """A port of the destination, by its number."""

    number: Port


class PortTrafficPolicy(_Spec, frozen=True):
    """What holds for one port in place of what holds for the others: nothing of that is inherited."""

    port: PortSelector
    tls: ClientTls | None = None
    """Without it, automatic mutual TLS, whatever holds for the other ports."""


class TrafficPolicy(_Spec, frozen=True):
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


class DestinationRuleSpec(_Spec, frozen=True):
    """How the workload's connections to one destination, or several, are secured."""

    host: str
    """A name, `*.suffix` or `*`; one without a dot is a service of the rule's own namespace."""
    traffic_policy: TrafficPolicy = TrafficPolicy()
    workload_selector: Selector | None = None
    """Whose connections; without one, those of every workload that may use the rule."""
    export_to: Annotated[tuple[ExportTo, ...], msgspec.Meta(min_length=1)] = (ExportTo.EVERYBODY,)
    """Who may use it, one word; with a selector, only its own namespace."""


class DestinationRule(_Spec, frozen=True, tag_field="kind", tag="DestinationRule"):
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


class ServicePort(_Spec, frozen=True):
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


class ServiceEndpoint(_Spec, frozen=True):
    """An instance of the service."""

    address: str
    """An IP address."""
    ports: dict[str, Port] = {}
    """Its numbers of the service's ports, by their names, where they are others."""
    labels: dict[str, str] = {}
    """`security.istio.io/tlsMode: istio` says that a sidecar stands beside it."""
    service_account: Name | None = None
    """As which it proves itself, in the entry's own namespace."""


class ServiceEntrySpec(_Spec, frozen=True):
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


class ServiceEntry(_Spec, frozen=True, tag_field="kind", tag="ServiceEntry"):
    """Istio's `networking.istio.io/v1`, by which addresses have names."""

    api_version: str
    spec: ServiceEntrySpec
    metadata: Metadata


class CaseProtocol(StrEnum):
    """What a case speaks."""

    HTTP = "http"
    GRPC = "grpc"
    """HTTP/2, and POST unless it says otherwise."""
    TCP = "tcp"
    """Anything that is not HTTP: it has no path, method or headers."""


class CaseSource(_Spec, frozen=True):
    """Who asks. What is left out is not known, and a policy that reads it leaves the case undetermined."""

    principal: str | msgspec.UnsetType | None = msgspec.UNSET
    """`cluster.local/ns/foo/sa/bar`; `null` is plaintext, which proves nothing."""
    namespace: Name | None = None
    """Instead of a principal: some service account of this namespace, `default` unless it is named."""
    service_account: Name | None = None
    ip: str | None = None


class CaseRequest(_Spec, frozen=True):
    """A request, or without HTTP a connection, as it would reach the sidecar."""

    path: Annotated[str, msgspec.Meta(pattern="^/")] | None = None
    """As it is sent, with its query: `/` unless it is named."""
    host: str | None = None
    method: Annotated[str, msgspec.Meta(pattern="^[A-Z]")] | None = None
    """`GET`, for gRPC `POST`, unless it is named."""
    headers: dict[str, str] = {}
    """All there are: a header that is not named is absent."""
    source: CaseSource = CaseSource()
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    """Of the workload."""
    protocol: CaseProtocol | None = None
    """`http` unless it is named."""
    sni: str | None = None
    destination_ip: str | None = None


class CaseVerdict(StrEnum):
    """What becomes of a request."""

    ALLOW = "ALLOW"
    DENY = "DENY"


class CaseReason(StrEnum):
    """Why, in the words of the access log."""

    DEFAULT = "default"
    AUDITED_DEFAULT = "audited_default"
    ALLOW_MATCH = "allow_match"
    DENY_MATCH = "deny_match"
    NO_ALLOW_MATCH = "no_allow_match"
    AMBIGUOUS_PATH = "ambiguous_path"
    PROBE = "probe"
    PLAINTEXT = "plaintext_on_strict_port"
    """PeerAuthentication is STRICT, and nobody proved who they are."""


class ExpectedTls(_Spec, frozen=True):
    """How the connection to the upstream must be secured; what is left out may be anything."""

    mode: TlsModeName | None = None
    """`DISABLE` is no TLS of ours, whyever."""
    sni: str | None = None
    """The name that is asked for; empty for none."""
    subject_alt_names: tuple[str, ...] | None = None
    """Who may answer, in any order."""


class Expectation(_Spec, frozen=True):
    """What must come of a case; what is left out may be anything."""

    verdict: CaseVerdict | None = None
    policy: str | None = None
    """The policy whose rule decides: `foo/readers`."""
    rule: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Which of its rules, counted from 0."""
    reason: CaseReason | None = None
    normalized_path: str | None = None
    """The path that policies read, without its query."""
    dry_run_verdict: CaseVerdict | None = None
    """The verdict if all dry-run policies were in force."""
    audited: bool | None = None
    """Whether an AUDIT policy marks it."""
    tls: ExpectedTls | None = None
    """For outbound cases."""


class Case(_Spec, frozen=True):
    """One request and what must come of it."""

    name: Name
    expect: Expectation
    request: CaseRequest = CaseRequest()
    direction: Direction = Direction.INBOUND


class PolicyTestSpec(_Spec, frozen=True):
    """Cases, and what those of them that do not say otherwise ask."""

    cases: Annotated[tuple[Case, ...], msgspec.Meta(min_length=1)]
    defaults: CaseRequest = CaseRequest()


class PolicyTest(_Spec, frozen=True, tag_field="kind", tag="PolicyTest"):
    """`tproxy.io/v1alpha1`: read by `tproxy policy test`, never by the data path."""

    api_version: str
    spec: PolicyTestSpec
    metadata: Metadata = Metadata()


Config = (
    ProxyConfig
    | AuthorizationPolicy
    | PeerAuthentication
    | DestinationRule
    | ServiceEntry
    | PolicyTest
)
"""Any object that a policy file can hold: the union of the kinds, told apart by `kind`."""

_ISTIO_SECURITY = ("security.istio.io/v1", "security.istio.io/v1beta1")
_ISTIO_NETWORKING = (
    "networking.istio.io/v1",
    "networking.istio.io/v1beta1",
    "networking.istio.io/v1alpha3",
)

KINDS: dict[tuple[str, str], type[Config]] = {
    ("tproxy.io/v1alpha1", "ProxyConfig"): ProxyConfig,
    ("tproxy.io/v1alpha1", "PolicyTest"): PolicyTest,
    **{(version, "AuthorizationPolicy"): AuthorizationPolicy for version in _ISTIO_SECURITY},
    **{(version, "PeerAuthentication"): PeerAuthentication for version in _ISTIO_SECURITY},
    **{(version, "DestinationRule"): DestinationRule for version in _ISTIO_NETWORKING},
    **{(version, "ServiceEntry"): ServiceEntry for version in _ISTIO_NETWORKING},
}
"""The kinds that are supported, by `apiVersion` and `kind`."""

NOT_IMPLEMENTED: dict[str, str] = {
    "requestPrincipals": "tokens are not verified",
    "notRequestPrincipals": "tokens are not verified",
    "targetRef": "select by labels",
    "targetRefs": "select by labels",
    "provider": "no external authorizer is asked",
    "trustDomains": "write principals",
    "notTrustDomains": "write notPrincipals",
    "route": "policies choose no routes",
    "destination": "policies choose no destinations",
    "subsets": "policies choose no destinations: write a ServiceEntry and a rule for each",
    "loadBalancer": "connections go where they were going",
    "connectionPool": "write --limit NAME=VALUE",
    "outlierDetection": "connections go where they were going",
    "tunnel": "connections go where they were going",
    "proxyProtocol": "no header is put before what the application sends",
    "retryBudget": "nothing is sent twice",
    "credentialName": "there are no Secrets: write clientCertificate, privateKey and caCertificates",
    "workloadSelector": "name the endpoints",
    "exportTo": "an entry is for whoever reads it: leave it out",
    "network": "endpoints are reached where they are",
    "locality": "no endpoint is chosen",
    "weight": "no endpoint is chosen",
}
"""Fields of Istio's that exist and are not built here: to pass over one would change who may do what."""

NOT_IMPLEMENTED_VALUES: dict[str, str] = {
    "CUSTOM": "no external authorizer is asked: what it decides must be written as ALLOW or DENY rules",
    "DNS": "no name is asked for, connections go where they were going: write NONE, or STATIC with endpoints",
    "DNS_ROUND_ROBIN": "no name is asked for, connections go where they were going: write NONE, or STATIC with endpoints",
    "DYNAMIC_DNS": "no name is asked for, connections go where they were going: write NONE, or STATIC with endpoints",
}
"""Values of Istio's that exist and are not built here."""

OTHER_KINDS: dict[str, str] = {
    "RequestAuthentication": "tokens are not verified: write principals, or verify them in the application",
    "EnvoyFilter": "there is no Envoy to patch: what it does must be written as a supported kind",
    "WasmPlugin": "no plug-ins are run",
    "Gateway": "this is a sidecar and terminates nothing for others: keep it out of the sidecar's directory",
    "Telemetry": "write spec.telemetry in ProxyConfig",
    "Sidecar": "write what is captured as options of the init step",
    "WorkloadEntry": "write spec.workload in ProxyConfig for this workload, a ServiceEntry with endpoints for another",
    "WorkloadGroup": "write spec.workload in ProxyConfig",
    "ProxyConfig": "write apiVersion: tproxy.io/v1alpha1, whose fields are others",
    "VirtualService": "requests go where they were going",
    "HTTPRoute": "requests go where they were going",
    "GRPCRoute": "requests go where they were going",
}
"""Kinds that are meant for a proxy like this one and not built here: what to do instead."""

FOREIGN_GROUPS = (
    "security.istio.io/",
    "networking.istio.io/",
    "telemetry.istio.io/",
    "extensions.istio.io/",
    "gateway.networking.k8s.io/",
)
"""API groups whose objects are meant for a proxy like this one: to leave one out would open what it closes."""
