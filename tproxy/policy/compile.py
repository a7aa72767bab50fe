"""From policy files to the snapshot that the data path asks; nothing of them is taken unless all of it holds."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import assert_never

from tproxy.model.flow import Direction, Protocol
from tproxy.model.identity import SCHEME, UNKNOWN, Workload
from tproxy.policy.authentication import authentication
from tproxy.policy.authentication import mistakes as authentication_mistakes
from tproxy.policy.authorize import (
    Authorizer,
    CompiledRule,
    Policies,
    narrowing,
    path_ports,
    widening,
)
from tproxy.policy.clusters import ClusterBook
from tproxy.policy.compiled_policy import CompiledPolicy
from tproxy.policy.destination_rule_mistakes import sound
from tproxy.policy.destination_rules import rules as destination_rules
from tproxy.policy.destinations import Destinations
from tproxy.policy.egress import Egress
from tproxy.policy.fault_policies import fault_book
from tproxy.policy.findings import Code, Finding, Path, Severity
from tproxy.policy.hosts import is_identity
from tproxy.policy.limit_policies import limit_book
from tproxy.policy.lint import lint
from tproxy.policy.lint_values import unaskable
from tproxy.policy.load import Document, load
from tproxy.policy.nodes import SourceFile
from tproxy.policy.objects import DRY_RUN
from tproxy.policy.objects import mistakes as object_mistakes
from tproxy.policy.resilience_policies import resilience
from tproxy.policy.routes import routes
from tproxy.policy.rules import RuleCompiler
from tproxy.policy.schema import (
    Action,
    AuthorizationPolicy,
    DefaultAction,
    DestinationRule,
    FaultPolicy,
    OutboundMode,
    PeerAuthentication,
    PolicyTest,
    PortProtocol,
    PortSpec,
    ProbeSpec,
    ProxyConfig,
    ProxyConfigSpec,
    RateLimitPolicy,
    ResiliencePolicy,
    ServiceEntry,
    VirtualService,
    WorkloadSpec,
)
from tproxy.policy.scope import Scope
from tproxy.policy.service_entries import EntryBook, entries
from tproxy.policy.snapshot import AccessLogSettings, DetectionSettings, Snapshot
from tproxy.policy.traffic import NO_ROUTES, Traffic
from tproxy.policy.units import duration, size
from tproxy.policy.virtual_services import destination_mistakes
from tproxy.policy.virtual_services import mistakes as route_mistakes

NOBODY = Workload()

LONGEST_DETECTION = 60.0
"""Seconds that a connection may stay undecided: clients give up earlier."""
MOST_DETECTION = 65536
"""Bytes of an opening that are looked at: a TLS record or a request head is not longer."""
LEAST_DETECTION = 24
"""Bytes: HTTP/2's preface, the longest opening that must be seen whole (RFC 9113, 3.4)."""

HTTP = (Protocol.HTTP1, Protocol.HTTP2)


def compiled(
    files: Sequence[SourceFile], generation: int, workload: Workload = NOBODY
) -> Snapshot | tuple[Finding, ...]:
    """Make the snapshot that `files` ask for, or return every mistake that is found in them.

    `workload` is what the proxy's options say of it, where the files are silent.
    """
    return assembled(files, *load(files), generation, workload)


