"""`tproxy doctor`: what its options understand, and which variables it takes for a Service's."""

import pytest

from tproxy.cli.doctor import doctor
from tproxy.doctor.gather import Asked, gather
from tproxy.model.identity import Workload

OF_A_SERVICE = "tcp://198.51.100.7:80"


@pytest.mark.parametrize(
    ("given", "port"),
    [
        pytest.param("16000", 16000, id="another port"),
        pytest.param(OF_A_SERVICE, 15000, id="a Service's in its place"),
    ],
)
def test_a_port_is_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, given: str, port: int
) -> None:
    monkeypatch.setenv("TPROXY_ADMIN_PORT", given)
    assert doctor.make_context("doctor", []).params["admin_port"] == port


def test_variables_of_services_are_told_where_they_are_in_an_options_place() -> None:
    names = ("TPROXY_ADMIN_PORT", "TPROXY_ADMIN_PORT_80_TCP", "TPROXY_PORT", "TPROXY_SHOP_PORT")
    asked = Asked(Workload(), init_step="true")
    assert gather(asked, dict.fromkeys(names, OF_A_SERVICE)).misled == ("TPROXY_ADMIN_PORT",)
    assert gather(asked, {"TPROXY_ADMIN_PORT": "15000"}).misled == ()
