"""Why a request is allowed or denied: every policy, every rule, and what kept it from matching.

The rule that must not be broken: the verdict is the data path's own, asked of the very snapshot that it uses. Only where
something is not known are the rules weighed here, and then a verdict is given only if whatever is missing cannot change it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from msgspec import structs

from tproxy.model.decision import Decision, Reason, RuleName, verdict
from tproxy.model.flow import Direction, Protocol
from tproxy.policy.authorize import DEFAULTS, AllOf, CompiledRule, Field
from tproxy.policy.compiled_policy import CompiledPolicy
from tproxy.policy.destinations import Choice
from tproxy.policy.explain_faults import FaultTrace, faults
from tproxy.policy.explain_limits import LimitTrace, limits
from tproxy.policy.explain_route import Directing, directing
from tproxy.policy.explain_tls import REQUEST, Securing, at_endpoints, securing
from tproxy.policy.facts import PATH, PRINCIPAL, Facts, header_of
from tproxy.policy.paths import normalised
from tproxy.policy.schema import Action, DefaultAction, MutualTlsMode
from tproxy.policy.secrecy import HIDDEN, secret
from tproxy.policy.snapshot import UNREADABLE, Snapshot
from tproxy.policy.traffic import Traffic

PARTS = ("from", "to", "when")

NOT_HTTP = "http"
"""Says that a rule about requests was held against a connection that carries none."""

UNDETERMINED = "undetermined"
PLAINTEXT = Reason.PLAINTEXT.value
OUTBOUND = "outbound"
"""Policies are about what comes in."""

_HTTP = (Protocol.HTTP1, Protocol.HTTP2)
_ORDER = (Action.DENY, Action.ALLOW, Action.AUDIT)


@dataclass(frozen=True, slots=True)
class Missed:
    """A field that does not hold."""

    field: str
    """`from[0].notNamespaces`, `when.request.headers[x-foo]`."""
    wanted: tuple[str, ...]
    seen: str | None
    """None when it is absent."""
    line: int
    negative: bool = False
    missing: str | None = None
    """The fact that is not known, where that is what keeps it from holding."""


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """One rule held against a request."""

    rule: RuleName
    holds: bool | None
    """None when it depends on what is not known."""
    missed: tuple[Missed, ...] = ()
    """The fields that kept it from holding, in the alternatives that came nearest; first what surely fails."""

    @property
    def near_miss(self) -> bool:
        """Whether one field decided."""
        return self.holds is False and len(self.missed) == 1 and not self.missed[0].missing


@dataclass(frozen=True, slots=True)
class PolicyTrace:
    """One policy held against a request."""

    policy: CompiledPolicy
    rules: tuple[RuleTrace, ...] = ()

    @property
    def holds(self) -> bool | None:
        """Whether one of its rules does; None when that is not known."""
        return _any(each.holds for each in self.rules)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a request."""

    allowed: bool | None
    """None when it depends on what is not known."""
    reason: str
    rule: RuleName | None = None
    audited: bool | None = False
    audited_by: RuleName | None = None
    verdict_if_enforced: str | None = None
    """With all dry-run policies in force; None when there are none."""
    missing: tuple[str, ...] = ()
    """Facts on which it depends, and that nobody knows."""
    path: str | None = None
    """The path that policies read, without its query."""

    @property
    def verdict(self) -> str:
        """Say it in a word."""
        return _said(self.allowed)


