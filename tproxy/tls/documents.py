"""PEM documents to the identity that they prove, refused in words where they do not: by SPIFFE's rules for X.509-SVIDs.

What is asked of our own certificate is what peers ask of it. To find it here, at the start or at a rotation that then
changes nothing, is better than to find it in every handshake.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from types import MappingProxyType

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import Certificate
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

from tproxy.model.identity import Peer
from tproxy.tls.identity import Identity, Key

MAX_BYTES = 64 * 1024
"""Of one document: some thirty certificates, more than any trust domain has roots."""
MAX_ROOTS = 32
"""Certificates in one bundle: each may be tried for each peer."""
MAX_INTERMEDIATES = 8
"""Certificates between ours and a root: all of them are sent in every handshake."""
MAX_TRUST_DOMAINS = 64
"""Whose bundles are kept beside our own trust domain's."""
LEAST_RSA_BITS = 2048

NOBODY: Mapping[str, bytes] = MappingProxyType({})

CERTIFICATE, KEY, BUNDLE = "certificate", "key", "bundle"
"""What messages call the documents; a bundle of another trust domain is the `bundle of NAME`."""

_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_BROKEN = (hashes.MD5, hashes.SHA1)
_BOTH_WAYS = frozenset((ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH))
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----")


class BadCertificate(ValueError):
    """Why a certificate, a key or a bundle is not taken; never what a key says."""

    def __init__(self, problem: str, document: str = CERTIFICATE) -> None:
        super().__init__(f"the {document} {problem}")
        self.problem = problem
        """What is wrong with it, and what to do: what follows its name."""
        self.document = document


def read_identity(
    certificate: bytes,
    key: bytes,
    bundle: bytes,
    *,
    federated: Mapping[str, bytes] = NOBODY,
    now: datetime,
) -> Identity:
    """Read a workload's certificate with its chain, its key, and the roots of its own and of other trust domains."""
    leaf, *intermediates = read_certificates(certificate, CERTIFICATE)
    own = workload_of(leaf)
    refuse_weak(leaf)
    _refuse_untimely(leaf, now, "")
    ours = read_key(key)
    if ours.public_key() != leaf.public_key():
        raise BadCertificate(f"belongs to another certificate than that of {own.spiffe_id}", KEY)
    roots = _roots(bundle, BUNDLE)
    # A root need not be shown; an intermediate must, as not everybody's bundle holds it.
    chain = (
        leaf,
        *(each for each in intermediates if each not in roots or not _issued(each, each)),
    )
    _refuse_broken(chain, roots, now)
    others = dict(_federated(federated, own.trust_domain))
    return Identity(own, chain, ours, MappingProxyType({own.trust_domain: roots} | others))


def workload_of(certificate: Certificate) -> Peer:
    """Name the workload whose X.509-SVID this is (X509-SVID, 2 to 4); BadCertificate when it is none.

    It looks at this certificate alone, not at its time nor at who has signed it.
    """
    uris: list[str] = []
    for extension in _extensions(certificate):
        match extension.value:
            case x509.SubjectAlternativeName() as names:
                uris = names.get_values_for_type(x509.UniformResourceIdentifier)
            case x509.BasicConstraints(ca=True):
                raise BadCertificate("is a CA's (CA:TRUE), not a workload's")
            case x509.KeyUsage() as usage:
                _refuse_usage(usage)
            case x509.ExtendedKeyUsage() as usages if not _BOTH_WAYS.issubset(usages):
                raise BadCertificate(
                    "has an extended key usage without both serverAuth and clientAuth"
                )
    if len(uris) != 1:
        raise BadCertificate(
            f"has {len(uris)} URIs in its subject alternative name, an SVID has one"
        )
    try:
        return Peer.of_uri(uris[0])
    except ValueError as error:
        raise BadCertificate(f"names no workload: {error}") from error


def read_certificate(content: bytes) -> Certificate:
    """Read one in DER, as a peer shows it; BadCertificate when it is none."""
    try:
        return x509.load_der_x509_certificate(content)
    except (ValueError, x509.InvalidVersion):
        raise BadCertificate("cannot be read") from None


