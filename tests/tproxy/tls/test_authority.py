"""What an authority signs is an SVID, and no step of replacing its root cuts anybody off who keeps to the times."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from fakes.ca import key_pem, rsa_key
from tproxy.model.identity import Peer
from tproxy.tls.authority import Authority, Phase, TooEarly
from tproxy.tls.documents import BadCertificate, read_identity
from tproxy.tls.identity import Identity
from tproxy.tls.root import CannotSign, Root

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR, YEAR = timedelta(hours=1), timedelta(days=365)
WEB = Peer("cluster.local", "default", "web")


@pytest.fixture
def authority() -> Authority:
    return Authority.create("cluster.local", lifetime=YEAR, now=NOW)


def identity(
    authority: Authority, now: datetime = NOW, bundle: bytes = b""
) -> tuple[Identity, Authority]:
    """Issue an identity and read it, with the bundle that comes with it or another one."""
    svid, after = authority.issue(WEB, ttl=HOUR, now=now)
    return read_identity(svid.certificate, svid.key, bundle or after.bundle, now=now), after


def test_what_it_signs_is_an_identity(authority: Authority) -> None:
    issued, after = identity(authority)
    assert issued.own == WEB
    assert (issued.not_before, issued.not_after) == (NOW - timedelta(minutes=1), NOW + HOUR)
    assert after.last_expiry == NOW + HOUR
    assert not issued.certificates[0].subject.rdns
    by_id = {each.oid: each.critical for each in issued.certificates[0].extensions}
    assert by_id[ExtensionOID.SUBJECT_ALTERNATIVE_NAME]
    assert by_id[ExtensionOID.KEY_USAGE]


def test_no_key_is_told_by_what_holds_it(authority: Authority) -> None:
    svid, after = authority.issue(WEB, ttl=HOUR, now=NOW)
    for holder in (svid, after, read_identity(svid.certificate, svid.key, after.bundle, now=NOW)):
        assert "PRIVATE" not in repr(holder)


def test_its_root_signs_leaves_of_its_trust_domain_and_no_authorities(authority: Authority) -> None:
    extensions = authority.signing.certificate.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (
        True,
        True,
        0,
    )
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (
        True,
        True,
        False,
    )
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://cluster.local"]


@pytest.mark.parametrize("name", ["", "Cluster.local", "a/b", "spiffe://a"])
def test_it_needs_a_trust_domain(name: str) -> None:
    with pytest.raises(CannotSign, match="is no trust domain"):
        Authority.create(name, lifetime=YEAR, now=NOW)


def test_it_signs_for_nobody_elses_workloads(authority: Authority) -> None:
    with pytest.raises(CannotSign, match=r"signs for cluster\.local"):
        authority.issue(Peer("other", "a", "b"), ttl=HOUR, now=NOW)


@pytest.mark.parametrize(
    "ttl",
    [
        pytest.param(timedelta(seconds=59), id="too short"),
        pytest.param(timedelta(days=90, seconds=1), id="too long"),
    ],
)
def test_lifetimes_are_bounded(authority: Authority, ttl: timedelta) -> None:
    with pytest.raises(CannotSign, match="a minute to 90 days"):
        authority.issue(WEB, ttl=ttl, now=NOW)


def test_nothing_is_signed_that_outlives_the_root(authority: Authority) -> None:
    with pytest.raises(CannotSign, match="rotate it"):
        authority.issue(WEB, ttl=2 * HOUR, now=NOW + YEAR - HOUR)


def test_it_is_the_same_after_it_was_written_down(authority: Authority) -> None:
    following = authority.rotated(lifetime=YEAR, now=NOW)
    signing = following.rotated(lifetime=YEAR, now=NOW)
    for state in (authority, following, signing):
        again = Authority.read(state.written())
        assert (again.phase, again.bundle, again.settled) == (
            state.phase,
            state.bundle,
            state.settled,
        )
        assert again.written() == state.written()
        identity(again)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"trust_domain": 1}'])
def test_what_is_no_authority_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Authority.read(content)


def test_a_key_of_another_kind_is_refused(authority: Authority) -> None:
    with pytest.raises(ValueError, match="no EC key"):
        Root.read(authority.signing.pem, key_pem(rsa_key()))


def test_keys_are_not_shown(authority: Authority) -> None:
    svid, _ = authority.issue(WEB, ttl=HOUR, now=NOW)
    shown = repr((svid, authority, authority.signing))
    assert "PRIVATE" not in shown
    assert "PrivateKey" not in shown


def test_a_root_is_replaced_in_three_steps_that_nobody_notices(authority: Authority) -> None:
    first, issuing = identity(authority)
    old_bundle = authority.bundle

    spreading = issuing.rotated(lifetime=YEAR, now=NOW)
    assert (spreading.phase, spreading.settled) == (Phase.SPREADING, NOW + HOUR)
    second, spreading = identity(spreading, NOW + HOUR / 2)
    # Who has not renewed yet still knows whoever has.
    identity(spreading, NOW + HOUR / 2, old_bundle)
    assert set(first.bundles["cluster.local"]) < set(second.bundles["cluster.local"])

    later = NOW + HOUR
    signing = spreading.rotated(lifetime=YEAR, now=later)
    assert (signing.phase, signing.settled) == (Phase.SIGNING, NOW + 1.5 * HOUR)
    third, signing = identity(signing, later)
    # The second's owner knows the third, and the third's the second.
    identity(signing, later, spreading.bundle)
    assert set(second.bundles["cluster.local"]) == set(third.bundles["cluster.local"])

    steady = signing.rotated(lifetime=YEAR, now=NOW + 2 * HOUR)
    assert steady.phase is Phase.STEADY
    assert steady.roots == (signing.signing.certificate,)
    identity(steady, NOW + 2 * HOUR, signing.bundle)


def test_a_step_that_would_cut_somebody_off_is_refused(authority: Authority) -> None:
    _, authority = identity(authority)
    for _ in range(2):
        authority = authority.rotated(lifetime=YEAR, now=NOW, early=True)
        with pytest.raises(TooEarly) as caught:
            authority.rotated(lifetime=YEAR, now=NOW + HOUR - timedelta(seconds=1))
        assert caught.value.until == NOW + HOUR
    assert authority.rotated(lifetime=YEAR, now=NOW + HOUR).phase is Phase.STEADY


def test_too_early_a_step_is_what_cuts_off(authority: Authority) -> None:
    _, authority = identity(authority)
    old_bundle = authority.bundle
    for _ in range(2):
        authority = authority.rotated(lifetime=YEAR, now=NOW, early=True)
    with pytest.raises(BadCertificate, match="leads to no root"):
        identity(authority, NOW, old_bundle)
