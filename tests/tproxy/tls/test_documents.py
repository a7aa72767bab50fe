"""What proves an identity is taken, and what does not is refused with the reason."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ssl import DER_cert_to_PEM_cert

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509 import (
    Certificate,
    load_der_x509_certificate,
    load_pem_x509_certificate,
)
from hypothesis import given
from hypothesis import strategies as st

from fakes.ca import BAD, DAY, HOUR, WEB, Above, FakeCa, Leaf, Papers, ec_key, key_pem, pem, rsa_key
from tproxy.model.identity import Peer
from tproxy.tls.documents import (
    MAX_BYTES,
    MAX_INTERMEDIATES,
    MAX_ROOTS,
    MAX_TRUST_DOMAINS,
    BadCertificate,
    read_certificate,
    read_identity,
    refuse_weak,
    workload_of,
)

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
ROOT = FakeCa.new(now=NOW)

SAN = bytes.fromhex("0603551d11")
VERSION = bytes.fromhex("a003020102")
BASIC = bytes.fromhex("0603551d13")

REASONS = {
    "two URIs": "has 2 URIs in its subject alternative name, an SVID has one",
    "the same URI twice": "has 2 URIs",
    "no subject alternative name": "has 0 URIs",
    "a DNS name only": "has 0 URIs",
    "a URI of another scheme": "names no workload: 'https://cluster.local/web' is no SPIFFE id",
    "a trust domain without a path": "names no workload",
    "an upper-case trust domain": "names no workload",
    "dots in the path": "names no workload",
    "an empty segment": "names no workload",
    "a query": "names no workload",
    "an id of over 2048 bytes": "names no workload",
    "a CA's certificate": "is a CA's (CA:TRUE), not a workload's",
    "keyCertSign": "may sign others",
    "cRLSign": "may sign others",
    "no digitalSignature": "has a key usage without digitalSignature",
    "for servers only": "has an extended key usage without both serverAuth and clientAuth",
    "for clients only": "has an extended key usage without both serverAuth and clientAuth",
    "expired": "has expired at 2029-12-31T12:00:00Z: renew it",
    "not yet valid": "is not valid yet: it begins at 2030-01-02T12:00:00Z and it is 2030-01-01T12:00:00Z",
    "an RSA key of 1024 bits": "has an RSA key of 1024 bits, take 2048 or more",
    "a curve that is too small": "has a key on the curve secp192r1, take P-256 or larger",
    "a SHA-1 signature": "has a signature by SHA1, which can be forged",
    "a missing intermediate": "leads to no root of the bundle",
    "an intermediate that is no CA": "in its chain, which is no CA's certificate",
    "an expired intermediate": "in its chain, which has expired at 2029-12-31T12:00:00Z",
    "a violated path length": "would be refused by peers: path length constraint exceeded",
    "a violated name constraint": "would be refused by peers: permitted subtree violation",
    "another authority's signature": "leads to no root of the bundle",
    "another key": "belongs to another certificate than that of spiffe://cluster.local/ns/default/sa/web",
}
SEEN_IN_THE_LEAF = list(REASONS)[:17]


WHOLE = [
    ROOT.sign(leaf).public_bytes(Encoding.DER)
    for leaf in (Leaf(), Leaf(dns=("a.example",)), Leaf(ca=True, usages=("key_cert_sign",)))
]
KEY = key_pem(ec_key())


@pytest.fixture(scope="module")
def ca() -> FakeCa:
    return ROOT


def refused(papers: Papers, **given: object) -> BadCertificate:
    """Why papers are not taken."""
    with pytest.raises(BadCertificate) as caught:
        read_identity(papers.certificate, papers.key, papers.bundle, now=NOW, **given)  # type: ignore[arg-type]
    return caught.value


def with_key(ca: FakeCa, key: bytes) -> Papers:
    papers = ca.issue()
    return Papers(papers.certificate, key, papers.bundle)


def with_bundle(ca: FakeCa, bundle: bytes) -> Papers:
    papers = ca.issue()
    return Papers(papers.certificate, papers.key, bundle)


def mangled(certificate: Certificate, old: bytes, new: bytes) -> Certificate:
    """Exchange bytes of a certificate, which nobody looks at the signature of."""
    der = certificate.public_bytes(Encoding.DER)
    assert old in der
    return load_der_x509_certificate(der.replace(old, new))


def of_version(certificate: Certificate, version: int) -> bytes:
    """Change what a certificate says of its version (RFC 5280, 4.1.2.1)."""
    changed = certificate.public_bytes(Encoding.DER).replace(
        VERSION, VERSION[:-1] + bytes([version])
    )
    return DER_cert_to_PEM_cert(changed).encode()


def test_a_certificate_its_key_and_a_bundle_are_an_identity(ca: FakeCa) -> None:
    identity = ca.issue().identity(NOW)
    assert identity.own == Peer("cluster.local", "default", "web")
    assert identity.own.spiffe_id == WEB
    assert (identity.not_before, identity.not_after) == (NOW - timedelta(minutes=1), NOW + HOUR)
    assert identity.bundles == {"cluster.local": (ca.certificate,)}
    assert "PRIVATE" not in repr(identity)


@pytest.mark.parametrize(
    "leaf",
    [
        pytest.param(lambda: Leaf(usages=None, extended=None), id="no key usages at all"),
        pytest.param(lambda: Leaf(dns=("web.default.svc",)), id="DNS names beside the URI"),
        pytest.param(lambda: Leaf(uris=("spiffe://cluster.local/web",)), id="another shape of id"),
        pytest.param(lambda: Leaf(key=rsa_key()), id="an RSA key"),
        pytest.param(lambda: Leaf(key=ec_key(ec.SECP384R1())), id="P-384"),
    ],
)
def test_what_an_svid_may_look_like_is_taken(ca: FakeCa, leaf: Callable[[], Leaf]) -> None:
    described = leaf()
    assert ca.issue(described).identity(NOW).own == Peer.of_uri(described.uris[0])


@pytest.mark.parametrize(("bad", "reason"), REASONS.items(), ids=REASONS)
def test_bad_papers_are_refused_for_what_is_wrong(ca: FakeCa, bad: str, reason: str) -> None:
    assert reason in str(refused(BAD[bad](ca)))


def test_every_bad_paper_has_its_reason() -> None:
    assert list(BAD) == list(REASONS)


@pytest.mark.parametrize("bad", SEEN_IN_THE_LEAF)
def test_a_peers_certificate_is_judged_alike_by_itself(ca: FakeCa, bad: str) -> None:
    papers = BAD[bad](ca)
    whole = refused(papers)
    with pytest.raises(BadCertificate) as caught:
        workload_of(load_pem_x509_certificate(papers.certificate))
    assert str(caught.value) == str(whole)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(BASIC, SAN, id="an extension twice"),
        pytest.param(
            b"spiffe://cluster", b"spiffe://cl\xff\xff\xff\xff\xff", id="bytes that are no text"
        ),
    ],
)
def test_extensions_that_cannot_be_read_are_refused(ca: FakeCa, old: bytes, new: bytes) -> None:
    certificate = mangled(ca.sign(Leaf(ca=True)), old, new)
    with pytest.raises(BadCertificate, match="has extensions that cannot be read"):
        workload_of(certificate)


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(
            ROOT.certificate.public_bytes(Encoding.DER).replace(VERSION, VERSION[:-1] + b"\x39"),
            id="another version",
        ),
    ],
)
def test_what_is_no_certificate_is_refused(shown: bytes) -> None:
    with pytest.raises(BadCertificate, match="the certificate cannot be read"):
        read_certificate(shown)


def test_an_algorithm_that_nobody_knows_is_refused(ca: FakeCa) -> None:
    ecdsa_with_sha256 = bytes.fromhex("06082a8648ce3d040302")
    certificate = mangled(ca.sign(Leaf()), ecdsa_with_sha256, ecdsa_with_sha256[:-1] + b"\x7f")
    with pytest.raises(BadCertificate, match="of a kind that is not known"):
        refuse_weak(certificate)


def test_a_key_that_nobody_knows_is_refused(ca: FakeCa) -> None:
    ec_public_key = bytes.fromhex("06072a8648ce3d0201")
    certificate = mangled(ca.sign(Leaf()), ec_public_key, ec_public_key[:-1] + b"\x7f")
    with pytest.raises(BadCertificate, match="has a key of a kind that is not known"):
        refuse_weak(certificate)


def test_a_weak_intermediate_is_named(ca: FakeCa) -> None:
    leaf = Leaf(key=rsa_key(1024), ca=True, usages=("key_cert_sign",))
    below = FakeCa(ca.sign(leaf), leaf.key, NOW)
    signed = Leaf()
    certificates = pem(below.sign(signed), below.certificate)
    error = refused(Papers(certificates, key_pem(signed.key), ca.bundle))
    assert "in its chain, which has an RSA key of 1024 bits" in error.problem


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(der=st.sampled_from(WHOLE), at=st.integers(0, 600), to=st.binary(min_size=1, max_size=3))
def test_whatever_is_changed_in_a_certificate_it_is_judged_and_nothing_else_happens(
    ca: FakeCa, der: bytes, at: int, to: bytes
) -> None:
    changed = der[:at] + to + der[at + len(to) :]
    text = DER_cert_to_PEM_cert(changed).encode()
    with suppress(BadCertificate):
        read_identity(text, KEY, ca.bundle + text, now=NOW)
    with suppress(BadCertificate):
        certificate = read_certificate(changed)
        refuse_weak(certificate)
        workload_of(certificate)


def test_the_chain_is_kept_in_order_and_without_the_root(ca: FakeCa) -> None:
    upper = ca.below()
    lower = upper.below()
    papers = lower.issue()
    with_root = Papers(papers.certificate + papers.bundle, papers.key, papers.bundle)
    identity = with_root.identity(NOW)
    assert identity.certificates[1:] == (lower.certificate, upper.certificate)


@pytest.mark.parametrize(
    "trusted",
    [
        pytest.param([1], id="the upper one"),
        pytest.param([2], id="the lower one"),
        pytest.param([1, 2], id="both"),
        pytest.param([0, 1], id="the upper one and the root"),
        pytest.param([0, 2], id="the lower one and the root"),
        pytest.param([0, 1, 2], id="all"),
    ],
)
def test_intermediates_are_shown_even_where_we_trust_them(ca: FakeCa, trusted: list[int]) -> None:
    upper = ca.below()
    lower = upper.below()
    above = (ca.certificate, upper.certificate, lower.certificate)
    papers = lower.issue()
    bundle = pem(*(above[each] for each in trusted))
    identity = Papers(papers.certificate, papers.key, bundle).identity(NOW)
    assert identity.certificates[1:] == (lower.certificate, upper.certificate)


def test_a_chain_in_another_order_is_refused(ca: FakeCa) -> None:
    upper = ca.below()
    lower = upper.below()
    leaf = Leaf()
    certificates = pem(lower.sign(leaf), upper.certificate, lower.certificate)
    error = refused(Papers(certificates, key_pem(leaf.key), ca.bundle))
    assert "has a chain in the wrong order or with a gap" in error.problem


def test_two_roots_of_a_trust_domain_are_both_kept(ca: FakeCa) -> None:
    other = FakeCa.new("next", now=NOW)
    identity = with_bundle(ca, other.bundle + ca.bundle).identity(NOW)
    assert identity.bundles["cluster.local"] == (other.certificate, ca.certificate)


def test_an_expired_root_leads_nowhere() -> None:
    old = FakeCa.new(now=NOW, above=Above(begins=-2 * DAY, ends=-DAY))
    assert "would be refused by peers: certificate has expired" in str(refused(old.issue()))


def test_other_trust_domains_have_bundles_of_their_own(ca: FakeCa) -> None:
    partner = FakeCa.new("partner", now=NOW)
    papers = ca.issue()
    identity = read_identity(
        papers.certificate,
        papers.key,
        papers.bundle,
        federated={"partner.example": partner.bundle},
        now=NOW,
    )
    assert identity.bundles == {
        "cluster.local": (ca.certificate,),
        "partner.example": (partner.certificate,),
    }


@pytest.mark.parametrize(
    ("trust_domain", "message"),
    [
        pytest.param("cluster.local", "the bundle of cluster.local is of our own", id="our own"),
        pytest.param("Partner", "the bundle of Partner is of no trust domain", id="no name"),
        pytest.param("a/b", "the bundle of a/b is of no trust domain", id="a path"),
    ],
)
def test_a_bundle_needs_a_trust_domain_of_its_own(
    ca: FakeCa, trust_domain: str, message: str
) -> None:
    assert str(refused(ca.issue(), federated={trust_domain: ca.bundle})).startswith(message)


def test_a_bad_bundle_of_another_trust_domain_is_named(ca: FakeCa) -> None:
    error = refused(ca.issue(), federated={"partner.example": b""})
    assert str(error).startswith("the bundle of partner.example holds no certificate")


def test_trust_domains_are_bounded(ca: FakeCa) -> None:
    many = {f"t{number}.example": ca.bundle for number in range(MAX_TRUST_DOMAINS + 1)}
    assert str(refused(ca.issue(), federated=many)) == (
        "the bundle of t64.example is one too many: 64 other trust domains are the most"
    )


@pytest.mark.parametrize(
    ("bundle", "problem"),
    [
        pytest.param(lambda _: b"", "holds no certificate in PEM", id="empty"),
        pytest.param(lambda _: b"#" * (MAX_BYTES + 1), "is larger than 65536 bytes", id="huge"),
        pytest.param(
            lambda ca: ca.bundle * (MAX_ROOTS + 1), "holds 33 certificates, 32", id="too many"
        ),
        pytest.param(
            lambda ca: ca.bundle.replace(b"MII", b"AAA"), "that cannot be read", id="broken"
        ),
        pytest.param(
            lambda ca: of_version(ca.certificate, 57), "that cannot be read", id="another version"
        ),
        pytest.param(lambda ca: pem(ca.sign(Leaf())), "which is no CA's", id="a leaf"),
        pytest.param(
            lambda _: FakeCa.new("weak", now=NOW, key=rsa_key(1024)).bundle,
            "which has an RSA key of 1024 bits",
            id="a weak root",
        ),
        pytest.param(
            lambda ca: pem(ca.sign(Leaf(ca=True))),
            "which is no CA's",
            id="an authority that may not sign",
        ),
    ],
)
def test_a_bad_bundle_is_refused(
    ca: FakeCa, bundle: Callable[[FakeCa], bytes], problem: str
) -> None:
    error = refused(with_bundle(ca, bundle(ca)))
    assert error.document == "bundle"
    assert problem in error.problem


def test_an_authority_without_key_usages_may_sign(ca: FakeCa) -> None:
    plain = pem(ca.sign(Leaf(ca=True, usages=None)))
    assert len(with_bundle(ca, plain + ca.bundle).identity(NOW).bundles["cluster.local"]) == 2


def test_a_chain_of_more_certificates_than_anybody_has_is_refused(ca: FakeCa) -> None:
    papers = ca.issue()
    many = papers.certificate * (MAX_INTERMEDIATES + 2)
    assert "holds 10 certificates, 9 are the most" in str(
        refused(Papers(many, papers.key, papers.bundle))
    )


def encrypted(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        pytest.param(b"", "is no private key in PEM", id="empty"),
        pytest.param(b"#" * (MAX_BYTES + 1), "is larger than 65536 bytes", id="huge"),
        pytest.param(encrypted(ec_key()), "is encrypted", id="encrypted"),
        pytest.param(key_pem(rsa_key(1024)), "is an RSA key of 1024 bits", id="small"),
        pytest.param(
            ed448.Ed448PrivateKey.generate().private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            ),
            "that is no RSA, EC or Ed25519 key",
            id="of another kind",
        ),
        pytest.param(
            ed25519.Ed25519PrivateKey.generate().private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            ),
            "belongs to another certificate",
            id="another's",
        ),
    ],
)
def test_a_bad_key_is_refused_and_nothing_of_it_said(ca: FakeCa, key: bytes, problem: str) -> None:
    error = refused(with_key(ca, key))
    assert error.document == "key"
    assert problem in error.problem
    assert not any(line and line.decode() in str(error) for line in key.splitlines()[1:-1])
