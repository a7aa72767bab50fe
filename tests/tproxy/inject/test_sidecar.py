"""Settings as a file holds them."""

import pytest

from tproxy.inject.sidecar import BadSettings, Platform, Resources, Sidecar, read_settings


def test_settings_are_read_in_camel_case() -> None:
    text = b"""
proxyImage: mine:1
native: false
platform: podman
capture: {exclude-outbound-ports: "3306,6379"}
environment: {TPROXY_HTTP: h11}
resources: {requests: {memory: 96Mi}}
"""
    assert read_settings(text) == Sidecar(
        proxy_image="mine:1",
        native=False,
        platform=Platform.PODMAN,
        capture={"exclude-outbound-ports": "3306,6379"},
        environment={"TPROXY_HTTP": "h11"},
        resources=Resources(requests={"memory": "96Mi"}),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(b"proxy_image: a", "unknown field `proxy_image`", id="not in camel case"),
        pytest.param(b"native: maybe", "Expected `bool`, got `str` - at `$.native`", id="type"),
        pytest.param(b"capture: {ports: '80'}", "ports is none of inbound-mode", id="no option"),
        pytest.param(b"capture: {exclude-uids: app}", "exclude-uids: 'app' is neither", id="value"),
        pytest.param(
            b"resources: {limits: {memory: 32Mi}}", "64Mi is more than the limit, 32Mi", id="limit"
        ),
        pytest.param(b"resources: {limits: {cpu: x}}", "'x' is no amount", id="amount"),
        pytest.param(b"{", "while parsing", id="no YAML"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(text: bytes, said: str) -> None:
    with pytest.raises(BadSettings, match=said.replace("$", r"\$")):
        read_settings(text)
