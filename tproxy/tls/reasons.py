"""Why a connection is not secured, in a closed set of words for logs and metrics."""

from enum import StrEnum


class Reason(StrEnum):
    """What went wrong in a handshake."""

    NO_CERTIFICATE = "no_certificate"
    """The peer shows none."""
    BAD_CERTIFICATE = "bad_certificate"
    """Its certificate is no X.509-SVID, or cannot be used for TLS."""
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    UNTRUSTED = "untrusted"
    """No root of its trust domain stands behind it."""
    REVOKED = "revoked"
    WRONG_IDENTITY = "wrong_identity"
    """It proves to be somebody else than it should."""
    REJECTED = "rejected"
    """The peer does not accept us."""
    PROTOCOL = "protocol"
    """What the peer says is no TLS, or none that is spoken here."""
    CLOSED = "closed"
    """The peer left."""
    TIMEOUT = "timeout"
    OVERLOAD = "overload"
    """So many handshakes were under way that the oldest was given up."""
    NO_IDENTITY = "no_identity"
    """We have nothing to show."""


class NotSecured(Exception):
    """There is no TLS connection; `cause` tells people more than the reason and holds no secret."""

    def __init__(self, reason: Reason, cause: str = "") -> None:
        super().__init__(f"{reason}: {cause}" if cause else str(reason))
        self.reason = reason
        self.cause = cause
