"""Who may do what: compiled rules, and the one order in which they decide.

DENY first; then, if any ALLOW policy applies to the workload, some rule of one must match; else the default. AUDIT marks
and never decides. Dry-run policies are asked beside the enforced ones, all of them together, and change nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tproxy.model.decision import ALLOWED, Decision, Reason, RuleName
from tproxy.model.flow import Flow
from tproxy.model.http import RequestHead
from tproxy.policy.match import Cut, Matcher, Numbers
from tproxy.policy.schema import DefaultAction

Read = Callable[[Flow, RequestHead | None], Any]
"""Take a field's value from a connection and its request; None when it is absent."""


Key = tuple[Read, Cut, Hashable]
"""A piece of a value, and where the value is read."""


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

    @property
    def keyed(self) -> bool:
        """Whether rules are looked up by it: not by headers, for every request would be asked for each name of one."""
        return not self.negative and not self.name.startswith("request.headers")

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
        for each in self.fields:  # noqa: SIM110  (a generator would cost as much as the fields)
            if not each.holds(flow, head):
                return False
        return True

    @property
    def http(self) -> bool:
        """Whether one of them is about requests only."""
        return any(each.http for each in self.fields)

    def demanded(self) -> dict[Read, frozenset[Key]]:
        """Return, for values by which rules are looked up, the keys of which each must have one."""
        found = {}
        for each in self.fields:
            keys = each.wanted.keys() if each.keyed else None
            if keys is not None:
                found[each.read] = frozenset((each.read, cut, piece) for cut, piece in keys)
        return found

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
        for part in self.parts:
            for each in part:
                if each.holds(flow, head):
                    break
            else:
                if part:
                    return False
        return True

    @property
    def http(self) -> bool:
        """Whether it has a field that only requests have."""
        return any(each.http for part in self.parts for each in part)

    def for_bytes(self) -> "CompiledRule":
        """Return the rule without what only requests have: it gets wider."""
        parts = tuple(tuple(each.without_http() for each in part) for part in self.parts)
        return CompiledRule(self.name, parts)


class RuleIndex:
    """Rules of one action, found by what they demand, so that those which cannot hold cost nothing.

    A rule stands under all keys, of which it demands one, of one value. Of several such values it is the one whose keys
    the rule shares with the fewest others.
    """

    def __init__(self, rules: Sequence[CompiledRule]) -> None:
        self.rules = rules
        self._always: list[int] = []
        self._tables: dict[tuple[Read, Cut], dict[Hashable, list[int]]] = {}
        demands = [_demands(rule) for rule in rules]
        crowd = Counter(key for each in demands for keys in each for key in keys)
        for place, each in enumerate(demands):
            self._file(place, min(each, key=partial(_crowded, crowd), default=None))

    def __bool__(self) -> bool:
        """Whether there are rules."""
        return bool(self.rules)

    def first(self, flow: Flow, head: RequestHead | None) -> CompiledRule | None:
        """Find the first rule, in the order of the files, that holds."""
        if not self.rules:
            return None
        found = len(self.rules)
        for places in self.candidates(flow, head):
            found = self._earliest(places, found, flow, head)
        return self.rules[found] if found < len(self.rules) else None

    def _earliest(
        self, places: Sequence[int], before: int, flow: Flow, head: RequestHead | None
    ) -> int:
        """Find the first of `places` that is before another one, and where a rule holds; else return that one."""
        for place in places:
            if place >= before:
                break
            if self.rules[place].holds(flow, head):
                return place
        return before

    def candidates(self, flow: Flow, head: RequestHead | None) -> list[Sequence[int]]:
        """Return the places of the rules that may hold, those under each key in order."""
        found: list[Sequence[int]] = [self._always] if self._always else []
        for (read, cut), table in self._tables.items():
            value = read(flow, head)
            places = None if value is None else table.get(cut.of(value))
            if places is not None:
                found.append(places)
        return found

    def _file(self, place: int, keys: frozenset[Key] | None) -> None:
        if keys is None:
            self._always.append(place)
            return
        for read, cut, piece in keys:
            table = self._tables.setdefault((read, cut), defaultdict(list))
            table[piece].append(place)


def _crowded(crowd: Counter[Key], keys: frozenset[Key]) -> int:
    return max(crowd[key] for key in keys)


def _demands(rule: CompiledRule) -> list[frozenset[Key]]:
    """Find sets of keys, one of each of which must be there for the rule to hold."""
    found: list[frozenset[Key]] = []
    for part in rule.parts:
        demanded = [each.demanded() for each in part]
        for read in demanded[0] if demanded else ():
            keys = [each[read] for each in demanded if read in each]
            if len(keys) == len(demanded):
                found.append(keys[0].union(*keys[1:]))
    return found


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

    def names(self) -> Iterator[tuple[str, bool, RuleName]]:
        """Give every rule: what it does, whether it is only tried, and its name."""
        sets = [("AUDIT", False, self.audit)]
        for policies in (self.enforced, self.tried):
            if policies is not None:
                tried = policies is self.tried
                sets += [("DENY", tried, policies.deny), ("ALLOW", tried, policies.allow)]
        for action, tried, rules in sets:
            for rule in rules.requests.rules:
                yield action, tried, rule.name

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
