"""Judge the certificate that a peer shows, inside the handshake, so that who is refused is told so by an alert.

OpenSSL proves the chain: signatures, validity, constraints, names. What it does not know is SPIFFE's (X509-SVID, 4 and 5):
what a workload's certificate looks like, and that **only the roots of its own trust domain can prove it**.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate
from OpenSSL import SSL, crypto

from tproxy.model.identity import Peer
from tproxy.tls.documents import BadCertificate, read_certificate, workload_of
from tproxy.tls.reasons import NotSecured, Reason

_CODES = SSL.X509VerificationCodes
REASONS = {
    _CODES.ERR_CERT_HAS_EXPIRED: Reason.EXPIRED,
    _CODES.ERR_CERT_NOT_YET_VALID: Reason.NOT_YET_VALID,
    _CODES.ERR_CERT_REVOKED: Reason.REVOKED,
    # A root of the same name as one of ours has signed it.
    _CODES.ERR_CERT_SIGNATURE_FAILURE: Reason.UNTRUSTED,
    _CODES.ERR_UNABLE_TO_GET_ISSUER_CERT: Reason.UNTRUSTED,
    _CODES.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY: Reason.UNTRUSTED,
    _CODES.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE: Reason.UNTRUSTED,
    _CODES.ERR_DEPTH_ZERO_SELF_SIGNED_CERT: Reason.UNTRUSTED,
    _CODES.ERR_SELF_SIGNED_CERT_IN_CHAIN: Reason.UNTRUSTED,
    _CODES.ERR_CERT_UNTRUSTED: Reason.UNTRUSTED,
}
"""What OpenSSL's errors mean; the others say that a certificate cannot be used."""


class Judge(Protocol):
    """Says who the owner of a certificate is, whose chain leads to `root`, both in DER; or raises NotSecured."""

    def __call__(self, certificate: bytes, root: bytes) -> Peer | None: ...


@dataclass(slots=True)
class Verdict:
    """What one handshake finds out about its peer. What changes: all of it, as the chain is walked from its root."""

    judge: Judge
    peer: Peer | None = None
    certificate: str = ""
    """SHA-256 of the peer's certificate, in hexadecimal."""
    failure: NotSecured | None = None
    root: bytes = b""
    steps: int = 0
    """Those that OpenSSL has taken since, for messages that carry nothing."""


def verify(
    connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, sound: int
) -> bool:
    """Take part in OpenSSL's verification: it asks about the root first and about the peer's own certificate last."""
    verdict = connection.get_app_data()
    assert isinstance(verdict, Verdict), "whoever begins a handshake sets it"
    if not sound:
        reason = REASONS.get(error, Reason.BAD_CERTIFICATE)
        verdict.failure = NotSecured(reason, f"{_words(error)} (certificate {depth} of the chain)")
        return False
    der = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
    verdict.root = verdict.root or der
    if depth:
        return True
    try:
        verdict.peer = verdict.judge(der, verdict.root)
    except NotSecured as failure:
        verdict.failure = failure
        return False
    verdict.certificate = _fingerprint(der)
    return True


@lru_cache(maxsize=1024)
def _fingerprint(certificate: bytes) -> str:
    """Sum by the OpenSSL that is there: `hashlib` would load another. The same few come again and again."""
    sha256 = Hash(SHA256())
    sha256.update(certificate)
    return sha256.finalize().hex()


def _words(error: int) -> str:
    return _WORDS.get(error, f"X.509 error {error}")


_WORDS = {
    value: name.removeprefix("ERR_").lower().replace("_", " ")
    for name, value in vars(_CODES).items()
    if name.startswith("ERR_")
}


class SpiffeJudge:
    """Accepts workloads of trust domains that are known, each by the roots of its own; `allowed` if not all of them."""

    def __init__(
        self, bundles: Mapping[str, tuple[Certificate, ...]], allowed: frozenset[str] = frozenset()
    ) -> None:
        self._roots = {
            domain: frozenset(root.public_bytes(Encoding.DER) for root in roots)
            for domain, roots in bundles.items()
        }
        self._allowed = allowed

    def __call__(self, certificate: bytes, root: bytes) -> Peer:
        """Find out whose certificate it is."""
        try:
            peer = _owner(certificate)
        except BadCertificate as bad:
            raise NotSecured(Reason.BAD_CERTIFICATE, str(bad)) from bad
        if root not in self._roots.get(peer.trust_domain, ()):
            cause = f"its root is none of the trust domain {peer.trust_domain}"
            raise NotSecured(Reason.UNTRUSTED, cause)
        if self._allowed and peer.spiffe_id not in self._allowed:
            raise NotSecured(Reason.WRONG_IDENTITY, f"it is {peer.spiffe_id}")
        return peer


@lru_cache(maxsize=1024)
def _owner(certificate: bytes) -> Peer:
    """Read a certificate; the same few come again and again, and what they say does not change."""
    return workload_of(read_certificate(certificate))
