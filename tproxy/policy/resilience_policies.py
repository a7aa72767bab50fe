"""When endpoints are given up and how often is tried again: `ResiliencePolicy`, the nearest one decides."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tproxy.policy.destination_rule_mistakes import nameless
from tproxy.policy.findings import Code, Finding, Path, Severity
from tproxy.policy.hosts import HostTable, is_host, qualified
from tproxy.policy.load import Document
from tproxy.policy.schema import (
    BoundedRetries,
    CircuitBreaker,
    ResiliencePolicy,
    ResiliencePolicySpec,
)
from tproxy.policy.scope import Scope
from tproxy.policy.units import duration
from tproxy.resilience.breaker import BreakerSpec, ConsecutiveFailures, FailureRate, Penalty
from tproxy.resilience.retry_budget import RetryBudgetSpec


@dataclass(frozen=True, slots=True)
class Endurance:
    """What one policy says of a host."""

    owner: str
    """`foo/reviews`."""
    place: str
    """`file:line`."""
    breaker: BreakerSpec | None = None
    retry_budget: RetryBudgetSpec | None = None


@dataclass(frozen=True, slots=True)
class ResilienceBook:
    """The policies of all namespaces."""

    by_namespace: Mapping[str, HostTable[Endurance]] = field(default_factory=dict)
    own: str = ""
    """The workload's namespace."""
    root: str = ""

    def every(self) -> Iterator[tuple[str, Endurance]]:
        """Give each policy with the host that it is about."""
        for table in self.by_namespace.values():
            yield from table.by_host.items()

    def find(self, hosts: Sequence[str], namespace: str) -> Endurance | None:
        """Return the policy about a service of `namespace`: the workload's own, the service's, the root's."""
        # The root's are about every workload, those in the root namespace included: nearer ones are asked first.
        own = (self.own,) if self.own != self.root else ()
        for each in (*own, namespace, self.root):
            table = self.by_namespace.get(each)
            if table is not None and (found := table.find(hosts)):
                return found
        return None


def resilience(
    documents: Sequence[Document], scope: Scope, findings: list[Finding]
) -> ResilienceBook:
    """Gather what sound documents say; mistakes are added to `findings`."""
    tables: dict[str, dict[str, Endurance]] = defaultdict(dict)
    first: dict[tuple[str, str], Document] = {}
    for document in documents:
        found = list(_mistakes(document, scope))
        namespace = scope.namespace_of(document.config)
        host = qualified(_spec(document).host, namespace)
        other = first.setdefault((namespace, host), document)
        if other is not document:
            place = f"{other.file}:{other.node.mark.line}"
            message = f"is about the same host as {place}, and neither is older: merge them"
            found.append(document.finding(Code.CONFLICT, ("spec", "host"), message))
        findings.extend(found)
        if all(each.severity is not Severity.ERROR for each in found):
            tables[namespace][host] = _endurance(document, namespace)
    books = {namespace: HostTable(table) for namespace, table in tables.items()}
    return ResilienceBook(books, scope.workload.namespace, scope.root)


def _endurance(document: Document, namespace: str) -> Endurance:
    spec = _spec(document)
    return Endurance(
        f"{namespace}/{document.config.metadata.name}",
        f"{document.file}:{document.node.mark.line}",
        _breaker(spec.breaker) if spec.breaker else None,
        _budget(spec.retry_budget) if spec.retry_budget else None,
    )


def _breaker(spec: CircuitBreaker) -> BreakerSpec:
    penalty = Penalty(duration(spec.penalty.min), duration(spec.penalty.max), spec.penalty.jitter)
    if spec.failure_rate is not None:
        rate = spec.failure_rate
        return BreakerSpec(
            FailureRate(rate.percent, rate.min_requests, duration(rate.window)), penalty
        )
    failures = spec.consecutive_failures
    accrual = ConsecutiveFailures() if failures is None else ConsecutiveFailures(failures)
    return BreakerSpec(accrual, penalty)


def _budget(spec: BoundedRetries) -> RetryBudgetSpec:
    least = spec.min_retry_rate
    return RetryBudgetSpec(
        spec.percent, duration(spec.interval), least.count, duration(least.interval)
    )


def _mistakes(document: Document, scope: Scope) -> Iterator[Finding]:
    spec = _spec(document)
    if not is_host(spec.host):
        message = f"{spec.host!r} is no name of a service: write a DNS name, `*.suffix` or `*`"
        yield document.finding(Code.BAD_VALUE, ("spec", "host"), message)
    yield from nameless(document, spec.host, scope)
    if spec.breaker is None and spec.retry_budget is None:
        message = "says nothing: write breaker or retryBudget"
        yield document.finding(Code.NO_EFFECT, ("spec",), message, severity=Severity.WARNING)
    unsound = {path for path, _ in _bad_durations(spec)}
    for path, message in _bad_durations(spec):
        yield document.finding(Code.BAD_VALUE, ("spec", *path), message)
    if spec.breaker is not None and not unsound:
        yield from _breaker_mistakes(document, spec.breaker)


def _bad_durations(spec: ResiliencePolicySpec) -> Iterator[tuple[Path, str]]:
    for path, text in _durations(spec):
        try:
            seconds = duration(text)
        except ValueError as error:
            yield path, str(error)
            continue
        if seconds == 0:
            yield path, f"{text!r} is no time at all: write a longer one"


def _durations(spec: ResiliencePolicySpec) -> Iterator[tuple[Path, str]]:
    if spec.breaker is not None:
        yield ("breaker", "penalty", "min"), spec.breaker.penalty.min
        yield ("breaker", "penalty", "max"), spec.breaker.penalty.max
        if spec.breaker.failure_rate is not None:
            yield ("breaker", "failureRate", "window"), spec.breaker.failure_rate.window
    if spec.retry_budget is not None:
        yield ("retryBudget", "interval"), spec.retry_budget.interval
        least = spec.retry_budget.min_retry_rate
        yield ("retryBudget", "minRetryRate", "interval"), least.interval


def _breaker_mistakes(document: Document, spec: CircuitBreaker) -> Iterator[Finding]:
    path: Path = ("spec", "breaker")
    if spec.consecutive_failures is not None and spec.failure_rate is not None:
        message = "consecutiveFailures and failureRate open it both: leave one out"
        yield document.finding(Code.CONFLICT, path, message)
    if duration(spec.penalty.min) > duration(spec.penalty.max):
        message = f"{spec.penalty.min} at first is more than {spec.penalty.max} at most"
        yield document.finding(Code.CONFLICT, (*path, "penalty", "min"), message)


def _spec(document: Document) -> ResiliencePolicySpec:
    assert isinstance(document.config, ResiliencePolicy), "the caller told kinds apart"
    return document.config.spec
