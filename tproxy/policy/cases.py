"""Run the cases of `PolicyTest` files against a snapshot, and tell which rules no case ever matched."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tproxy.model.decision import RuleName
from tproxy.model.flow import Direction
from tproxy.model.identity import UNKNOWN, Workload
from tproxy.policy.case_faults import harmed
from tproxy.policy.case_routes import ROUTE_FIELDS, compared
from tproxy.policy.compile import NOBODY, assembled
from tproxy.policy.explain import Examiner, Explanation, Outcome
from tproxy.policy.explain_limits import LimitTrace
from tproxy.policy.explain_route import Directing
from tproxy.policy.explain_tls import Securing
from tproxy.policy.facts import BadRequest, Facts, facts_of, filled
from tproxy.policy.findings import Code, Finding, Path, Severity
from tproxy.policy.load import Document, load
from tproxy.policy.nodes import SourceFile
from tproxy.policy.schema import Case, Expectation, ExpectedDestination, ExpectedTls, PolicyTest
from tproxy.policy.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Mismatch:
    """What came of a case, and was to be something else."""

    field: str
    expected: str
    came: str


@dataclass(frozen=True, slots=True)
class Result:
    """One case that was run."""

    test: str
    name: str
    file: str
    line: int
    explanation: Explanation
    mismatches: tuple[Mismatch, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether all came as expected."""
        return not self.mismatches


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many rules the cases matched."""

    rules: int
    unmatched: tuple[RuleName, ...]

    @property
    def percent(self) -> float:
        """Of all rules; none at all are all of them."""
        return 100 * (1 - len(self.unmatched) / self.rules) if self.rules else 100.0


@dataclass(frozen=True, slots=True)
class Report:
    """What came of all cases."""

    results: tuple[Result, ...]
    coverage: Coverage

    @property
    def failed(self) -> int:
        """How many did not come as expected."""
        return sum(not each.passed for each in self.results)


def mistakes(documents: Sequence[Document]) -> Iterator[Finding]:
    """Tell of cases that cannot be run, or that could never fail."""
    for document in documents:
        taken: dict[str, int] = {}
        for at, case in enumerate(_cases(document)):
            path: Path = ("spec", "cases", at)
            if taken.setdefault(case.name, at) != at:
                message = (
                    f"there is a case {case.name!r} already, in $.spec.cases[{taken[case.name]}]"
                )
                yield document.finding(Code.CONFLICT, (*path, "name"), message)
            if why := _never_fails(case):
                yield document.finding(Code.BAD_VALUE, (*path, "expect"), why)
            try:
                _facts(document, case)
            except BadRequest as bad:
                where = (*path, "request", *bad.field)
                yield document.finding(Code.BAD_VALUE, where, str(bad))


_NOTHING = (
    Expectation(),
    Expectation(tls=ExpectedTls()),
    Expectation(destination=ExpectedDestination()),
)


def _never_fails(case: Case) -> str | None:
    """Say why an expectation is none."""
    if case.expect in _NOTHING:
        return "expects nothing, so it could never fail"
    if case.direction is Direction.INBOUND:
        for name in ("tls", *ROUTE_FIELDS):
            if getattr(case.expect, name) is not None:
                return f"{name} is about connections to upstreams: set direction to outbound"
    return None


@dataclass(frozen=True, slots=True)
class Gathered:
    """Policies and the tests that are about them."""

    snapshot: Snapshot | None
    """None with any mistake, be it in a test."""
    tests: tuple[Document, ...]
    findings: tuple[Finding, ...]


def gather(
    files: Sequence[SourceFile], beside: Sequence[SourceFile], workload: Workload = NOBODY
) -> Gathered:
    """Compile `files`, and find the tests among them and in the files `beside` them."""
    documents, mistaken = load(files)
    result = assembled(files, documents, mistaken, 1, workload)
    findings = list(result.findings if isinstance(result, Snapshot) else result)
    aside, wrong = load(beside)
    findings.extend(wrong)
    findings.extend(
        each.finding(Code.CONFLICT, ("kind",), "is not in force here: only tests stand among tests")
        for each in aside
        if not isinstance(each.config, PolicyTest)
    )
    tests = [each for each in (*documents, *aside) if isinstance(each.config, PolicyTest)]
    findings.extend(mistakes(tests))
    sound = all(each.severity is not Severity.ERROR for each in findings)
    snapshot = result if sound and isinstance(result, Snapshot) else None
    return Gathered(snapshot, tuple(tests), tuple(findings))


def run(snapshot: Snapshot, documents: Sequence[Document]) -> Report:
    """Run the cases of sound documents."""
    examiner = Examiner(snapshot)
    results = tuple(
        _result(examiner, document, at, case)
        for document in documents
        for at, case in enumerate(_cases(document))
    )
    return Report(results, _coverage(snapshot, results))


def _result(examiner: Examiner, document: Document, at: int, case: Case) -> Result:
    explanation = examiner.explain(_facts(document, case))
    traffic = examiner.snapshot.traffic
    namespace = traffic.namespace if traffic else UNKNOWN
    return Result(
        _config(document).metadata.name,
        case.name,
        document.file,
        document.node.nearest(("spec", "cases", at)).line,
        explanation,
        (
            *_mismatches(case.expect, explanation.outcome),
            *_tls_mismatches(case.expect.tls, explanation.tls),
            *_limit_mismatches(case.expect.limits, explanation.limits),
            *_fault_mismatches(case.expect, explanation),
            *_route_mismatches(case.expect, explanation.directing, namespace),
        ),
    )


def _mismatches(expect: Expectation, outcome: Outcome) -> Iterator[Mismatch]:
    rule = outcome.rule
    for name, expected, came in (
        ("verdict", expect.verdict, outcome.verdict),
        ("policy", expect.policy, rule.owner if rule else None),
        ("rule", expect.rule, rule.index if rule else None),
        ("reason", expect.reason, outcome.reason),
        ("normalizedPath", expect.normalized_path, outcome.path),
        ("dryRunVerdict", expect.dry_run_verdict, outcome.verdict_if_enforced),
        ("audited", expect.audited, outcome.audited),
    ):
        if expected is not None and expected != came:
            yield Mismatch(name, _word(expected), _word(came))


def _tls_mismatches(expect: ExpectedTls | None, came: Securing | None) -> Iterator[Mismatch]:
    if expect is None or came is None:
        return
    tls = came.choice.tls
    names = tls.subject_alt_names if tls else ()
    for name, expected, found in (
        ("mode", expect.mode, came.mode),
        ("sni", expect.sni, tls.server_name if tls else ""),
        ("subjectAltNames", _sorted(expect.subject_alt_names), _sorted(names)),
    ):
        if expected is not None and expected != found:
            yield Mismatch(f"tls.{name}", expected or "none", found or "none")


def _limit_mismatches(
    expect: Sequence[str] | None, came: Sequence[LimitTrace]
) -> Iterator[Mismatch]:
    if expect is None:
        return
    found = [f"{each.name} (perhaps)" if each.missing else each.name for each in came]
    if sorted(expect) != sorted(found):
        yield Mismatch("limits", _sorted(expect) or "none", _sorted(found) or "none")


def _fault_mismatches(expect: Expectation, explanation: Explanation) -> Iterator[Mismatch]:
    for each in harmed(expect, explanation.faults, explanation.directing):
        if each.expected != each.came:
            yield Mismatch(*each)


def _route_mismatches(
    expect: Expectation, way: Directing | None, namespace: str
) -> Iterator[Mismatch]:
    if way is not None:
        for each in compared(expect, way, namespace):
            if each.expected != each.came:
                yield Mismatch(*each)


def _sorted(names: Sequence[str] | None) -> str | None:
    return None if names is None else ", ".join(sorted(names))


def _word(value: object) -> str:
    """Write a value as YAML would."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _coverage(snapshot: Snapshot, results: Sequence[Result]) -> Coverage:
    matched = {
        rule.rule
        for result in results
        for policy in result.explanation.policies
        for rule in policy.rules
        if rule.holds
    }
    rules = [
        rule.name for policy in snapshot.policies if not policy.left_out for rule in policy.rules
    ]
    return Coverage(len(rules), tuple(rule for rule in rules if rule not in matched))


def _facts(document: Document, case: Case) -> Facts:
    defaults = _config(document).spec.defaults
    return facts_of(filled(case.request, defaults), case.direction)


def _cases(document: Document) -> tuple[Case, ...]:
    return _config(document).spec.cases


def _config(document: Document) -> PolicyTest:
    assert isinstance(document.config, PolicyTest), "the caller told kinds apart"
    return document.config