def refuse_weak(certificate: Certificate) -> None:
    """Refuse a certificate whose key or signature can be forged."""
    if weakness := _weakness(certificate):
        raise BadCertificate(f"has {weakness}")


def _extensions(certificate: Certificate) -> x509.Extensions:
    try:
        return certificate.extensions
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise BadCertificate("has extensions that cannot be read") from None


def _refuse_usage(usage: x509.KeyUsage) -> None:
    if usage.key_cert_sign or usage.crl_sign:
        raise BadCertificate("may sign others (keyCertSign or cRLSign), as a workload's may not")
    if not usage.digital_signature:
        raise BadCertificate("has a key usage without digitalSignature")


def _weakness(certificate: Certificate) -> str:
    """Say what of a certificate can be forged; empty when nothing can."""
    try:
        signed = certificate.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return "a signature of a kind that is not known"
    if isinstance(signed, _BROKEN):
        return f"a signature by {signed.name.upper()}, which can be forged"
    return _weakness_of_key(certificate)


def _weakness_of_key(holder: Certificate | PrivateKeyTypes) -> str:
    """Say why a key can be guessed; empty when it can not."""
    try:
        key = holder.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "a key of a kind that is not known"
    match key:
        case rsa.RSAPublicKey(key_size=bits):
            short = bits < LEAST_RSA_BITS
            return f"an RSA key of {bits} bits, take {LEAST_RSA_BITS} or more" if short else ""
        case ec.EllipticCurvePublicKey(curve=curve):
            known = isinstance(curve, _CURVES)
            return "" if known else f"a key on the curve {curve.name}, take P-256 or larger"
        case ed25519.Ed25519PublicKey():
            return ""
    return "a key that is no RSA, EC or Ed25519 key"


def _within_bounds(content: bytes, document: str) -> None:
    if len(content) > MAX_BYTES:
        raise BadCertificate(f"is larger than {MAX_BYTES} bytes", document)


def read_certificates(content: bytes, document: str = CERTIFICATE) -> list[Certificate]:
    """Read a chain, or a bundle, in PEM; BadCertificate when it holds none, or too many."""
    _within_bounds(content, document)
    most = 1 + (MAX_INTERMEDIATES if document == CERTIFICATE else MAX_ROOTS - 1)
    found = len(_BLOCK.findall(content))
    if not found:
        raise BadCertificate("holds no certificate in PEM (-----BEGIN CERTIFICATE-----)", document)
    if found > most:
        raise BadCertificate(f"holds {found} certificates, {most} are the most", document)
    try:
        return x509.load_pem_x509_certificates(content)
    except (ValueError, x509.InvalidVersion):
        raise BadCertificate("holds a certificate that cannot be read", document) from None


