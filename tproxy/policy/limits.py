"""Which limits are about a request or a connection, and whose count it is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import structs

from tproxy.model.flow import Direction, Flow
from tproxy.model.http import RequestHead
from tproxy.model.rate_limit import Applied, Bandwidth, Key, RateLimit
from tproxy.policy.authorize import AllOf
from tproxy.policy.paths import Ambiguous, normalised
from tproxy.policy.schema import PathNormalization
from tproxy.resilience.digest import blake2b

LONGEST_KEY = 128
"""Characters of a value that are kept as they are: what is longer is known by its digest, so that keys stay small."""

READ_BY_PATH = "request.path"


@dataclass(frozen=True, slots=True)
class KeyPart:
    """One value by which callers are told apart."""

    name: str
    """As it is written: `source.ip`."""
    read: Callable[[Flow, RequestHead | None], str | None]

    def of(self, flow: Flow, head: RequestHead | None) -> str | None:
        """Take the value; None where there is none."""
        value = self.read(flow, head)
        return value if value is None or len(value) <= LONGEST_KEY else _digest(value)


def _digest(value: str) -> str:
    return f"#{blake2b(value.encode('utf-8', 'surrogateescape'), digest_size=16).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Scoped:
    """What a limit is about, and where it stands."""

    wanted: AllOf
    place: str
    """`limits.yaml:7`."""


@dataclass(frozen=True, slots=True)
class CompiledLimit:
    """One limit that counts requests or connections."""

    limit: RateLimit
    scoped: Scoped
    key: tuple[KeyPart, ...] = ()
    """Nothing where all share one count."""

    def applied(self, flow: Flow, head: RequestHead | None) -> Applied:
        """Hold it against whom it is about."""
        return Applied(self.limit, self.key_of(flow, head))

    def key_of(self, flow: Flow, head: RequestHead | None) -> Key:
        """Say whose count it is."""
        return tuple([each.of(flow, head) for each in self.key])

    @property
    def reads_paths(self) -> bool:
        """Whether it looks at paths."""
        return any(each.name.startswith(READ_BY_PATH) for each in self.key) or any(
            each.name == "paths" for each in self.scoped.wanted.fields
        )


@dataclass(frozen=True, slots=True)
class CompiledBandwidth:
    """One limit of the bytes that a connection carries."""

    limit: Bandwidth
    scoped: Scoped


Compiled = CompiledLimit | CompiledBandwidth


@dataclass(frozen=True, slots=True)
class LimitBook:
    """All limits about the workload, by what they count."""

    requests: Mapping[Direction, Sequence[CompiledLimit]]
    connections: Mapping[Direction, Sequence[CompiledLimit]]
    bandwidths: Mapping[Direction, Sequence[CompiledBandwidth]]
    normalization: PathNormalization = PathNormalization.MERGE_SLASHES
    reads_paths: frozenset[Direction] = field(default=frozenset())
    probes: frozenset[tuple[int, bytes]] = frozenset()
    """Ports and paths of what must be answered, lest the pod be taken for dead."""

    def of_request(
        self, flow: Flow, head: RequestHead, path: bytes | None = None
    ) -> tuple[Applied, ...]:
        """Return the limits that are about a request; `path` is its path as other policies have read it."""
        limits = self.requests[flow.direction]
        if flow.direction in self.reads_paths:
            head = self.normal(head, path)
        if self.probes and self.is_probe(flow, head):
            return ()
        return tuple(
            [each.applied(flow, head) for each in limits if each.scoped.wanted.holds(flow, head)]
        )

    def is_probe(self, flow: Flow, head: RequestHead) -> bool:
        """Whether a request is a probe that ProxyConfig exempts: no limit of requests is about it."""
        asked = (flow.original_dst.port, head.path.partition(b"?")[0])
        return flow.direction is Direction.INBOUND and asked in self.probes

    def of_connection(self, flow: Flow) -> tuple[Applied, ...]:
        """Return the limits that are about a connection itself."""
        return tuple(
            [
                each.applied(flow, None)
                for each in self.connections[flow.direction]
                if each.scoped.wanted.holds(flow, None)
            ]
        )

    def bandwidth_of(self, flow: Flow) -> tuple[Bandwidth, ...]:
        """Return the limits of what a connection may carry."""
        return tuple(
            [
                each.limit
                for each in self.bandwidths[flow.direction]
                if each.scoped.wanted.holds(flow, None)
            ]
        )

    def every(self) -> Iterator[tuple[Direction, str, Compiled]]:
        """Give each limit with its direction and what it counts."""
        for direction in Direction:
            for each in self.requests[direction]:
                yield direction, "REQUEST", each
            for each in self.connections[direction]:
                yield direction, "CONNECTION", each
            for bandwidth in self.bandwidths[direction]:
                yield direction, "CONNECTION", bandwidth

    def normal(self, head: RequestHead, path: bytes | None = None) -> RequestHead:
        """Return the head with its path in the form that limits read; what has no safe reading stays as it is."""
        if path is None:
            try:
                path = normalised(head.path, self.normalization)
            except Ambiguous:
                return head
        return head if path == head.path else structs.replace(head, path=path)
