"""Find what is sound and hardly means what its author thinks, each at its place and with what to do about it.

Of those that judge requests, only policies about this workload are looked at: whether they mean something depends on
its ports and on its mTLS.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise

from tproxy.model.flow import Direction, Protocol
from tproxy.policy.authentication import Authentication, authentication
from tproxy.policy.findings import Code, Finding, Path, Severity
from tproxy.policy.lint_destinations import destination_findings
from tproxy.policy.lint_limits import limit_findings
from tproxy.policy.lint_routes import route_findings
from tproxy.policy.lint_values import value_findings
from tproxy.policy.load import Document
from tproxy.policy.objects import DRY_RUN
from tproxy.policy.reading import Alternative, Reading, readings
from tproxy.policy.schema import (
    Action,
    AuthorizationPolicy,
    AuthorizationPolicySpec,
    DefaultAction,
    MutualTlsMode,
    PeerAuthentication,
    ProxyConfigSpec,
    Rule,
)
from tproxy.policy.scope import Scope


def lint(documents: Sequence[Document], scope: Scope, config: ProxyConfigSpec) -> Iterator[Finding]:
    """Look at documents in which there is no mistake."""
    selected = [
        each
        for each in documents
        if isinstance(each.config, AuthorizationPolicy) and scope.selects(each.config)
    ]
    authentications = [each for each in documents if isinstance(each.config, PeerAuthentication)]
    linter = _Linter(config, authentication(authentications, scope))
    for document in selected:
        yield from linter.policy(document)
    yield from _only_deny(selected, config)
    yield from destination_findings(documents, scope)
    yield from route_findings(documents, scope)
    yield from limit_findings(documents, scope, config)


def _only_deny(documents: Sequence[Document], config: ProxyConfigSpec) -> Iterator[Finding]:
    enforced = [each for each in documents if not _is_tried(each)]
    actions = [_spec(each).action for each in enforced]
    if Action.DENY not in actions or Action.ALLOW in actions:
        return
    if config.default_action is not DefaultAction.DENY:
        message = (
            "the policies about this workload only deny, everything else is open:"
            " add one that allows, or set spec.defaultAction to DENY in ProxyConfig"
        )
        document = enforced[actions.index(Action.DENY)]
        yield document.finding(
            Code.ONLY_DENY, ("spec", "action"), message, severity=Severity.WARNING
        )


class _Linter:
    """Knows the workload's ports and whether its connections must prove who dials."""

    def __init__(self, config: ProxyConfigSpec, modes: Authentication) -> None:
        self._normalization = config.path_normalization
        self._modes = modes
        self._bytes = {
            str(spec.port): spec.protocol
            for spec in config.ports
            if spec.direction is None or spec.direction.direction is Direction.INBOUND
            if spec.protocol.carried_as in (Protocol.OPAQUE, Protocol.TLS)
        }

    def policy(self, document: Document) -> Iterator[Finding]:
        """Look at one policy."""
        action, rules = _spec(document).action, _spec(document).rules or ()
        read = list(readings(rules))
        yield from _tried_audit(document)
        yield from _split_rules(document, rules)
        yield from _repeated_rules(document, rules)
        if action is Action.DENY:
            yield from _once(document, Code.HTTP_FIELD_WITHOUT_PORT, _denied_bytes(read))
            yield from _once(
                document, Code.BY_EXCEPTION, _denied_spellings(read), severity=Severity.INFO
            )
        yield from _once(document, Code.IDENTITY_WITHOUT_STRICT, self._unproven(read, action))
        for reading in read:
            yield from self._rule(document, reading, action)

    def _rule(self, document: Document, reading: Reading, action: Action) -> Iterator[Finding]:
        if action is Action.ALLOW:
            yield from _told(document, Code.BY_EXCEPTION, _exceptions(reading))
            yield from _told(
                document, Code.BY_EXCEPTION, self._nobody(reading), severity=Severity.ERROR
            )
        yield from _told(document, Code.HTTP_FIELD_ON_TCP_PORT, self._on_bytes(reading, action))
        yield from _told(document, Code.CONFLICT, _contradictions(reading), severity=Severity.ERROR)
        yield from _told(document, Code.REPEATED, _repeated_alternatives(reading))
        for said in reading.every():
            for code, index, message in value_findings(said, self._normalization):
                path = (*said.path, index)
                yield document.finding(code, path, message, severity=Severity.WARNING)

    def _unproven(self, read: Sequence[Reading], action: Action) -> Iterator["_Told"]:
        """Find identities that are asked for where plaintext, which has none, is taken too."""
        for reading in read:
            if self._strict(reading):
                continue
            for said in reading.every():
                if said.proven and not said.negative:
                    message = f"callers on plaintext prove nothing, so this {_OUTCOMES[action]} none of them: {_STRICT}"
                    yield said.path, message

    def _nobody(self, reading: Reading) -> Iterator["_Told"]:
        """Find exceptions from everybody that take in whoever proves nothing."""
        if self._strict(reading):
            return
        for source in reading.from_alternatives():
            proven = [each for each in source.fields if each.proven]
            if proven and all(each.negative for each in proven):
                message = f'allows every caller on plaintext, for it proves nothing: {_STRICT}, or add principals: ["*"]'
                yield proven[0].path, message

    def _strict(self, reading: Reading) -> bool:
        """Whether every connection that a rule is about must prove who dials."""
        modes = [self._modes.mode, *self._modes.ports.values()]
        ports = [each.ports() for each in reading.to_alternatives()]
        if None not in ports:
            modes = [self._modes.of(int(port)) for of_one in ports for port in of_one or ()]
        return all(mode is MutualTlsMode.STRICT for mode in modes)

    def _on_bytes(self, reading: Reading, action: Action) -> Iterator["_Told"]:
        outcome = (
            "never matches there" if action is Action.ALLOW else "is about all connections to it"
        )
        for operation in reading.to_alternatives():
            http = operation.http()
            for port in sorted(operation.ports() or ()) if http else ():
                if port in self._bytes:
                    message = f"port {port} is declared {self._bytes[port]}, where there are no requests: it {outcome}"
                    yield http[0].path, message


