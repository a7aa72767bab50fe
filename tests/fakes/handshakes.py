"""Handshakes between two ends in this process, one of which may be anybody: without tasks, a step of each in turn."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from socket import socket

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from fakes.ca import Papers
from fakes.sockets import socket_pair
from tproxy.tls.identity import Key
from tproxy.tls.steps import Steps

Begin = Callable[[socket], Steps]


def stranger(
    papers: Papers | None, configure: Callable[[SSL.Context], object] = lambda _: None
) -> SSL.Context:
    """Make the context of somebody who verifies nothing."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    if papers is not None:
        leaf, *chain = x509.load_pem_x509_certificates(papers.certificate)
        key = load_pem_private_key(papers.key, None)
        assert isinstance(key, Key)
        context.use_certificate(leaf)
        for each in chain:
            context.add_extra_chain_cert(each)
        context.use_privatekey(key)
    configure(context)
    return context


@contextmanager
def connected() -> Iterator[tuple[socket, socket]]:
    """Connect two sockets that do not block."""
    ends = socket_pair()
    with closing(ends[0]), closing(ends[1]):
        for end in ends:
            end.settimeout(0)
        yield ends


TURNS = 20_000
"""Steps after which a handshake hangs: each costs a microsecond while nothing has arrived."""


def outcome(
    begin: Begin,
    context: SSL.Context,
    *,
    accepts: bool,
    prepare: Callable[[SSL.Connection], object] = lambda _: None,
) -> Steps:
    """Have our end shake hands with a stranger; return it, or raise what it raises."""
    with connected() as (ours, theirs):
        steps = begin(ours)
        other = SSL.Connection(context, theirs)
        (other.set_connect_state if accepts else other.set_accept_state)()
        prepare(other)
        for _ in range(TURNS):
            try:
                other.do_handshake()
            except SSL.WantReadError:
                pass
            except SSL.Error:
                theirs.shutdown(2)
            if steps.handshake() is None:
                return steps
        raise AssertionError("the handshake hangs")
