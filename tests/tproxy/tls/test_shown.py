"""Whoever asks sees which certificates there are and how long they last, and never a key."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from fakes.ca import DAY, HOUR, WEB, Above, FakeCa, Leaf
from tproxy.tls.credentials import Credentials
from tproxy.tls.identity import Identity
from tproxy.tls.shown import shown

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
CA = FakeCa.new(now=NOW)


def entries(identity: Identity, now: datetime = NOW) -> list[dict[str, list[dict[str, object]]]]:
    """What the page lists, as JSON gives it back."""
    page: Mapping[str, list[dict[str, list[dict[str, object]]]]]
    page = json.loads(json.dumps(shown(identity, now)))
    return page["certificates"]


def test_a_certificate_is_shown_as_envoy_does() -> None:
    identity = CA.issue(Leaf(ends=DAY)).identity(NOW)
    (entry,) = entries(identity)
    (leaf,) = entry["cert_chain"]

    assert leaf == {
        "serial_number": f"{identity.certificates[0].serial_number:x}",
        "subject_alt_names": [{"uri": WEB}],
        "days_until_expiration": "1",
        "valid_from": "2030-01-01T11:59:00Z",
        "expiration_time": "2030-01-02T12:00:00Z",
    }
    assert [root["subject_alt_names"] for root in entry["ca_cert"]] == [[]]


def test_names_of_each_kind_that_envoy_shows_are_shown() -> None:
    names = (
        x509.UniformResourceIdentifier(WEB),
        x509.DNSName("web.example.com"),
        x509.IPAddress(IPv4Address("192.0.2.1")),
        x509.RFC822Name("web@example.com"),
    )
    builder = x509.CertificateBuilder(
        issuer_name=CA.certificate.subject,
        subject_name=x509.Name([]),
        public_key=CA.key.public_key(),
        serial_number=1,
        not_valid_before=NOW,
        not_valid_after=NOW + DAY,
    ).add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(CA.key, SHA256())
    identity = replace(CA.issue().identity(NOW), certificates=(certificate,))

    assert entries(identity)[0]["cert_chain"][0]["subject_alt_names"] == [
        {"uri": WEB},
        {"dns": "web.example.com"},
        {"ip_address": "192.0.2.1"},
    ]


@pytest.mark.parametrize(
    ("later", "days"),
    [
        pytest.param(timedelta(0), "1", id="a day"),
        pytest.param(HOUR, "0", id="less than a day"),
        pytest.param(3 * DAY, "0", id="over"),
    ],
)
def test_days_that_are_left_are_whole_and_never_negative(later: timedelta, days: str) -> None:
    identity = CA.issue(Leaf(ends=DAY)).identity(NOW)
    (leaf,) = entries(identity, NOW + later)[0]["cert_chain"]
    assert leaf["days_until_expiration"] == days


def test_a_chain_is_shown_whole_and_other_trust_domains_after_our_own() -> None:
    below = CA.below()
    identity = below.issue(Leaf()).identity(NOW)
    (ours,) = identity.bundles.values()
    identity = replace(identity, bundles={"another.example": ours * 2} | dict(identity.bundles))
    own, other = entries(identity)

    assert [len(own["cert_chain"]), len(own["ca_cert"])] == [2, 1]
    assert [len(other["cert_chain"]), len(other["ca_cert"])] == [0, 2]


def test_no_key_is_shown() -> None:
    papers = CA.issue(Leaf())
    page = Credentials(papers.identity(NOW)).shown(NOW)
    assert b"PRIVATE KEY" in papers.key
    assert "KEY" not in json.dumps(page)
    assert set(page) == {"certificates"}


def test_of_several_roots_the_first_end_is_the_one_to_watch() -> None:
    soon, late = (FakeCa.new(now=NOW, above=Above(ends=ends)).certificate for ends in (HOUR, DAY))
    identity = replace(CA.issue().identity(NOW), bundles={"td": (late, soon), "other": (late,)})
    assert identity.roots_not_after == {"td": NOW + HOUR, "other": NOW + DAY}
