"""TLS towards upstreams outside the mesh: whom we take them for, and what we show."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from OpenSSL import SSL

from fakes.ca import HOUR, MINUTE, SERVER, WEB, FakeCa, Leaf, Papers
from fakes.handshakes import outcome, stranger
from tproxy.model.upstream_tls import TlsMode, UpstreamTls
from tproxy.tls import origination
from tproxy.tls.origination import originate
from tproxy.tls.reasons import NotSecured, Reason

CA = FakeCa.new()
SHOP = Leaf(uris=("spiffe://td/Shop",), dns=("shop.example", "*.web.example"), extended=(SERVER,))


@pytest.fixture
def roots(tmp_path: Path) -> str:
    """A file of the roots that are trusted."""
    path = tmp_path / "roots.pem"
    path.write_bytes(CA.bundle)
    return str(path)


def simple(roots: str, name: str = "shop.example", *names: str) -> UpstreamTls:
    return UpstreamTls(
        mode=TlsMode.SIMPLE, server_name=name, ca_certificates=roots, subject_alt_names=names
    )


def refusal(how: UpstreamTls, papers: Papers) -> NotSecured:
    """Shake hands with a server, in vain."""
    with pytest.raises(NotSecured) as refused:
        outcome(partial(originate, how=how, offers=[]), stranger(papers), accepts=False)
    return refused.value


@pytest.mark.parametrize(
    ("name", "names"),
    [
        pytest.param("shop.example", (), id="the name that is asked for"),
        pytest.param("SHOP.example", (), id="in any case"),
        pytest.param("a.web.example", (), id="a wildcard's"),
        pytest.param("other.example", ("x.example", "shop.example"), id="one of those accepted"),
        pytest.param("", ("spiffe://td/Shop",), id="a workload of another mesh"),
    ],
)
def test_an_upstream_is_taken_for_whom_it_proves_to_be(
    roots: str, name: str, names: tuple[str, ...]
) -> None:
    asked: list[bytes | None] = []
    server = stranger(CA.issue(SHOP))
    server.set_tlsext_servername_callback(lambda each: asked.append(each.get_servername()))
    begin = partial(originate, how=simple(roots, name, *names), offers=[b"http/1.1"])
    steps = outcome(begin, server, accepts=False)
    assert steps.peer is None
    assert asked == ([name.encode()] if name else [None])


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        pytest.param(lambda roots: simple(roots, "evil.example"), Reason.WRONG_IDENTITY, id="another name"),
        pytest.param(lambda roots: simple(roots, "a.b.web.example"), Reason.WRONG_IDENTITY, id="a wildcard is one label"),
        pytest.param(lambda roots: simple(roots, "web.example"), Reason.WRONG_IDENTITY, id="a wildcard is not none"),
        pytest.param(lambda roots: simple(roots, "shop.example", "x.example"), Reason.WRONG_IDENTITY, id="accepted names win"),
        pytest.param(lambda roots: simple(roots, ""), Reason.WRONG_IDENTITY, id="nobody says who it should be"),
        pytest.param(lambda roots: simple(roots + ".none"), Reason.UNTRUSTED, id="no such file"),
    ],
)  # fmt: skip
def test_an_upstream_that_is_somebody_else_is_refused(
    roots: str, how: Callable[[str], UpstreamTls], reason: Reason
) -> None:
    refused = refusal(how(roots), CA.issue(SHOP))
    assert refused.reason is reason
    assert refused.cause


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param("spiffe://shop.web.example", id="a wildcard for a URI"),
        pytest.param("192.0.2.1", id="a DNS name for an address"),
    ],
)
def test_a_name_is_of_its_kind(roots: str, wanted: str) -> None:
    odd = Leaf(uris=(), dns=("*.web.example", "192.0.2.1"), extended=(SERVER,))
    assert refusal(simple(roots, "", wanted), CA.issue(odd)).reason is Reason.WRONG_IDENTITY


def test_a_key_with_a_passphrase_is_refused_and_not_waited_for(tmp_path: Path, roots: str) -> None:
    papers = CA.issue()
    key = load_pem_private_key(papers.key, None)
    locked = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    refused = refusal(
        mutual(tmp_path, roots, Papers(papers.certificate, locked, b"")), CA.issue(SHOP)
    )
    assert refused.reason is Reason.BAD_CERTIFICATE


def test_an_upstream_of_other_roots_is_refused(roots: str) -> None:
    assert refusal(simple(roots), FakeCa.new("others").issue(SHOP)).reason is Reason.UNTRUSTED


def test_an_expired_one_is_refused(roots: str) -> None:
    expired = Leaf(dns=("shop.example",), uris=(), begins=-2 * HOUR, ends=-HOUR)
    assert refusal(simple(roots), CA.issue(expired)).reason is Reason.EXPIRED


def test_one_without_names_is_refused(roots: str) -> None:
    refused = refusal(simple(roots), CA.issue(Leaf(uris=(), extended=(SERVER,))))
    assert (refused.reason, refused.cause) == (Reason.WRONG_IDENTITY, "it is nobody")


def test_whoever_skips_verification_takes_anybody() -> None:
    how = UpstreamTls(mode=TlsMode.SIMPLE, insecure_skip_verify=True)
    server = stranger(FakeCa.new("others").issue(SHOP))
    assert outcome(partial(originate, how=how, offers=[]), server, accepts=False).peer is None


def test_roots_of_the_system_are_trusted_where_none_are_named(
    roots: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = UpstreamTls(mode=TlsMode.SIMPLE, server_name="shop.example")
    monkeypatch.setattr(origination, "SYSTEM_ROOTS", ("/nowhere", roots))
    outcome(partial(originate, how=how, offers=[]), stranger(CA.issue(SHOP)), accepts=False)
    monkeypatch.setattr(origination, "SYSTEM_ROOTS", ("/nowhere",))
    assert refusal(how, CA.issue(SHOP)).reason is Reason.UNTRUSTED


def test_a_file_that_is_replaced_is_read_again(roots: str) -> None:
    others = FakeCa.new("others")
    begin = partial(originate, how=simple(roots), offers=[])
    outcome(begin, stranger(CA.issue(SHOP)), accepts=False)
    draft = Path(roots + ".new")
    draft.write_bytes(others.bundle)
    draft.rename(roots)
    outcome(begin, stranger(others.issue(SHOP)), accepts=False)
    assert refusal(simple(roots), CA.issue(SHOP)).reason is Reason.UNTRUSTED


def test_a_file_that_was_half_written_is_read_again(roots: str) -> None:
    others = FakeCa.new("others")
    assert refusal(simple(roots), others.issue(SHOP)).reason is Reason.UNTRUSTED
    stood = os.stat(roots)
    with open(roots, "ab") as file:
        file.write(others.bundle)
    # The kernel's clock of files ticks only some hundred times in a second.
    os.utime(roots, ns=(stood.st_atime_ns, stood.st_mtime_ns))
    begin = partial(originate, how=simple(roots), offers=[])
    outcome(begin, stranger(others.issue(SHOP)), accepts=False)


def test_whatever_names_are_asked_for_a_file_is_read_once(roots: str) -> None:
    papers = CA.issue(SHOP)
    outcome(partial(originate, how=simple(roots), offers=[]), stranger(papers), accepts=False)
    stood = os.stat(roots)
    with open(roots, "r+b") as file:
        file.write(bytes(stood.st_size))
    os.utime(roots, ns=(stood.st_atime_ns, stood.st_mtime_ns))
    how = simple(roots, "a.web.example")
    outcome(partial(originate, how=how, offers=[]), stranger(papers), accepts=False)


def test_a_file_that_is_no_certificate_is_named(roots: str) -> None:
    Path(roots).write_text("nothing of use")
    refused = refusal(simple(roots), CA.issue(SHOP))
    assert refused.reason is Reason.BAD_CERTIFICATE
    assert refused.cause == f"{roots} cannot be used"


def mutual(directory: Path, roots: str, papers: Papers) -> UpstreamTls:
    """Show a certificate from files."""
    (directory / "own.pem").write_bytes(papers.certificate)
    (directory / "own.key").write_bytes(papers.key)
    return UpstreamTls(
        mode=TlsMode.MUTUAL,
        server_name="shop.example",
        ca_certificates=roots,
        client_certificate=str(directory / "own.pem"),
        private_key=str(directory / "own.key"),
    )


def test_mutual_tls_shows_what_files_hold(tmp_path: Path, roots: str) -> None:
    shown: list[SSL.Connection] = []

    def demand(context: SSL.Context) -> None:
        mode = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        context.set_verify(mode, lambda *_: True)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)  # in which the server is done first

    how = mutual(tmp_path, roots, CA.issue())
    begin = partial(originate, how=how, offers=[])
    server = stranger(CA.issue(SHOP), demand)
    outcome(begin, server, accepts=False, prepare=shown.append)
    certificate = shown[0].get_peer_certificate(as_cryptography=True)
    assert certificate is not None
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [WEB]


def test_a_key_of_another_certificate_is_refused(tmp_path: Path, roots: str) -> None:
    other = Papers(CA.issue().certificate, CA.issue().key, b"")
    refused = refusal(mutual(tmp_path, roots, other), CA.issue(SHOP))
    assert refused.reason is Reason.BAD_CERTIFICATE
    assert "own.key" in refused.cause
    assert "PRIVATE" not in refused.cause


def test_a_revoked_upstream_is_refused(tmp_path: Path, roots: str) -> None:
    now = datetime.now(UTC)
    papers = CA.issue(SHOP)
    serial = x509.load_pem_x509_certificate(papers.certificate).serial_number
    revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
    listed = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(CA.certificate.subject)
        .last_update(now - MINUTE)
        .next_update(now + HOUR)
        .add_revoked_certificate(revoked)
        .sign(CA.key, hashes.SHA256())
    )
    path = tmp_path / "revoked.pem"
    path.write_bytes(listed.public_bytes(Encoding.PEM))
    how = UpstreamTls(
        mode=TlsMode.SIMPLE, server_name="shop.example", ca_certificates=roots, ca_crl=str(path)
    )
    assert refusal(how, papers).reason is Reason.REVOKED
    outcome(partial(originate, how=how, offers=[]), stranger(CA.issue(SHOP)), accepts=False)


def test_what_is_offered_for_inside_is_agreed_on(roots: str) -> None:
    server = stranger(CA.issue(SHOP))
    server.set_alpn_select_callback(lambda _, offered: offered[-1])
    begin = partial(originate, how=simple(roots), offers=[b"h2"])
    assert outcome(begin, server, accepts=False).alpn == "h2"
