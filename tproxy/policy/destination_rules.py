"""How connections to named destinations are secured: `DestinationRule`, the nearest one decides."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tproxy.model.identity import UNKNOWN
from tproxy.policy.findings import Code, Finding, Path, Severity
from tproxy.policy.hosts import HostTable, is_host, is_identity, is_name, qualified
from tproxy.policy.load import Document
from tproxy.policy.schema import (
    ClientTls,
    DestinationRule,
    DestinationRuleSpec,
    ExportTo,
    TlsModeName,
)
from tproxy.policy.scope import LABELLESS, NAMELESS, Scope, wanted_labels


@dataclass(frozen=True, slots=True)
class Said:
    """What a rule says of connections to a port."""

    owner: str
    """`foo/reviews`."""
    place: str
    """`file:line`."""
    tls: ClientTls | None
    """None when it says nothing of TLS."""


@dataclass(frozen=True, slots=True)
class TlsRule:
    """One rule."""

    host: str
    exported: bool
    """Whether workloads of other namespaces may use it."""
    whole: Said
    ports: Mapping[int, Said]

    def of(self, port: int) -> Said:
        """Return what it says of a port."""
        return self.ports.get(port, self.whole)


def _empty() -> HostTable[TlsRule]:
    return HostTable({})


@dataclass(frozen=True, slots=True)
class RuleBook:
    """The rules that this workload may use."""

    own: HostTable[TlsRule] = field(default_factory=_empty)
    """Of its own namespace."""
    exported: Mapping[str, HostTable[TlsRule]] = field(default_factory=dict)
    """Of each namespace, for everybody."""
    root: str = ""

    @property
    def some(self) -> bool:
        """Whether there are any."""
        return bool(self.own.by_host or self.exported)

    def every(self) -> Iterator[TlsRule]:
        """Give each rule once."""
        tables = (self.own, *self.exported.values())
        yield from {id(rule): rule for each in tables for rule in each.by_host.values()}.values()

    def find(self, hosts: Sequence[str], namespace: str) -> TlsRule | None:
        """Return the rule about a service of `namespace`: the workload's own, the service's, the root's."""
        tables = (self.own, self.exported.get(namespace), self.exported.get(self.root))
        for table in tables:
            if table is not None and (rule := table.find(hosts)):
                return rule
        return None


def rules(documents: Sequence[Document], scope: Scope) -> RuleBook:
    """Gather what sound documents say to this workload."""
    own: dict[str, TlsRule] = {}
    exported: dict[str, dict[str, TlsRule]] = defaultdict(dict)
    # The root's rules are about every workload, those in the root namespace included: nearer ones are asked first.
    at_root = scope.workload.namespace == scope.root
    for document in sorted(documents, key=lambda each: bool(_labels(each))):
        namespace = scope.namespace_of(document.config)
        rule = _rule(document, namespace)
        if rule.exported:
            exported[namespace][rule.host] = rule
        if _is_own(document, scope) and not (at_root and rule.exported):
            own[rule.host] = rule
    tables = {namespace: HostTable(of_one) for namespace, of_one in exported.items()}
    return RuleBook(HostTable(own), tables, scope.root)


def _is_own(document: Document, scope: Scope) -> bool:
    here = scope.namespace_of(document.config) == scope.workload.namespace
    return here and scope.has(_labels(document))


def _labels(document: Document) -> Mapping[str, str]:
    return wanted_labels(_spec(document).workload_selector)


def _rule(document: Document, namespace: str) -> TlsRule:
    spec = _spec(document)
    policy: Path = ("spec", "trafficPolicy")

    def said(path: Path, tls: ClientTls | None) -> Said:
        owner = f"{namespace}/{document.config.metadata.name}"
        return Said(owner, f"{document.file}:{document.node.nearest(path).line}", tls)

    return TlsRule(
        qualified(spec.host, namespace),
        spec.export_to == (ExportTo.EVERYBODY,) and spec.workload_selector is None,
        said((*policy, "tls"), spec.traffic_policy.tls),
        {
            each.port.number: said((*policy, "portLevelSettings", index), each.tls)
            for index, each in enumerate(spec.traffic_policy.port_level_settings)
        },
    )


def mistakes(documents: Sequence[Document], scope: Scope) -> Iterator[Finding]:
    """Tell of documents that mean nothing, and of those that contradict each other: files have no age."""
    first: dict[tuple[object, ...], Document] = {}
    for document in documents:
        yield from _scope_mistakes(document, scope)
        yield from _rule_mistakes(document)
        for path, tls in every_tls(document):
            yield from _tls_mistakes(document, path, tls)
        other = first.setdefault(_about(document, scope), document)
        if other is not document:
            place = f"{other.file}:{other.node.mark.line}"
            message = f"is about the same connections as {place}, and neither is older: merge them"
            yield document.finding(Code.CONFLICT, ("spec", "host"), message)


def _about(document: Document, scope: Scope) -> tuple[object, ...]:
    """Tell apart what one rule at most may be about: a host, for this workload or for whom a selector means."""
    namespace, labels = scope.namespace_of(document.config), _labels(document)
    host = qualified(_spec(document).host, namespace)
    if labels and _is_own(document, scope):
        return (namespace, host, "this workload")
    return (namespace, host, tuple(sorted(labels.items())))