def assembled(
    files: Sequence[SourceFile],
    documents: Sequence[Document],
    mistakes: Sequence[Finding],
    generation: int,
    workload: Workload = NOBODY,
) -> Snapshot | tuple[Finding, ...]:
    """Do what `compiled` does with files that are read already: `documents` and `mistakes` are what `load` gave."""
    findings = list(mistakes)
    kinds = _by_kind(documents)
    findings.extend(_surplus(kinds.proxy))
    for document in kinds.proxy:
        findings.extend(_mistakes(document))
    config = _spec(kinds.proxy[0]) if kinds.proxy else ProxyConfigSpec()
    scope = Scope(_workload(config.workload).or_else(workload), config.root_namespace)
    findings.extend(scope.findings(documents))
    findings.extend(authentication_mistakes(kinds.authentication, scope))
    findings.extend(object_mistakes(documents, scope))
    destinations = _destinations(kinds, scope, config.trust_domain, findings)
    traffic = _traffic(kinds, config, scope, destinations, findings)
    rules = _rules(kinds.authorization, scope, findings)
    rate_limits = limit_book(documents, scope, config, findings)
    faults = fault_book(documents, scope, config.path_normalization, findings)
    if not _refused(findings):
        findings.extend(lint(documents, scope, config))
    order = {source.name: place for place, source in enumerate(files)}
    told = tuple(sorted(findings, key=lambda each: (order[each.file], each.mark, each.code)))
    if _refused(told):
        return told
    return Snapshot(
        generation,
        workload=_workload(config.workload),
        ports=_ports(config.ports),
        translated=_translated(config.ports),
        detection=DetectionSettings(
            seconds=_timeout(config.detection.timeout), bytes=_max_bytes(config.detection.max_bytes)
        ),
        access_log=AccessLogSettings(
            enabled=config.telemetry.access_log.enabled, format=config.telemetry.access_log.format
        ),
        authorizer=_authorizer(config, rules),
        authentication=authentication(kinds.authentication, scope),
        normalization=config.path_normalization,
        policies=tuple(rules.read),
        destinations=destinations,
        faults=faults,
        traffic=traffic,
        rate_limits=rate_limits,
        findings=told,
    )


def _refused(findings: Sequence[Finding]) -> bool:
    return any(finding.severity is Severity.ERROR for finding in findings)


@dataclass(frozen=True, slots=True)
class _Kinds:
    """The documents of each kind."""

    proxy: list[Document]
    authorization: list[Document]
    authentication: list[Document]
    destinations: list[Document]
    entries: list[Document]
    resilience: list[Document]
    routes: list[Document]


def _by_kind(documents: Sequence[Document]) -> _Kinds:  # noqa: C901 - one case for each kind
    kinds = _Kinds([], [], [], [], [], [], [])
    for document in documents:
        match document.config:
            case ProxyConfig():
                kinds.proxy.append(document)
            case AuthorizationPolicy():
                kinds.authorization.append(document)
            case PeerAuthentication():
                kinds.authentication.append(document)
            case DestinationRule():
                kinds.destinations.append(document)
            case ServiceEntry():
                kinds.entries.append(document)
            case ResiliencePolicy():
                kinds.resilience.append(document)
            case VirtualService():
                kinds.routes.append(document)
            case PolicyTest() | RateLimitPolicy() | FaultPolicy():
                pass  # of tests the data path asks no more than their form; limits and faults are compiled by themselves
            case _:
                assert_never(document.config)
    return kinds


def _destinations(
    kinds: _Kinds, scope: Scope, trust_domain: str, findings: list[Finding]
) -> Destinations | None:
    """Gather what is known of destinations; None when nothing is said of any."""
    if not (kinds.destinations or kinds.entries):
        return None
    rules = destination_rules(sound(kinds.destinations, scope, findings), scope)
    book = entries(kinds.entries, scope, trust_domain, findings)
    return Destinations(book, rules, scope.workload.namespace)


def _traffic(
    kinds: _Kinds,
    config: ProxyConfigSpec,
    scope: Scope,
    destinations: Destinations | None,
    findings: list[Finding],
) -> Traffic | None:
    """Make ready to choose ways; None when nothing is said of any."""
    known = config.outbound_traffic_policy.mode is OutboundMode.REGISTRY_ONLY
    endurance = resilience(kinds.resilience, scope, findings)
    if destinations is None and not (known or kinds.routes or kinds.resilience):
        return None
    entries = destinations.entries if destinations else EntryBook()
    clusters = ClusterBook(destinations, endurance)
    found = list(route_mistakes(kinds.routes, scope))
    if not _refused(found):
        found.extend(destination_mistakes(kinds.routes, scope, clusters))
    findings.extend(found)
    book = NO_ROUTES if _refused(found) else routes(kinds.routes, scope, config.path_normalization)
    egress = Egress(entries, registry_only=known)
    return Traffic(
        clusters,
        destinations,
        scope.workload.namespace,
        routes=book,
        egress=egress,
    )


