"""Probes as `tproxy inject` hands them to the sidecar."""

import json

import pytest

from tproxy.model.app_probe import AppProbe, Grpc, HttpGet, HttpHeader, TcpSocket, read_probes

AT = "/app-health/web/livez"


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        pytest.param('{"httpGet": {"port": 80}}', HttpGet(port=80), id="http"),
        pytest.param(
            '{"httpGet": {"port": 80, "path": "/h", "scheme": "HTTPS",'
            ' "httpHeaders": [{"name": "A", "value": "b"}]}}',
            HttpGet(
                port=80, path="/h", scheme="HTTPS", http_headers=(HttpHeader(name="A", value="b"),)
            ),
            id="all of http",
        ),
        pytest.param('{"tcpSocket": {"port": 5432}}', TcpSocket(port=5432), id="tcp"),
        pytest.param('{"grpc": {"port": 1, "service": null}}', Grpc(port=1), id="grpc"),
    ],
)
def test_a_probe_is_read_in_kubernetes_words(text: str, asks: object) -> None:
    probes = read_probes(f'{{"{AT}": {text}}}')
    assert [probe.asks for probe in probes.values()] == [asks]


def http_header(name: str, value: str) -> str:
    """A probe with a field of its own."""
    asked = {"port": 1, "httpHeaders": [{"name": name, "value": value}]}
    return json.dumps({AT: {"httpGet": asked}})


def test_a_probe_has_a_second_unless_it_says_otherwise() -> None:
    probes = read_probes(f'{{"{AT}": {{"tcpSocket": {{"port": 1}}}}}}')
    assert probes == {AT: AppProbe(tcp_socket=TcpSocket(port=1), timeout_seconds=1)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("{", "truncated", id="no JSON"),
        pytest.param('{"/healthz": {"tcpSocket": {"port": 1}}}', "'/healthz' is not", id="path"),
        pytest.param(f'{{"{AT}": {{}}}}', "write one of", id="nothing asked"),
        pytest.param(
            f'{{"{AT}": {{"grpc": {{"port": 1}}, "tcpSocket": {{"port": 1}}}}}}',
            "write one of",
            id="two things asked",
        ),
        pytest.param(f'{{"{AT}": {{"exec": {{}}}}}}', "unknown field `exec`", id="unknown"),
        pytest.param(f'{{"{AT}": {{"grpc": {{"port": 0}}}}}}', ">= 1", id="no port"),
        pytest.param(
            f'{{"{AT}": {{"httpGet": {{"port": 1, "path": "/\\r\\nA: b"}}}}}}',
            "path",
            id="two lines",
        ),
        pytest.param(http_header("A B", "c"), "name", id="no field's name"),
        pytest.param(http_header("", "c"), "name", id="no name"),
        pytest.param(http_header("A", "b\nC: d"), "value", id="two fields in one"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_probes(text)
