"""Who a workload is, as operators and dashboards name it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import msgspec

UNKNOWN = "unknown"
"""What a label says when nobody knows: dashboards drop a series whose label is absent."""

LEFT_TO_WARN = 3
"""What part of its lifetime an identity should not begin undisturbed: who rotates does so at half of it, or at two
thirds."""

MAX_SHOWN = 80
"""Characters of what is no id that an error repeats: a peer may have chosen it."""


_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)+")
MAX_ID = 2048
"""Bytes of a SPIFFE id (SPIFFE-ID, 2.3)."""
SCHEME = "spiffe://"


class Peer(msgspec.Struct, frozen=True, cache_hash=True):
    """The authenticated other end of a connection: what its SPIFFE id says.

    A msgspec struct, since every request's counters are found by it: it hashes itself once.
    """

    trust_domain: str
    namespace: str = ""
    """Empty, as the service account, where the id is not in Istio's shape."""
    service_account: str = ""
    path: str = ""
    """Of such an id: `/workload/web`."""

    @property
    def principal(self) -> str:
        """The id without its scheme, as policies write it."""
        path = self.path or f"/ns/{self.namespace}/sa/{self.service_account}"
        return f"{self.trust_domain}{path}"

    @property
    def spiffe_id(self) -> str:
        """The id, as certificates write it."""
        return SCHEME + self.principal

    @classmethod
    def parse(cls, principal: str) -> Self:
        """Read `cluster.local/ns/foo/sa/bar`, or another workload's id (SPIFFE-ID, 2); ValueError when it is none."""
        trust_domain, _, rest = principal.partition("/")
        path = f"/{rest}"
        sound = _TRUST_DOMAIN.fullmatch(trust_domain) and _PATH.fullmatch(path)
        if not sound or len(SCHEME + principal) > MAX_ID:
            raise ValueError(
                f"{principal[:MAX_SHOWN]!r} is no principal, write TRUST_DOMAIN/ns/NAMESPACE/sa/NAME"
            )
        match path.split("/"):
            case ["", "ns", namespace, "sa", service_account]:
                return cls(trust_domain, namespace, service_account)
        return cls(trust_domain, path=path)

    @classmethod
    def of_uri(cls, uri: str) -> Self:
        """Read `spiffe://cluster.local/ns/foo/sa/bar`; ValueError when it is no workload's SPIFFE id."""
        if not uri.startswith(SCHEME):
            raise ValueError(f"{uri[:MAX_SHOWN]!r} is no SPIFFE id")
        return cls.parse(uri.removeprefix(SCHEME))


@dataclass(frozen=True, slots=True)
class Proof:
    """How the other end has proven who it is."""

    own: Peer
    """Who we proved to be ourselves."""
    certificate: str
    """SHA-256 of the certificate that it showed, in hexadecimal."""
    version: str
    """`TLSv1.3`."""
    alpn: str = ""
    """The application protocol that was agreed on."""


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


_LABEL = re.compile(r'(?P<key>[A-Za-z0-9._/-]+)="(?P<value>[A-Za-z0-9._-]*)"')


def read_labels(text: str) -> dict[str, str]:
    """Read a pod's labels as the downward API writes them, `key="value"` on a line; ValueError names a bad one."""
    labels = {}
    for number, line in enumerate(text.splitlines(), start=1):
        found = _LABEL.fullmatch(line)
        if found is None:
            raise ValueError(f'line {number}: {line[:MAX_SHOWN]!r} is not key="value"')
        labels[found["key"]] = found["value"]
    return labels
