"""Find rules about destinations that are sound and hardly mean what their author thinks."""

from collections.abc import Iterator, Sequence

from tproxy.policy.destination_rule_mistakes import every_tls
from tproxy.policy.findings import Code, Finding, Path, Severity
from tproxy.policy.hosts import EVERYTHING, by_pattern, qualified
from tproxy.policy.lint_endpoints import endpoint_findings
from tproxy.policy.load import Document
from tproxy.policy.schema import (
    DestinationRule,
    DestinationRuleSpec,
    ServiceEntry,
    ServiceEntrySpec,
    ServiceProtocol,
    TlsModeName,
)
from tproxy.policy.scope import Scope

_BY_NAME = (TlsModeName.SIMPLE, TlsModeName.MUTUAL)
_ITS_OWN_TLS = (ServiceProtocol.TLS, ServiceProtocol.HTTPS)


def destination_findings(documents: Sequence[Document], scope: Scope) -> Iterator[Finding]:
    """Look at documents in which there is no mistake."""
    entries = by_pattern(
        (_names(each, scope), each) for each in documents if isinstance(each.config, ServiceEntry)
    )
    for document in documents:
        if isinstance(document.config, DestinationRule):
            host = qualified(_spec(document).host, scope.namespace_of(document.config))
            about = entries.get(host, ())
            yield from endpoint_findings(document, [_entry(each) for each in about])
            yield from _trust(document)
            yield from _everything(document)
            if entries and not about:
                yield _unnamed(document, host)
            yield from _twice(document, about)


def _trust(document: Document) -> Iterator[Finding]:
    for path, tls in every_tls(document):
        if tls.mode not in _BY_NAME:
            continue
        if tls.insecure_skip_verify:
            message = "whoever answers is believed, so nothing is proven: name caCertificates"
            where = (*path, "insecureSkipVerify")
            yield document.finding(
                Code.UNPROVEN_UPSTREAM, where, message, severity=Severity.WARNING
            )
        elif tls.ca_certificates is None:
            message = (
                "names no caCertificates, so the roots of the system vouch for whoever answers"
            )
            yield document.finding(Code.UNPROVEN_UPSTREAM, path, message, severity=Severity.INFO)


def _everything(document: Document) -> Iterator[Finding]:
    wrapped = any(tls.mode is not TlsModeName.DISABLE for _, tls in every_tls(document))
    if _spec(document).host == EVERYTHING and wrapped:
        message = (
            "is about every connection that leaves, to the Internet and in TLS of the application's too:"
            " name the hosts, as *.svc.cluster.local"
        )
        path: Path = ("spec", "host")
        yield document.finding(Code.EVERY_DESTINATION, path, message, severity=Severity.WARNING)


def _unnamed(document: Document, host: str) -> Finding:
    message = f"no ServiceEntry names {host}: the rule is about requests that ask for it, and about nothing else"
    return document.finding(Code.UNNAMED_HOST, ("spec", "host"), message, severity=Severity.INFO)


def _twice(document: Document, entries: Sequence[Document]) -> Iterator[Finding]:
    """Find ports on which TLS of the application's would go inside TLS of ours."""
    policy = _spec(document).traffic_policy
    others = {each.port.number: each.tls for each in policy.port_level_settings}
    for entry in entries:
        for port in _entry(entry).ports:
            tls = others.get(port.number, policy.tls)
            if port.protocol in _ITS_OWN_TLS and tls is not None and tls.mode in _BY_NAME:
                message = (
                    f"wraps port {port.number} of {entry.file}:{entry.node.mark.line} in {tls.mode} TLS,"
                    f" and what is there is {port.protocol} already: leave that port out"
                )
                path: Path = ("spec", "trafficPolicy")
                yield document.finding(Code.TLS_TWICE, path, message, severity=Severity.WARNING)


def _names(entry: Document, scope: Scope) -> Iterator[str]:
    namespace = scope.namespace_of(entry.config)
    return (qualified(host, namespace) for host in _entry(entry).hosts)


def _entry(document: Document) -> ServiceEntrySpec:
    assert isinstance(document.config, ServiceEntry), "the caller told kinds apart"
    return document.config.spec


def _spec(document: Document) -> DestinationRuleSpec:
    assert isinstance(document.config, DestinationRule), "the caller told kinds apart"
    return document.config.spec