def _said(allowed: bool | None) -> str:  # noqa: FBT001 - its only argument
    return verdict(allowed) or "UNDETERMINED"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What becomes of a request, and what every policy had to do with it."""

    facts: Facts
    """With the path in the form that policies read."""
    outcome: Outcome
    policies: tuple[PolicyTrace, ...] = ()
    received: bytes | None = None
    """The path as it was sent, with its query; None for what is no request."""
    tls: Securing | None = None
    """How the connection to the upstream would be secured; None for what comes in."""
    limits: tuple[LimitTrace, ...] = ()
    """The rate limits by which it would be counted, or may be."""
    directing: Directing | None = None
    """Which way it would go; None for what comes in."""
    faults: tuple[FaultTrace, ...] = ()
    """The faults that are about it, or may be."""


class Examiner:
    """Asks one snapshot about requests of which not everything may be known."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        applied = [policy for policy in snapshot.policies if not policy.left_out]
        self._policies = sorted(applied, key=lambda policy: policy.tried)
        """Those in force first, as the authorizer asks them."""
        names = {each.name: None for policy in applied for each in _fields(policy.rules)}
        self._read = tuple(names)

    def explain(self, facts: Facts) -> Explanation:
        """Explain what becomes of a request."""
        outcome = self.decide(facts)
        received = facts.head.path if facts.head else None
        facts = self._normal(facts)
        every = sorted(self.snapshot.policies, key=lambda each: _ORDER.index(each.action))
        traces = tuple(_policy(each, facts) for each in every)
        way = directing(self.snapshot.traffic, facts, self.snapshot.faults)
        tls = _secured(securing(self.snapshot.destinations, facts), way, self.snapshot.traffic)
        refused = outcome.allowed is False
        counted = limits(self.snapshot.rate_limits, facts, refused=refused)
        harm = faults(self.snapshot.faults, facts, way, refused=refused)
        return Explanation(facts, outcome, traces, received, tls, counted, way, harm)

    def decide(self, facts: Facts) -> Outcome:
        """Say what becomes of a request."""
        if facts.flow.direction is Direction.OUTBOUND:
            return Outcome(True, OUTBOUND, path=_shown_path(facts))  # noqa: FBT003
        if refused := self._unproven(facts):
            return refused
        if facts.head is None and facts.flow.protocol in _HTTP:
            return Outcome(None, UNDETERMINED, missing=(REQUEST,))
        missing = self._missing(facts)
        return self._weighed(facts, missing) if missing else self._judged(facts)

    def _unproven(self, facts: Facts) -> Outcome | None:
        flow = facts.flow
        if self.snapshot.mutual_tls(flow) is not MutualTlsMode.STRICT:
            return None
        if PRINCIPAL in facts.hidden:
            return Outcome(None, UNDETERMINED, missing=(PRINCIPAL,))
        refused = self.snapshot.must_prove_itself(flow)
        return Outcome(False, PLAINTEXT) if refused else None  # noqa: FBT003

    def _missing(self, facts: Facts) -> tuple[str, ...]:
        found = dict.fromkeys(filter(None, map(facts.missing, self._read)))
        if PATH in facts.hidden and self._probed(facts):
            found[PATH] = None
        return tuple(found)

    def _probed(self, facts: Facts) -> bool:
        port = facts.flow.original_dst.port
        return any(port == each for each, _ in self.snapshot.authorizer.probes)

    def _judged(self, facts: Facts) -> Outcome:
        if facts.head is None:
            return _outcome(self.snapshot.admit(facts.flow), None)
        decision, path = self.snapshot.judge(facts.flow, facts.head)
        return _outcome(decision, path or facts.head.path)

    def _normal(self, facts: Facts) -> Facts:
        """Give the facts with the path that policies read."""
        head, snapshot = facts.head, self.snapshot
        reads = snapshot.authorizer.reads_paths(facts.flow.original_dst.port)
        if head is None or not reads or b"%00" in head.path.partition(b"?")[0]:
            return facts
        path = normalised(head.path, snapshot.normalization)
        return replace(facts, head=structs.replace(head, path=path))

    def _weighed(self, facts: Facts, missing: tuple[str, ...]) -> Outcome:
        """Weigh rules of which some may hold or not."""
        known = self._judged(facts) if PATH not in facts.hidden else None
        if known and known.reason in (UNREADABLE.reason, Reason.PROBE):
            return replace(known, audited=None, audited_by=None)
        if PATH in facts.hidden and self._probed(facts):
            return Outcome(None, UNDETERMINED, audited=None, missing=missing)
        traces = [_policy(each, self._normal(facts)) for each in self._policies]
        enforced = [each for each in traces if not each.policy.tried]
        default = self.snapshot.authorizer.default
        allowed, reason, rule = _verdict(enforced, default)
        tried = len(traces) > len(enforced)
        return Outcome(
            allowed,
            reason,
            rule,
            _any(each.holds for each in _of(enforced, Action.AUDIT)),
            _first(enforced, Action.AUDIT),
            _said(_verdict(traces, default)[0]) if tried else None,
            () if allowed is not None else _wanting(enforced),
            _shown_path(self._normal(facts)),
        )


def _secured(
    securing: Securing | None, way: Directing | None, traffic: Traffic | None
) -> Securing | None:
    """Say how the connection is secured on its way."""
    if securing is None or way is None or traffic is None:
        return securing
    if way.missing:
        return securing if way.chosen is None else Securing(Choice(), way.missing)
    cluster = way.cluster
    return securing if cluster is None else at_endpoints(securing, cluster, traffic.clusters)


def _wanting(traces: Sequence[PolicyTrace]) -> tuple[str, ...]:
    """Return the facts on which the outcome depends."""
    facts = dict.fromkeys(
        each.missing or ""
        for trace in traces
        if trace.policy.action is not Action.AUDIT
        for rule in trace.rules
        if rule.holds is None
        for each in rule.missed
    )
    return tuple(facts)


def _outcome(decision: Decision, path: bytes | None) -> Outcome:
    return Outcome(
        decision.allowed,
        decision.reason.value,
        decision.rule,
        decision.audited_by is not None,
        decision.audited_by,
        verdict(decision.allowed_if_enforced) or None,
        path=None if path is None else _without_query(path),
    )


