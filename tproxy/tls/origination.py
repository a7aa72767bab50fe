"""TLS towards upstreams that are no workloads of the mesh: `SIMPLE` and `MUTUAL`, with what files say."""

import os
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from socket import socket
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec.structs import replace
from OpenSSL import SSL, crypto

from tproxy.model.upstream_tls import TlsMode, UpstreamTls
from tproxy.tls.credentials import bare_context
from tproxy.tls.documents import BadCertificate, read_certificate
from tproxy.tls.identity import Key
from tproxy.tls.reasons import NotSecured, Reason
from tproxy.tls.session import Session
from tproxy.tls.verification import Verdict, verify

SYSTEM_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where distributions keep the roots that they trust: Debian and Alpine, Fedora, others."""
MOST_CONTEXTS = 256

UNREADABLE = (
    BadCertificate,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    ValueError,
)
"""What a certificate without names that can be read raises."""


def originate(connected: socket, how: UpstreamTls, offers: list[bytes]) -> Session:
    """Begin with whom we have dialled. NotSecured: what the files hold cannot be used."""
    roots = how.ca_certificates or _system_roots(how)
    files = (roots, how.ca_crl, how.client_certificate, how.private_key)
    # Whom an application asks for is its own choice, and the system's roots take a MiB.
    anybody = replace(how, server_name="", subject_alt_names=())
    context = _context(anybody, roots, tuple(_version(file) for file in files if file))
    session = Session.connect(context, connected, Verdict(_NamedJudge(how)), None)
    if how.server_name:
        session.ask_for(how.server_name)
    if offers:
        session.offer(offers)
    return session


def _system_roots(how: UpstreamTls) -> str:
    if how.insecure_skip_verify:
        return ""
    found = next((file for file in SYSTEM_ROOTS if Path(file).exists()), None)
    if found is None:
        raise NotSecured(Reason.UNTRUSTED, "this system has no roots: name some, caCertificates")
    return found


def _version(file: str) -> tuple[int, int, int]:
    """Tell two contents of a file apart, so that one that is replaced, or was half written, is read again."""
    try:
        stat = os.stat(file)
    except OSError as error:
        raise NotSecured(Reason.UNTRUSTED, f"cannot read {file}: {error.strerror}") from error
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=MOST_CONTEXTS)
def _context(
    how: UpstreamTls, roots: str, _versions: tuple[tuple[int, int, int], ...]
) -> SSL.Context:
    context = bare_context()
    try:
        if roots:
            context.load_verify_locations(roots)
        if how.ca_crl:
            _revoke(context, Path(how.ca_crl).read_bytes())
        if how.mode is TlsMode.MUTUAL:
            context.use_certificate_chain_file(how.client_certificate)
            context.use_privatekey(_key(how.private_key))
            context.check_privatekey()
    except (SSL.Error, crypto.Error, ValueError, TypeError, OSError) as error:
        raise NotSecured(Reason.BAD_CERTIFICATE, f"{_files(how)} cannot be used") from error
    mode = SSL.VERIFY_NONE if how.insecure_skip_verify else SSL.VERIFY_PEER
    context.set_verify(mode, verify)
    return context


def _key(file: str) -> Key:
    """Read a key; one with a passphrase is a TypeError, and OpenSSL itself would wait for somebody to type it."""
    key = load_pem_private_key(Path(file).read_bytes(), None)
    if not isinstance(key, Key):
        raise ValueError("a key of a kind that TLS is not spoken with here")  # noqa: TRY004 - it is the content
    return key


def _files(how: UpstreamTls) -> str:
    named = (how.ca_certificates, how.ca_crl, how.client_certificate, how.private_key)
    return ", ".join(file for file in named if file) or "the system's roots"


def _revoke(context: SSL.Context, pem: bytes) -> None:
    store = context.get_cert_store()
    assert store is not None, "every context has one"
    store.add_crl(x509.load_pem_x509_crl(pem))
    store.set_flags(crypto.X509StoreFlags.CRL_CHECK)


class _NamedJudge:
    """Accepts whoever proves to have one of the names that are wanted."""

    def __init__(self, how: UpstreamTls) -> None:
        wanted = how.subject_alt_names or ((how.server_name,) if how.server_name else ())
        self._wanted = tuple(name if "://" in name else name.lower() for name in wanted)
        self._anybody = how.insecure_skip_verify

    def __call__(self, certificate: bytes, root: bytes) -> None:
        """Look for one of the names."""
        del root
        if self._anybody:
            return
        if not self._wanted:
            cause = "nobody says whom it should be: write sni or subjectAltNames"
            raise NotSecured(Reason.WRONG_IDENTITY, cause)
        names = list(_names(certificate))
        if not any(name.is_one_of(self._wanted) for name in names):
            shown = ", ".join(name.text for name in names[:3]) or "nobody"
            raise NotSecured(Reason.WRONG_IDENTITY, f"it is {shown}")


class _Name(NamedTuple):
    """One of a certificate's names."""

    text: str
    kind: type[x509.GeneralName]

    def is_one_of(self, wanted: tuple[str, ...]) -> bool:
        """Whether it is one that is wanted, as what it is."""
        return any(kind_of(each) is self.kind and self._meets(each) for each in wanted)

    def _meets(self, wanted: str) -> bool:
        """Compare, where `*` stands for one whole label at the left of a DNS name (RFC 9525, 6.3)."""
        if self.text == wanted or self.kind is not x509.DNSName:
            return self.text == wanted
        first, dot, rest = self.text.partition(".")
        return first == "*" and bool(dot) and "." in rest and wanted.partition(".")[2] == rest


def kind_of(name: str) -> type[x509.GeneralName]:
    """Tell what kind of a name is wanted."""
    if "://" in name:
        return x509.UniformResourceIdentifier
    try:
        ip_address(name)
    except ValueError:
        return x509.DNSName
    return x509.IPAddress


def _names(certificate: bytes) -> Iterator[_Name]:
    try:
        extensions = read_certificate(certificate).extensions
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except UNREADABLE:
        return
    for dns in found.get_values_for_type(x509.DNSName):
        yield _Name(dns.lower(), x509.DNSName)
    for uri in found.get_values_for_type(x509.UniformResourceIdentifier):
        yield _Name(uri, x509.UniformResourceIdentifier)
    for address in found.get_values_for_type(x509.IPAddress):
        yield _Name(str(address), x509.IPAddress)
