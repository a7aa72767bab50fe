"""The forms of `AuthorizationPolicy` and `PeerAuthentication`: who may do what, and proves it how."""

from enum import StrEnum
from typing import Annotated

import msgspec

from tproxy.policy.schema.words import Form, Metadata, Selector, Values


class Source(Form, frozen=True):
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


class From(Form, frozen=True):
    """One alternative of who asks."""

    source: Source


class Operation(Form, frozen=True):
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


class To(Form, frozen=True):
    """One alternative of what is asked."""

    operation: Operation


class Condition(Form, frozen=True):
    """A further condition."""

    key: Annotated[str, msgspec.Meta(min_length=1)]
    """`request.headers[NAME]`, `source.ip`, `remote.ip`, `source.namespace`, `source.principal`,
    `source.serviceAccount`, `destination.ip`, `destination.port` or `connection.sni`."""
    values: Values | None = None
    """Any of these."""
    not_values: Values | None = None
    """What is absent is none of them either."""


class Rule(Form, frozen=True, rename={"from_": "from"}):
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


class AuthorizationPolicySpec(Form, frozen=True):
    """Whose requests are allowed or denied; deny wins."""

    selector: Selector | None = None
    """Without one, all workloads of the namespace."""
    action: Action = Action.ALLOW
    rules: tuple[Rule, ...] | None = None
    """Any of them. ALLOW without any allows nothing."""


class AuthorizationPolicy(Form, frozen=True, tag_field="kind", tag="AuthorizationPolicy"):
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


class MutualTls(Form, frozen=True):
    """The mode of a workload or a port."""

    mode: MutualTlsMode = MutualTlsMode.UNSET


class PeerAuthenticationSpec(Form, frozen=True):
    """Which connections must prove who dials."""

    selector: Selector | None = None
    """Without one, all workloads of the namespace; of the root namespace, all of the mesh."""
    mtls: MutualTls | None = None
    port_level_mtls: dict[str, MutualTls] = {}
    """By the workload's port; it needs a selector."""


class PeerAuthentication(Form, frozen=True, tag_field="kind", tag="PeerAuthentication"):
    """Istio's `security.istio.io/v1`."""

    api_version: str
    spec: PeerAuthenticationSpec
    metadata: Metadata
