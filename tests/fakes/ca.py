"""A certificate authority that also signs what no authority should: the papers of honest and of dishonest peers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import Certificate
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tproxy.tls.documents import read_identity
from tproxy.tls.identity import Identity
from tproxy.tls.root import key_usage

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

TRUST_DOMAIN = "cluster.local"
WEB = f"spiffe://{TRUST_DOMAIN}/ns/default/sa/web"
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
# The end of PKCS#1's signature algorithms (RFC 8017, A.2.4): the rest of the identifier is the same.
PKCS1 = bytes.fromhex("06092a864886f70d0101")
SHA256_RSA, SHA1_RSA = PKCS1 + b"\x0b", PKCS1 + b"\x05"


def ec_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    """Make a key as workloads have it, P-256 unless said otherwise."""
    return ec.generate_private_key(curve or ec.SECP256R1())


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """Make a key of that many bits, the weak ones of which are quick to make."""
    return rsa.generate_private_key(65537, bits)


@dataclass(frozen=True, slots=True)
class Papers:
    """What a workload is given, in PEM."""

    certificate: bytes
    """With its chain."""
    key: bytes = field(repr=False)
    bundle: bytes
    """The root that its chain should lead to."""

    def identity(self, now: datetime | None = None) -> Identity:
        """Read them as the proxy does."""
        return read_identity(self.certificate, self.key, self.bundle, now=now or datetime.now(UTC))


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What a certificate is to say; as it stands, what an SVID should."""

    uris: tuple[str, ...] = (WEB,)
    dns: tuple[str, ...] = ()
    ca: bool = False
    usages: tuple[str, ...] | None = ("digital_signature",)
    """None to leave the extension out, as in the next."""
    extended: tuple[ObjectIdentifier, ...] | None = (SERVER, CLIENT)
    begins: timedelta = -MINUTE
    """From the authority's now."""
    ends: timedelta = HOUR
    key: Key = field(default_factory=ec_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Above:
    """What an authority's certificate is to say."""

    ca: bool = True
    path_length: int | None = None
    constraints: x509.NameConstraints | None = None
    begins: timedelta = -DAY
    ends: timedelta = 365 * DAY


GOOD_ABOVE = Above()


@dataclass(frozen=True, slots=True)
class FakeCa:
    """Signs whatever it is told to; a root, or what a root has signed."""

    certificate: Certificate
    key: Key = field(repr=False)
    now: datetime
    chain: tuple[Certificate, ...] = ()
    """What a leaf shows beside itself; empty for a root."""
    root: Certificate | None = None
    """None for the root itself."""

    @classmethod
    def new(
        cls,
        name: str = "root",
        *,
        now: datetime | None = None,
        key: Key | None = None,
        above: Above = GOOD_ABOVE,
    ) -> Self:
        """Make a root; the certificates that it signs are valid about `now`."""
        now, key = now or datetime.now(UTC), key or ec_key()
        builder = _authority(name, key, now, above).issuer_name(_name(name))
        return cls(builder.sign(key, hashes.SHA256()), key, now)

    @property
    def bundle(self) -> bytes:
        """The root, in PEM."""
        return pem(self.root or self.certificate)

    def below(self, above: Above = GOOD_ABOVE) -> "FakeCa":
        """Sign another authority, or what claims to be one."""
        name, key = f"intermediate {len(self.chain) + 1}", ec_key()
        builder = _authority(name, key, self.now, above).issuer_name(self.certificate.subject)
        certificate = builder.sign(self.key, hashes.SHA256())
        root = self.root or self.certificate
        return FakeCa(certificate, key, self.now, (certificate, *self.chain), root)

    def sign(self, leaf: Leaf) -> Certificate:
        """Sign a leaf, whatever it says."""
        builder = _dated(leaf.key, self.now, leaf.begins, leaf.ends)
        builder = builder.subject_name(x509.Name([])).issuer_name(self.certificate.subject)
        for extension, critical in _extensions(leaf):
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, leaf: Leaf | None = None) -> Papers:
        """Give a workload its papers; without more, those of `WEB`."""
        leaf = leaf or Leaf()
        return self.papers(self.sign(leaf), leaf.key)

    def papers(self, certificate: Certificate, key: Key) -> Papers:
        """Put a certificate together with what leads to it."""
        return Papers(pem(certificate, *self.chain), key_pem(key), self.bundle)


def pem(*certificates: Certificate) -> bytes:
    """Write certificates one after the other."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def key_pem(key: Key) -> bytes:
    """Write a key in plain."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _dated(key: Key, now: datetime, begins: timedelta, ends: timedelta) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now + begins,
        not_valid_after=now + ends,
    )


def _authority(name: str, key: Key, now: datetime, above: Above) -> x509.CertificateBuilder:
    constraints = x509.BasicConstraints(ca=above.ca, path_length=above.path_length)
    signs = ("key_cert_sign", "crl_sign") if above.ca else ("digital_signature",)
    builder = (
        _dated(key, now, above.begins, above.ends)
        .subject_name(_name(name))
        .add_extension(constraints, critical=True)
        .add_extension(key_usage(*signs), critical=True)
    )
    if above.constraints is not None:
        builder = builder.add_extension(above.constraints, critical=True)
    return builder


