"""Dashboards made for Istio find every series and label that they ask for, and peers cannot make too many."""

from collections.abc import Callable, Iterable

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tproxy.model.address import Address
from tproxy.model.flow import Detection, Direction, Flow, Protocol, Sniffed
from tproxy.model.identity import Peer, Proof, Workload
from tproxy.model.outcome import ResponseFlag
from tproxy.telemetry.metrics import Ending, Metrics
from tproxy.telemetry.series import RequestSeries

WORKLOAD = Workload("shop-v1", "prod", "shop", "c1", {"app": "shop", "version": "v1"})
OUTBOUND = Flow(
    Direction.OUTBOUND,
    peer=Address("192.0.2.1", 40000),
    local=Address("127.0.0.1", 15001),
    original_dst=Address("192.0.2.9", 9080),
    sniffed=Sniffed(Protocol.HTTP1, Detection.HTTP11),
    detect_seconds=0.002,
)
INBOUND = Flow(
    Direction.INBOUND,
    peer=Address("192.0.2.1", 40000),
    local=Address("192.0.2.2", 15006),
    original_dst=Address("192.0.2.2", 8080),
    sniffed=Sniffed(Protocol.TLS, Detection.TLS, "reviews.prod.svc.cluster.local"),
)
parse_openmetrics: Callable[[str], Iterable[Metric]] = (
    openmetrics_parser.text_string_to_metric_families
)
Samples = dict[str, list[tuple[dict[str, str], float]]]


