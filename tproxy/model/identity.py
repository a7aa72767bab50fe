"""Who a workload is, as operators and dashboards name it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

UNKNOWN = "unknown"
"""What a label says when nobody knows: dashboards drop a series whose label is absent."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The authenticated other end of a connection: what its SPIFFE id says, in Istio's shape."""

    trust_domain: str
    namespace: str
    service_account: str

    @property
    def principal(self) -> str:
        """The id without its scheme, as policies write it."""
        return f"{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    @classmethod
    def parse(cls, principal: str) -> Self:
        """Read `cluster.local/ns/foo/sa/bar`; ValueError when it is none."""
        match principal.split("/"):
            case [trust_domain, "ns", namespace, "sa", service_account] if all(
                (trust_domain, namespace, service_account)
            ):
                return cls(trust_domain, namespace, service_account)
        raise ValueError(f"{principal!r} is no principal, write TRUST_DOMAIN/ns/NAMESPACE/sa/NAME")


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload: this sidecar's own, or the peer's as far as it is known."""

    name: str = UNKNOWN
    namespace: str = UNKNOWN
    service_account: str = UNKNOWN
    cluster: str = UNKNOWN
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    def or_else(self, other: Self) -> Self:
        """Fill in what nobody knows of this workload from `other`."""
        return replace(
            self,
            name=_known(self.name, other.name),
            namespace=_known(self.namespace, other.namespace),
            service_account=_known(self.service_account, other.service_account),
            cluster=_known(self.cluster, other.cluster),
            labels={**other.labels, **self.labels},
        )

    @property
    def app(self) -> str:
        """The `app` label."""
        return self.labels.get("app", UNKNOWN)

    @property
    def version(self) -> str:
        """The `version` label."""
        return self.labels.get("version", UNKNOWN)

    @property
    def canonical_name(self) -> str:
        """The name under which several workloads are one service."""
        return (
            self.labels.get("service.istio.io/canonical-name")
            or self.labels.get("app")
            or self.name
        )

    @property
    def canonical_revision(self) -> str:
        """The revision of that service."""
        return (
            self.labels.get("service.istio.io/canonical-revision")
            or self.labels.get("version")
            or "latest"
        )


def _known(value: str, otherwise: str) -> str:
    return otherwise if value == UNKNOWN else value
