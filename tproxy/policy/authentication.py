"""Which connections must be mutual TLS: `PeerAuthentication`, the narrowest one that is set decides."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from tproxy.policy.findings import Code, Finding, Path
from tproxy.policy.load import Document
from tproxy.policy.rules import PORT
from tproxy.policy.schema import MutualTlsMode, PeerAuthentication
from tproxy.policy.scope import Scope, wanted_labels


class Level(IntEnum):
    """How narrow a policy is: the wider ones first."""

    MESH = 0
    NAMESPACE = 1
    WORKLOAD = 2


@dataclass(frozen=True, slots=True)
class Authentication:
    """The modes of one workload."""

    mode: MutualTlsMode = MutualTlsMode.PERMISSIVE
    ports: Mapping[int, MutualTlsMode] = field(default_factory=dict)

    def of(self, port: int) -> MutualTlsMode:
        """Return the mode of a port."""
        return self.ports.get(port, self.mode)


def authentication(documents: Sequence[Document], scope: Scope) -> Authentication:
    """Find the modes that sound documents set."""
    mode, ports = MutualTlsMode.PERMISSIVE, {}
    for document in sorted(documents, key=lambda each: _level(each, scope)):
        spec = _config(document).spec
        if not scope.selects(_config(document)):
            continue
        if spec.mtls is not None and spec.mtls.mode is not MutualTlsMode.UNSET:
            mode = spec.mtls.mode
        for port, said in spec.port_level_mtls.items():
            if said.mode is not MutualTlsMode.UNSET:
                ports[int(port)] = said.mode
    return Authentication(mode, ports)


def mistakes(documents: Sequence[Document], scope: Scope) -> Iterator[Finding]:
    """Tell of documents that contradict each other: files have no age by which Istio would choose."""
    first: dict[tuple[object, ...], Document] = {}
    for document in documents:
        config = _config(document)
        yield from _port_mistakes(document)
        other = first.setdefault(_about(config, scope), document)
        if other is not document:
            place = f"{other.file}:{other.node.mark.line}"
            message = f"is about the same workloads as {place}, and neither is older: merge them"
            yield document.finding(Code.CONFLICT, ("spec",), message)


def _about(config: PeerAuthentication, scope: Scope) -> tuple[object, ...]:
    """Tell apart what one policy at most may be about: this workload, or what others a selector means."""
    labels = tuple(sorted(wanted_labels(config.spec.selector).items()))
    if labels and scope.selects(config):
        return ("this workload",)
    return (scope.namespace_of(config), labels)


def _port_mistakes(document: Document) -> Iterator[Finding]:
    spec = _config(document).spec
    path: Path = ("spec", "portLevelMtls")
    if spec.port_level_mtls and not wanted_labels(spec.selector):
        yield document.finding(Code.CONFLICT, path, "needs a selector: ports are a workload's")
    for port in spec.port_level_mtls:
        if not (PORT.fullmatch(port) and int(port) < 65536):
            yield document.finding(Code.BAD_VALUE, (*path, port), f"{port!r} is no port")


def _level(document: Document, scope: Scope) -> Level:
    config = _config(document)
    if wanted_labels(config.spec.selector):
        return Level.WORKLOAD
    return Level.MESH if scope.namespace_of(config) == scope.root else Level.NAMESPACE


def _config(document: Document) -> PeerAuthentication:
    assert isinstance(document.config, PeerAuthentication), "the caller told kinds apart"
    return document.config
