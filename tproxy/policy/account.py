"""An explanation in a form that travels: what a sidecar answers, what a command prints or writes as JSON."""

import msgspec

from tproxy.model.upstream_tls import TlsMode
from tproxy.policy.account_fault import FaultAccount, fault_account
from tproxy.policy.account_route import RouteAccount, route_account
from tproxy.policy.explain import Explanation, Missed, PolicyTrace, RuleTrace
from tproxy.policy.explain_limits import LimitTrace
from tproxy.policy.explain_tls import Securing
from tproxy.policy.facts import (
    DESTINATION_IP,
    HOST,
    PATH,
    PRINCIPAL,
    SOURCE_IP,
    Facts,
)


class Asked(msgspec.Struct, frozen=True):
    """The request, without its headers and its query: both hold secrets."""

    direction: str
    protocol: str
    port: int
    method: str | None
    path: str | None
    """As policies read it, and as it is sent on."""
    received_path: str | None
    """As it came, where that is another one."""
    host: str | None
    principal: str | None
    identity: str
    """Who asks, or why nobody knows."""
    source_ip: str | None
    destination_ip: str | None
    sni: str | None


class MissedField(msgspec.Struct, frozen=True):
    """A field that does not hold."""

    field: str
    wanted: tuple[str, ...]
    seen: str | None
    line: int
    negative: bool = False
    """Whether it holds for anything but those values."""
    missing: str | None = None


class RuleAccount(msgspec.Struct, frozen=True):
    """One rule."""

    rule: int
    place: str
    matches: bool | None
    near_miss: bool
    missed: tuple[MissedField, ...]


class PolicyAccount(msgspec.Struct, frozen=True):
    """One policy."""

    policy: str
    action: str
    place: str
    dry_run: bool
    left_out: str
    """Why it is not about this workload; empty when it is."""
    matches: bool | None
    rules: tuple[RuleAccount, ...]


class TlsAccount(msgspec.Struct, frozen=True):
    """How the connection to the upstream would be secured."""

    mode: str
    hosts: tuple[str, ...]
    """The upstream's names, as far as they are known."""
    entry: str | None
    """The ServiceEntry that names its address, and where it stands."""
    rule: str | None
    """The DestinationRule that says so, and where it does; None where none does."""
    sni: str
    accepts: tuple[str, ...]
    """Who may answer; with nothing, anybody of the trust domain for ISTIO_MUTUAL, for other modes nobody."""
    insecure: bool
    """Whether anybody may."""
    missing: tuple[str, ...] = ()


class LimitAccount(msgspec.Struct, frozen=True):
    """A rate limit by which the request would be counted, or may be."""

    limit: str
    place: str
    per: str
    shadow: bool
    key: tuple[tuple[str, str | None], ...]
    """What tells callers apart, and what this one has."""
    missing: tuple[str, ...] = ()
    """What is not known, and decides whether it is counted."""


class Account(msgspec.Struct, frozen=True):
    """All of it."""

    verdict: str
    reason: str
    policy: str | None
    rule: int | None
    place: str | None
    audited_by: str | None
    verdict_if_enforced: str | None
    missing: tuple[str, ...]
    request: Asked
    policies: tuple[PolicyAccount, ...]
    tls: TlsAccount | None = None
    """None for what comes in."""
    limits: tuple[LimitAccount, ...] = ()
    route: RouteAccount | None = None
    """None for what comes in."""
    faults: tuple[FaultAccount, ...] = ()


def account(explanation: Explanation) -> Account:
    """Write an explanation in words and numbers."""
    outcome = explanation.outcome
    rule = outcome.rule
    return Account(
        outcome.verdict,
        outcome.reason,
        rule.owner if rule else None,
        rule.index if rule else None,
        rule.place if rule else None,
        str(outcome.audited_by) if outcome.audited_by else None,
        outcome.verdict_if_enforced,
        outcome.missing,
        _asked(explanation),
        tuple(map(_policy, explanation.policies)),
        _tls(explanation.tls) if explanation.tls else None,
        tuple(map(_limit, explanation.limits)),
        _way(explanation),
        tuple(map(fault_account, explanation.faults)),
    )


def _limit(trace: LimitTrace) -> LimitAccount:
    return LimitAccount(trace.name, trace.place, trace.per, trace.shadow, trace.key, trace.missing)


def _way(explanation: Explanation) -> RouteAccount | None:
    way = explanation.directing
    return None if way is None else route_account(way, http=explanation.facts.head is not None)


def _tls(securing: Securing) -> TlsAccount:
    choice = securing.choice
    entry, said, tls = choice.entry, choice.said, choice.tls
    decided = said is not None and said.tls is not None
    name = (
        (tls.server_name,)
        if tls and tls.server_name and tls.mode is not TlsMode.ISTIO_MUTUAL
        else ()
    )
    return TlsAccount(
        securing.mode,
        choice.hosts,
        f"{entry.owner} ({entry.place})" if entry else None,
        f"{said.owner} ({said.place})" if said and decided else None,
        tls.server_name if tls else "",
        (tls.subject_alt_names or name) if tls and not tls.insecure_skip_verify else (),
        tls is not None and tls.insecure_skip_verify,
        securing.missing,
    )


def _asked(explanation: Explanation) -> Asked:
    facts = explanation.facts
    flow, head, hidden = facts.flow, facts.head, facts.hidden
    path = explanation.outcome.path or (_path(head.path) if head else None)
    received = _path(explanation.received) if explanation.received is not None else None

    def unless_hidden(fact: str, value: str | None) -> str | None:
        return None if fact in hidden else value

    return Asked(
        flow.direction,
        flow.protocol,
        flow.original_dst.port,
        _text(head.method) if head else None,
        unless_hidden(PATH, path),
        unless_hidden(PATH, received if received != path else None),
        unless_hidden(HOST, _text(head.authority) if head else None),
        flow.identity.principal if flow.identity else None,
        _identity(facts),
        unless_hidden(SOURCE_IP, flow.peer.host),
        unless_hidden(DESTINATION_IP, flow.original_dst.host),
        flow.sniffed.server_name or None,
    )


def _path(target: bytes) -> str:
    return _text(target.partition(b"?")[0])


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _identity(facts: Facts) -> str:
    if facts.flow.identity is not None:
        return facts.flow.identity.principal
    if PRINCIPAL in facts.hidden:
        return "not known, nothing was said of it"
    return "nobody, as the connection is plaintext"


def _policy(trace: PolicyTrace) -> PolicyAccount:
    policy = trace.policy
    return PolicyAccount(
        str(policy),
        policy.action,
        f"{policy.file}:{policy.line}",
        policy.tried,
        policy.left_out,
        trace.holds,
        tuple(map(_rule, trace.rules)),
    )


def _rule(trace: RuleTrace) -> RuleAccount:
    return RuleAccount(
        trace.rule.index,
        trace.rule.place,
        trace.holds,
        trace.near_miss,
        tuple(map(_missed, trace.missed)),
    )


def _missed(missed: Missed) -> MissedField:
    return MissedField(
        missed.field, missed.wanted, missed.seen, missed.line, missed.negative, missed.missing
    )
