"""One thing that happened is told alike by its line and by its counters."""

import json
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tproxy.model.address import Address
from tproxy.model.exchange import Exchange
from tproxy.model.flow import Direction, Flow
from tproxy.model.http import (
    Content,
    Headers,
    HttpVersion,
    Request,
    RequestHead,
    Response,
    ResponseHead,
)
from tproxy.model.identity import Peer, Workload
from tproxy.model.outcome import ResponseFlag, UpstreamError
from tproxy.model.route import Route
from tproxy.policy.snapshot import Snapshot
from tproxy.stores.journal import Journal, Relayed, Told
from tproxy.stores.policy_store import PolicyStore
from tproxy.telemetry.metrics import Metrics
from tproxy.telemetry.trace import Trace

HERE, THERE = Address("127.0.0.1", 15001), Address("192.0.2.2", 9000)
FLOW = Flow(Direction.OUTBOUND, Address("192.0.2.1", 40000), HERE, THERE)
EXCHANGE = Exchange(FLOW, Route("allow_any", "PassthroughCluster"))
THEIRS = Peer("cluster.local", "prod", "reviews")
SPIFFE = "spiffe://cluster.local/ns/prod/sa/reviews"
UNREACHABLE = UpstreamError(ResponseFlag.UPSTREAM_CONNECT, "", cause="Connection refused")


class Desk:
    """A journal in which one connection is open. What changes: what it has written."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self.metrics = Metrics(Workload("shop", "web"), "1")
        self.journal = Journal(self.metrics, self._lines.append, PolicyStore(Snapshot(1)))

    def line(self) -> dict[str, object]:
        """Our part of the one line."""
        (line,) = self._lines
        own: dict[str, object] = json.loads(line)["tproxy"]
        return own

    def samples(self, what: str) -> list[tuple[str, str, float]]:
        """Upstream, flags and value of each series of a counter."""
        return [
            (each.labels["destination_principal"], each.labels["response_flags"], each.value)
            for family in parse_text(self.metrics.exposition()[0].decode())
            for each in family.samples
            if each.name == f"istio_{what}_total"
        ]


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    with desk.journal.connection(FLOW):
        yield desk


def test_a_request_is_told_with_who_has_answered(desk: Desk) -> None:
    head = RequestHead(b"GET", b"http", b"reviews", b"/", Headers(), HttpVersion.HTTP11)
    response = Response(
        ResponseHead(200, Headers(), HttpVersion.HTTP11),
        Content(),
        upstream=THERE,
        upstream_identity=THEIRS,
    )
    desk.journal.exchange(Told(EXCHANGE, Request(head, Content()), Trace("r-1", ""), response))

    assert desk.line()["destination_principal"] == "cluster.local/ns/prod/sa/reviews"
    assert desk.line()["tls"] == "mutual"
    assert desk.samples("requests") == [(SPIFFE, "-", 1)]


@pytest.mark.parametrize(
    ("identity", "principal"),
    [
        pytest.param(THEIRS, SPIFFE, id="mutual TLS"),
        pytest.param(None, "unknown", id="plaintext"),
    ],
)
def test_a_connection_is_counted_in_one_series_from_its_beginning_to_its_end(
    desk: Desk, identity: Peer | None, principal: str
) -> None:
    desk.journal.relaying(EXCHANGE, identity)
    assert desk.samples("tcp_connections_opened") == [(principal, "-", 1)]
    desk.journal.relayed(Relayed(EXCHANGE, 3, 7, 1.0, None, THERE, HERE, identity))

    for what, value in (
        ("tcp_connections_opened", 1),
        ("tcp_connections_closed", 1),
        ("tcp_received_bytes", 3),
        ("tcp_sent_bytes", 7),
    ):
        assert desk.samples(what) == [(principal, "-", value)]
    assert desk.line()["destination_principal"] == (identity.principal if identity else None)


def test_a_connection_whose_upstream_was_not_reached_was_opened_all_the_same(desk: Desk) -> None:
    desk.journal.relayed(Relayed(EXCHANGE, 0, 0, 1.0, UNREACHABLE))

    assert desk.samples("tcp_connections_opened") == [("unknown", "-", 1), ("unknown", "UF", 0)]
    assert desk.samples("tcp_connections_closed") == [("unknown", "-", 0), ("unknown", "UF", 1)]


def test_a_handshake_is_counted_with_its_reason(desk: Desk) -> None:
    desk.journal.handshake(Direction.OUTBOUND, "untrusted")
    text = desk.metrics.exposition()[0].decode()
    assert 'tproxy_tls_handshakes_total{direction="outbound",result="untrusted"} 1.0' in text
