"""Mistakes in what objects are called, and in the words that say whom they are about or whether they are tried."""

import re
from collections.abc import Iterator, Sequence

from tproxy.policy.findings import Code, Finding, Path, Severity
from tproxy.policy.load import Document
from tproxy.policy.schema import (
    AuthorizationPolicy,
    DestinationRule,
    FaultPolicy,
    PeerAuthentication,
    PolicyTest,
    ProxyConfig,
    RateLimitPolicy,
    Selector,
)
from tproxy.policy.scope import Scope

DRY_RUN = "istio.io/dry-run"
"""The annotation of policies that are evaluated and never enforced."""

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL)
_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
_LABEL_KEY = re.compile(
    rf"({_LABEL}(\.{_LABEL})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?"
)
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_OURS = re.compile(r"(.*\.)?(istio|tproxy)\.io/.*")


def mistakes(documents: Sequence[Document], scope: Scope) -> Iterator[Finding]:
    """Find them in all documents, whichever workload they are about."""
    first: dict[tuple[object, ...], Document] = {}
    for document in documents:
        yield from _names(document)
        yield from _dry_run(document)
        if isinstance(document.config, ProxyConfig | PolicyTest):
            continue
        yield from _selector(document)
        kind = type(document.config).__name__
        name = (kind, scope.namespace_of(document.config), document.config.metadata.name)
        other = first.setdefault((*name, document.discovered), document)
        if other is not document:
            place = f"{other.file}:{other.node.mark.line}"
            message = f"a second {kind} {name[1]}/{name[2]}, the first is {place}: name one of them otherwise"
            yield document.finding(Code.CONFLICT, ("metadata", "name"), message)


def _names(document: Document) -> Iterator[Finding]:
    metadata = document.config.metadata
    named: list[tuple[Path, str | None, re.Pattern[str]]] = [
        (("metadata", "name"), metadata.name, _NAME),
        (("metadata", "namespace"), metadata.namespace, _NAMESPACE),
    ]
    if isinstance(document.config, ProxyConfig):
        named.append((("spec", "rootNamespace"), document.config.spec.root_namespace, _NAMESPACE))
    for path, name, pattern in named:
        if name is not None and not pattern.fullmatch(name):
            message = f"{name!r} is no name in Kubernetes: use a-z, 0-9 and `-`"
            yield document.finding(Code.BAD_VALUE, path, message)


def _dry_run(document: Document) -> Iterator[Finding]:
    """Refuse what was meant to be tried and would be in force; tell of annotations that nobody reads."""
    metadata = document.config.metadata
    tried = isinstance(document.config, AuthorizationPolicy)
    for where, words in (("annotations", metadata.annotations), ("labels", metadata.labels)):
        for key in words:
            path = ("metadata", where, key)
            meant = "dryrun" in re.sub("[^a-z]", "", key.lower())
            if meant and not (tried and where == "annotations" and key == DRY_RUN):
                yield document.finding(Code.BAD_VALUE, path, _in_force(document, key, where))
            elif not meant and where == "annotations" and _OURS.fullmatch(key):
                message = f"{key!r} has no meaning here: leave it out"
                yield document.finding(Code.NO_EFFECT, path, message, severity=Severity.WARNING)


def _in_force(document: Document, key: str, where: str) -> str:
    if not isinstance(document.config, AuthorizationPolicy):
        kind = type(document.config).__name__
        return f"{key!r}: only an AuthorizationPolicy can be tried, this {kind} would be in force"
    if key == DRY_RUN:
        return f"{key!r} is an annotation, not one of the {where}: this policy would be in force"
    return f"{key!r}: did you mean the annotation {DRY_RUN!r}? This policy would be in force"


def _selector(document: Document) -> Iterator[Finding]:
    selector, path = _selector_of(document)
    if selector is None:
        return
    if not selector.match_labels:
        message = "names no labels, so it is about every workload: leave it out, or name them"
        yield document.finding(Code.NO_EFFECT, path, message, severity=Severity.WARNING)
    for key, value in selector.match_labels.items():
        if not (_LABEL_KEY.fullmatch(key) and _LABEL_VALUE.fullmatch(value)):
            message = f"'{key}: {value}' is no label in Kubernetes, and selectors have no wildcards"
            yield document.finding(Code.BAD_VALUE, (*path, "matchLabels", key), message)


def _selector_of(document: Document) -> tuple[Selector | None, Path]:
    match document.config:
        case AuthorizationPolicy() | PeerAuthentication() | RateLimitPolicy() | FaultPolicy():
            return document.config.spec.selector, ("spec", "selector")
        case DestinationRule():
            return document.config.spec.workload_selector, ("spec", "workloadSelector")
    return None, ()
