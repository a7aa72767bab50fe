"""Who a workload is, as operators and dashboards name it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

UNKNOWN = "unknown"
"""What a label says when nobody knows: dashboards drop a series whose label is absent."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload: this sidecar's own, or the peer's as far as it is known."""

    name: str = UNKNOWN
    namespace: str = UNKNOWN
    service_account: str = UNKNOWN
    cluster: str = UNKNOWN
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

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
