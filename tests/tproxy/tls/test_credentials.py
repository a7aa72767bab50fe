"""Who is let in, and whom we take for whom we have dialled: real handshakes with real peers, honest and dishonest."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import pytest
from cryptography import x509
from OpenSSL import SSL

from fakes.ca import BAD, WEB, FakeCa, Leaf, Papers
from fakes.handshakes import connected, outcome, stranger
from fakes.secure import MUTUAL, SLEEP, Mesh
from tproxy.model.identity import Peer
from tproxy.model.upstream_tls import TlsMode, UpstreamTls
from tproxy.tls.credentials import Credentials
from tproxy.tls.documents import read_identity
from tproxy.tls.reasons import NotSecured, Reason
from tproxy.tls.steps import Steps

MESH = Mesh.new()
WEB_PEER = Peer("cluster.local", "default", "web")

REASONS = {
    "expired": Reason.EXPIRED,
    "not yet valid": Reason.NOT_YET_VALID,
    "an expired intermediate": Reason.EXPIRED,
    "a missing intermediate": Reason.UNTRUSTED,
    "another authority's signature": Reason.UNTRUSTED,
}
"""Of the bad ones; the others are bad certificates."""
UNUSABLE = "a curve that is too small"
"""What a client has, and finds no way to sign with."""
SIGNED = {name: papers for name, papers in BAD.items() if name != "another key"}
"""What can be shown at all: OpenSSL shows no certificate with a key that is not its own."""


def trusting(papers: Papers) -> Credentials:
    """Trust the root that somebody's papers should lead to, so that only what is wrong with them is."""
    own = MESH.ca.issue()
    bundle = own.bundle if papers.bundle == own.bundle else own.bundle + papers.bundle
    return Credentials(read_identity(own.certificate, own.key, bundle, now=datetime.now(UTC)))


@pytest.mark.parametrize("name", SIGNED)
def test_a_peer_with_bad_papers_is_not_let_in(name: str) -> None:
    papers = SIGNED[name](MESH.ca)
    with pytest.raises(NotSecured) as refused:
        outcome(trusting(papers).accept, stranger(papers), accepts=True)
    otherwise = Reason.NO_CERTIFICATE if name == UNUSABLE else Reason.BAD_CERTIFICATE
    assert refused.value.reason is REASONS.get(name, otherwise)
    assert refused.value.cause


@pytest.mark.parametrize("name", SIGNED)
def test_nothing_is_said_to_an_upstream_with_bad_papers(name: str) -> None:
    papers = SIGNED[name](MESH.ca)
    begin = partial(trusting(papers).connect, how=MUTUAL, offers=[b"istio"])
    with pytest.raises(NotSecured) as refused:
        outcome(begin, stranger(papers), accepts=False)
    otherwise = Reason.REJECTED if name == UNUSABLE else Reason.BAD_CERTIFICATE
    assert refused.value.reason is REASONS.get(name, otherwise)


def test_a_workload_with_good_papers_is_let_in_and_known() -> None:
    steps = outcome(MESH.server.accept, stranger(MESH.ca.issue(Leaf(uris=(SLEEP,)))), accepts=True)
    assert steps.peer == Peer("cluster.local", "default", "sleep")
    assert steps.alpn == ""


def test_intermediates_lead_to_the_root_from_either_side() -> None:
    below = MESH.ca.below().below()
    assert outcome(MESH.server.accept, stranger(below.issue()), accepts=True).peer == WEB_PEER
    begin = partial(MESH.client.connect, how=MUTUAL, offers=[b"istio"])
    assert outcome(begin, stranger(below.issue()), accepts=False).peer == WEB_PEER


def versions(least: int, most: int) -> Callable[[SSL.Context], None]:
    def configure(context: SSL.Context) -> None:
        context.set_min_proto_version(least)
        context.set_max_proto_version(most)

    return configure


def ciphers(suites: bytes) -> Callable[[SSL.Context], None]:
    def configure(context: SSL.Context) -> None:
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(suites + b":@SECLEVEL=0")

    return configure


@pytest.mark.parametrize(
    ("configure", "reason"),
    [
        pytest.param(versions(SSL.TLS1_VERSION, SSL.TLS1_VERSION), Reason.PROTOCOL, id="TLS 1.0"),
        pytest.param(versions(SSL.TLS1_VERSION, SSL.TLS1_1_VERSION), Reason.PROTOCOL, id="TLS 1.1"),
        pytest.param(ciphers(b"ECDHE-ECDSA-AES128-SHA256"), Reason.PROTOCOL, id="CBC"),
        pytest.param(ciphers(b"aNULL"), Reason.PROTOCOL, id="anonymous"),
        pytest.param(ciphers(b"eNULL"), Reason.PROTOCOL, id="no encryption"),
        pytest.param(ciphers(b"kRSA"), Reason.PROTOCOL, id="no forward secrecy"),
    ],
)
def test_weak_protocols_are_not_spoken(
    configure: Callable[[SSL.Context], None], reason: Reason
) -> None:
    with pytest.raises(NotSecured) as refused:
        outcome(MESH.server.accept, stranger(MESH.ca.issue(), configure), accepts=True)
    assert refused.value.reason is reason