def _shown_path(facts: Facts) -> str | None:
    return None if facts.head is None else _without_query(facts.head.path)


def _without_query(path: bytes) -> str:
    return path.partition(b"?")[0].decode("utf-8", "backslashreplace")


def _verdict(
    traces: Sequence[PolicyTrace], default: DefaultAction
) -> tuple[bool | None, str, RuleName | None]:
    """Do what the authorizer does, of outcomes that may be open."""
    denied = _of(traces, Action.DENY)
    if _any(each.holds for each in denied):
        return False, Reason.DENY_MATCH.value, _first(traces, Action.DENY)
    rest = _rest(traces, default)
    if rest[0] is False or all(each.holds is False for each in denied):
        return rest
    return None, UNDETERMINED, None


def _rest(
    traces: Sequence[PolicyTrace], default: DefaultAction
) -> tuple[bool | None, str, RuleName | None]:
    allowing = _of(traces, Action.ALLOW)
    match _any(each.holds for each in allowing):
        case True:
            return True, Reason.ALLOW_MATCH.value, _first(traces, Action.ALLOW)
        case None:
            return None, UNDETERMINED, None
    if allowing:
        return False, Reason.NO_ALLOW_MATCH.value, None
    return default is not DefaultAction.DENY, DEFAULTS[default].value, None


def _of(traces: Sequence[PolicyTrace], action: Action) -> list[PolicyTrace]:
    return [each for each in traces if each.policy.action is action]


def _first(traces: Sequence[PolicyTrace], action: Action) -> RuleName | None:
    for trace in _of(traces, action):
        for rule in trace.rules:
            if rule.holds:
                return rule.rule
    return None


def _any(holds: Iterator[bool | None]) -> bool | None:
    """Whether one does; None when one may, and none surely does."""
    found: bool | None = False
    for each in holds:
        if each:
            return True
        found = None if each is None else found
    return found


def _fields(rules: Sequence[CompiledRule]) -> Iterator[Field]:
    for rule in rules:
        for part in rule.parts:
            for alternative in part:
                yield from alternative.fields


def _policy(policy: CompiledPolicy, facts: Facts) -> PolicyTrace:
    if policy.left_out:
        return PolicyTrace(policy)
    return PolicyTrace(policy, tuple(_rule(each, policy.action, facts) for each in policy.rules))


def _rule(rule: CompiledRule, action: Action, facts: Facts) -> RuleTrace:
    if facts.head is None and rule.http:
        if action is Action.ALLOW:
            return RuleTrace(rule.name, False, (_about_requests(rule),))  # noqa: FBT003
        rule = rule.for_bytes()
    missed = [
        miss
        for name, part in zip(PARTS, rule.parts, strict=True)
        if part
        for miss in _nearest(name, part, facts)
    ]
    if not missed:
        return RuleTrace(rule.name, True)  # noqa: FBT003
    missed.sort(key=lambda each: each.missing is not None)
    return RuleTrace(rule.name, None if missed[0].missing else False, tuple(missed))


def _about_requests(rule: CompiledRule) -> Missed:
    field = next(each for each in _fields((rule,)) if each.http)
    return Missed(_name(field), _wanted(field), None, field.line, field.negative, NOT_HTTP)


def _nearest(part: str, alternatives: Sequence[AllOf], facts: Facts) -> tuple[Missed, ...]:
    """Return what fails in the alternative that may hold, else in the one that came nearest."""
    tried = [_missed(part, at, each, facts) for at, each in enumerate(alternatives)]
    return min(tried, key=lambda missed: (any(not each.missing for each in missed), len(missed)))


def _missed(part: str, at: int, alternative: AllOf, facts: Facts) -> tuple[Missed, ...]:
    place = part if part == "when" else f"{part}[{at}]"
    missed = []
    for field in alternative.fields:
        missing = facts.missing(field.name)
        if missing or not field.holds(facts.flow, facts.head):
            name = f"{place}.{_name(field)}"
            seen = None if missing else _seen(field, facts)
            wanted, negative = _wanted(field), field.negative
            missed.append(Missed(name, wanted, seen, field.line, negative, missing))
    return tuple(missed)


def _name(field: Field) -> str:
    """Write a field as policies do."""
    if "." in field.name:
        return f"{field.name} {'notValues' if field.negative else 'values'}"
    head, *rest = field.name.split("_")
    words = [head, *(word.capitalize() for word in rest)]
    if field.negative:
        words = ["not", head.capitalize(), *words[1:]]
    return "".join(words)


def _wanted(field: Field) -> tuple[str, ...]:
    header = header_of(field.name)
    return (HIDDEN,) if header is not None and secret(header) else field.values


def _seen(field: Field, facts: Facts) -> str | None:
    value = field.read(facts.flow, facts.head)
    header = header_of(field.name)
    if value is None or (header is not None and secret(header)):
        return None if value is None else HIDDEN
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
