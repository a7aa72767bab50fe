"""Who may do what: compiled rules, and the one order in which they decide.

DENY first; then, if any ALLOW policy applies to the workload, some rule of one must match; else the default. AUDIT marks
and never decides. Dry-run policies are asked beside the enforced ones, all of them together, and change nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tproxy.model.decision import ALLOWED, Decision, Reason, RuleName
from tproxy.model.flow import Flow
from tproxy.model.http import RequestHead
from tproxy.policy.match import Matcher, Numbers
from tproxy.policy.schema import DefaultAction

Read = Callable[[Flow, RequestHead | None], Any]
"""Take a field's value from a connection and its request; None when it is absent."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a rule: which value it is about, and which ones are wanted."""

    name: str
    read: Read
    wanted: Matcher[Any]
    negative: bool = False
    http: bool = False
    """Whether only requests have it."""
    values: tuple[str, ...] = ()
    """What is wanted, as it is written."""
    line: int = 0
    """Where that is written."""

    def holds(self, flow: Flow, head: RequestHead | None) -> bool:
        """Whether the value is as wanted; one that is absent is no value at all."""
        value = self.read(flow, head)
        return (value is not None and self.wanted.matches(value)) is not self.negative


@dataclass(frozen=True, slots=True)
class AllOf:
    """Fields that must all hold."""

    fields: tuple[Field, ...] = ()

    def holds(self, flow: Flow, head: RequestHead | None) -> bool:
        """Whether they do."""
        return all(each.holds(flow, head) for each in self.fields)

    @property
    def http(self) -> bool:
        """Whether one of them is about requests only."""
        return any(each.http for each in self.fields)

    def without_http(self) -> "AllOf":
        """Return the fields that every connection has."""
        return AllOf(tuple(each for each in self.fields if not each.http))


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """One rule. Each of its parts holds if one of its alternatives does, or if it has none."""

    name: RuleName
    parts: tuple[tuple[AllOf, ...], ...]
    """`from`, `to` and, as one alternative, `when`."""

    def holds(self, flow: Flow, head: RequestHead | None) -> bool:
        """Whether all parts do."""
        return all(any(each.holds(flow, head) for each in part) for part in self.parts if part)

    @property
    def http(self) -> bool:
        """Whether it has a field that only requests have."""
        return any(each.http for part in self.parts for each in part)

    def for_bytes(self) -> "CompiledRule":
        """Return the rule without what only requests have: it gets wider."""
        parts = tuple(tuple(each.without_http() for each in part) for part in self.parts)
        return CompiledRule(self.name, parts)


KEYED = ("paths", "principals", "hosts", "ports", "namespaces", "methods")
"""Fields by whose exact values rules are looked up, the most telling first."""


class RuleIndex:
    """Rules of one action, found by what they demand, so that those which cannot hold cost nothing.

    A rule stands under each of the exact values that it demands of one field, if it demands some in every alternative.
    """

    def __init__(self, rules: Sequence[CompiledRule]) -> None:
        self._rules = rules
        self._by_value: dict[str, tuple[Read, dict[Hashable, list[int]]]] = {}
        self._always: list[int] = []
        for place, rule in enumerate(rules):
            self._file(place, rule)

    def __bool__(self) -> bool:
        """Whether there are rules."""
        return bool(self._rules)

    def first(self, flow: Flow, head: RequestHead | None) -> CompiledRule | None:
        """Find the first rule, in the order of the files, that holds."""
        found = None
        for places in self._candidates(flow, head):
            for place in places:
                if found is not None and place >= found:
                    break
                if self._rules[place].holds(flow, head):
                    found = place
                    break
        return None if found is None else self._rules[found]

    def _candidates(self, flow: Flow, head: RequestHead | None) -> Iterator[Sequence[int]]:
        yield self._always
        for read, table in self._by_value.values():
            value = read(flow, head)
            if value is not None:
                yield table.get(value, ())

    def _file(self, place: int, rule: CompiledRule) -> None:
        for name in KEYED:
            keys = _demanded(rule, name)
            if keys is not None:
                read, values = keys
                _, table = self._by_value.setdefault(name, (read, defaultdict(list)))
                for value in values:
                    table[value].append(place)
                return
        self._always.append(place)


def _demanded(rule: CompiledRule, name: str) -> tuple[Read, set[Hashable]] | None:
    """Return the exact values of a field, one of which must be there for the rule to hold; None without any."""
    for part in rule.parts:
        fields = [_exact(alternative, name) for alternative in part]
        known = [each for each in fields if each is not None]
        if known and len(known) == len(fields):
            return known[0][0], {value for _, values in known for value in values}
    return None


def _exact(alternative: AllOf, name: str) -> tuple[Read, frozenset[Hashable]] | None:
    for each in alternative.fields:
        if each.name == name and not each.negative:
            values = exact_values(each.wanted)
            if values is not None:
                return each.read, values
    return None


