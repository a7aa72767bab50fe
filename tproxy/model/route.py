"""Which way a request or a connection goes, and what becomes of it on the way."""

import msgspec

from tproxy.model.cluster import Cluster
from tproxy.model.flow import Protocol
from tproxy.model.upstream_tls import UpstreamTls
from tproxy.resilience.fault import FaultSpec
from tproxy.resilience.retry import RetryPolicy

Field = tuple[bytes, bytes]
"""A header's name, in lower case, and its value."""


class HeaderEdits(msgspec.Struct, frozen=True, cache_hash=True):
    """What becomes of a message's headers: removed first, then set, then added."""

    remove: frozenset[bytes] = frozenset()
    set: tuple[Field, ...] = ()
    add: tuple[Field, ...] = ()


class Rewrite(msgspec.Struct, frozen=True, cache_hash=True):
    """What a request's path and authority are replaced by."""

    path: bytes | None = None
    """Stands in place of `prefix`, or of the whole path without its query; None: the path stays."""
    prefix: bytes | None = None
    """What the request was matched by; None: the whole path."""
    pattern: str = ""
    """An RE2 expression: each match in the path, without its query, is replaced by `substitution`; empty: none is."""
    substitution: str = ""
    """With `\\1` for a group."""
    authority: bytes | None = None


class Redirect(msgspec.Struct, frozen=True, cache_hash=True):
    """Where a request is sent by an answer of ours; what is None stays as it is."""

    status: int = 301
    scheme: bytes | None = None
    authority: bytes | None = None
    port: int | None = None
    path: bytes | None = None
    prefix: bytes | None = None
    """What `path` stands in place of; None: the whole path without its query."""


class DirectResponse(msgspec.Struct, frozen=True, cache_hash=True):
    """An answer of ours."""

    status: int
    body: bytes = b""


class Mirror(msgspec.Struct, frozen=True, cache_hash=True):
    """Whom a copy of requests is sent to; nobody waits for its answer."""

    cluster: Cluster
    percent: float = 100.0


class Plan(msgspec.Struct, frozen=True, cache_hash=True, kw_only=True):
    """What traffic policies ask for, one route and destination of theirs."""

    destination: Cluster | None = None
    """None: where the connection was going."""
    answer: Redirect | DirectResponse | None = None
    """Given in place of the upstream's."""
    fault: FaultSpec | None = None
    timeout: float = 0.0
    """For the whole, retries included; 0: none."""
    retry: RetryPolicy = RetryPolicy()
    rewrite: Rewrite | None = None
    request_headers: HeaderEdits | None = None
    response_headers: HeaderEdits | None = None
    mirrors: tuple[Mirror, ...] = ()


class Route(msgspec.Struct, frozen=True, cache_hash=True):
    """A named way to a cluster; without traffic policies the cluster is the original destination itself."""

    name: str
    cluster: str
    """As access logs and statistics name it: `inbound|8080||`, `PassthroughCluster`."""
    protocol: Protocol | None = None
    """The HTTP version that the upstream is asked in; None: the one that the downstream speaks."""
    tls: UpstreamTls | None = None
    """How the connection to the upstream is secured; None: as what is carried is, without TLS of ours."""
    plan: Plan | None = None
    """What else is to be done; None for what goes where it was going."""