@dataclass(slots=True)
class _Rules:
    """The rules about the workload, by what they do. What changes: they are gathered."""

    by_action: dict[tuple[bool, Action], list[CompiledRule]]
    policies: set[tuple[bool, Action]]
    """Which kinds of policies there are, be it without rules."""
    read: list[CompiledPolicy]
    """All of them, those about other workloads included."""


def _rules(documents: Sequence[Document], scope: Scope, findings: list[Finding]) -> _Rules:
    gathered = _Rules(defaultdict(list), set(), [])
    for document in documents:
        assert isinstance(document.config, AuthorizationPolicy), "the kinds were told apart"
        compiler = RuleCompiler(document, scope.namespace_of(document.config))
        rules = compiler.rules()
        tried = _dry_run(document, findings)
        findings.extend(compiler.findings)
        policy = CompiledPolicy(
            scope.namespace_of(document.config),
            document.config.metadata.name,
            document.config.spec.action,
            document.file,
            document.node.mark.line,
            tried,
            scope.why_not(document.config),
            tuple(rules),
        )
        gathered.read.append(policy)
        if not policy.left_out:
            gathered.policies.add((tried, policy.action))
            gathered.by_action[tried, policy.action].extend(rules)
    return gathered


def _dry_run(document: Document, findings: list[Finding]) -> bool:
    value = document.config.metadata.annotations.get(DRY_RUN, "false")
    if value not in ("true", "false"):
        path = ("metadata", "annotations", DRY_RUN)
        findings.append(document.finding(Code.BAD_VALUE, path, f"{value!r} is not true or false"))
    return value == "true"


def _authorizer(config: ProxyConfigSpec, rules: _Rules) -> Authorizer:
    def policies(*, tried: bool) -> Policies:
        return Policies(
            deny=widening(rules.by_action[tried, Action.DENY]),
            allow=narrowing(rules.by_action[tried, Action.ALLOW]),
            guarded=(tried, Action.ALLOW) in rules.policies,
        )

    every = [rule for of_one in rules.by_action.values() for rule in of_one]
    return Authorizer(
        enforced=policies(tried=False),
        tried=policies(tried=True) if any(tried for tried, _ in rules.policies) else None,
        audit=widening(rules.by_action[False, Action.AUDIT]),
        default=config.default_action,
        probes=frozenset((probe.port, probe.path.encode()) for probe in config.probes),
        path_ports=path_ports(every),
        silent=not rules.policies and config.default_action is DefaultAction.ALLOW,
    )


def _surplus(documents: Sequence[Document]) -> Iterator[Finding]:
    for document in documents[1:]:
        first = documents[0]
        place = f"{first.file}:{first.node.mark.line}"
        message = f"a second ProxyConfig, the first is {place}: a sidecar has one, merge them"
        yield document.finding(Code.CONFLICT, ("kind",), message)


def _mistakes(document: Document) -> Iterator[Finding]:
    yield from _detection_mistakes(document)
    yield from _port_mistakes(document)
    yield from _translation_mistakes(document)
    yield from _probe_mistakes(document)
    yield from _trust_domain_mistakes(document)


def _trust_domain_mistakes(document: Document) -> Iterator[Finding]:
    name = _spec(document).trust_domain
    if not is_identity(f"{SCHEME}{name}/ns/default/sa/default"):
        message = f"{name!r} is no trust domain: use a-z, 0-9, `.`, `-` and `_`"
        yield document.finding(Code.BAD_VALUE, ("spec", "trustDomain"), message)