def _scope_mistakes(document: Document, scope: Scope) -> Iterator[Finding]:
    metadata, spec = document.config.metadata, _spec(document)
    labels = _labels(document)
    if scope.workload.namespace == UNKNOWN and metadata.namespace:
        yield document.finding(Code.CONFLICT, ("metadata", "namespace"), NAMELESS)
    elif "." not in spec.host and is_name(spec.host) and scope.workload.namespace == UNKNOWN:
        yield document.finding(Code.CONFLICT, ("spec", "host"), NAMELESS)
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


def _rule_mistakes(document: Document) -> Iterator[Finding]:
    spec = _spec(document)
    if not is_host(spec.host):
        message = f"{spec.host!r} is no name of a service: write a DNS name, `*.suffix` or `*`"
        yield document.finding(Code.BAD_VALUE, ("spec", "host"), message)
    if len(spec.export_to) > 1:
        message = "several words contradict each other: write one"
        yield document.finding(Code.CONFLICT, ("spec", "exportTo"), message)
    first: dict[int, int] = {}
    for index, each in enumerate(spec.traffic_policy.port_level_settings):
        if (other := first.setdefault(each.port.number, index)) != index:
            message = f"port {each.port.number} is set already in portLevelSettings[{other}]"
            path: Path = ("spec", "trafficPolicy", "portLevelSettings", index, "port")
            yield document.finding(Code.CONFLICT, path, message)


def every_tls(document: Document) -> Iterator[tuple[Path, ClientTls]]:
    """Give all that a rule says of TLS, and where."""
    policy = _spec(document).traffic_policy
    path: Path = ("spec", "trafficPolicy")
    if policy.tls is not None:
        yield (*path, "tls"), policy.tls
    for index, each in enumerate(policy.port_level_settings):
        if each.tls is not None:
            yield (*path, "portLevelSettings", index, "tls"), each.tls


_FILES = {
    "clientCertificate": "client_certificate",
    "privateKey": "private_key",
    "caCertificates": "ca_certificates",
    "caCrl": "ca_crl",
}
_UNREAD = {
    TlsModeName.DISABLE: (*_FILES, "subjectAltNames", "sni", "insecureSkipVerify"),
    TlsModeName.SIMPLE: ("clientCertificate", "privateKey"),
    TlsModeName.MUTUAL: (),
    TlsModeName.ISTIO_MUTUAL: (*_FILES, "insecureSkipVerify"),
}
"""Fields that have no meaning in a mode."""


def _given(tls: ClientTls) -> set[str]:
    """Return the fields that say something."""
    said = {name for name, attribute in _FILES.items() if getattr(tls, attribute) is not None}
    others = (
        ("subjectAltNames", tls.subject_alt_names),
        ("sni", tls.sni),
        ("insecureSkipVerify", tls.insecure_skip_verify),
    )
    return said | {name for name, value in others if value}


def _tls_mistakes(document: Document, path: Path, tls: ClientTls) -> Iterator[Finding]:
    yield from _unread(document, path, tls)
    given = _given(tls)
    if tls.mode is TlsModeName.MUTUAL:
        for name in ("clientCertificate", "privateKey"):
            if name not in given:
                yield document.finding(Code.CONFLICT, path, f"MUTUAL needs {name!r}: name its file")
    if tls.insecure_skip_verify:
        for name in {"caCertificates", "caCrl", "subjectAltNames"} & given - {*_UNREAD[tls.mode]}:
            message = "insecureSkipVerify takes anybody, so nobody would look: leave one out"
            yield document.finding(Code.CONFLICT, (*path, name), message)
    yield from _name_mistakes(document, path, tls)


def _unread(document: Document, path: Path, tls: ClientTls) -> Iterator[Finding]:
    for name in _UNREAD[tls.mode]:
        if name not in _given(tls):
            continue
        if tls.mode is TlsModeName.ISTIO_MUTUAL:
            message = "ISTIO_MUTUAL shows the workload's identity and holds the mesh's roots: leave it out"
            yield document.finding(Code.CONFLICT, (*path, name), message)
        else:
            message = f"changes nothing with mode {tls.mode}: leave it out, or change the mode"
            where = (*path, name)
            yield document.finding(Code.NO_EFFECT, where, message, severity=Severity.WARNING)


def _name_mistakes(document: Document, path: Path, tls: ClientTls) -> Iterator[Finding]:
    if tls.sni is not None and not is_name(tls.sni):
        message = f"{tls.sni!r} is no name that can be asked for: write a DNS name"
        yield document.finding(Code.BAD_VALUE, (*path, "sni"), message)
    named = tls.mode is not TlsModeName.ISTIO_MUTUAL
    for index, name in enumerate(tls.subject_alt_names or ()):
        if not is_identity(name) and not (named and is_name(name)):
            wanted = "spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/NAME"
            wanted = f"{wanted}, or a DNS name" if named else wanted
            message = f"{name!r} is nobody who could be there: write {wanted}"
            yield document.finding(Code.BAD_VALUE, (*path, "subjectAltNames", index), message)
    for name, attribute in _FILES.items():
        if getattr(tls, attribute) == "":
            yield document.finding(Code.BAD_VALUE, (*path, name), "names no file")


def _spec(document: Document) -> DestinationRuleSpec:
    assert isinstance(document.config, DestinationRule), "the caller told kinds apart"
    return document.config.spec
