"""From policy files to documents that have the schema's form, or to everything that is wrong with the files."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from tproxy.policy.check import check
from tproxy.policy.findings import Code, Finding, Path, Severity, did_you_mean
from tproxy.policy.nodes import Node, SourceFile, read
from tproxy.policy.schema import FOREIGN_GROUPS, KINDS, OTHER_KINDS, Config


@dataclass(frozen=True, slots=True)
class Document:
    """One object of a policy file, and where its parts stand."""

    file: str
    config: Config
    node: Node

    def finding(
        self, code: Code, path: Path, message: str, *, severity: Severity = Severity.ERROR
    ) -> Finding:
        """Report a mistake at `path`."""
        return Finding(self.file, self.node.nearest(path), code, path, message, severity)


def load(files: Sequence[SourceFile]) -> tuple[list[Document], list[Finding]]:
    """Give the documents, and the mistakes; with any mistake, the documents are not to be used."""
    documents: list[Document] = []
    findings: list[Finding] = []
    for source in files:
        for node in read(source, findings):
            _load(source.name, node, documents, findings)
    return documents, findings


def _load(file: str, node: Node, documents: list[Document], findings: list[Finding]) -> None:
    kind = _kind(file, node)
    found = [kind] if isinstance(kind, Finding) else check(file, node, kind)
    findings.extend(found)
    if not found and not isinstance(kind, Finding):
        documents.append(Document(file, msgspec.convert(node.plain(), kind), node))


def _kind(file: str, node: Node) -> type[Config] | Finding:
    """Find the schema of a document by its `apiVersion` and `kind`."""
    version, kind = _text(node, "apiVersion"), _text(node, "kind")
    if (version, kind) in KINDS:
        return KINDS[version, kind]
    path: Path = ("kind",) if kind else ()
    message = _why_not(version, kind)
    return Finding(file, node.nearest(path), Code.UNSUPPORTED_KIND, path, message)


def _text(node: Node, key: str) -> str:
    found = node.value.get(key) if isinstance(node.value, dict) else None
    return found.value if found and isinstance(found.value, str) else ""


def _why_not(version: str, kind: str) -> str:
    if not (version and kind):
        return "is no policy: it needs `apiVersion` and `kind`"
    if version.startswith(FOREIGN_GROUPS):
        instead = f" ({OTHER_KINDS[kind]})" if kind in OTHER_KINDS else ""
        return (
            f"{kind} is not supported by this version{instead};"
            " refusing to start rather than ignore it"
        )
    kinds = {known: supported for supported, known in KINDS}
    if kind in kinds:
        return f"{kind} of {version!r} is not supported, write apiVersion: {kinds[kind]}"
    if hint := did_you_mean(kind, kinds):
        return f"unknown kind {kind!r}{hint}"
    return f"unknown kind {kind!r} of {version!r}, known are {', '.join(kinds)}"
