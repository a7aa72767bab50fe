"""Addresses are written one way, however a socket reports them."""

import pytest

from tproxy.model.address import Address
from tproxy.model.flow import Detection, Direction, Flow, Protocol, Sniffed


@pytest.mark.parametrize(
    ("host", "text", "is_ipv6"),
    [
        pytest.param("192.0.2.1", "192.0.2.1:80", False, id="v4"),
        pytest.param("::ffff:192.0.2.1", "192.0.2.1:80", False, id="v4-mapped"),
        pytest.param("2001:DB8::1", "[2001:db8::1]:80", True, id="v6"),
        pytest.param("fe80::1%eth0", "[fe80::1]:80", True, id="with a scope"),
    ],
)
def test_an_address_has_one_spelling(host: str, text: str, is_ipv6: bool) -> None:
    address = Address.of(host, 80)
    assert (str(address), address.is_ipv6) == (text, is_ipv6)


def test_a_flow_is_known_better_with_each_phase() -> None:
    here, there = Address("192.0.2.1", 1), Address("192.0.2.2", 80)
    flow = Flow(Direction.OUTBOUND, here, here, there)
    sniffed = Sniffed(Protocol.HTTP1, Detection.HTTP11)
    assert flow.known_as(sniffed, 0.5) == Flow(Direction.OUTBOUND, here, here, there, sniffed, 0.5)
    assert flow.protocol is Protocol.OPAQUE
