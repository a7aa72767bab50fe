"""What a `DestinationRule` cannot mean, told with its place and what to do."""

from collections.abc import Iterator, Sequence

from tproxy.model.identity import UNKNOWN
from tproxy.policy.client_tls_mistakes import tls_mistakes
from tproxy.policy.destination_rules import is_own, labels_of
from tproxy.policy.findings import Code, Finding, Path, Severity
from tproxy.policy.hosts import is_host, is_name, qualified
from tproxy.policy.load import Document
from tproxy.policy.schema import (
    ClientTls,
    DestinationRule,
    DestinationRuleSpec,
    ExportTo,
    PortTrafficPolicy,
    TrafficPolicy,
)
from tproxy.policy.scope import LABELLESS, NAMELESS, Scope
from tproxy.policy.settings import bad_values, conflicts, idle_words


def sound(
    documents: Sequence[Document], scope: Scope, findings: list[Finding]
) -> Sequence[Document]:
    """Give the documents that mean something, and tell of the others and of those that contradict each other."""
    found = {id(each): list(_mistakes(each, scope)) for each in documents}
    findings.extend(each for of_one in found.values() for each in of_one)
    findings.extend(_contradictions(documents, scope))
    return [each for each in documents if not _refused(found[id(each)])]


def _refused(found: Sequence[Finding]) -> bool:
    return any(each.severity is Severity.ERROR for each in found)


def _contradictions(documents: Sequence[Document], scope: Scope) -> Iterator[Finding]:
    """Find rules about the same connections: files have no age."""
    first: dict[tuple[object, ...], Document] = {}
    for document in documents:
        other = first.setdefault(_about(document, scope), document)
        if other is not document:
            place = f"{other.file}:{other.node.mark.line}"
            message = f"is about the same connections as {place}, and neither is older: merge them"
            yield document.finding(Code.CONFLICT, ("spec", "host"), message)


def _mistakes(document: Document, scope: Scope) -> Iterator[Finding]:
    yield from _scope_mistakes(document, scope)
    yield from _rule_mistakes(document)
    yield from _subset_mistakes(document)
    for path, policy in every_policy(document):
        yield from _policy_mistakes(document, path, policy)
    for path, tls in every_tls(document):
        yield from tls_mistakes(document, path, tls)


def _policy_mistakes(
    document: Document, path: Path, policy: TrafficPolicy | PortTrafficPolicy
) -> Iterator[Finding]:
    for below, message in bad_values(policy):
        yield document.finding(Code.BAD_VALUE, (*path, *below), message)
    for below, message in conflicts(policy):
        yield document.finding(Code.CONFLICT, (*path, *below), message)
    for below, message in idle_words(policy):
        where = (*path, *below)
        yield document.finding(Code.NO_EFFECT, where, message, severity=Severity.WARNING)
    if isinstance(policy, TrafficPolicy):
        yield from _repeated_ports(document, path, policy)


def _repeated_ports(document: Document, path: Path, policy: TrafficPolicy) -> Iterator[Finding]:
    first: dict[int, int] = {}
    for index, each in enumerate(policy.port_level_settings):
        if (other := first.setdefault(each.port.number, index)) != index:
            message = f"port {each.port.number} is set already in portLevelSettings[{other}]"
            where = (*path, "portLevelSettings", index, "port")
            yield document.finding(Code.CONFLICT, where, message)


def _subset_mistakes(document: Document) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for index, each in enumerate(_spec(document).subsets):
        if (other := first.setdefault(each.name, index)) != index:
            message = (
                f"{each.name!r} is that of subsets[{other}] already: name one of them otherwise"
            )
            yield document.finding(Code.CONFLICT, ("spec", "subsets", index, "name"), message)


def _about(document: Document, scope: Scope) -> tuple[object, ...]:
    """Tell apart what one rule at most may be about: a host, for this workload or for whom a selector means."""
    namespace, labels = scope.namespace_of(document.config), labels_of(document)
    host = qualified(_spec(document).host, namespace)
    if labels and is_own(document, scope):
        return (namespace, host, "this workload")
    return (namespace, host, tuple(sorted(labels.items())))


def _scope_mistakes(document: Document, scope: Scope) -> Iterator[Finding]:
    metadata, spec = document.config.metadata, _spec(document)
    labels = labels_of(document)
    if found := list(nameless(document, spec.host, scope)):
        yield from found
    elif scope.namespace_of(document.config) != scope.workload.namespace:
        if labels or spec.export_to == (ExportTo.NAMESPACE,):
            message = f"is for workloads of {metadata.namespace}, this one is in {scope.workload.namespace}: not read"
            path = ("metadata", "namespace")
            yield document.finding(Code.FOREIGN_NAMESPACE, path, message, severity=Severity.INFO)
    elif labels and not scope.workload.labels:
        yield document.finding(Code.CONFLICT, ("spec", "workloadSelector"), LABELLESS)
    elif not scope.has(labels):
        message = f"this workload has the labels {dict(scope.workload.labels)}: not applied"
        path = ("spec", "workloadSelector")
        yield document.finding(Code.SELECTS_NOTHING, path, message, severity=Severity.WARNING)


def nameless(document: Document, host: str, scope: Scope) -> Iterator[Finding]:
    """Find what is of a namespace where nobody knows the workload's."""
    if scope.workload.namespace != UNKNOWN:
        return
    if document.config.metadata.namespace:
        yield document.finding(Code.CONFLICT, ("metadata", "namespace"), NAMELESS)
    elif "." not in host and is_name(host):
        yield document.finding(Code.CONFLICT, ("spec", "host"), NAMELESS)


def _rule_mistakes(document: Document) -> Iterator[Finding]:
    spec = _spec(document)
    if not is_host(spec.host):
        message = f"{spec.host!r} is no name of a service: write a DNS name, `*.suffix` or `*`"
        yield document.finding(Code.BAD_VALUE, ("spec", "host"), message)
    if len(spec.export_to) > 1:
        message = "several words contradict each other: write one"
        yield document.finding(Code.CONFLICT, ("spec", "exportTo"), message)


def every_policy(document: Document) -> Iterator[tuple[Path, TrafficPolicy | PortTrafficPolicy]]:
    """Give all that a rule says of connections, and where: to all, to subsets, and to single ports of either."""
    spec = _spec(document)
    wholes: list[tuple[Path, TrafficPolicy]] = [(("spec", "trafficPolicy"), spec.traffic_policy)]
    for index, subset in enumerate(spec.subsets):
        wholes.append((("spec", "subsets", index, "trafficPolicy"), subset.traffic_policy))
    for path, policy in wholes:
        yield path, policy
        for index, each in enumerate(policy.port_level_settings):
            yield (*path, "portLevelSettings", index), each


def every_tls(document: Document) -> Iterator[tuple[Path, ClientTls]]:
    """Give all that a rule says of TLS, and where."""
    for path, policy in every_policy(document):
        if policy.tls is not None:
            yield (*path, "tls"), policy.tls


def _spec(document: Document) -> DestinationRuleSpec:
    assert isinstance(document.config, DestinationRule), "the caller told kinds apart"
    return document.config.spec
