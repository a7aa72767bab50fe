"""From policy files to documents that have the schema's form, or to everything that is wrong with the files."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from tproxy.policy.check import check
from tproxy.policy.findings import Code, Finding, Path, Severity, did_you_mean
from tproxy.policy.nodes import Node, SourceFile, read
from tproxy.policy.schema import FOREIGN_GROUPS, KINDS, OTHER_KINDS, Config, ServiceEntry


@dataclass(frozen=True, slots=True)
class Document:
    """One object of a policy file, and where its parts stand."""

    file: str
    config: Config
    node: Node
    discovered: bool = False
    """Whether something else than people wrote it."""

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
            _load(source, node, documents, findings)
    return documents, findings


def _load(
    source: SourceFile, node: Node, documents: list[Document], findings: list[Finding]
) -> None:
    kind = _kind(source, node)
    found = [kind] if isinstance(kind, Finding) else check(source.name, node, kind)
    findings.extend(found)
    if not found and not isinstance(kind, Finding):
        config = msgspec.convert(node.plain(), kind)
        documents.append(Document(source.name, config, node, source.discovered))


def _kind(source: SourceFile, node: Node) -> type[Config] | Finding:
    """Find the schema of a document by its `apiVersion` and `kind`."""
    version, kind = _text(node, "apiVersion"), _text(node, "kind")
    found = KINDS.get((version, kind))
    if found is not None and (found is ServiceEntry or not source.discovered):
        return found
    path: Path = ("kind",) if kind else ()
    message = _ENDPOINTS_ONLY if found else _why_not(version, kind)
    return Finding(source.name, node.nearest(path), Code.UNSUPPORTED_KIND, path, message)


_ENDPOINTS_ONLY = (
    "endpoints are ServiceEntry objects only: put policies into the policies' directory"
)


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
