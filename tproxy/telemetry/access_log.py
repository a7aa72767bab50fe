"""One line for each exchange and each connection, with the keys that Istio's log pipelines know.

No byte that a peer chose reaches a line unescaped or unbounded, and of header fields only those that Istio logs.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from tproxy.model.address import Address
from tproxy.model.decision import ALLOWED, Decision, Reason, verdict
from tproxy.model.flow import Detection, Direction, Flow, Protocol
from tproxy.model.http import NO_HEADERS, HttpVersion, RequestHead
from tproxy.model.identity import Peer
from tproxy.model.outcome import ResponseFlag, codes
from tproxy.model.rate_limit import Applied, Result
from tproxy.model.route import Route
from tproxy.model.upstream_tls import TlsMode, UpstreamTls
from tproxy.telemetry.trace import Trace

MAX_PATH = 4096
"""Bytes of a path in a line: longer ones are attacks or mistakes, and their beginning tells which."""
MAX_VALUE = 1024
"""Bytes of any other value that a peer chose."""
ELLIPSIS = "…"
"""Where something was cut off; nothing a peer sends can look like it, since what peers send is written in ASCII."""


class FlowFields(msgspec.Struct, frozen=True):
    """What all lines of one connection share, rendered once."""

    local: str
    peer: str
    server_name: str | None
    direction: Direction
    protocol: Protocol
    detection: Detection
    detect_ms: int
    principal: str | None
    """Who the peer has proven to be; None on plaintext."""

    @classmethod
    def of(cls, flow: Flow) -> "FlowFields":
        """Render the facts of `flow`."""
        return cls(
            local=str(flow.original_dst),
            peer=str(flow.peer),
            server_name=_said(flow.sniffed.server_name),
            direction=flow.direction,
            protocol=flow.protocol,
            detection=flow.sniffed.detection,
            detect_ms=round(flow.detect_seconds * 1000),
            principal=_principal(flow.identity) if flow.identity else None,
        )


class Record(msgspec.Struct, frozen=True):
    """One exchange that has ended, or one connection carried as bytes.

    A msgspec struct, since one is made for every request: a frozen dataclass of this size takes six times as long.
    """

    flow: FlowFields
    started: float
    """Seconds since the epoch."""
    duration: float
    """Seconds."""
    head: RequestHead | None = None
    """None for a connection carried as bytes, or a request that could not be read."""
    status: int = 0
    flag: ResponseFlag = ResponseFlag.NONE
    marks: tuple[ResponseFlag, ...] = ()
    """What holds of it beside that."""
    attempts: int = 0
    """How often an upstream was asked, where that is counted."""
    details: str = ""
    cause: str = ""
    """The upstream transport's own words."""
    bytes_received: int = 0
    bytes_sent: int = 0
    upstream_seconds: float | None = None
    """From the request's last byte sent to the response's first byte."""
    upstream: Address | None = None
    upstream_local: Address | None = None
    upstream_identity: Peer | None = None
    """Who the upstream has proven to be; None on plaintext."""
    upstream_tls: UpstreamTls | None = None
    """How the connection to it was secured, if it came about."""
    route: Route | None = None
    trace: Trace | None = None
    decision: Decision = ALLOWED
    normalized_path: bytes | None = None
    policy_generation: int = 0
    limits: tuple[Applied, ...] = ()
    """The rate limits that are about it, and what they said."""
    termination: str = ""
    """Why the connection ended, when the proxy ended it."""


class _RateLimit(msgspec.Struct, frozen=True):
    result: Result
    """`limited` if one refused, else `shadow` if one would have."""
    limits: tuple[str, ...]
    """Those that said so."""


class _Authz(msgspec.Struct, frozen=True):
    verdict: str
    reason: Reason
    policy: str | None
    rule: int | None
    place: str | None
    audited_by: str | None
    verdict_if_enforced: str | None


class _Own(msgspec.Struct, frozen=True):
    direction: Direction
    detected_protocol: Protocol
    detection: Detection
    detect_ms: int
    original_dst: str
    source_principal: str | None
    destination_principal: str | None
    tls: str | None
    """How the connection between the two workloads was secured, by the proxy; null where it was not."""
    policy_generation: int
    trace_id: str | None
    normalized_path: str | None
    authz: _Authz | None
    ratelimit: _RateLimit | None
    attempts: int | None
    """Null where nothing was sent to anybody, or nobody counts."""


class _Line(msgspec.Struct, frozen=True):
    """The keys, in Istio's order (pilot/pkg/model/telemetry_logging.go); None is a value that is missing."""

    start_time: str
    route_name: str | None
    method: str | None
    path: str | None
    protocol: HttpVersion | None
    response_code: int
    response_flags: str
    response_code_details: str | None
    connection_termination_details: str | None
    bytes_received: int
    bytes_sent: int
    duration: int
    upstream_service_time: str | None
    x_forwarded_for: str | None
    user_agent: str | None
    request_id: str | None
    authority: str | None
    upstream_host: str | None
    upstream_cluster: str | None
    upstream_local_address: str | None
    downstream_local_address: str
    downstream_remote_address: str
    requested_server_name: str | None
    upstream_transport_failure_reason: str | None
    tproxy: _Own


_ENCODER = msgspec.json.Encoder()


def json_line(record: Record) -> bytes:
    """Write `record` as one JSON object; values that are missing are null, as Istio writes them."""
    return _ENCODER.encode(_line(record)) + b"\n"