_STRICT = "set PeerAuthentication to STRICT"
_OUTCOMES = {Action.ALLOW: "allows", Action.DENY: "denies", Action.AUDIT: "marks"}

_Told = tuple[Path, str]
"""A place, and what is to be said of it."""


def _told(
    document: Document, code: Code, found: Iterable[_Told], *, severity: Severity = Severity.WARNING
) -> Iterator[Finding]:
    for path, message in found:
        yield document.finding(code, path, message, severity=severity)


def _once(
    document: Document, code: Code, found: Iterable[_Told], *, severity: Severity = Severity.WARNING
) -> Iterator[Finding]:
    """Tell of the first place only: the others of the same policy want the same answer."""
    yield from _told(document, code, islice(found, 1), severity=severity)


def _tried_audit(document: Document) -> Iterator[Finding]:
    if _is_tried(document) and _spec(document).action is Action.AUDIT:
        message = "AUDIT decides nothing, so there is nothing to try: it is not evaluated"
        path = ("metadata", "annotations", DRY_RUN)
        yield document.finding(Code.NO_EFFECT, path, message, severity=Severity.WARNING)


def _split_rules(document: Document, rules: Sequence[Rule]) -> Iterator[Finding]:
    for index, (one, other) in enumerate(pairwise(rules), start=1):
        if {_only(one), _only(other)} == {"from", "to"}:
            message = (
                "a rule with only `from` beside one with only `to` are two alternatives:"
                " if both are meant at once, take the `-` away from the second"
            )
            path: Path = ("spec", "rules", index)
            yield document.finding(Code.OR_INSTEAD_OF_AND, path, message, severity=Severity.WARNING)


def _only(rule: Rule) -> str:
    parts = {"from": rule.from_, "to": rule.to, "when": rule.when}
    said = [name for name, part in parts.items() if part is not None]
    return said[0] if len(said) == 1 else ""


def _repeated_rules(document: Document, rules: Sequence[Rule]) -> Iterator[Finding]:
    """Find rules that add nothing: one that is there already, or any beside the rule about everything."""
    everything = rules.index(Rule()) if Rule() in rules else None
    first: dict[Rule, int] = {}
    for index, rule in enumerate(rules):
        other = first.setdefault(rule, index) if everything is None else everything
        if other != index:
            message = f"adds nothing to $.spec.rules[{other}]: leave one of them out"
            yield document.finding(
                Code.REPEATED, ("spec", "rules", index), message, severity=Severity.WARNING
            )


def _repeated_alternatives(reading: Reading) -> Iterator[_Told]:
    for alternatives in (reading.sources, reading.operations):
        first: dict[frozenset[tuple[str, bool, tuple[str, ...]]], Alternative] = {}
        for each in alternatives:
            what = frozenset((said.name, said.negative, said.values) for said in each.own)
            if first.setdefault(what, each) is not each:
                yield each.own[0].path[:-1], "stands already in this rule: leave one of them out"


def _denied_bytes(read: Sequence[Reading]) -> Iterator[_Told]:
    """Find rules about requests that deny, on every port, all that is no request."""
    for reading in read:
        for operation in reading.to_alternatives():
            http = operation.http()
            if http and operation.ports() is None:
                message = "names no ports, so it denies every connection that is not HTTP on any port: add `ports`"
                yield http[0].path, message


def _denied_spellings(read: Sequence[Reading]) -> Iterator[_Told]:
    for reading in read:
        for said in reading.every():
            if said.spelled and not said.negative:
                message = (
                    "denies just this: what is spelled another way goes through."
                    " Safer is to ALLOW what is wanted, or to DENY with the `not…` form"
                )
                yield said.path, message


def _exceptions(reading: Reading) -> Iterator[_Told]:
    for said in reading.every():
        if said.spelled and said.negative:
            message = (
                "allows all but this: what is spelled another way goes through."
                " Safer is to name what is allowed, or to DENY this in a policy of its own"
            )
            yield said.path, message


def _contradictions(reading: Reading) -> Iterable[_Told]:
    """Find values that are wanted and excluded at once."""
    found: dict[Path, str] = {}
    conditions = Alternative((), reading.conditions)
    for alternative in (*reading.sources, *reading.operations, conditions):
        excluded: dict[str, set[str]] = {}
        for said in alternative.fields:
            if said.negative:
                excluded.setdefault(said.name, set()).update(said.values)
        for said in alternative.fields if excluded else ():
            for index, value in enumerate(() if said.negative else said.values):
                if value in excluded.get(said.name, ()):
                    message = f"{value!r} is excluded at once, so it never matches"
                    found[*said.path, index] = message
    return found.items()


def _is_tried(document: Document) -> bool:
    return document.config.metadata.annotations.get(DRY_RUN) == "true"


def _spec(document: Document) -> AuthorizationPolicySpec:
    assert isinstance(document.config, AuthorizationPolicy), "the caller told kinds apart"
    return document.config.spec
