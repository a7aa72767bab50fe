"""The certificate authority of one trust domain, and how its root is replaced without anybody losing trust.

The rule: nobody is shown a certificate that its bundle does not lead to. Bundles travel with certificates, so a step that
needs another bundle waits until the last certificate of before has ended, and its owner has been given both anew:

    steady      one root
    spreading   a second root is in all new bundles, and the first one still signs
    signing     the second root signs, and the first one is still in all bundles, for what it has signed
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Self

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate, load_pem_x509_certificate

from tproxy.model.identity import Peer
from tproxy.tls.documents import is_trust_domain
from tproxy.tls.root import CannotSign, Root, Svid


class Phase(StrEnum):
    """How far the replacement of the root is."""

    STEADY = "steady"
    SPREADING = "spreading"
    SIGNING = "signing"


class TooEarly(CannotSign):
    """Somebody may still hold a bundle, or a certificate, that the step would make useless."""

    def __init__(self, until: datetime) -> None:
        super().__init__(f"this step has to wait until {until.isoformat(timespec='seconds')}")
        self.until = until


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """An authority as it is written down."""

    trust_domain: str
    certificate: str
    key: str = field(repr=False)
    next_certificate: str = ""
    next_key: str = field(default="", repr=False)
    previous_certificate: str = ""
    last_expiry: datetime
    settled: datetime


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Authority:
    """One state of an authority; whatever it does makes the next one."""

    trust_domain: str
    signing: Root
    following: Root | None = None
    """The root that will sign, in all bundles already."""
    preceding: Certificate | None = None
    """The root that has signed, in all bundles still."""
    last_expiry: datetime
    """When the last one ends of all certificates that were issued."""
    settled: datetime
    """From when on everybody has what the last step has changed."""

    @classmethod
    def create(cls, trust_domain: str, *, lifetime: timedelta, now: datetime) -> Self:
        """Found an authority; CannotSign when that is no trust domain."""
        if not is_trust_domain(trust_domain):
            raise CannotSign(f"{trust_domain!r} is no trust domain: use a-z, 0-9, `.`, `-` and `_`")
        root = Root.new(trust_domain, lifetime=lifetime, now=now)
        return cls(trust_domain=trust_domain, signing=root, last_expiry=now, settled=now)

    @classmethod
    def read(cls, content: bytes) -> Self:
        """Read what `written` has given; ValueError when it is something else."""
        try:
            kept = msgspec.json.decode(content, type=_Kept)
        except msgspec.MsgspecError as error:
            raise ValueError("it has another form") from error
        before = kept.previous_certificate.encode()
        return cls(
            trust_domain=kept.trust_domain,
            signing=Root.read(kept.certificate.encode(), kept.key.encode()),
            following=Root.read(kept.next_certificate.encode(), kept.next_key.encode())
            if kept.next_key
            else None,
            preceding=load_pem_x509_certificate(before) if before else None,
            last_expiry=kept.last_expiry,
            settled=kept.settled,
        )

    def written(self) -> bytes:
        """Write all of it down, keys in plain: for a file that its owner alone may read."""
        return msgspec.json.encode(
            _Kept(
                trust_domain=self.trust_domain,
                certificate=self.signing.pem.decode(),
                key=self.signing.key_pem.decode(),
                next_certificate=self.following.pem.decode() if self.following else "",
                next_key=self.following.key_pem.decode() if self.following else "",
                previous_certificate=_pem(self.preceding).decode() if self.preceding else "",
                last_expiry=self.last_expiry,
                settled=self.settled,
            )
        )

    @property
    def phase(self) -> Phase:
        """How far the replacement of the root is."""
        if self.following is not None:
            return Phase.SPREADING
        return Phase.STEADY if self.preceding is None else Phase.SIGNING

    @property
    def roots(self) -> tuple[Certificate, ...]:
        """All that are to be trusted, the one that signs first."""
        following = self.following.certificate if self.following else None
        return tuple(
            each
            for each in (self.signing.certificate, following, self.preceding)
            if each is not None
        )

    @property
    def bundle(self) -> bytes:
        """Those, in PEM."""
        return b"".join(map(_pem, self.roots))

    def issue(self, own: Peer, *, ttl: timedelta, now: datetime) -> tuple[Svid, Self]:
        """Sign for a workload; CannotSign when it is another trust domain's, or for too long."""
        if own.trust_domain != self.trust_domain:
            raise CannotSign(
                f"{own.spiffe_id} is of another trust domain, this authority signs for"
                f" {self.trust_domain}"
            )
        svid = self.signing.issue(own, ttl=ttl, now=now)
        return svid, replace(self, last_expiry=max(self.last_expiry, svid.not_after))

    def rotated(self, *, lifetime: timedelta, now: datetime, early: bool = False) -> Self:
        """Take the next step of a replacement; TooEarly until the last one has reached everybody."""
        if self.phase is not Phase.STEADY and now < self.settled and not early:
            raise TooEarly(self.settled)
        settled = max(now, self.last_expiry).astimezone(UTC)
        if self.following is not None:
            old = self.signing.certificate
            return replace(
                self, signing=self.following, following=None, preceding=old, settled=settled
            )
        if self.preceding is not None:
            return replace(self, preceding=None, settled=settled)
        root = Root.new(self.trust_domain, lifetime=lifetime, now=now)
        return replace(self, following=root, settled=settled)


def _pem(certificate: Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
