"""What a request says of its sender is what a handshake has shown, and nothing that the sender wrote."""

import pytest

from tproxy.filters.forwarded_client_cert import CONTROLS, client_cert, sanitizer
from tproxy.model.address import Address
from tproxy.model.flow import Direction, Flow
from tproxy.model.http import Content, Field, Headers, HttpVersion, Request, RequestHead
from tproxy.model.identity import Peer, Proof
from tproxy.model.peer_metadata import PEER_METADATA

HERE, THERE = Address("192.0.2.1", 8080), Address("192.0.2.2", 40000)
PLAIN = {direction: Flow(direction, THERE, HERE, HERE) for direction in Direction}
OURS, CLIENT = Peer("cluster.local", "prod", "shop"), Peer("cluster.local", "prod", "sleep")
SECURED = PLAIN[Direction.INBOUND].authenticated(CLIENT, Proof(OURS, "ab" * 32, "TLSv1.3"))
CERT = (
    b"By=spiffe://cluster.local/ns/prod/sa/shop;Hash=" + b"ab" * 32 + b';Subject="";'
    b"URI=spiffe://cluster.local/ns/prod/sa/sleep"
)
PLAIN_FIELDS = ((b"Accept", b"*/*"), (b"X-Forwarded-For", b"192.0.2.9"))
FROM_GATEWAYS = ((b"x-envoy-external-address", b"192.0.2.9"), (b"x-envoy-attempt-count", b"1"))


def request(*fields: Field) -> Request:
    head = RequestHead(b"GET", b"http", b"shop", b"/", Headers(fields), HttpVersion.HTTP11)
    return Request(head, Content())


def left(flow: Flow, *fields: Field) -> tuple[Field, ...]:
    """What goes on of a request's fields."""
    return sanitizer(flow)(request(*PLAIN_FIELDS, *fields)).head.headers.fields


@pytest.mark.parametrize("direction", [pytest.param(each, id=each) for each in Direction])
@pytest.mark.parametrize(
    "forged",
    [
        pytest.param([(b"x-forwarded-client-cert", b"URI=spiffe://td/me")], id="as we write it"),
        pytest.param([(b"X-Forwarded-Client-CERT", b"URI=spiffe://td/me")], id="in another case"),
        pytest.param([(b"X_Forwarded_Client_Cert", b"URI=spiffe://td/me")], id="as in CGI"),
        pytest.param([(b"x-forwarded_client-cert", b"URI=spiffe://td/me")], id="partly so"),
        pytest.param([(b"x-forwarded-client-cert", b"")], id="empty"),
        pytest.param(
            [(b"x-forwarded-client-cert", b"a"), (b"X-Forwarded-Client-Cert", b"b")], id="twice"
        ),
        *(pytest.param([(name.title(), b"1")], id=name.decode()) for name in sorted(PEER_METADATA)),
    ],
)
def test_nobody_says_by_himself_who_he_is(direction: Direction, forged: list[Field]) -> None:
    assert left(PLAIN[direction], *forged) == PLAIN_FIELDS


@pytest.mark.parametrize(
    "name", [pytest.param(each, id=each.decode()) for each in sorted(CONTROLS)]
)
def test_proxies_are_steered_from_here_and_not_from_the_network(name: bytes) -> None:
    assert left(PLAIN[Direction.INBOUND], (name, b"5xx")) == PLAIN_FIELDS
    assert left(PLAIN[Direction.OUTBOUND], (name, b"5xx")) == (*PLAIN_FIELDS, (name, b"5xx"))


def test_what_gateways_tell_applications_passes() -> None:
    assert left(PLAIN[Direction.INBOUND], *FROM_GATEWAYS) == (*PLAIN_FIELDS, *FROM_GATEWAYS)


def test_a_request_with_nothing_to_take_is_passed_on_as_it_is() -> None:
    asked = request(*PLAIN_FIELDS)
    assert sanitizer(PLAIN[Direction.INBOUND])(asked) is asked


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param([], id="says nothing"),
        pytest.param([(b"X-Forwarded-Client-Cert", b"URI=spiffe://td/other")], id="forges"),
        pytest.param([(b"x-forwarded-client-cert", b"a"), (b"x-envoy-retry-on", b"b")], id="more"),
    ],
)
def test_the_application_learns_who_has_proven_to_call(forged: list[Field]) -> None:
    assert left(SECURED, *forged) == (*PLAIN_FIELDS, (b"x-forwarded-client-cert", CERT))


def test_all_requests_of_a_connection_are_told_of_the_same() -> None:
    sanitize = sanitizer(SECURED)
    for _ in range(2):
        assert sanitize(request()).head.headers.get(b"x-forwarded-client-cert") == CERT


def test_an_identity_without_a_proof_is_none_to_tell_of() -> None:
    asked = Flow(Direction.INBOUND, THERE, HERE, HERE, identity=CLIENT)
    assert client_cert(asked) is None
