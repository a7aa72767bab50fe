"""Operators see when certificates end, whether the last identity was taken, and what handshakes came to."""

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tproxy.model.flow import Direction
from tproxy.model.identity import Peer, Workload
from tproxy.telemetry.identity import HANDSHAKE_RESULTS, OK
from tproxy.telemetry.metrics import Metrics
from tproxy.tls.reasons import Reason

OWN = Peer("cluster.local", "prod", "shop")
Samples = dict[str, list[tuple[dict[str, str], float]]]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(Workload("shop", "prod"), "1")


def samples(metrics: Metrics) -> Samples:
    """What a scrape says of identities."""
    found: Samples = {}
    for family in parse_text(metrics.exposition()[0].decode()):
        for sample in family.samples:
            if sample.name.startswith(("tproxy_cert", "tproxy_tls")):
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_handshakes_are_counted_by_what_they_came_to(metrics: Metrics) -> None:
    metrics.own.handshake(Direction.INBOUND, OK)
    metrics.own.handshake(Direction.INBOUND, OK)
    metrics.own.handshake(Direction.OUTBOUND, Reason.UNTRUSTED)
    samples(metrics)
    metrics.own.handshake(Direction.INBOUND, OK)

    assert samples(metrics)["tproxy_tls_handshakes_total"] == [
        ({"direction": "inbound", "result": "ok"}, 3),
        ({"direction": "outbound", "result": "untrusted"}, 1),
    ]


def test_handshakes_come_to_nothing_but_what_reasons_there_are() -> None:
    assert {OK, *Reason} == HANDSHAKE_RESULTS


def test_a_result_from_outside_the_set_is_our_mistake(metrics: Metrics) -> None:
    with pytest.raises(AssertionError, match="is no result"):
        metrics.own.handshake(Direction.INBOUND, "something a peer said")


def test_an_identity_is_told_with_its_end_and_that_of_each_root(metrics: Metrics) -> None:
    metrics.own.identity_taken(OWN, 2e9, {"cluster.local": 3e9, "gone.example": 4e9}, now=1.6e9)
    metrics.own.identity_taken(OWN, 2.5e9, {"cluster.local": 3e9}, now=1.7e9)
    found = samples(metrics)

    assert found["tproxy_cert_expiration_timestamp_seconds"] == [
        ({"kind": "svid", "trust_domain": "cluster.local"}, 2.5e9),
        ({"kind": "root", "trust_domain": "cluster.local"}, 3e9),
    ]
    assert found["tproxy_cert_last_reload_successful"] == [({}, 1)]
    assert found["tproxy_cert_last_reload_timestamp_seconds"] == [({}, 1.7e9)]


def test_an_identity_that_is_refused_leaves_the_one_before_in_force(metrics: Metrics) -> None:
    metrics.own.identity_taken(OWN, 2e9, {}, now=1.6e9)
    metrics.own.identity_refused()
    found = samples(metrics)

    assert found["tproxy_cert_last_reload_successful"] == [({}, 0)]
    assert found["tproxy_cert_last_reload_timestamp_seconds"] == [({}, 1.6e9)]
    assert found["tproxy_cert_expiration_timestamp_seconds"][0][1] == 2e9


def test_a_sidecar_without_an_identity_does_not_look_like_one_that_failed(metrics: Metrics) -> None:
    assert samples(metrics) == {}
