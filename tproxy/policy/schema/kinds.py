"""Which kinds there are, and what to do in place of those that there are not."""

from tproxy.policy.schema.destinations import DestinationRule, ServiceEntry
from tproxy.policy.schema.faults import FaultPolicy
from tproxy.policy.schema.limits import RateLimitPolicy
from tproxy.policy.schema.policy_test import PolicyTest
from tproxy.policy.schema.proxy_config import ProxyConfig
from tproxy.policy.schema.resilience import ResiliencePolicy
from tproxy.policy.schema.routes import VirtualService
from tproxy.policy.schema.security import AuthorizationPolicy, PeerAuthentication

Config = (
    ProxyConfig
    | AuthorizationPolicy
    | PeerAuthentication
    | DestinationRule
    | ServiceEntry
    | VirtualService
    | RateLimitPolicy
    | FaultPolicy
    | ResiliencePolicy
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
    ("tproxy.io/v1alpha1", "RateLimitPolicy"): RateLimitPolicy,
    ("tproxy.io/v1alpha1", "FaultPolicy"): FaultPolicy,
    ("tproxy.io/v1alpha1", "ResiliencePolicy"): ResiliencePolicy,
    ("tproxy.io/v1alpha1", "PolicyTest"): PolicyTest,
    **{(version, "AuthorizationPolicy"): AuthorizationPolicy for version in _ISTIO_SECURITY},
    **{(version, "PeerAuthentication"): PeerAuthentication for version in _ISTIO_SECURITY},
    **{(version, "DestinationRule"): DestinationRule for version in _ISTIO_NETWORKING},
    **{(version, "ServiceEntry"): ServiceEntry for version in _ISTIO_NETWORKING},
    **{(version, "VirtualService"): VirtualService for version in _ISTIO_NETWORKING},
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
    "delegate": "write the other's entries here",
    "corsPolicy": "answer in the application, or set response headers",
    "retryRemoteLocalities": "endpoints are not told apart by where they are: leave it out",
    "exponentialDelay": "write fixedDelay",
    "percent": "write percentage: {value: …}",
    "mirror_percent": "write mirrorPercentage: {value: …}",
    "mirrorPercent": "write mirrorPercentage: {value: …}",
    "http2Error": "write httpStatus or grpcStatus",
    "derivePort": "write port",
    "statPrefix": "write name, by which logs and metrics tell entries apart",
    "sourceSubnet": "write sourceLabels",
    "websocketUpgrade": "upgrades are carried anyway: leave it out",
    "appendHeaders": "write headers.request.add",
    "appendRequestHeaders": "write headers.request.add",
    "appendResponseHeaders": "write headers.response.add",
    "removeRequestHeaders": "write headers.request.remove",
    "removeResponseHeaders": "write headers.response.remove",
    "maglev": "write ringHash",
    "localityLbSetting": "endpoints are not told apart by where they are",
    "consecutiveErrors": "write consecutive5xxErrors or consecutiveGatewayErrors",
    "idleTimeout": "write --limit tcp_idle_seconds=SECONDS",
    "maxConnectionDuration": "no connection ends for its age",
    "tcpKeepalive": "write --limit keepalive_seconds=SECONDS",
    "h2UpgradePolicy": "write upstreamProtocol of spec.ports in ProxyConfig",
    "useClientProtocol": "an upstream is asked in the client's protocol: leave it out",
    "maxConcurrentStreams": "the upstream says how many it takes",
    "minRetryConcurrency": "write minRetryRate in a ResiliencePolicy",
    "tunnel": "connections go where they were going",
    "proxyProtocol": "no header is put before what the application sends",
    "credentialName": "there are no Secrets: write clientCertificate, privateKey and caCertificates",
    "workloadSelector": "name the endpoints",
    "network": "endpoints are reached where they are",
}
"""Fields of Istio's that exist and are not built here: to pass over one would change who may do what."""

NOT_IMPLEMENTED_VALUES: dict[str, str] = {
    "CUSTOM": "no external authorizer is asked: what it decides must be written as ALLOW or DENY rules",
    "DYNAMIC_DNS": "no name that a request brings along is looked up: write NONE, or DNS with the names",
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
    "HTTPRoute": "write a VirtualService",
    "GRPCRoute": "write a VirtualService: gRPC is HTTP/2",
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
