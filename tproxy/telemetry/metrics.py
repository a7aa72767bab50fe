"""Everything the proxy counts, under the names that Istio's dashboards know, and what it tells of itself.

Label values come from closed sets, never from an address or a path: what peers could choose freely is bounded by
`MAX_SERIES` and ends in series labelled `overflow`.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache

import msgspec

from tproxy.model.decision import ALLOWED, Decision, RuleName, verdict
from tproxy.model.flow import Detection, Direction, Flow, Protocol
from tproxy.model.identity import Peer, Workload
from tproxy.model.outcome import ResponseFlag, codes
from tproxy.model.rate_limit import Result
from tproxy.telemetry.clusters import ClusterMetrics
from tproxy.telemetry.features import FeatureMetrics
from tproxy.telemetry.identity import IdentityMetrics
from tproxy.telemetry.labels import (
    NOBODY,
    OVERFLOW,
    OVERFLOWING,
    PASSTHROUGH,
    Destination,
    Proven,
    called_service,
    own_service,
    request_labels,
)
from tproxy.telemetry.process import process_lines
from tproxy.telemetry.registry import Registry
from tproxy.telemetry.series import (
    MAX_SERIES,
    ConnectionSeries,
    Histogram,
    RequestSeries,
    SeriesTable,
    counter_family,
    histogram_family,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CONTENT_TYPE_OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

DETECT_BUCKETS = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 3, 5, 10)
"""Seconds: a client that speaks first is known within a round trip, one that waits within the sniff time-out."""

REMEMBERED_NAMES = 4096
"""Authorities whose service is remembered; they come from the network, so they cannot all be kept."""

LONGEST_NAME = 260
"""A DNS name with a port; what is longer names no service, and is not worth remembering."""


class Ending(msgspec.Struct, frozen=True):
    """How an exchange ended, as its labels tell it."""

    status: int
    flag: ResponseFlag = ResponseFlag.NONE
    grpc_status: bytes | None = None
    """None unless the request was gRPC, empty if none came."""
    marks: tuple[ResponseFlag, ...] = ()
    """What holds of it beside the flag."""


class Metrics:
    """All the counts of one proxy; they only grow, until the process ends."""

    def __init__(self, workload: Workload, version: str, *, max_series: int = MAX_SERIES) -> None:
        self._registry = Registry()
        self.own = OwnMetrics(self._registry)
        dropped = self.own.series_dropped
        self._requests = SeriesTable(RequestSeries, dropped, limit=max_series)
        self._connections = SeriesTable(ConnectionSeries, dropped, limit=max_series)
        self._proven: Peer | None = None
        build = self._registry.gauge("istio_build", "What runs here.", ["component", "tag"])
        build.labels("proxy", version).set(1)
        self.identify(workload)

    def identify(self, workload: Workload) -> None:
        """Say from now on that traffic is to and from `workload`."""
        self._workload = workload
        self._own_service = own_service(workload)
        self._called_service = lru_cache(REMEMBERED_NAMES)(called_service)
        self._forget_keys()

    def prove(self, own: Peer) -> None:
        """Say from now on that it is as `own` that we call others."""
        if own != self._proven:
            self._proven = own
            self._forget_keys()

    def request_series(
        self,
        flow: Flow,
        asked: bytes | Destination,
        ending: Ending,
        *,
        upstream: Peer | None = None,
    ) -> RequestSeries:
        """Find where an exchange counts.

        `asked` is the authority, or the service that policies sent it to; `upstream` who has answered, if that is
        proven.
        """
        destination = self._destination(flow, asked)
        grpc_status = ending.grpc_status
        if grpc_status is not None and not (grpc_status.isdigit() and len(grpc_status) <= 2):
            grpc_status = b""
        inbound = flow.direction is Direction.INBOUND
        marks = ending.marks
        flag = codes((ending.flag, *marks)) if marks else ending.flag.code
        key = (inbound, flow.identity, upstream, destination, ending.status, flag, grpc_status)
        series = self._requests.get(key)
        if series is not None:
            return series
        proven = self._both(flow, upstream)
        outcome = _outcome(str(ending.status), flag, grpc_status)
        overflow = _outcome(OVERFLOW, OVERFLOW, grpc_status and b"")
        return self._requests.add(
            key,
            self._labels(flow, proven, destination, outcome),
            self._labels(flow, proven.overflowing(), OVERFLOWING, overflow),
        )

    def connection_series(
        self,
        flow: Flow,
        flag: ResponseFlag = ResponseFlag.NONE,
        *,
        upstream: Peer | None = None,
        sent_to: Destination | None = None,
    ) -> ConnectionSeries:
        """Find where a connection carried as bytes counts; policies or TLS may name its service."""
        destination = self._destination(flow, sent_to or flow.sniffed.server_name)
        inbound = flow.direction is Direction.INBOUND
        key = (inbound, flow.identity, upstream, destination, flag.code)
        series = self._connections.get(key)
        if series is not None:
            return series
        proven = self._both(flow, upstream)
        outcome = (("request_protocol", "tcp"), ("response_flags", flag.code))
        overflow = (("request_protocol", "tcp"), ("response_flags", OVERFLOW))
        return self._connections.add(
            key,
            self._labels(flow, proven, destination, outcome),
            self._labels(flow, proven.overflowing(), OVERFLOWING, overflow),
        )

    def _forget_keys(self) -> None:
        """Have labels rendered anew: what they say without being in a key has changed."""
        self._requests.forget_keys()
        self._connections.forget_keys()

    def exposition(self, *, openmetrics: bool = False) -> tuple[bytes, str]:
        """Write all of it, and name the content type."""
        self.own.settle()
        text = "".join(self._families(openmetrics=openmetrics))
        if openmetrics:
            return f"{text}# EOF\n".encode(), CONTENT_TYPE_OPENMETRICS
        return text.encode(), CONTENT_TYPE

    def _destination(self, flow: Flow, authority: bytes | str | Destination) -> Destination:
        if flow.direction is Direction.INBOUND:
            return self._own_service
        if isinstance(authority, Destination):
            return authority
        if len(authority) > LONGEST_NAME:
            return PASSTHROUGH
        return self._called_service(authority, flow.original_dst.host, self._workload.namespace)

    def _both(self, flow: Flow, upstream: Peer | None) -> Proven:
        if flow.direction is Direction.INBOUND:
            return Proven(flow.identity, flow.proof.own) if flow.proof else NOBODY
        return Proven(self._proven, upstream) if upstream else NOBODY

    def _labels(
        self,
        flow: Flow,
        proven: Proven,
        destination: Destination,
        outcome: tuple[tuple[str, str], ...],
    ) -> str:
        return request_labels(self._workload, flow.direction, proven, destination, outcome)

    def _families(self, *, openmetrics: bool) -> Iterator[str]:
        yield from _request_families(tuple(self._requests), openmetrics=openmetrics)
        yield from _connection_families(tuple(self._connections), openmetrics=openmetrics)
        yield from self._registry.write(openmetrics=openmetrics)
        yield from self.own.detect_lines()
        yield from process_lines(openmetrics=openmetrics)


def _outcome(status: str, flag: str, grpc_status: bytes | None) -> tuple[tuple[str, str], ...]:
    return (
        ("request_protocol", "http" if grpc_status is None else "grpc"),
        ("response_code", status),
        ("grpc_response_status", (grpc_status or b"").decode()),
        ("response_flags", flag),
    )


def _request_families(all_series: tuple[RequestSeries, ...], *, openmetrics: bool) -> Iterator[str]:
    counts = (
        ("istio_requests", "Requests.", "requests"),
        ("istio_request_messages", "gRPC messages from clients.", "request_messages"),
        ("istio_response_messages", "gRPC messages from servers.", "response_messages"),
    )
    for name, about, field in counts:
        values = [
            (each.labels, getattr(each, field)) for each in all_series if getattr(each, field)
        ]
        yield from counter_family(name, about, values, openmetrics=openmetrics)
    histograms = (
        ("istio_request_duration_milliseconds", "Duration of requests.", "duration"),
        ("istio_request_bytes", "Size of request bodies.", "request_bytes"),
        ("istio_response_bytes", "Size of response bodies.", "response_bytes"),
    )
    for name, about, field in histograms:
        yield from histogram_family(
            name, about, [(each.labels, getattr(each, field)) for each in all_series]
        )


def _connection_families(
    all_series: tuple[ConnectionSeries, ...], *, openmetrics: bool
) -> Iterator[str]:
    counts = (
        ("istio_tcp_sent_bytes", "Bytes sent to the downstream.", "sent"),
        ("istio_tcp_received_bytes", "Bytes received from the downstream.", "received"),
        ("istio_tcp_connections_opened", "TCP connections opened.", "opened"),
        ("istio_tcp_connections_closed", "TCP connections closed.", "closed"),
    )
    for name, about, field in counts:
        values = [(each.labels, getattr(each, field)) for each in all_series]
        yield from counter_family(name, about, values, openmetrics=openmetrics)


class OwnMetrics:
    """What the proxy tells of itself, fed once per connection or less."""

    def __init__(self, registry: Registry) -> None:
        detected = registry.counter(
            "tproxy_detect",
            "Connections by how their protocol was found.",
            ["direction", "result"],
        )
        self._detected = detected
        self._found: dict[tuple[Direction, Detection], int] = {}
        self._detect_seconds = Histogram(DETECT_BUCKETS)
        active = registry.gauge(
            "tproxy_connections_active",
            "Captured connections held.",
            ["direction", "protocol"],
        )
        self._active = active
        self._held: dict[tuple[Direction, Protocol], int] = {}
        self._pool = registry.gauge(
            "tproxy_upstream_pool_connections",
            "Pooled upstream connections.",
            ["state"],
        )
        self._generation = registry.gauge(
            "tproxy_policy_generation", "Number of the policies in force."
        ).labels()
        self._policies = registry.gauge("tproxy_policy_info", "The policies in force.", ["hash"])
        self._reload_successful = registry.gauge(
            "tproxy_policy_last_reload_successful",
            "Whether the last load of policies was taken.",
        ).labels()
        self._reload_timestamp = registry.gauge(
            "tproxy_policy_last_reload_timestamp_seconds",
            "When policies were last taken.",
        ).labels()
        self._series_dropped = registry.counter(
            "tproxy_series_dropped",
            "Times that traffic was counted under `overflow` for want of room for its own series.",
        ).labels()
        self._lines_dropped = registry.counter(
            "tproxy_log_lines_dropped",
            "Access-log lines that could not be written.",
        ).labels()

        decisions = registry.counter(
            "tproxy_authz_decisions",
            "Requests and connections that policies decided on.",
            ["verdict", "policy", "rule", "dry_run_verdict"],
        )
        self._decisions = decisions
        self._decided: dict[tuple[bool, RuleName | None, bool | None], int] = {}
        """What was decided since the counter was last fed."""
        self._limits = registry.counter(
            "tproxy_ratelimit",
            "What rate limits said of requests and connections.",
            ["limit", "result"],
        )
        self._limited: dict[tuple[str, Result], int] = {}
        """What they said since the counter was last fed."""
        self._restarts = registry.counter(
            "tproxy_worker_restarts",
            "Times that this worker was started again after a crash.",
        ).labels()
        refused = registry.counter(
            "tproxy_refused",
            "Connections and requests that ended before they became exchanges.",
            ["response_flags"],
        )
        self._refused = refused
        self.features = FeatureMetrics(registry)
        self.clusters = ClusterMetrics(registry)
        self._identity = IdentityMetrics(registry)

    def detect_lines(self) -> Iterator[str]:
        """Write how long it took to know protocols."""
        about = "Time until the protocol was known."
        return histogram_family("tproxy_detect_seconds", about, [("", self._detect_seconds)])

    def decided(self, decision: Decision) -> None:
        """Count a decision that some policy had a part in."""
        if decision is not ALLOWED:
            key = (decision.allowed, decision.rule, decision.allowed_if_enforced)
            self._decided[key] = self._decided.get(key, 0) + 1

    def limited(self, limit: str, result: Result) -> None:
        """Count what a rate limit said."""
        self._limited[limit, result] = self._limited.get((limit, result), 0) + 1

    def settle(self) -> None:
        """Feed the metrics with what was noted in passing: each takes its time."""
        for key, held in self._held.items():
            self._active.labels(*key).set(held)
        found, self._found = self._found, {}
        for result, times in found.items():
            self._detected.labels(*result).inc(times)
        self._identity.settle()
        limited, self._limited = self._limited, {}
        for said, times in limited.items():
            self._limits.labels(*said).inc(times)
        decided, self._decided = self._decided, {}
        for (allowed, rule, allowed_if_enforced), times in decided.items():
            self._decisions.labels(
                verdict(allowed),
                rule.owner if rule else "",
                str(rule.index) if rule else "",
                verdict(allowed_if_enforced),
            ).inc(times)

    def restarted(self, times: int) -> None:
        """Say how often the workers before this one crashed."""
        self._restarts.inc(times)

    def refused(self, flag: ResponseFlag) -> None:
        """Count what a policy, a limit or the protocol's rules refused before there was an exchange."""
        self._refused.labels(flag.code).inc()

    def detected(self, flow: Flow) -> None:
        """Count a connection whose protocol is settled."""
        key = (flow.direction, flow.sniffed.detection)
        self._found[key] = self._found.get(key, 0) + 1
        self._detect_seconds.observe(flow.detect_seconds)

    def opened(self, flow: Flow) -> None:
        """Count a connection as held; `closed` with the same flow takes it back."""
        key = (flow.direction, flow.protocol)
        self._held[key] = self._held.get(key, 0) + 1

    def closed(self, flow: Flow) -> None:
        """Count a connection as held no more."""
        self._held[flow.direction, flow.protocol] -= 1

    def pool(self, state: str, connections: int) -> None:
        """Say how many pooled connections are in `state`: `idle`, `busy`."""
        self._pool.labels(state).set(connections)

    def reloaded(self, generation: int, digest: str, now: float) -> None:
        """Say that policies were taken at `now`, seconds since the epoch."""
        self._generation.set(generation)
        self._policies.clear()
        self._policies.labels(digest).set(1)
        self._reload_successful.set(1)
        self._reload_timestamp.set(now)

    def reload_failed(self) -> None:
        """Say that the last load found mistakes, and the policies before it stay in force."""
        self._reload_successful.set(0)

    def handshake(self, direction: Direction, result: str) -> None:
        """Count a TLS handshake that is over; `result` is one of `HANDSHAKE_RESULTS`."""
        self._identity.handshake(direction, result)

    def identity_taken(
        self, own: Peer, until: float, roots: Mapping[str, float], *, now: float
    ) -> None:
        """Say that `own` is shown from `now` on; when that ends, and the first root of each trust domain does."""
        self._identity.taken(own, until, roots, now=now)

    def identity_refused(self) -> None:
        """Say that the last identity was not taken, and the one before it, if any, stays."""
        self._identity.refused()

    def log_lines_dropped(self, lines: int = 1) -> None:
        """Count access-log lines that were lost."""
        self._lines_dropped.inc(lines)

    def series_dropped(self) -> None:
        """Count traffic that has no series of its own."""
        self._series_dropped.inc()
