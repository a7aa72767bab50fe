"""What the data path asks of policies: one immutable answer book per load."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from tproxy.model.decision import Decision
from tproxy.model.flow import Direction, Flow, Protocol
from tproxy.model.http import RequestHead
from tproxy.model.identity import Workload
from tproxy.model.limits import Limits
from tproxy.model.route import Route
from tproxy.policy.schema import LogFormat

DEFAULT_ALLOW = Decision(allowed=True, by="default-allow")
PASSTHROUGH = Route("allow_any", "PassthroughCluster")

_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class DetectionSettings:
    """How long and how far a connection's opening is looked at."""

    seconds: float = _LIMITS.sniff_seconds
    bytes: int = _LIMITS.sniff_bytes


@dataclass(frozen=True, slots=True)
class AccessLogSettings:
    """Whether and how the access log is written."""

    enabled: bool = True
    format: LogFormat = LogFormat.JSON


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The policies in force. Take it once per decision and pass it on, lest a reload come between."""

    generation: int
    workload: Workload = field(default_factory=Workload)
    ports: Mapping[tuple[Direction, int], Protocol] = field(default_factory=dict)
    translated: Mapping[tuple[Direction, int], Protocol] = field(default_factory=dict)
    """Ports whose upstreams are asked in a fixed HTTP version, whichever the downstream speaks."""
    detection: DetectionSettings = field(default_factory=DetectionSettings)
    access_log: AccessLogSettings = field(default_factory=AccessLogSettings)

    def declared(self, direction: Direction, port: int) -> Protocol | None:
        """Return the protocol that connections to `port` are known to speak, or None: sniff."""
        return self.ports.get((direction, port))

    def admit(self, flow: Flow) -> Decision:  # noqa: ARG002 - no policy tells flows apart
        """Decide whether `flow` may go on."""
        return DEFAULT_ALLOW

    def route(self, flow: Flow, head: RequestHead | None = None) -> Route:  # noqa: ARG002 - no route depends on it
        """Choose the way of a request, or of a connection carried as bytes."""
        port = flow.original_dst.port
        protocol = self.translated.get((flow.direction, port)) if self.translated else None
        return (
            _inbound(port, protocol) if flow.direction is Direction.INBOUND else _outbound(protocol)
        )


@lru_cache(maxsize=1024)
def _inbound(port: int, protocol: Protocol | None) -> Route:
    return Route("default", f"inbound|{port}||", protocol)


@lru_cache
def _outbound(protocol: Protocol | None) -> Route:
    return replace(PASSTHROUGH, protocol=protocol)