def samples(metrics: Metrics) -> Samples:
    """Read what a scrape in either format says; both must say the same."""
    openmetrics = parse_openmetrics(metrics.exposition(openmetrics=True)[0].decode())
    found: Samples = {}
    for family in parse_text(metrics.exposition()[0].decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    ours = {each.name for family in openmetrics for each in family.samples}
    assert {name for name in found if name.startswith("istio_")} == {
        name for name in ours if name.startswith("istio_")
    }
    return found


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(WORKLOAD, "0.1.0")


def test_a_request_out_is_told_by_its_source(metrics: Metrics) -> None:
    metrics.request_series(OUTBOUND, b"reviews:9080", Ending(200)).observe(0.003, 10, 2000)

    assert samples(metrics)["istio_requests_total"] == [
        (
            {
                "reporter": "source",
                "source_workload": "shop-v1",
                "source_workload_namespace": "prod",
                "source_principal": "unknown",
                "source_app": "shop",
                "source_version": "v1",
                "source_canonical_service": "shop",
                "source_canonical_revision": "v1",
                "source_cluster": "c1",
                "destination_workload": "unknown",
                "destination_workload_namespace": "unknown",
                "destination_principal": "unknown",
                "destination_app": "unknown",
                "destination_version": "unknown",
                "destination_service": "reviews.prod.svc.cluster.local",
                "destination_service_name": "reviews",
                "destination_service_namespace": "prod",
                "destination_canonical_service": "unknown",
                "destination_canonical_revision": "unknown",
                "destination_cluster": "unknown",
                "request_protocol": "http",
                "response_code": "200",
                "grpc_response_status": "",
                "response_flags": "-",
                "connection_security_policy": "unknown",
            },
            1.0,
        )
    ]


def test_a_request_in_is_told_by_its_destination_whatever_its_host(metrics: Metrics) -> None:
    metrics.request_series(
        INBOUND, b"forged.example.com", Ending(503, ResponseFlag.UPSTREAM_CONNECT)
    ).observe(1, 0, 0)
    ((labels, _),) = samples(metrics)["istio_requests_total"]

    assert labels["reporter"] == "destination"
    assert labels["source_workload"] == "unknown"
    assert labels["destination_workload"] == "shop-v1"
    assert labels["destination_service"] == "shop.prod.svc.cluster.local"
    assert (labels["response_code"], labels["response_flags"]) == ("503", "UF")
    assert labels["connection_security_policy"] == "none"


CLIENT = Peer("cluster.local", "prod", "sleep")
OURS = Peer("cluster.local", "prod", "shop")
THEIRS = Peer("cluster.local", "test", "reviews")
PROOF = Proof(OURS, "ab" * 32, "TLSv1.3")


def test_a_proven_downstream_is_the_source_by_its_identity(metrics: Metrics) -> None:
    flow = INBOUND.authenticated(CLIENT, PROOF)
    metrics.request_series(flow, b"shop", Ending(200)).observe(0, 0, 0)
    metrics.connection_series(flow).opened += 1
    found = samples(metrics)

    for name in ("istio_requests_total", "istio_tcp_connections_opened_total"):
        ((labels, _),) = found[name]
        assert labels["source_principal"] == "spiffe://cluster.local/ns/prod/sa/sleep"
        assert labels["source_workload"] == labels["source_canonical_service"] == "sleep"
        assert labels["source_workload_namespace"] == "prod"
        assert (labels["source_canonical_revision"], labels["source_app"]) == ("latest", "unknown")
        assert labels["destination_principal"] == "spiffe://cluster.local/ns/prod/sa/shop"
        assert labels["destination_workload"] == "shop-v1"
        assert labels["connection_security_policy"] == "mutual_tls"


def test_a_proven_upstream_is_the_destination_by_its_identity(metrics: Metrics) -> None:
    metrics.prove(OURS)
    metrics.request_series(OUTBOUND, b"reviews", Ending(200), upstream=THEIRS).observe(0, 0, 0)
    metrics.connection_series(OUTBOUND, upstream=THEIRS).opened += 1
    found = samples(metrics)

    for name in ("istio_requests_total", "istio_tcp_connections_opened_total"):
        ((labels, _),) = found[name]
        assert labels["source_principal"] == "spiffe://cluster.local/ns/prod/sa/shop"
        assert labels["source_workload"] == "shop-v1"
        assert labels["destination_principal"] == "spiffe://cluster.local/ns/test/sa/reviews"
        assert labels["destination_workload"] == "reviews"
        assert labels["destination_workload_namespace"] == "test"
        assert labels["connection_security_policy"] == "unknown"


def test_an_identity_in_another_shape_names_no_workload(metrics: Metrics) -> None:
    flow = INBOUND.authenticated(Peer("td", path="/web"), PROOF)
    metrics.request_series(flow, b"shop", Ending(200)).observe(0, 0, 0)
    ((labels, _),) = samples(metrics)["istio_requests_total"]

    assert labels["source_principal"] == "spiffe://td/web"
    assert labels["source_workload"] == labels["source_workload_namespace"] == "unknown"
    assert labels["source_canonical_revision"] == "unknown"


def test_nobody_proves_anything_on_plaintext_whoever_we_are(metrics: Metrics) -> None:
    metrics.prove(OURS)
    metrics.request_series(OUTBOUND, b"reviews", Ending(200)).observe(0, 0, 0)
    ((labels, _),) = samples(metrics)["istio_requests_total"]
    assert labels["source_principal"] == labels["destination_principal"] == "unknown"


def test_every_series_has_the_same_labels_whatever_is_proven(metrics: Metrics) -> None:
    for flow in (INBOUND, INBOUND.authenticated(CLIENT, PROOF)):
        metrics.request_series(flow, b"", Ending(200)).observe(0, 0, 0)
    for upstream in (None, THEIRS):
        metrics.request_series(OUTBOUND, b"", Ending(200), upstream=upstream).observe(0, 0, 0)
    found = samples(metrics)["istio_requests_total"]

    assert len(found) == 4
    assert len({tuple(labels) for labels, _ in found}) == 1


def test_equal_peers_share_a_series_until_we_are_somebody_else(metrics: Metrics) -> None:
    def series() -> RequestSeries:
        theirs = Peer.parse("cluster.local/ns/test/sa/reviews")
        return metrics.request_series(OUTBOUND, b"reviews", Ending(200), upstream=theirs)

    metrics.prove(OURS)
    one = series()
    metrics.prove(Peer.parse(OURS.principal))
    assert series() is one
    metrics.prove(CLIENT)
    assert series() is not one
    metrics.prove(OURS)
    assert series() is one


def test_peers_beyond_the_bound_are_counted_together_under_overflow() -> None:
    metrics = Metrics(WORKLOAD, "0.1.0", max_series=1)
    for number in range(9):
        flow = INBOUND.authenticated(Peer("td", "prod", f"client{number}"), PROOF)
        metrics.request_series(flow, b"", Ending(200)).observe(0, 0, 0)
        metrics.connection_series(flow).opened += 1
    found = samples(metrics)

    for name in ("istio_requests_total", "istio_tcp_connections_opened_total"):
        (_, one), (labels, others) = found[name]
        assert (one, others) == (1, 8)
        assert labels["source_principal"] == labels["source_workload"] == "overflow"
        assert labels["connection_security_policy"] == "mutual_tls"


def test_an_unnamed_workload_is_no_service() -> None:
    metrics = Metrics(Workload(), "0.1.0")
    metrics.request_series(INBOUND, b"", Ending(200)).observe(0, 0, 0)
    ((labels, _),) = samples(metrics)["istio_requests_total"]

    assert labels["destination_service"] == "unknown"


@pytest.mark.parametrize(
    ("authority", "address", "service"),
    [
        pytest.param(b"reviews", "192.0.2.9", ("reviews", "prod"), id="name"),
        pytest.param(b"reviews.test", "192.0.2.9", ("reviews", "test"), id="name and namespace"),
        pytest.param(b"Reviews.Test.svc:80", "192.0.2.9", ("reviews", "test"), id="with svc"),
        pytest.param(b"r.t.svc.cluster.local.", "8.8.8.8", ("r", "t"), id="full, wherever it is"),
        pytest.param(b"example.com", "8.8.8.8", None, id="a public address"),
        pytest.param(b"api.example.com", "192.0.2.9", None, id="three parts"),
        pytest.param(b"localhost", "192.0.2.9", None, id="localhost"),
        pytest.param(b"192.0.2.9:80", "192.0.2.9", None, id="an address"),
        pytest.param(b"3232235521", "192.0.2.9", None, id="an address in one number"),
        pytest.param(b"[2001:db8::1]:80", "2001:db8::1", None, id="an IPv6 address"),
        pytest.param(b"2001:db8::1:80", "2001:db8::1", None, id="one without its brackets"),
        pytest.param(b"reviews." + b"a" * 60000, "192.0.2.9", None, id="one too long"),
        pytest.param(b"", "192.0.2.9", None, id="none"),
        pytest.param(b"\xff\n", "192.0.2.9", None, id="junk"),
    ],
)
def test_a_destination_is_a_service_only_by_a_mesh_name(
    metrics: Metrics, authority: bytes, address: str, service: tuple[str, str] | None
) -> None:
    flow = Flow(Direction.OUTBOUND, OUTBOUND.peer, OUTBOUND.local, Address(address, 80))
    metrics.request_series(flow, authority, Ending(200)).observe(0, 0, 0)
    ((labels, _),) = samples(metrics)["istio_requests_total"]
    name, namespace = service or ("PassthroughCluster", "unknown")

    assert labels["destination_service_name"] == name
    assert labels["destination_service_namespace"] == namespace
    assert (labels["destination_service"] == "unknown") == (service is None)


def test_histograms_are_cumulative_with_envoys_bounds(metrics: Metrics) -> None:
    series = metrics.request_series(OUTBOUND, b"reviews", Ending(200))
    series.observe(0.0005, 1, 0)
    series.observe(0.003, 10**9, 7)
    found = samples(metrics)
    buckets = {
        labels["le"]: value for labels, value in found["istio_request_duration_milliseconds_bucket"]
    }

    assert " ".join(buckets) == (
        "0.5 1.0 5.0 10.0 25.0 50.0 100.0 250.0 500.0 1000.0 2500.0 5000.0 10000.0 30000.0"
        " 60000.0 300000.0 600000.0 1800000.0 3600000.0 +Inf"
    )
    assert [buckets[bound] for bound in ("0.5", "1.0", "5.0", "+Inf")] == [1, 1, 2, 2]
    assert found["istio_request_duration_milliseconds_sum"][0][1] == pytest.approx(3.5)
    assert found["istio_request_bytes_bucket"][-1][1] == 2
    assert found["istio_response_bytes_sum"][0][1] == 7


@pytest.mark.parametrize(
    ("status", "label"),
    [
        pytest.param(b"14", "14", id="a status"),
        pytest.param(b"", "", id="none came"),
        pytest.param(b"evil\n", "", id="no number"),
        pytest.param(b"123", "", id="no known number"),
    ],
)
def test_grpc_is_told_with_its_status_and_messages(
    metrics: Metrics, status: bytes, label: str
) -> None:
    series = metrics.request_series(OUTBOUND, b"reviews", Ending(200, grpc_status=status))
    series.observe(0, 0, 0)
    series.count_messages(1, 3)
    found = samples(metrics)
    ((labels, messages),) = found["istio_response_messages_total"]

    assert (labels["request_protocol"], labels["grpc_response_status"]) == ("grpc", label)
    assert (found["istio_request_messages_total"][0][1], messages) == (1, 3)


def test_a_connection_is_told_without_http_labels_and_by_its_sni(metrics: Metrics) -> None:
    flow = Flow(
        Direction.OUTBOUND, OUTBOUND.peer, OUTBOUND.local, OUTBOUND.original_dst, INBOUND.sniffed
    )
    series = metrics.connection_series(flow)
    series.opened += 1
    series.sent += 7
    series.received += 3
    metrics.connection_series(flow, ResponseFlag.UPSTREAM_CONNECT).closed += 1
    found = samples(metrics)
    labels, _ = found["istio_tcp_connections_opened_total"][0]

    assert labels["destination_service_name"] == "reviews"
    assert labels["request_protocol"] == "tcp"
    assert {"response_code", "grpc_response_status"}.isdisjoint(labels)
    assert [value for _, value in found["istio_tcp_sent_bytes_total"]] == [7, 0]
    assert [value for _, value in found["istio_tcp_received_bytes_total"]] == [3, 0]
    assert [value for _, value in found["istio_tcp_connections_closed_total"]] == [0, 1]


def test_equal_facts_share_a_series(metrics: Metrics) -> None:
    one = metrics.request_series(OUTBOUND, b"reviews", Ending(200))

    assert metrics.request_series(OUTBOUND, b"REVIEWS.prod:80", Ending(200)) is one
    assert metrics.request_series(OUTBOUND, b"reviews", Ending(201)) is not one
    assert metrics.connection_series(INBOUND) is metrics.connection_series(INBOUND)


def test_series_beyond_the_bound_are_counted_together_under_overflow() -> None:
    metrics = Metrics(WORKLOAD, "0.1.0", max_series=2)
    for status in range(200, 210):
        metrics.request_series(OUTBOUND, b"reviews", Ending(status)).observe(0, 0, 0)
        metrics.connection_series(
            Flow(
                Direction.OUTBOUND,
                OUTBOUND.peer,
                OUTBOUND.local,
                OUTBOUND.original_dst,
                Sniffed(Protocol.TLS, Detection.TLS, f"name{status}"),
            )
        ).opened += 1
    found = samples(metrics)

    assert [
        (labels["response_code"], value) for labels, value in found["istio_requests_total"]
    ] == [("200", 1), ("201", 1), ("overflow", 8)]
    assert found["istio_tcp_connections_opened_total"][-1][1] == 8
    assert found["tproxy_series_dropped_total"] == [({}, 16)]


def test_another_identity_makes_other_series_and_keeps_the_counts(metrics: Metrics) -> None:
    metrics.request_series(OUTBOUND, b"reviews", Ending(200)).observe(0, 0, 0)
    metrics.identify(Workload("shop-v2", "prod"))
    metrics.request_series(OUTBOUND, b"reviews", Ending(200)).observe(0, 0, 0)
    metrics.identify(WORKLOAD)
    metrics.request_series(OUTBOUND, b"reviews", Ending(200)).observe(0, 0, 0)

    assert [
        (labels["source_workload"], value)
        for labels, value in samples(metrics)["istio_requests_total"]
    ] == [("shop-v1", 2), ("shop-v2", 1)]


def test_label_values_are_escaped() -> None:
    metrics = Metrics(Workload('a"b\\c\nd', "prod"), "0.1.0")
    metrics.request_series(OUTBOUND, b"reviews", Ending(200)).observe(0, 0, 0)
    ((labels, _),) = samples(metrics)["istio_requests_total"]

    assert labels["source_workload"] == 'a"b\\c\nd'


def test_the_proxy_tells_of_itself(metrics: Metrics) -> None:
    metrics.own.opened(OUTBOUND)
    metrics.own.opened(OUTBOUND)
    metrics.own.closed(OUTBOUND)
    metrics.own.detected(OUTBOUND)
    metrics.own.pool("idle", 4)
    metrics.own.reloaded(1, "0123", 1600000000.0)
    metrics.own.reloaded(2, "abcd", 1700000000.0)
    metrics.own.reload_failed()
    metrics.own.log_lines_dropped(3)
    found = samples(metrics)

    assert found["tproxy_connections_active"] == [
        ({"direction": "outbound", "protocol": "http1"}, 1)
    ]
    assert found["tproxy_detect_total"] == [({"direction": "outbound", "result": "http11"}, 1)]
    assert found["tproxy_detect_seconds_count"] == [({}, 1)]
    assert found["tproxy_policy_info"] == [({"hash": "abcd"}, 1)]
    assert found["tproxy_upstream_pool_connections"] == [({"state": "idle"}, 4)]
    assert found["tproxy_policy_generation"] == [({}, 2)]
    assert found["tproxy_policy_last_reload_successful"] == [({}, 0)]
    assert found["tproxy_policy_last_reload_timestamp_seconds"] == [({}, 1700000000.0)]
    assert found["tproxy_log_lines_dropped_total"] == [({}, 3)]
    assert found["istio_build"] == [({"component": "proxy", "tag": "0.1.0"}, 1)]
    assert found["process_resident_memory_bytes"]


def test_each_format_names_its_content_type(metrics: Metrics) -> None:
    assert metrics.exposition()[1].startswith("text/plain; version=0.0.4")
    text, kind = metrics.exposition(openmetrics=True)

    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith(b"# EOF\n")
