"""Who this workload is, and whom it can know: an X.509-SVID with its key, and the roots of trust domains."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509 import Certificate

from tproxy.model.identity import Peer

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
"""The kinds of keys that TLS is spoken with here."""


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """One issue of a workload's identity. Equal is only what is the same one: connections are told apart by it."""

    own: Peer
    certificates: tuple[Certificate, ...]
    """Our own first, then the intermediates that lead to a root."""
    key: Key = field(repr=False)
    bundles: Mapping[str, tuple[Certificate, ...]]
    """The roots of each trust domain that we know, our own among them."""

    @property
    def not_before(self) -> datetime:
        """From when on our certificate is valid; aware of UTC."""
        return self.certificates[0].not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        """Until when our certificate is valid; aware of UTC."""
        return self.certificates[0].not_valid_after_utc

    @property
    def roots_not_after(self) -> dict[str, datetime]:
        """Until when the first root of each trust domain is valid; aware of UTC."""
        return {
            trust_domain: min(root.not_valid_after_utc for root in roots)
            for trust_domain, roots in self.bundles.items()
        }