def test_of_what_both_know_the_least_costly_is_spoken() -> None:
    client: list[SSL.Connection] = []
    context = stranger(MESH.ca.issue())
    outcome(MESH.server.accept, context, accepts=True, prepare=client.append)
    assert client[0].get_cipher_name() == "TLS_AES_128_GCM_SHA256"


@pytest.mark.parametrize("accepts", [True, False], ids=["accepting", "connecting"])
@pytest.mark.parametrize(
    "signer",
    [pytest.param(MESH.ca, id="a root"), pytest.param(MESH.ca.below(), id="an intermediate")],
)
def test_our_chain_is_shown_as_it_is_without_a_root(signer: FakeCa, *, accepts: bool) -> None:
    papers = signer.issue()
    ours = Credentials(papers.identity())
    begin = ours.accept if accepts else partial(ours.connect, how=MUTUAL, offers=[b"istio"])
    peer: list[SSL.Connection] = []
    outcome(begin, asking(MESH.ca.issue()), accepts=accepts, prepare=peer.append)
    assert shown_to(peer[0]) == x509.load_pem_x509_certificates(papers.certificate)


def shown_to(connection: SSL.Connection) -> list[x509.Certificate]:
    """List what the peer has shown, its own first: OpenSSL has that apart, and on one side only there."""
    own = connection.get_peer_certificate(as_cryptography=True)
    chain = connection.get_peer_cert_chain(as_cryptography=True) or []
    assert own is not None
    return [own, *(each for each in chain if each != own)]


def asking(papers: Papers) -> SSL.Context:
    """Make the context of somebody who has the peer show a certificate, whichever, before the handshake ends."""

    def configure(context: SSL.Context) -> None:
        context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)

    return stranger(papers, configure)


@pytest.mark.parametrize(
    "version",
    [pytest.param(SSL.TLS1_2_VERSION, id="1.2"), pytest.param(SSL.TLS1_3_VERSION, id="1.3")],
)
def test_sound_versions_are_spoken(version: int) -> None:
    client = stranger(MESH.ca.issue(), versions(version, version))
    steps = outcome(MESH.server.accept, client, accepts=True)
    assert steps.proof().version in ("TLSv1.2", "TLSv1.3")


def test_whoever_shows_no_certificate_is_not_let_in() -> None:
    with pytest.raises(NotSecured) as refused:
        outcome(MESH.server.accept, stranger(None), accepts=True)
    assert refused.value.reason is Reason.NO_CERTIFICATE


def test_an_upstream_that_does_not_accept_us_is_heard() -> None:
    other = Mesh.new()
    begin = partial(other.client.connect, how=MUTUAL, offers=[b"istio"])
    with pytest.raises(NotSecured) as refused:
        outcome(begin, stranger(MESH.ca.issue()), accepts=False)
    assert refused.value.reason is Reason.UNTRUSTED


TWO = FakeCa.new("other root")


def federated(**bundles: bytes) -> Credentials:
    """Make a server of cluster.local that knows other trust domains as well."""
    papers = MESH.ca.issue()
    now = datetime.now(UTC)
    known = {name.replace("_", "."): bundle for name, bundle in bundles.items()}
    identity = read_identity(
        papers.certificate, papers.key, papers.bundle, federated=known, now=now
    )
    return Credentials(identity)


def test_a_trust_domain_is_proven_by_its_own_roots_only() -> None:
    knowing = federated(other_example=TWO.bundle)
    honest = stranger(TWO.issue(Leaf(uris=("spiffe://other.example/web",))))
    assert outcome(knowing.accept, honest, accepts=True).peer == Peer("other.example", path="/web")
    for forged in (
        stranger(TWO.issue(Leaf(uris=(WEB,)))),
        stranger(MESH.ca.issue(Leaf(uris=("spiffe://other.example/web",)))),
    ):
        with pytest.raises(NotSecured) as refused:
            outcome(knowing.accept, forged, accepts=True)
        assert refused.value.reason is Reason.UNTRUSTED


