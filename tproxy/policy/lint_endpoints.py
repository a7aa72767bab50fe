"""Find rules about destinations that the endpoints of these leave without an effect."""

from collections.abc import Iterator, Sequence

from tproxy.policy.destination_rule_mistakes import every_policy
from tproxy.policy.findings import Code, Finding, Path, Severity
from tproxy.policy.hosts import is_open
from tproxy.policy.load import Document
from tproxy.policy.schema import (
    DestinationRule,
    DestinationRuleSpec,
    Resolution,
    ServiceEndpoint,
    ServiceEntrySpec,
    SimpleLoadBalancer,
    Subset,
)


def endpoint_findings(document: Document, entries: Sequence[ServiceEntrySpec]) -> Iterator[Finding]:
    """Look at a rule, and at the entries that name what it is about."""
    resolutions = {each.resolution for each in entries}
    if resolutions == {Resolution.NONE} or _passes(document):
        yield from _unchosen(document)
    elif Resolution.NONE not in resolutions:
        endpoints = [each for entry in entries for each in entry.endpoints]
        yield from _empty_subsets(document, endpoints)
        if resolutions == {Resolution.STATIC}:
            yield from _nobody_ejected(document, len(endpoints))


def _passes(document: Document) -> bool:
    balancer = _spec(document).traffic_policy.load_balancer
    return balancer is not None and balancer.simple is SimpleLoadBalancer.PASSTHROUGH


def _unchosen(document: Document) -> Iterator[Finding]:
    why = "changes nothing, for connections go where they were going (resolution NONE)"
    if _passes(document):
        why = "changes nothing, for connections go where they were going (PASSTHROUGH)"
    for path, policy in every_policy(document):
        if policy.load_balancer is not None and not _passes(document):
            where = (*path, "loadBalancer")
            yield document.finding(Code.NO_EFFECT, where, why, severity=Severity.WARNING)
    for index, _ in enumerate(_subsets(document)):
        where = ("spec", "subsets", index, "labels")
        yield document.finding(Code.NO_EFFECT, where, why, severity=Severity.WARNING)


def _empty_subsets(document: Document, endpoints: Sequence[ServiceEndpoint]) -> Iterator[Finding]:
    for index, subset in enumerate(_subsets(document)):
        wanted = subset.labels.items()
        if wanted and not any(wanted <= each.labels.items() for each in endpoints):
            message = f"no endpoint has the labels {dict(wanted)}: what is sent to {subset.name!r} is answered with 503"
            path: Path = ("spec", "subsets", index, "labels")
            yield document.finding(Code.EMPTY_SUBSET, path, message, severity=Severity.WARNING)


def _nobody_ejected(document: Document, count: int) -> Iterator[Finding]:
    if is_open(_spec(document).host):
        return
    for path, policy in every_policy(document):
        outlier = policy.outlier_detection
        if outlier is not None and count * outlier.max_ejection_percent < 100:
            percent = outlier.max_ejection_percent
            message = f"{percent:g} % of {count} endpoints is nobody: set maxEjectionPercent to {-(-100 // count)} or more"
            where = (*path, "outlierDetection")
            yield document.finding(Code.NOBODY_EJECTED, where, message, severity=Severity.WARNING)


def _subsets(document: Document) -> Sequence[Subset]:
    return _spec(document).subsets


def _spec(document: Document) -> DestinationRuleSpec:
    assert isinstance(document.config, DestinationRule), "the caller told kinds apart"
    return document.config.spec