def _detection_mistakes(document: Document) -> Iterator[Finding]:
    spec = _spec(document).detection
    try:
        _timeout(spec.timeout)
    except ValueError as error:
        yield document.finding(Code.BAD_VALUE, ("spec", "detection", "timeout"), str(error))
    try:
        _max_bytes(spec.max_bytes)
    except ValueError as error:
        yield document.finding(Code.BAD_VALUE, ("spec", "detection", "maxBytes"), str(error))


def _spec(document: Document) -> ProxyConfigSpec:
    assert isinstance(document.config, ProxyConfig), "the kinds were told apart"
    return document.config.spec


def _timeout(text: str | None) -> float:
    seconds = DetectionSettings().seconds if text is None else duration(text)
    if not 0 < seconds <= LONGEST_DETECTION:
        raise ValueError(f"{text!r} must be above 0 and at most {LONGEST_DETECTION:g}s")
    return seconds


def _max_bytes(value: int | str | None) -> int:
    octets = DetectionSettings().bytes if value is None else size(value)
    if not LEAST_DETECTION <= octets <= MOST_DETECTION:
        raise ValueError(f"{value!r} must be {LEAST_DETECTION} to {MOST_DETECTION} bytes")
    return octets


def _port_mistakes(document: Document) -> Iterator[Finding]:
    taken: dict[tuple[Direction, int], int] = {}
    for index, spec in enumerate(_spec(document).ports):
        for direction in _directions(spec):
            first = taken.setdefault((direction, spec.port), index)
            if first != index:
                message = (
                    f"port {spec.port} is declared {direction} already in $.spec.ports[{first}]"
                )
                yield document.finding(Code.CONFLICT, ("spec", "ports", index, "port"), message)
                break


def _translation_mistakes(document: Document) -> Iterator[Finding]:
    for index, spec in enumerate(_spec(document).ports):
        if spec.upstream_protocol and spec.protocol.carried_as not in HTTP:
            message = f"{spec.protocol} cannot be translated, only HTTP, HTTP2 and GRPC can"
            yield document.finding(
                Code.CONFLICT, ("spec", "ports", index, "upstreamProtocol"), message
            )


def _probe_mistakes(document: Document) -> Iterator[Finding]:
    spec = _spec(document)
    first: dict[ProbeSpec, int] = {}
    carried = {(at, each.port): each.protocol for each in spec.ports for at in _directions(each)}
    for index, probe in enumerate(spec.probes):
        path: Path = ("spec", "probes", index)
        if (other := first.setdefault(probe, index)) != index:
            message = f"is declared already in $.spec.probes[{other}], leave one of them out"
            yield document.finding(Code.CONFLICT, path, message)
        protocol = carried.get((Direction.INBOUND, probe.port), PortProtocol.HTTP)
        if protocol.carried_as not in HTTP:
            message = f"port {probe.port} is declared {protocol}, where there are no requests"
            yield document.finding(Code.CONFLICT, (*path, "port"), message)
        if (why := unaskable(probe.path, spec.path_normalization)) is not None:
            yield document.finding(Code.BAD_VALUE, (*path, "path"), why)


def _directions(spec: PortSpec) -> Sequence[Direction]:
    return tuple(Direction) if spec.direction is None else (spec.direction.direction,)


def _workload(spec: WorkloadSpec) -> Workload:
    return Workload(
        name=spec.name or UNKNOWN,
        namespace=spec.namespace or UNKNOWN,
        service_account=spec.service_account or UNKNOWN,
        labels=spec.labels,
    )


def _ports(specs: Sequence[PortSpec]) -> dict[tuple[Direction, int], Protocol]:
    return {
        (direction, spec.port): spec.protocol.carried_as
        for spec in specs
        for direction in _directions(spec)
    }


def _translated(specs: Sequence[PortSpec]) -> dict[tuple[Direction, int], Protocol]:
    return {
        (direction, spec.port): spec.upstream_protocol.asked_in
        for spec in specs
        for direction in _directions(spec)
        if spec.upstream_protocol is not None
    }
