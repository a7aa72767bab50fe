"""One captured connection, known better with each phase."""

from enum import StrEnum
from typing import Self

import msgspec
from msgspec.structs import replace

from tproxy.model.address import Address
from tproxy.model.identity import Peer, Proof


class Direction(StrEnum):
    """Towards the local application, or from it."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"

    # What is looked up by with every connection and request: an enum hashes its name in Python.
    __hash__ = str.__hash__


class Protocol(StrEnum):
    """What a connection's first bytes open."""

    HTTP1 = "http1"
    HTTP2 = "http2"
    TLS = "tls"
    OPAQUE = "opaque"
    """Anything else: carried as bytes."""

    __hash__ = str.__hash__


class Detection(StrEnum):
    """How the protocol was found; the `result` label of `tproxy_detect_total`."""

    HTTP10 = "http10"
    HTTP11 = "http11"
    H2 = "h2"
    TLS = "tls"
    TCP = "tcp"
    """The bytes are none of the above."""
    DECLARED = "declared"
    """The port's protocol is known beforehand: nothing was sniffed."""
    ALPN = "alpn"
    """The peer's sidecar has named it while TLS was agreed on."""
    TIMEOUT = "timeout"
    """Silence, or too little said in time."""
    CLOSED = "closed"
    """The peer ended before it had opened any protocol."""

    __hash__ = str.__hash__


class Sniffed(msgspec.Struct, frozen=True):
    """The verdict on a connection's opening."""

    protocol: Protocol
    detection: Detection
    server_name: str = ""
    """The SNI of a TLS ClientHello; empty when it names none."""
    alpn: tuple[str, ...] = ()
    """The protocols a TLS ClientHello offers, in its order."""


class Flow(msgspec.Struct, frozen=True):
    """One captured connection; each phase returns a fuller copy."""

    direction: Direction
    peer: Address
    """Who dialled: the downstream's remote address."""
    local: Address
    """Our end of the downstream connection, after the redirect."""
    original_dst: Address
    """Where the connection was going when the kernel redirected it."""
    sniffed: Sniffed = Sniffed(Protocol.OPAQUE, Detection.DECLARED)
    detect_seconds: float = 0.0
    identity: Peer | None = None
    """Who the peer has proven to be; None on plaintext."""
    proof: Proof | None = None
    """How; None for questions about policies, where nobody proves anything."""

    def authenticated(self, identity: Peer, proof: Proof) -> Self:
        """Return this flow with its peer known."""
        return replace(self, identity=identity, proof=proof)

    def known_as(self, sniffed: Sniffed, seconds: float) -> Self:
        """Return this flow with its protocol known."""
        return type(self)(
            self.direction,
            self.peer,
            self.local,
            self.original_dst,
            sniffed,
            seconds,
            self.identity,
            self.proof,
        )

    @property
    def protocol(self) -> Protocol:
        """What the connection speaks."""
        return self.sniffed.protocol
