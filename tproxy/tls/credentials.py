"""What one issue of an identity is good for: to be shown, and to know others by."""

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from socket import socket

from cryptography.x509 import Certificate
from OpenSSL import SSL, crypto

from tproxy.model.alpn import chosen
from tproxy.model.upstream_tls import UpstreamTls
from tproxy.tls.identity import Identity
from tproxy.tls.session import Session
from tproxy.tls.shown import Page, shown
from tproxy.tls.verification import SpiffeJudge, Verdict, verify

# For TLS 1.2, which needs forward secrecy and an AEAD; all of 1.3's have both. Level 2: no key below 112 bits, no SHA-1.
CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"
# All of 1.3, the least costly first: there a suite of 256 bits is slower to hash with, too, and nobody breaks one of 128.
SUITES = b"TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"
OPTIONS = (
    SSL.OP_NO_COMPRESSION
    | SSL.OP_NO_RENEGOTIATION
    | SSL.OP_NO_TICKET
    | SSL.OP_CIPHER_SERVER_PREFERENCE
)
NO_AUTO_CHAIN = 0x8
"""SSL_MODE_NO_AUTO_CHAIN of <openssl/ssl.h>, part of its ABI; pyOpenSSL has no name for it. Without it OpenSSL looks in every
handshake for what leads from our own certificate to a root, verifies that, and sends the root along."""
PARTIAL_WRITE = 0x1
"""SSL_MODE_ENABLE_PARTIAL_WRITE, which pyOpenSSL sets: one call would write one record."""
MOST_JUDGES = 1024
"""Sets of accepted upstreams that are remembered: as many as there are destinations, mostly."""


class Credentials:
    """One identity, ready for handshakes. Nothing of it changes: a rotation makes another."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self._anybody = SpiffeJudge(identity.bundles)
        self._accepting = _context(identity)
        self._accepting.set_alpn_select_callback(_select)
        self._connecting = _context(identity)
        self._one_of = lru_cache(MOST_JUDGES)(self._judge)

    def shown(self, now: datetime) -> Page:
        """Tell people of its certificates, and of no key."""
        return shown(self.identity, now)

    def accept(self, connected: socket) -> Session:
        """Begin with whoever has dialled us and is to prove who it is."""
        verdict = Verdict(self._anybody)
        return Session.accept(self._accepting, connected, verdict, self.identity.own)

    def connect(self, connected: socket, how: UpstreamTls, offers: list[bytes]) -> Session:
        """Begin with whom we have dialled, both proving who they are (ISTIO_MUTUAL)."""
        verdict = Verdict(self._one_of(how.subject_alt_names))
        session = Session.connect(self._connecting, connected, verdict, self.identity.own)
        if how.server_name:
            session.ask_for(how.server_name)
        session.offer(offers)
        return session

    def _judge(self, names: tuple[str, ...]) -> SpiffeJudge:
        """Without names, anybody of our own trust domain: who else it could be, nobody has said."""
        bundles = self.identity.bundles
        if not names:
            own = self.identity.own.trust_domain
            return SpiffeJudge({own: bundles[own]})
        return SpiffeJudge(bundles, frozenset(names))


def _context(identity: Identity) -> SSL.Context:
    context = bare_context()
    leaf, *intermediates = identity.certificates
    context.use_certificate(leaf)
    for certificate in intermediates:
        context.add_extra_chain_cert(certificate)
    context.use_privatekey(identity.key)
    trust(context, (root for roots in identity.bundles.values() for root in roots))
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
    return context


def bare_context() -> SSL.Context:
    """Make a context of which only the protocol is settled."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(CIPHERS)
    context.set_tls13_ciphersuites(SUITES)
    context.set_options(OPTIONS)
    # A session that is resumed proves nothing anew: whoever was revoked or renamed meanwhile would go on.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS | NO_AUTO_CHAIN)
    context.clear_mode(PARTIAL_WRITE)
    return context


def trust(context: SSL.Context, roots: Iterable[Certificate]) -> None:
    """Have chains end in these."""
    store = context.get_cert_store()
    assert store is not None, "every context has one"
    for root in roots:
        store.add_cert(crypto.X509.from_cryptography(root))
    # A bundle may hold an authority that another has signed.
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)


def _select(_: SSL.Connection, offered: list[bytes]) -> "bytes | SSL._NoOverlappingProtocols":
    found = chosen(offered)
    return SSL.NO_OVERLAPPING_PROTOCOLS if found is None else found
