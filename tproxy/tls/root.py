"""A root of trust that signs X.509-SVIDs: one self-signed certificate and its key, in memory."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import Certificate
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tproxy.model.identity import SCHEME, Peer
from tproxy.tls.documents import named

TTL = timedelta(hours=1)
"""How long an identity is valid unless said otherwise: nobody can revoke one, so it ends soon."""
LEAST_TTL = timedelta(minutes=1)
"""Less would end before it was noticed that it began."""
MOST_TTL = timedelta(days=90)
SKEW = timedelta(minutes=1)
"""How far clocks may be apart: certificates begin that much earlier."""
ROOT_LIFETIME = timedelta(days=3650)
NAME_CHARACTERS = 28
"""Of a root's name, sixteen of them at random."""

_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


class CannotSign(ValueError):
    """Why an authority does not do what it was asked for, and what it would do."""


@dataclass(frozen=True, slots=True)
class Svid:
    """A workload's new certificate and its key, in PEM."""

    own: Peer
    certificate: bytes
    key: bytes = field(repr=False)
    serial: str
    not_after: datetime


@dataclass(frozen=True, slots=True, eq=False)
class Root:
    """What the certificates of a trust domain's workloads lead to."""

    certificate: Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def new(cls, trust_domain: str, *, lifetime: timedelta, now: datetime) -> Self:
        """Make a root with a name of its own: which of two has signed is looked for by their names."""
        key = ec.generate_private_key(ec.SECP256R1())
        serial = x509.random_serial_number()
        name = f"tproxy root {serial:x}"[:NAME_CHARACTERS]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder(subject, subject, key.public_key(), serial)
            .not_valid_before(now - SKEW)
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(key_usage("key_cert_sign", "crl_sign"), critical=True)
            .add_extension(_uri(SCHEME + trust_domain), critical=False)
            .add_extension(_key_id(key), critical=False)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def read(cls, certificate: bytes, key: bytes) -> Self:
        """Read what `pem` and `key_pem` have written; ValueError when it is something else."""
        match load_pem_private_key(key, None):
            case ec.EllipticCurvePrivateKey() as loaded:
                return cls(x509.load_pem_x509_certificate(certificate), loaded)
        raise ValueError("the key is no EC key, as all of ours are")

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The key, in plain: for a file that its owner alone may read."""
        return _plain(self.key)

    def issue(self, own: Peer, *, ttl: timedelta, now: datetime) -> Svid:
        """Sign a new key for a workload; CannotSign when it would be valid for too long."""
        self._refuse(ttl, now)
        key = ec.generate_private_key(ec.SECP256R1())
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        usages = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
        certificate = (
            x509.CertificateBuilder(self.certificate.subject, x509.Name([]), key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - SKEW)
            .not_valid_after(now + ttl)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            # Critical, as nothing else names the subject (RFC 5280, 4.2.1.6).
            .add_extension(_uri(own.spiffe_id), critical=True)
            .add_extension(_key_id(key), critical=False)
            .add_extension(signer, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return Svid(
            own,
            certificate.public_bytes(Encoding.PEM),
            _plain(key),
            f"{certificate.serial_number:x}",
            certificate.not_valid_after_utc,
        )

    def _refuse(self, ttl: timedelta, now: datetime) -> None:
        if not LEAST_TTL <= ttl <= MOST_TTL:
            raise CannotSign(
                f"an identity is valid for a minute to {MOST_TTL.days} days, not for {ttl}"
            )
        ends = self.certificate.not_valid_after_utc
        if now + ttl > ends:
            raise CannotSign(
                f"the root ({named(self.certificate)}) ends at {ends.isoformat()}, before what it"
                " should sign: rotate it"
            )


def key_usage(*names: str) -> x509.KeyUsage:
    """Say what a key may be used for, and nothing else."""
    return x509.KeyUsage(**{each: each in names for each in _USAGES})


def _uri(uri: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])


def _key_id(key: ec.EllipticCurvePrivateKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key())


def _plain(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
