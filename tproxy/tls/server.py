"""A server's certificate, as clients of the web know it: it proves a name, and asks nobody who they are."""

from datetime import datetime
from socket import socket

from OpenSSL import SSL

from tproxy.tls.credentials import bare_context
from tproxy.tls.documents import (
    KEY,
    BadCertificate,
    read_certificates,
    read_key,
    refuse_weak,
)
from tproxy.tls.session import Session
from tproxy.tls.verification import Verdict

PROTOCOL = b"http/1.1"


class ServerCertificate:
    """One certificate with its key, ready for handshakes. Nothing of it changes: a rotation makes another."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        """Take both in PEM; BadCertificate when they cannot be used."""
        chain = read_certificates(certificate)
        self.not_after: datetime = chain[0].not_valid_after_utc
        refuse_weak(chain[0])
        self._context = bare_context()
        self._context.set_alpn_select_callback(_select)
        self._context.use_certificate(chain[0])
        for intermediate in chain[1:]:
            self._context.add_extra_chain_cert(intermediate)
        try:
            self._context.use_privatekey(read_key(key))
            self._context.check_privatekey()
        except SSL.Error:
            raise BadCertificate("is another certificate's", KEY) from None

    def accept(self, connected: socket) -> Session:
        """Begin with whoever has dialled us."""
        return Session.accept(self._context, connected, Verdict(_anybody), None)


def _anybody(certificate: bytes, root: bytes) -> None:
    del certificate, root


def _select(_: SSL.Connection, offered: list[bytes]) -> "bytes | SSL._NoOverlappingProtocols":
    return PROTOCOL if PROTOCOL in offered else SSL.NO_OVERLAPPING_PROTOCOLS
