"""Tell people which certificates there are, in the shape of Envoy's `/certs`; of keys nothing is ever told."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.x509 import Certificate

from tproxy.tls.identity import Identity

Page = dict[str, object]
_DAY = timedelta(days=1)


def shown(identity: Identity, now: datetime) -> Page:
    """Write our certificate with its chain and the roots behind it, then the roots of other trust domains."""
    return {"certificates": list(_entries(identity, now))}


def _entries(identity: Identity, now: datetime) -> Iterator[Page]:
    own = identity.own.trust_domain
    chain = [_details(each, now) for each in identity.certificates]
    for trust_domain in sorted(identity.bundles, key=lambda each: (each != own, each)):
        roots = [_details(each, now) for each in identity.bundles[trust_domain]]
        yield {"ca_cert": roots, "cert_chain": chain if trust_domain == own else []}


def _details(certificate: Certificate, now: datetime) -> Page:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return {
        "serial_number": f"{certificate.serial_number:x}",
        "subject_alt_names": list(_names(certificate)),
        # In quotes, as protobuf writes 64 bits in JSON; never negative, as its type is unsigned.
        "days_until_expiration": str(max((ends - now) // _DAY, 0)),
        "valid_from": _moment(begins),
        "expiration_time": _moment(ends),
    }


def _names(certificate: Certificate) -> Iterator[dict[str, str]]:
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            for name in extension.value:
                match name:
                    case x509.UniformResourceIdentifier(value=uri):
                        yield {"uri": uri}
                    case x509.DNSName(value=dns):
                        yield {"dns": dns}
                    case x509.IPAddress(value=address):
                        yield {"ip_address": str(address)}


def _moment(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
