"""What the data path asks of policies: one immutable answer book per load."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from msgspec import structs

from tproxy.model.decision import ALLOWED, Decision, Reason
from tproxy.model.flow import Direction, Flow, Protocol
from tproxy.model.http import RequestHead
from tproxy.model.identity import Workload
from tproxy.model.limits import Limits
from tproxy.model.route import Route
from tproxy.policy.authentication import Authentication
from tproxy.policy.authorize import Authorizer
from tproxy.policy.compiled_policy import CompiledPolicy
from tproxy.policy.destinations import Destinations
from tproxy.policy.faults import FaultBook
from tproxy.policy.findings import Finding
from tproxy.policy.limits import LimitBook
from tproxy.policy.paths import Ambiguous, normalised
from tproxy.policy.schema import LogFormat, MutualTlsMode, PathNormalization
from tproxy.policy.traffic import Traffic, passthrough

UNREADABLE = Decision(allowed=False, reason=Reason.AMBIGUOUS_PATH)

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
    digest: str = ""
    """Of the files that say it."""
    workload: Workload = field(default_factory=Workload)
    ports: Mapping[tuple[Direction, int], Protocol] = field(default_factory=dict)
    translated: Mapping[tuple[Direction, int], Protocol] = field(default_factory=dict)
    """Ports whose upstreams are asked in a fixed HTTP version, whichever the downstream speaks."""
    detection: DetectionSettings = field(default_factory=DetectionSettings)
    access_log: AccessLogSettings = field(default_factory=AccessLogSettings)
    authorizer: Authorizer = field(default_factory=Authorizer)
    authentication: Authentication = field(default_factory=Authentication)
    normalization: PathNormalization = PathNormalization.MERGE_SLASHES
    policies: tuple[CompiledPolicy, ...] = ()
    """Every policy that was read, for whoever explains what the authorizer decides by their rules."""
    destinations: Destinations | None = None
    """How connections from the application are secured; None when nothing is said of any."""
    rate_limits: LimitBook | None = None
    """How much is let through; None when nothing is limited."""
    faults: FaultBook | None = None
    """What is made late or fails on purpose; None when nothing is."""
    traffic: Traffic | None = None
    """Which way they go; None when nothing is said of any."""
    findings: tuple[Finding, ...] = ()
    """What is worth a look, and no mistake."""

    def declared(self, direction: Direction, port: int) -> Protocol | None:
        """Return the protocol that connections to `port` are known to speak, or None: sniff."""
        return self.ports.get((direction, port))

    def must_prove_itself(self, flow: Flow) -> bool:
        """Whether a connection is refused because it is plaintext where mutual TLS is demanded."""
        if flow.direction is Direction.OUTBOUND or flow.identity is not None:
            return False
        return self.mutual_tls(flow) is MutualTlsMode.STRICT

    def mutual_tls(self, flow: Flow) -> MutualTlsMode:
        """Whether a connection to the application must, may, or may not be mutual TLS of the mesh."""
        return self.authentication.of(flow.original_dst.port)

    def admit(self, flow: Flow) -> Decision:
        """Decide whether a connection that is no HTTP may go on; what leaves the application always may."""
        return ALLOWED if flow.direction is Direction.OUTBOUND else self.authorizer.decide(flow)

    def judge(self, flow: Flow, head: RequestHead) -> tuple[Decision, bytes | None]:
        """Decide whether a request may go on, and in which form of its path where that is another one.

        Paths are brought into one form where a policy reads them; elsewhere they pass as they are.
        """
        if flow.direction is Direction.OUTBOUND:
            return ALLOWED, None
        if not self.authorizer.reads_paths(flow.original_dst.port):
            return self.authorizer.decide(flow, head), None
        try:
            path = normalised(head.path, self.normalization)
        except Ambiguous:
            return UNREADABLE, None
        if path == head.path:
            return self.authorizer.decide(flow, head), None
        return self.authorizer.decide(flow, structs.replace(head, path=path)), path

    def route(self, flow: Flow, head: RequestHead | None = None) -> Route:
        """Choose the way of a request, or of a connection carried as bytes."""
        port = flow.original_dst.port
        protocol = self.translated.get((flow.direction, port))
        if flow.direction is Direction.INBOUND:
            route = _inbound(port, protocol)
        elif self.traffic is None:
            route = _passed(protocol)
        else:
            route = self.traffic.route(flow, head, protocol)
        faults = self.faults
        return route if faults is None or head is None else faults.way(route, flow, head)


@lru_cache(maxsize=8)
def _passed(protocol: Protocol | None) -> Route:
    return passthrough(protocol)


@lru_cache(maxsize=1024)
def _inbound(port: int, protocol: Protocol | None) -> Route:
    return Route("default", f"inbound|{port}||", protocol)
