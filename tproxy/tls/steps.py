"""What whoever moves the bytes of a TLS connection asks of it; OpenSSL is imported only where there is one."""

from enum import Enum
from typing import Protocol

from tproxy.model.identity import Peer, Proof

RECORD = 16384
"""Bytes of one record at most (RFC 8446, 5.1)."""
MOST_RECORDS = 64
"""Read in a row: a record may be a single byte, and takes as long as a large one."""


class Wait(Enum):
    """What has to happen to the socket before a step can be tried again."""

    READABLE = "readable"
    WRITABLE = "writable"


class Ended(Enum):
    """The peer has said that nothing more comes."""

    ENDED = "ended"


class Broken(Exception):
    """The connection has failed, in OpenSSL's words; no step will answer any more."""


Filled = tuple[int, Wait | Ended | Broken | None]


class Steps(Protocol):
    """One TLS connection over a socket that does not block: each step answers, or says what it waits for.

    A step of writing that has to wait is to be tried again with the same bytes, before any other: some are encrypted
    already. After the socket is closed no step may be tried, since its descriptor may be another's.
    """

    @property
    def peer(self) -> Peer | None:
        """Who the peer has proven to be; None where it need not be a workload."""

    @property
    def alpn(self) -> str:
        """The protocol that was agreed on; empty when none was."""

    def proof(self) -> Proof:
        """How the peer has proven it, once it has."""

    def handshake(self) -> Wait | None:
        """Go on with the handshake; None once it is over. NotSecured: it has failed, and the peer was told."""

    def fill(self, room: memoryview) -> Filled:
        """Take what there is into `room`, of MOST_RECORDS at most: how many bytes, and why not more; None where more may be there."""

    def write(self, piece: bytes | memoryview) -> Wait | None:
        """Send all of `piece`; of one that has to wait some records may be on their way already."""

    def end(self) -> Wait | None:
        """Tell the peer that nothing more comes from us (close_notify); it may go on."""
