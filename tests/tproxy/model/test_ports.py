"""No port of the proxy's own is forgotten."""

from dataclasses import astuple

from tproxy.model.ports import Ports


def test_all_ports_are_all_there_are() -> None:
    assert Ports().all() == set(astuple(Ports()))
