import pytest

from bench.handshakes import Handshakes
from bench.loads import LoadFailed

OURS = """# TYPE tproxy_tls_handshakes_total counter
tproxy_tls_handshakes_total{direction="inbound",result="ok"} 7.0
tproxy_tls_handshakes_total{direction="outbound",result="ok"} 1.0
tproxy_tls_handshakes_total{direction="inbound",result="expired"} 2.0
"""
ENVOY = """cluster.tcp.ssl.handshake: 3
cluster.http.ssl.handshake: 5
cluster.tcp.ssl.fail_verify_san: 2
cluster.tcp.ssl.session_reused: 1
"""


@pytest.mark.parametrize(
    ("page", "counted"),
    [
        pytest.param(OURS, Handshakes(8, 0), id="ours"),
        pytest.param(ENVOY, Handshakes(8, 1), id="Envoy's"),
        pytest.param("", Handshakes(0, 0), id="none yet"),
    ],
)
def test_handshakes_are_read_from_the_proxys_own_counters(page: str, counted: Handshakes) -> None:
    assert Handshakes.of_page(page) == counted


def test_one_full_handshake_for_each_connection_is_a_measurement() -> None:
    Handshakes(108, 1).check(Handshakes(8, 1), 100)


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(Handshakes(107, 0), id="too few"),
        pytest.param(Handshakes(109, 0), id="too many"),
        pytest.param(Handshakes(108, 1), id="one resumed"),
    ],
)
def test_whatever_else_was_counted_is_none(after: Handshakes) -> None:
    with pytest.raises(LoadFailed, match="for 100 units"):
        after.check(Handshakes(8, 0), 100)
