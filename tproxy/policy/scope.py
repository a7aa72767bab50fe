"""Which policies are about this workload: those of its namespace or the root's, whose selector its labels meet."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tproxy.model.identity import UNKNOWN, Workload
from tproxy.policy.findings import Code, Finding, Severity
from tproxy.policy.load import Document
from tproxy.policy.schema import (
    AuthorizationPolicy,
    Config,
    FaultPolicy,
    PeerAuthentication,
    RateLimitPolicy,
    Selector,
)

Selecting = AuthorizationPolicy | PeerAuthentication | RateLimitPolicy | FaultPolicy
"""Kinds that select workloads by labels, of their namespace or as the root's of all."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The workload that policies are read for, and the namespace whose policies are about every one."""

    workload: Workload
    root: str

    def namespace_of(self, config: Config) -> str:
        """Return a policy's namespace; one that names none is in the workload's."""
        return config.metadata.namespace or self.workload.namespace

    def selects(self, config: Selecting) -> bool:
        """Whether a policy is about the workload."""
        here = self.namespace_of(config) in (self.workload.namespace, self.root)
        return here and self.has(wanted_labels(config.spec.selector))

    def why_not(self, config: Selecting) -> str:
        """Say why a policy is not about the workload; nothing when it is."""
        if self.selects(config):
            return ""
        namespace, labels = self.namespace_of(config), wanted_labels(config.spec.selector)
        if namespace not in (self.workload.namespace, self.root):
            return (
                f"it is about namespace {namespace}, this workload is in {self.workload.namespace}"
            )
        return f"it selects {_listed(labels)}, this workload has {_listed(self.workload.labels)}"

    def has(self, labels: Mapping[str, str]) -> bool:
        """Whether the workload has all of these labels."""
        return all(self.workload.labels.get(key) == value for key, value in labels.items())

    def findings(self, documents: Sequence[Document]) -> Iterator[Finding]:
        """Tell of policies that are about others, and of those that cannot be told apart."""
        for document in documents:
            config = document.config
            if not isinstance(config, Selecting):
                continue
            namespace = config.metadata.namespace
            if namespace and self.workload.namespace == UNKNOWN:
                yield document.finding(Code.CONFLICT, ("metadata", "namespace"), NAMELESS)
            elif namespace and namespace not in (self.workload.namespace, self.root):
                yield document.finding(
                    Code.FOREIGN_NAMESPACE,
                    ("metadata", "namespace"),
                    f"is about {namespace}, this workload is in {self.workload.namespace}: not read",
                    severity=Severity.INFO,
                )
            elif wanted_labels(config.spec.selector) and not self.workload.labels:
                yield document.finding(Code.CONFLICT, ("spec", "selector"), LABELLESS)
            elif not self.has(wanted_labels(config.spec.selector)):
                yield document.finding(
                    Code.SELECTS_NOTHING,
                    ("spec", "selector"),
                    f"this workload has the labels {dict(self.workload.labels)}: not applied",
                    severity=Severity.WARNING,
                )


NAMELESS = (
    "nobody said in which namespace this workload is, so it cannot be told whether this policy is about it:"
    " set spec.workload.namespace in ProxyConfig, or start with --namespace"
)

LABELLESS = (
    "nobody said which labels this workload has, so it cannot be told whether this policy is about it:"
    " set spec.workload.labels in ProxyConfig, or start with --label"
)


def _listed(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items()) or "no labels"


def wanted_labels(selector: Selector | None) -> Mapping[str, str]:
    """Return the labels that a selector asks for; without one, none."""
    return {} if selector is None else selector.match_labels