def text_line(record: Record) -> bytes:
    """Write `record` in Istio's default text format; values that are missing are `-`."""
    line = _line(record)
    text = (
        f"[{line.start_time}]"
        f' "{_word(line.method)} {_word(line.path)} {line.protocol or "-"}"'
        f" {line.response_code} {line.response_flags} {_word(line.response_code_details)}"
        f' {_word(line.connection_termination_details)} "{_quoted(line.upstream_transport_failure_reason)}"'
        f" {line.bytes_received} {line.bytes_sent} {line.duration} {line.upstream_service_time or '-'}"
        f' "{_quoted(line.x_forwarded_for)}" "{_quoted(line.user_agent)}" "{_quoted(line.request_id)}"'
        f' "{_quoted(line.authority)}" "{line.upstream_host or "-"}" {_word(line.upstream_cluster)}'
        f" {line.upstream_local_address or '-'} {line.downstream_local_address}"
        f" {line.downstream_remote_address} {_word(line.requested_server_name)} {_word(line.route_name)}\n"
    )
    return text.encode()


def _line(record: Record) -> _Line:
    flow, head, route, trace = record.flow, record.head, record.route, record.trace
    header = (head.headers if head else NO_HEADERS).by_name().get
    upstream, local = record.upstream, record.upstream_local
    service_time = record.upstream_seconds
    # Positional, in the order of the fields: twice as fast as by keyword.
    return _Line(
        _timestamp(record.started),
        route.name if route else None,
        _repeated(head.method) if head else None,
        _text(head.path, MAX_PATH) if head else None,
        head.version if head else None,
        record.status,
        codes((record.flag, *record.marks)) if record.marks else record.flag.code,
        record.details or None,
        _said(record.termination),
        record.bytes_received,
        record.bytes_sent,
        round(record.duration * 1000),
        None if service_time is None else str(round(service_time * 1000)),
        _text(header(b"x-forwarded-for")),
        _repeated(header(b"user-agent")),
        trace.request_id if trace else _text(header(b"x-request-id")),
        _repeated(head.authority) if head else None,
        _address(upstream.host, upstream.port) if upstream else None,
        route.cluster if route else None,
        _address(local.host, local.port) if local else None,
        flow.local,
        flow.peer,
        flow.server_name,
        _said(record.cause),
        _own(flow, record),
    )


def _own(flow: FlowFields, record: Record) -> _Own:
    upstream = record.upstream_identity
    tls = record.upstream_tls
    return _Own(
        flow.direction,
        flow.protocol,
        flow.detection,
        flow.detect_ms,
        flow.local,
        flow.principal,
        _principal(upstream) if upstream else None,
        "mutual" if flow.principal or upstream else _mode(tls) if tls else None,
        record.policy_generation,
        (record.trace.trace_id or None) if record.trace else None,
        _text(record.normalized_path, MAX_PATH),
        None if record.decision is ALLOWED else _authz(record.decision),
        _rate_limit(record.limits) if record.limits else None,
        record.attempts or None,
    )


def _rate_limit(limits: tuple[Applied, ...]) -> _RateLimit | None:
    for result in (Result.LIMITED, Result.SHADOW, Result.OK):
        names = tuple([each.limit.name for each in limits if each.result is result])
        if names:
            return _RateLimit(result, names)
    return None


@lru_cache(maxsize=1024)
def _principal(peer: Peer) -> str | None:
    return _text(peer.principal.encode())


def _mode(tls: UpstreamTls) -> str:
    """Say what was proven on a connection whose upstream is no workload that could be named."""
    return "simple" if tls.mode is TlsMode.SIMPLE else "mutual"


@lru_cache(maxsize=1024)
def _authz(decision: Decision) -> _Authz:
    rule = decision.rule
    return _Authz(
        verdict(decision.allowed),
        decision.reason,
        rule.owner if rule else None,
        rule.index if rule else None,
        rule.place if rule else None,
        str(decision.audited_by) if decision.audited_by else None,
        verdict(decision.allowed_if_enforced) or None,
    )


def _text(value: bytes | None, limit: int = MAX_VALUE) -> str | None:
    """Make what a peer sent into printable ASCII of bounded length; None when there is nothing."""
    if not value:
        return None
    text = value[:limit].decode("ascii", "backslashreplace")
    if not text.isprintable():
        text = _UNPRINTABLE.sub(_hex, text)
    return text if len(value) <= limit else text + ELLIPSIS


def _said(text: str) -> str | None:
    """Do what `_text` does for words that may hold something of a peer's."""
    return _text(text.encode("utf-8", "replace")) if text else None


@lru_cache(maxsize=1024)
def _repeated(value: bytes | None) -> str | None:
    """Do what `_text` does for values that most requests share."""
    return _text(value)


_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


def _hex(found: re.Match[str]) -> str:
    return f"\\x{ord(found[0]):02x}"


def _quoted(value: str | None) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"') if value else "-"


def _word(value: str | None) -> str:
    """Write a value that stands between spaces; Envoy too puts `_` where it had some."""
    return _quoted(value).replace(" ", "_")


@lru_cache(maxsize=1024)
def _address(host: str, port: int) -> str:
    """Render the ends of upstream connections, which are kept for many exchanges."""
    return str(Address(host, port))


def _timestamp(epoch: float) -> str:
    seconds, milliseconds = divmod(int(epoch * 1000), 1000)
    return f"{_to_the_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=4)
def _to_the_second(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S")
