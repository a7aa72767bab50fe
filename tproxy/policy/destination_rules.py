"""How named destinations are spoken to: `DestinationRule`, the nearest one decides."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tproxy.model.cluster import Labels
from tproxy.policy.findings import Path
from tproxy.policy.hosts import HostTable, qualified
from tproxy.policy.load import Document
from tproxy.policy.schema import (
    ClientTls,
    DestinationRule,
    DestinationRuleSpec,
    ExportTo,
    PortTrafficPolicy,
    Subset,
    TrafficPolicy,
)
from tproxy.policy.scope import Scope, wanted_labels
from tproxy.policy.settings import Settings, settings


@dataclass(frozen=True, slots=True)
class Said:
    """What a rule says of connections to a port."""

    owner: str
    """`foo/reviews`."""
    place: str
    """`file:line`."""
    settings: Settings

    @property
    def tls(self) -> ClientTls | None:
        """What it says of TLS; None when that is nothing."""
        return self.settings.tls


@dataclass(frozen=True, slots=True)
class SubsetRule:
    """What a rule says of some of the endpoints."""

    labels: Labels
    whole: Settings
    ports: Mapping[int, Settings]

    def over(self, said: Said, port: int) -> Said:
        """Say what holds for them where `said` holds for the others; what is said of a port inherits nothing."""
        own = self.ports.get(port)
        return replace(said, settings=self.whole.over(said.settings) if own is None else own)


@dataclass(frozen=True, slots=True)
class DestinationPolicy:
    """One rule."""

    host: str
    exported: bool
    """Whether workloads of other namespaces may use it."""
    whole: Said
    ports: Mapping[int, Said]
    subsets: Mapping[str, SubsetRule]

    def of(self, port: int, subset: str = "") -> Said:
        """Return what it says of a port, and of a subset that it knows there."""
        said = self.ports.get(port, self.whole)
        return self.subsets[subset].over(said, port) if subset else said


@dataclass(frozen=True, slots=True)
class RuleBook:
    """The rules that this workload may use."""

    own: HostTable[DestinationPolicy] = field(default_factory=lambda: HostTable({}))
    """Of its own namespace."""
    exported: Mapping[str, HostTable[DestinationPolicy]] = field(default_factory=dict)
    """Of each namespace, for everybody."""
    root: str = ""

    @property
    def some(self) -> bool:
        """Whether there are any."""
        return bool(self.own.by_host or self.exported)

    def every(self) -> Iterator[DestinationPolicy]:
        """Give each rule once."""
        tables = (self.own, *self.exported.values())
        yield from {id(rule): rule for each in tables for rule in each.by_host.values()}.values()

    def find(self, hosts: Sequence[str], namespace: str) -> DestinationPolicy | None:
        """Return the rule about a service of `namespace`: the workload's own, the service's, the root's."""
        tables = (self.own, self.exported.get(namespace), self.exported.get(self.root))
        for table in tables:
            if table is not None and (rule := table.find(hosts)):
                return rule
        return None


def rules(documents: Sequence[Document], scope: Scope) -> RuleBook:
    """Gather what sound documents say to this workload."""
    own: dict[str, DestinationPolicy] = {}
    exported: dict[str, dict[str, DestinationPolicy]] = defaultdict(dict)
    # The root's rules are about every workload, those in the root namespace included: nearer ones are asked first.
    at_root = scope.workload.namespace == scope.root
    for document in sorted(documents, key=lambda each: bool(labels_of(each))):
        namespace = scope.namespace_of(document.config)
        rule = _rule(document, namespace)
        if rule.exported:
            exported[namespace][rule.host] = rule
        if is_own(document, scope) and not (at_root and rule.exported):
            own[rule.host] = rule
    tables = {namespace: HostTable(of_one) for namespace, of_one in exported.items()}
    return RuleBook(HostTable(own), tables, scope.root)


def is_own(document: Document, scope: Scope) -> bool:
    """Whether a rule is of the workload's namespace, and selects it."""
    here = scope.namespace_of(document.config) == scope.workload.namespace
    return here and scope.has(labels_of(document))


def labels_of(document: Document) -> Mapping[str, str]:
    """Return what workloads must be labelled with for a rule to be about their connections."""
    return wanted_labels(_spec(document).workload_selector)


def _rule(document: Document, namespace: str) -> DestinationPolicy:
    spec = _spec(document)

    def said(path: Path, policy: TrafficPolicy | PortTrafficPolicy) -> Said:
        owner = f"{namespace}/{document.config.metadata.name}"
        place = f"{document.file}:{document.node.nearest(path).line}"
        return Said(owner, place, settings(policy))

    whole: Path = ("spec", "trafficPolicy")
    return DestinationPolicy(
        qualified(spec.host, namespace),
        spec.export_to == (ExportTo.EVERYBODY,) and spec.workload_selector is None,
        said((*whole, "tls"), spec.traffic_policy),
        {
            each.port.number: said((*whole, "portLevelSettings", index), each)
            for index, each in enumerate(spec.traffic_policy.port_level_settings)
        },
        {each.name: _subset(each) for each in spec.subsets},
    )


def _subset(subset: Subset) -> SubsetRule:
    policy = subset.traffic_policy
    ports = {each.port.number: settings(each) for each in policy.port_level_settings}
    return SubsetRule(tuple(sorted(subset.labels.items())), settings(policy), ports)


def _spec(document: Document) -> DestinationRuleSpec:
    assert isinstance(document.config, DestinationRule), "the caller told kinds apart"
    return document.config.spec