def test_a_bundle_with_two_roots_accepts_both() -> None:
    papers = MESH.ca.issue()
    identity = read_identity(
        papers.certificate, papers.key, papers.bundle + TWO.bundle, now=datetime.now(UTC)
    )
    rotating = Credentials(identity)
    for ca in (MESH.ca, TWO):
        assert outcome(rotating.accept, stranger(ca.issue()), accepts=True).peer == WEB_PEER


@pytest.mark.parametrize(
    ("names", "accepted"),
    [
        pytest.param((), True, id="anybody of our trust domain"),
        pytest.param((WEB,), True, id="whom we want"),
        pytest.param(("spiffe://cluster.local/ns/default/sa/x", WEB), True, id="one of several"),
        pytest.param((WEB + "x",), False, id="somebody else"),
        pytest.param(("web",), False, id="a DNS name is no workload's"),
    ],
)
def test_an_upstream_is_whom_we_want_it_to_be(names: tuple[str, ...], accepted: bool) -> None:
    how = UpstreamTls(mode=TlsMode.ISTIO_MUTUAL, subject_alt_names=names, server_name="web.default")
    begin = partial(MESH.client.connect, how=how, offers=[b"istio"])
    server = stranger(MESH.ca.issue())
    if accepted:
        assert outcome(begin, server, accepts=False).peer == WEB_PEER
        return
    with pytest.raises(NotSecured) as refused:
        outcome(begin, server, accepts=False)
    assert refused.value.reason is Reason.WRONG_IDENTITY
    assert WEB in refused.value.cause


def test_without_names_an_upstream_of_another_trust_domain_is_nobody_we_want() -> None:
    knowing = federated(other_example=TWO.bundle)
    begin = partial(knowing.connect, how=MUTUAL, offers=[b"istio"])
    with pytest.raises(NotSecured) as refused:
        outcome(
            begin, stranger(TWO.issue(Leaf(uris=("spiffe://other.example/web",)))), accepts=False
        )
    assert refused.value.reason is Reason.UNTRUSTED


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        pytest.param([b"istio-peer-exchange", b"istio"], "istio", id="Istio's TCP"),
        pytest.param([b"istio-peer-exchange"], "", id="what we do not speak"),
        pytest.param([b"istio", b"istio-http/1.1"], "istio-http/1.1", id="the more telling one"),
        pytest.param([b"http/1.1", b"h2"], "h2", id="an application's"),
        pytest.param([b"spdy/3"], "", id="unknown"),
    ],
)
def test_a_protocol_is_agreed_on_that_both_speak(offered: list[bytes], chosen: str) -> None:
    client = stranger(MESH.ca.issue())
    steps = outcome(
        MESH.server.accept, client, accepts=True, prepare=lambda each: each.set_alpn_protos(offered)
    )
    assert steps.alpn == chosen


def test_a_session_is_never_resumed() -> None:
    made: list[SSL.Connection] = []
    client = stranger(MESH.ca.issue(), versions(SSL.TLS1_2_VERSION, SSL.TLS1_2_VERSION))
    outcome(MESH.server.accept, client, accepts=True, prepare=made.append)
    session = made[0].get_session()
    assert session is not None

    def resume(connection: SSL.Connection) -> None:
        connection.set_session(session)

    # Resumed, it would know its peer from the session, without asking whether that still is who it was.
    steps = outcome(MESH.server.accept, client, accepts=True, prepare=resume)
    assert steps.peer == WEB_PEER


def test_a_ticket_is_good_for_nothing() -> None:
    client = stranger(MESH.ca.issue())
    with connected() as (ours, theirs):
        steps, other = MESH.server.accept(ours), SSL.Connection(client, theirs)
        other.set_connect_state()
        with pytest.raises(SSL.WantReadError):
            other.do_handshake()
        steps.handshake()
        other.do_handshake()
        finish(steps)
        with pytest.raises(SSL.WantReadError):
            other.recv(1)
        session = other.get_session()
    assert session is not None
    resumed = outcome(
        MESH.server.accept, client, accepts=True, prepare=lambda each: each.set_session(session)
    )
    assert resumed.peer == WEB_PEER


def finish(steps: Steps) -> None:
    """Go on until a handshake is over."""
    while steps.handshake() is not None:
        pass


def test_garbage_is_no_handshake() -> None:
    with connected() as (ours, theirs):
        steps = MESH.server.accept(ours)
        theirs.send(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(NotSecured) as refused:
            finish(steps)
    assert refused.value.reason is Reason.PROTOCOL
    assert "http request" in refused.value.cause


def test_an_end_is_no_handshake() -> None:
    with connected() as (ours, theirs):
        steps = MESH.server.accept(ours)
        theirs.send(b"\x16\x03\x01")
        theirs.shutdown(1)
        with pytest.raises(NotSecured) as refused:
            finish(steps)
    assert refused.value.reason is Reason.CLOSED
