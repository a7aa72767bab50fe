"""From policy files to documents that have the schema's form, or to everything that is wrong with the files."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from tproxy.policy.check import check
from tproxy.policy.findings import Code, Finding, Path, Severity, did_you_mean
from tproxy.policy.nodes import Node, SourceFile, read
from tproxy.policy.schema import FOREIGN_GROUPS, KINDS, Config


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
    found = [kind] if isinstance(kind, Finding) else list(check(file, node, kind))
    findings.extend(found)
    if not found and not isinstance(kind, Finding):
        documents.append(Document(file, msgspec.convert(node.plain(), kind), node))


def _kind(file: str, node: Node) -> type[Config] | Finding:
    """Find the schema of a document by its `apiVersion` and `kind`."""
    fields = node.plain() if isinstance(node.value, dict) else {}
    version, kind = str(fields.get("apiVersion", "")), str(fields.get("kind", ""))
    if (version, kind) in KINDS:
        return KINDS[version, kind]
    path: Path = ("kind",) if "kind" in fields else ()
    message = _why_not(version, kind)
    return Finding(file, node.nearest(path), Code.UNSUPPORTED_KIND, path, message)


def _why_not(version: str, kind: str) -> str:
    if not (version and kind):
        return "is no policy: it needs `apiVersion` and `kind`"
    if version.startswith(FOREIGN_GROUPS):
        return f"{kind} is not supported by this version; refusing to start rather than ignore it"
    kinds = {known: supported for supported, known in KINDS}
    if kind in kinds:
        return f"{kind} of {version!r} is not supported, write apiVersion: {kinds[kind]}"
    if hint := did_you_mean(kind, kinds):
        return f"unknown kind {kind!r}{hint}"
    return f"unknown kind {kind!r} of {version!r}, known are {', '.join(kinds)}"