def _extensions(leaf: Leaf) -> list[tuple[x509.ExtensionType, bool]]:
    names: list[x509.GeneralName] = [
        *map(x509.UniformResourceIdentifier, leaf.uris),
        *map(x509.DNSName, leaf.dns),
    ]
    extensions: list[tuple[x509.ExtensionType, bool]] = []
    if names:
        extensions.append((x509.SubjectAlternativeName(names), True))
    if leaf.ca:
        extensions.append((x509.BasicConstraints(ca=True, path_length=None), True))
    if leaf.usages is not None:
        extensions.append((key_usage(*leaf.usages), True))
    if leaf.extended is not None:
        extensions.append((x509.ExtendedKeyUsage(leaf.extended), False))
    return extensions


def _with_sha1(ca: FakeCa) -> Papers:
    """Sign with SHA-1, by a root of its own: libraries refuse to, so what SHA-256 was written for is signed again."""
    root = FakeCa.new("rsa root", now=ca.now, key=rsa_key())
    assert isinstance(root.key, rsa.RSAPrivateKey)
    leaf = Leaf()
    written = root.sign(leaf)
    signed = written.tbs_certificate_bytes.replace(SHA256_RSA, SHA1_RSA)
    signature = root.key.sign(signed, padding.PKCS1v15(), hashes.SHA1())
    der = written.public_bytes(Encoding.DER)
    der = der.replace(written.tbs_certificate_bytes, signed).replace(SHA256_RSA, SHA1_RSA)
    forged = x509.load_der_x509_certificate(der.replace(written.signature, signature))
    return root.papers(forged, leaf.key)


def _without_intermediate(ca: FakeCa) -> Papers:
    papers = ca.below().issue()
    whole = papers.certificate.partition(b"-----END CERTIFICATE-----\n")
    return Papers(b"".join(whole[:2]), papers.key, papers.bundle)


def _beyond_its_names(ca: FakeCa) -> Papers:
    """Sign by an authority that may only name another trust domain's workloads."""
    other = [x509.UniformResourceIdentifier("other.example")]
    constraints = x509.NameConstraints(permitted_subtrees=other, excluded_subtrees=None)
    return ca.below(Above(constraints=constraints)).issue()


def _another_key(ca: FakeCa) -> Papers:
    papers = ca.issue()
    return Papers(papers.certificate, key_pem(ec_key()), papers.bundle)


BAD: Mapping[str, Callable[[FakeCa], Papers]] = {
    "two URIs": lambda ca: ca.issue(Leaf(uris=(WEB, WEB + "-2"))),
    "the same URI twice": lambda ca: ca.issue(Leaf(uris=(WEB, WEB))),
    "no subject alternative name": lambda ca: ca.issue(Leaf(uris=())),
    "a DNS name only": lambda ca: ca.issue(Leaf(uris=(), dns=("web.default.svc",))),
    "a URI of another scheme": lambda ca: ca.issue(Leaf(uris=("https://cluster.local/web",))),
    "a trust domain without a path": lambda ca: ca.issue(Leaf(uris=("spiffe://cluster.local",))),
    "an upper-case trust domain": lambda ca: ca.issue(Leaf(uris=("spiffe://Cluster.local/web",))),
    "dots in the path": lambda ca: ca.issue(Leaf(uris=("spiffe://cluster.local/ns/../web",))),
    "an empty segment": lambda ca: ca.issue(Leaf(uris=("spiffe://cluster.local/ns//web",))),
    "a query": lambda ca: ca.issue(Leaf(uris=(WEB + "?x=y",))),
    "an id of over 2048 bytes": lambda ca: ca.issue(Leaf(uris=(WEB + "x" * 2048,))),
    "a CA's certificate": lambda ca: ca.issue(Leaf(ca=True)),
    "keyCertSign": lambda ca: ca.issue(Leaf(usages=("digital_signature", "key_cert_sign"))),
    "cRLSign": lambda ca: ca.issue(Leaf(usages=("digital_signature", "crl_sign"))),
    "no digitalSignature": lambda ca: ca.issue(Leaf(usages=("key_agreement",))),
    "for servers only": lambda ca: ca.issue(Leaf(extended=(SERVER,))),
    "for clients only": lambda ca: ca.issue(Leaf(extended=(CLIENT,))),
    "expired": lambda ca: ca.issue(Leaf(begins=-2 * DAY, ends=-DAY)),
    "not yet valid": lambda ca: ca.issue(Leaf(begins=DAY, ends=2 * DAY)),
    "an RSA key of 1024 bits": lambda ca: ca.issue(Leaf(key=rsa_key(1024))),
    "a curve that is too small": lambda ca: ca.issue(Leaf(key=ec_key(ec.SECP192R1()))),
    "a SHA-1 signature": _with_sha1,
    "a missing intermediate": _without_intermediate,
    "an intermediate that is no CA": lambda ca: ca.below(Above(ca=False)).issue(),
    "an expired intermediate": lambda ca: ca.below(Above(begins=-2 * DAY, ends=-DAY)).issue(),
    "a violated path length": lambda ca: ca.below(Above(path_length=0)).below().issue(),
    "a violated name constraint": _beyond_its_names,
    "another authority's signature": lambda ca: Papers(
        (strange := FakeCa.new("root", now=ca.now).issue()).certificate, strange.key, ca.bundle
    ),
    "another key": _another_key,
}
"""What nobody may take, by what is wrong with it; all else about it is right."""