def read_key(content: bytes) -> Key:
    """Read our key, in PEM. What a library says of it is not repeated: it might repeat of the key."""
    _within_bounds(content, KEY)
    try:
        key = load_pem_private_key(content, None)
    except TypeError:
        raise BadCertificate(
            "is encrypted, and nobody is here to type its passphrase: give it in plain, in a file"
            " that only the proxy's user may read",
            KEY,
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadCertificate("is no private key in PEM", KEY) from None
    if weakness := _weakness_of_key(key):
        raise BadCertificate(f"is {weakness}", KEY)
    assert isinstance(key, Key), "other kinds were refused"
    return key


def _roots(content: bytes, document: str) -> tuple[Certificate, ...]:
    roots = tuple(read_certificates(content, document))
    for root in roots:
        if not _signs(root):
            raise BadCertificate(
                f"holds the certificate of {named(root)}, which is no CA's (CA:TRUE, keyCertSign)",
                document,
            )
        if weakness := _weakness_of_key(root):
            raise BadCertificate(
                f"holds the certificate of {named(root)}, which has {weakness}", document
            )
    return roots


def _federated(
    documents: Mapping[str, bytes], own: str
) -> Iterator[tuple[str, tuple[Certificate, ...]]]:
    for number, (trust_domain, content) in enumerate(documents.items()):
        document = f"bundle of {trust_domain}"
        if number == MAX_TRUST_DOMAINS:
            raise BadCertificate(
                f"is one too many: {number} other trust domains are the most", document
            )
        if trust_domain == own:
            raise BadCertificate("is of our own trust domain, which has its bundle", document)
        if not is_trust_domain(trust_domain):
            raise BadCertificate("is of no trust domain: use a-z, 0-9, `.`, `-` and `_`", document)
        yield trust_domain, _roots(content, document)


def is_trust_domain(name: str) -> bool:
    """Whether workloads' ids can begin with it (SPIFFE-ID, 2.1)."""
    try:
        return Peer.parse(f"{name}/any").trust_domain == name
    except ValueError:
        return False


def _refuse_untimely(certificate: Certificate, now: datetime, whose: str) -> None:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        raise BadCertificate(
            f"{whose}is not valid yet: it begins at {_moment(begins)} and it is {_moment(now)},"
            " look at the clock"
        )
    if now > ends:
        raise BadCertificate(f"{whose}has expired at {_moment(ends)}: renew it")


def _moment(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def _refuse_broken(
    chain: Sequence[Certificate], roots: Sequence[Certificate], now: datetime
) -> None:
    """Follow the chain from our certificate up to a root; the last word on it has who judges peers, too."""
    for each in chain[1:]:
        if not _signs(each):
            raise BadCertificate(f"has {named(each)} in its chain, which is no CA's certificate")
        _refuse_untimely(each, now, f"has {named(each)} in its chain, which ")
        if weakness := _weakness(each):
            raise BadCertificate(f"has {named(each)} in its chain, which has {weakness}")
    for signed, signer in pairwise(chain):
        if not _issued(signed, signer):
            raise BadCertificate(
                f"has a chain in the wrong order or with a gap: {named(signed)} is not signed by"
                f" {named(signer)}; write each certificate before the one that has signed it"
            )
    if not (
        any(each in roots for each in chain) or any(_issued(chain[-1], root) for root in roots)
    ):
        raise BadCertificate(
            f"leads to no root of the bundle: {named(chain[-1])} is signed by"
            f" {_name(chain[-1].issuer)}; add the missing intermediates to the certificate, or"
            " the root to the bundle"
        )
    _refuse_unverified(chain, roots, now)


def _refuse_unverified(
    chain: Sequence[Certificate], roots: Sequence[Certificate], now: datetime
) -> None:
    """Have OpenSSL judge as it does in a handshake: constraints of names and of lengths, expired roots."""
    store = crypto.X509Store()
    for root in roots:
        store.add_cert(crypto.X509.from_cryptography(root))
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    store.set_time(now.astimezone(UTC))
    leaf, *rest = map(crypto.X509.from_cryptography, chain)
    try:
        crypto.X509StoreContext(store, leaf, rest).verify_certificate()
    except crypto.X509StoreContextError as error:
        raise BadCertificate(f"would be refused by peers: {error}") from error


def _signs(certificate: Certificate) -> bool:
    """Whether a certificate is a CA's; one without a key usage may do anything (RFC 5280, 4.2.1.3)."""
    values = [extension.value for extension in _extensions(certificate)]
    authority = any(isinstance(each, x509.BasicConstraints) and each.ca for each in values)
    return authority and all(
        each.key_cert_sign for each in values if isinstance(each, x509.KeyUsage)
    )


def _issued(signed: Certificate, signer: Certificate) -> bool:
    try:
        signed.verify_directly_issued_by(signer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def named(certificate: Certificate) -> str:
    """Name a certificate to people who look for it."""
    return f"{_name(certificate.subject)}, serial {certificate.serial_number:x}"


def _name(name: x509.Name) -> str:
    return name.rfc4514_string() or "(no subject)"
