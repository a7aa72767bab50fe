"""A line is one line, with the keys and the order that log pipelines made for Istio expect."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tproxy.model.address import Address
from tproxy.model.flow import Detection, Direction, Flow, Protocol, Sniffed
from tproxy.model.http import Headers, HttpVersion, RequestHead
from tproxy.model.identity import Peer
from tproxy.model.outcome import ResponseFlag
from tproxy.model.route import Route
from tproxy.model.upstream_tls import TlsMode, UpstreamTls
from tproxy.telemetry.access_log import (
    MAX_PATH,
    MAX_VALUE,
    FlowFields,
    Record,
    json_line,
    text_line,
)
from tproxy.telemetry.trace import Trace

KEYS = (
    "start_time route_name method path protocol response_code response_flags response_code_details"
    " connection_termination_details bytes_received bytes_sent duration upstream_service_time x_forwarded_for"
    " user_agent request_id authority upstream_host upstream_cluster upstream_local_address downstream_local_address"
    " downstream_remote_address requested_server_name upstream_transport_failure_reason tproxy"
)
FLOW = Flow(
    Direction.OUTBOUND,
    peer=Address("192.0.2.1", 40000),
    local=Address("127.0.0.1", 15001),
    original_dst=Address("2001:db8::9", 8080),
    sniffed=Sniffed(Protocol.HTTP1, Detection.HTTP11),
    detect_seconds=0.0042,
)
HEAD = RequestHead(
    b"GET",
    b"http",
    b"reviews:9080",
    b"/reviews/0?x=1",
    Headers(
        ((b"User-Agent", b"curl/8"), (b"X-Forwarded-For", b"198.51.100.1"), (b"Cookie", b"secret"))
    ),
    HttpVersion.HTTP11,
)
EXCHANGE = Record(
    flow=FlowFields.of(FLOW),
    started=1700000000.1239,
    duration=0.0126,
    head=HEAD,
    status=200,
    details="via_upstream",
    bytes_received=5,
    bytes_sent=1024,
    upstream_seconds=0.0111,
    upstream=FLOW.original_dst,
    upstream_local=Address("2001:db8::1", 51000),
    route=Route("allow_any", "PassthroughCluster"),
    trace=Trace("id-1", "0af7651916cd43dd8448eb211c80319c"),
    policy_generation=3,
)
CONNECTION = Record(
    flow=FlowFields.of(
        structs.replace(FLOW, sniffed=Sniffed(Protocol.TLS, Detection.TLS, "shop.example.com"))
    ),
    started=1700000000.0,
    duration=2.0,
    flag=ResponseFlag.UPSTREAM_CONNECT,
    cause="Connection refused",
    route=Route("allow_any", "PassthroughCluster"),
)


def with_head(**changes: object) -> Record:
    """Take the exchange with another request."""
    return structs.replace(EXCHANGE, head=structs.replace(HEAD, **changes))


def test_an_exchange_has_istios_keys_in_istios_order_and_our_own_in_one_object() -> None:
    told = json.loads(json_line(EXCHANGE))

    assert " ".join(told) == KEYS
    assert list(told.values()) == [
        *("2023-11-14T22:13:20.123Z", "allow_any", "GET", "/reviews/0?x=1", "HTTP/1.1", 200, "-"),
        *(
            "via_upstream",
            None,
            5,
            1024,
            13,
            "11",
            "198.51.100.1",
            "curl/8",
            "id-1",
            "reviews:9080",
        ),
        *("[2001:db8::9]:8080", "PassthroughCluster", "[2001:db8::1]:51000", "[2001:db8::9]:8080"),
        *("192.0.2.1:40000", None, None),
        {
            "direction": "outbound",
            "detected_protocol": "http1",
            "detection": "http11",
            "detect_ms": 4,
            "original_dst": "[2001:db8::9]:8080",
            "source_principal": None,
            "destination_principal": None,
            "tls": None,
            "policy_generation": 3,
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "normalized_path": None,
            "authz": None,
            "ratelimit": None,
            "attempts": None,
        },
    ]


def test_a_line_says_who_the_peer_has_proven_to_be() -> None:
    flow = structs.replace(FLOW, identity=Peer("cluster.local", "foo", "a"))
    told = json.loads(json_line(structs.replace(EXCHANGE, flow=FlowFields.of(flow))))
    assert told["tproxy"]["source_principal"] == "cluster.local/ns/foo/sa/a"
    assert told["tproxy"]["tls"] == "mutual"


SIMPLE = UpstreamTls(mode=TlsMode.SIMPLE, server_name="example.com")
MUTUAL = UpstreamTls(mode=TlsMode.MUTUAL, server_name="example.com")


@pytest.mark.parametrize(
    ("identity", "secured", "reached", "said"),
    [
        pytest.param(None, None, True, (None, None), id="plaintext"),
        pytest.param(
            Peer("td", "foo", "b"), None, True, ("td/ns/foo/sa/b", "mutual"), id="a workload"
        ),
        pytest.param(Peer("td", path="/b"), None, True, ("td/b", "mutual"), id="in another shape"),
        pytest.param(None, SIMPLE, True, (None, "simple"), id="a name only"),
        pytest.param(None, MUTUAL, True, (None, "mutual"), id="no workload, with a certificate"),
        pytest.param(None, SIMPLE, False, (None, None), id="not reached"),
    ],
)
def test_a_line_says_who_the_upstream_is_and_how_that_is_known(
    identity: Peer | None,
    secured: UpstreamTls | None,
    reached: bool,
    said: tuple[str | None, str | None],
) -> None:
    record = structs.replace(
        EXCHANGE,
        upstream=FLOW.original_dst if reached else None,
        upstream_identity=identity,
        upstream_tls=secured if reached else None,
    )
    own = json.loads(json_line(record))["tproxy"]

    assert (own["destination_principal"], own["tls"]) == said
    assert own["source_principal"] is None
    assert text_line(structs.replace(record, upstream_identity=None)) == text_line(record)


def test_an_exchange_in_text_is_istios_default_format() -> None:
    assert text_line(EXCHANGE).decode() == (
        '[2023-11-14T22:13:20.123Z] "GET /reviews/0?x=1 HTTP/1.1" 200 - via_upstream - "-" 5 1024 13 11'
        ' "198.51.100.1" "curl/8" "id-1" "reviews:9080" "[2001:db8::9]:8080" PassthroughCluster'
        " [2001:db8::1]:51000 [2001:db8::9]:8080 192.0.2.1:40000 - allow_any\n"
    )


def test_a_connection_has_no_request_and_code_0() -> None:
    told = json.loads(json_line(CONNECTION))

    missing = {key for key, value in told.items() if value is None}
    assert {"method", "path", "protocol", "request_id", "authority", "user_agent"} <= missing
    assert (told["response_code"], told["response_flags"]) == (0, "UF")
    assert text_line(CONNECTION).decode() == (
        '[2023-11-14T22:13:20.000Z] "- - -" 0 UF - - "Connection refused" 0 0 2000 - "-" "-" "-" "-" "-"'
        " PassthroughCluster - [2001:db8::9]:8080 192.0.2.1:40000 shop.example.com allow_any\n"
    )


def test_what_is_missing_is_null_or_a_dash_and_never_absent() -> None:
    bare = Record(flow=FlowFields.of(FLOW), started=0, duration=0)
    told = json.loads(json_line(bare))

    assert " ".join(told) == KEYS
    assert told["route_name"] is told["upstream_cluster"] is told["tproxy"]["trace_id"] is None
    assert text_line(bare).decode() == (
        '[1970-01-01T00:00:00.000Z] "- - -" 0 - - - "-" 0 0 0 - "-" "-" "-" "-" "-" - -'
        " [2001:db8::9]:8080 192.0.2.1:40000 - -\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("render", [json_line, text_line])
@given(path=st.binary(), agent=st.binary(), name=st.text())
def test_nothing_a_peer_sends_makes_a_second_line_or_leaves_its_field(
    render: object, path: bytes, agent: bytes, name: str
) -> None:
    flow = structs.replace(FLOW, sniffed=Sniffed(Protocol.HTTP1, Detection.HTTP11, name))
    head = structs.replace(HEAD, path=path, headers=Headers(((b"user-agent", agent),)))
    told = structs.replace(
        EXCHANGE, flow=FlowFields.of(flow), head=head, termination=name, cause=name
    )
    line = render(told)  # type: ignore[operator]

    assert line.count(b"\n") == 1
    assert line[:-1].decode().isprintable()
    assert line.decode().isascii()
    if render is json_line:
        assert " ".join(json.loads(line)) == KEYS
    else:
        unescaped = line.replace(rb"\\", b"").replace(rb"\"", b"")
        assert unescaped.count(b'"') == EXCHANGE_QUOTES


EXCHANGE_QUOTES = text_line(EXCHANGE).count(b'"')


@pytest.mark.parametrize(
    ("sent", "json_shows", "text_shows"),
    [
        pytest.param(b'/"x" 200', '/"x" 200', rb"/\"x\"_200", id="quotes and spaces"),
        pytest.param(
            b"/\r\n[forged]", r"/\x0d\x0a[forged]", rb"/\\x0d\\x0a[forged]", id="line ends"
        ),
        pytest.param(
            b"/\x1b[31m\x7f", r"/\x1b[31m\x7f", rb"/\\x1b[31m\\x7f", id="terminal control"
        ),
        pytest.param(
            "/é\u202e".encode(),
            r"/\xc3\xa9\xe2\x80\xae",
            rb"/\\xc3\\xa9\\xe2\\x80\\xae",
            id="utf-8",
        ),
        pytest.param(b"/\xff", r"/\xff", rb"/\\xff", id="not utf-8"),
    ],
)
def test_what_a_peer_sends_is_shown_escaped(
    sent: bytes, json_shows: str, text_shows: bytes
) -> None:
    record = with_head(path=sent)

    assert json.loads(json_line(record))["path"] == json_shows
    assert b'"GET ' + text_shows + b" HTTP/1.1" in text_line(record)


def test_long_values_are_cut_visibly() -> None:
    record = with_head(path=b"/" * (MAX_PATH + 1), authority=b"a" * (MAX_VALUE + 1))
    told = json.loads(json_line(record))

    assert told["path"] == "/" * MAX_PATH + "…"
    assert told["authority"] == "a" * MAX_VALUE + "…"
    assert json.loads(json_line(with_head(path=b"/" * MAX_PATH)))["path"] == "/" * MAX_PATH


def test_no_other_header_reaches_a_line() -> None:
    assert b"secret" not in json_line(EXCHANGE) + text_line(EXCHANGE)