def exact_values(matcher: Matcher[Any]) -> frozenset[Hashable] | None:
    """Return all values that a matcher takes, if they are finitely many."""
    plain = getattr(matcher, "plain", matcher)
    if getattr(matcher, "templates", None) is not None:
        return None
    numbers: frozenset[Hashable] | None = getattr(plain, "numbers", None)
    if numbers is not None:
        return numbers
    exact: frozenset[Hashable] | None = getattr(plain, "exact", None)
    open_ended = getattr(plain, "prefixes", ()) or getattr(plain, "suffixes", ())
    return None if open_ended or getattr(plain, "anything", False) else exact


NOTHING = RuleIndex(())


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules of one action, for requests and for other connections."""

    requests: RuleIndex = NOTHING
    bytes: RuleIndex = NOTHING

    def first(self, flow: Flow, head: RequestHead | None) -> CompiledRule | None:
        """Find the first rule that holds."""
        return (self.bytes if head is None else self.requests).first(flow, head)


NO_RULES = RuleSet()


def narrowing(rules: Sequence[CompiledRule]) -> RuleSet:
    """Index rules that allow: one about requests never allows anything else."""
    if not rules:
        return NO_RULES
    return RuleSet(RuleIndex(rules), RuleIndex([rule for rule in rules if not rule.http]))


def widening(rules: Sequence[CompiledRule]) -> RuleSet:
    """Index rules that deny or mark: what is about requests is left out where there are none."""
    if not rules:
        return NO_RULES
    return RuleSet(RuleIndex(rules), RuleIndex([rule.for_bytes() for rule in rules]))


@dataclass(frozen=True, slots=True)
class Policies:
    """The rules of a workload that are in force, or those that are tried beside them."""

    deny: RuleSet = NO_RULES
    allow: RuleSet = NO_RULES
    guarded: bool = False
    """Whether a policy that allows applies, be it without rules."""


@dataclass(frozen=True, slots=True)
class Authorizer:
    """What all policies about one workload say."""

    enforced: Policies = Policies()
    tried: Policies | None = None
    """Dry-run policies."""
    audit: RuleSet = NO_RULES
    default: DefaultAction = DefaultAction.ALLOW
    probes: frozenset[tuple[int, bytes]] = frozenset()
    path_ports: frozenset[int | None] = frozenset()
    """Ports on which a rule reads paths; None for every port."""
    silent: bool = True
    """Whether no policy applies and the default allows: there is nothing to decide."""

    def decide(self, flow: Flow, head: RequestHead | None = None) -> Decision:
        """Decide on a request, or without one on a connection."""
        if self.silent:
            return ALLOWED
        audited = self.audit.first(flow, head)
        audited_by = audited.name if audited else None
        if head is not None and self.probes and self._is_probe(flow, head):
            return Decision(True, Reason.PROBE, audited_by=audited_by)  # noqa: FBT003
        allowed, reason, rule = self._verdict(self.enforced, None, flow, head)
        tried = None
        if self.tried is not None:
            tried = self._verdict(self.enforced, self.tried, flow, head)[0]
        return Decision(allowed, reason, rule, audited_by, tried)

    def _verdict(
        self, enforced: Policies, tried: Policies | None, flow: Flow, head: RequestHead | None
    ) -> tuple[bool, Reason, RuleName | None]:
        sets = (enforced,) if tried is None else (enforced, tried)
        for policies in sets:
            if (denied := policies.deny.first(flow, head)) is not None:
                return False, Reason.DENY_MATCH, denied.name
        for policies in sets:
            if (allowed := policies.allow.first(flow, head)) is not None:
                return True, Reason.ALLOW_MATCH, allowed.name
        if any(policies.guarded for policies in sets):
            return False, Reason.NO_ALLOW_MATCH, None
        return self.default is not DefaultAction.DENY, DEFAULTS[self.default], None

    def _is_probe(self, flow: Flow, head: RequestHead) -> bool:
        return (flow.original_dst.port, head.path.partition(b"?")[0]) in self.probes

    def reads_paths(self, port: int) -> bool:
        """Whether a rule about `port` looks at paths, so that they must be normalised."""
        return None in self.path_ports or port in self.path_ports


DEFAULTS = {
    DefaultAction.ALLOW: Reason.DEFAULT,
    DefaultAction.AUDIT: Reason.AUDITED_DEFAULT,
    DefaultAction.DENY: Reason.DEFAULT,
}


def path_ports(rules: Iterable[CompiledRule]) -> frozenset[int | None]:
    """Find the ports on which rules read paths; None when one does on every port."""
    return frozenset(
        port
        for rule in rules
        for part in rule.parts
        for alternative in part
        if any(each.name == "paths" for each in alternative.fields)
        for port in _ports_of(alternative)
    )


def _ports_of(alternative: AllOf) -> Iterable[int | None]:
    for each in alternative.fields:
        if each.name == "ports" and not each.negative and isinstance(each.wanted, Numbers):
            return each.wanted.numbers
    return (None,)
