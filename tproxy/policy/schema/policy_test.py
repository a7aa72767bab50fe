"""The form of `PolicyTest`: requests, and what must come of them."""

from enum import StrEnum
from typing import Annotated

import msgspec

from tproxy.model.flow import Direction
from tproxy.policy.schema.destinations import TlsModeName
from tproxy.policy.schema.words import Form, Metadata, Name, Port


class CaseProtocol(StrEnum):
    """What a case speaks."""

    HTTP = "http"
    GRPC = "grpc"
    """HTTP/2, and POST unless it says otherwise."""
    TCP = "tcp"
    """Anything that is not HTTP: it has no path, method or headers."""


class CaseSource(Form, frozen=True):
    """Who asks. What is left out is not known, and a policy that reads it leaves the case undetermined."""

    principal: str | msgspec.UnsetType | None = msgspec.UNSET
    """`cluster.local/ns/foo/sa/bar`; `null` is plaintext, which proves nothing."""
    namespace: Name | None = None
    """Instead of a principal: some service account of this namespace, `default` unless it is named."""
    service_account: Name | None = None
    ip: str | None = None


class CaseRequest(Form, frozen=True):
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


class CaseFault(StrEnum):
    """What can be injected into a request."""

    DELAY = "delay"
    ABORT = "abort"
    RESET = "reset"
    THROTTLE = "throttle"


class ExpectedTls(Form, frozen=True):
    """How the connection to the upstream must be secured; what is left out may be anything."""

    mode: TlsModeName | None = None
    """`DISABLE` is no TLS of ours, whyever."""
    sni: str | None = None
    """The name that is asked for; empty for none."""
    subject_alt_names: tuple[str, ...] | None = None
    """Who may answer, in any order."""


class ExpectedDestination(Form, frozen=True):
    """Where a request must be led; what is left out may be anything."""

    host: str | None = None
    """One without a dot is a service of the workload's own namespace."""
    subset: str | None = None
    """Empty for none."""
    port: Port | None = None


class Expectation(Form, frozen=True):
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
    """For outbound cases, as what follows."""
    route: int | str | None = None
    """The entry of a VirtualService: its name, or which it is of its kind, counted from 0; `none` for no entry."""
    destination: ExpectedDestination | None = None
    """Where several have weights, `request.headers` needs an x-request-id, from which one is drawn."""
    weights: dict[str, int] | None = None
    """Of the entry's destinations, by their subset, or by their host where they have none."""
    cluster: str | None = None
    """As logs name it: `PassthroughCluster` for where the connection was going."""
    status: Annotated[int, msgspec.Meta(ge=100, le=599)] | None = None
    """Of the redirect or the answer that an entry gives."""
    limits: tuple[str, ...] | None = None
    """The rate limits that count it, in any order: `foo/httpbin/per-client`."""
    faults: tuple[str, ...] | None = None
    """The FaultPolicy of which a rule is about it: `foo/slow`; or the entry with faults: `foo/shop.http[canary]`."""
    injected: tuple[CaseFault, ...] | None = None
    """What is injected into it, in any order: `request.headers` needs an x-request-id, from which that is drawn."""


class Case(Form, frozen=True):
    """One request and what must come of it."""

    name: Name
    expect: Expectation
    request: CaseRequest = CaseRequest()
    direction: Direction = Direction.INBOUND


class PolicyTestSpec(Form, frozen=True):
    """Cases, and what those of them that do not say otherwise ask."""

    cases: Annotated[tuple[Case, ...], msgspec.Meta(min_length=1)]
    defaults: CaseRequest = CaseRequest()


class PolicyTest(Form, frozen=True, tag_field="kind", tag="PolicyTest"):
    """`tproxy.io/v1alpha1`: read by `tproxy policy test`, never by the data path."""

    api_version: str
    spec: PolicyTestSpec
    metadata: Metadata = Metadata()
