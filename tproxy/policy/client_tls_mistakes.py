"""What a rule about destinations cannot mean by what it says of TLS."""

from collections.abc import Iterator

from tproxy.policy.findings import Code, Finding, Path, Severity
from tproxy.policy.hosts import is_identity, is_name
from tproxy.policy.load import Document
from tproxy.policy.schema import ClientTls, TlsModeName

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


def tls_mistakes(document: Document, path: Path, tls: ClientTls) -> Iterator[Finding]:
    """Tell of what one place says of TLS and cannot mean."""
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
