"""Limits are kept within what the process may open."""

import pytest

from tproxy.model.limits import Limits


@pytest.mark.parametrize(
    ("descriptors", "connections", "pool"),
    [
        pytest.param(1 << 20, 16384, 1024, id="plenty"),
        pytest.param(20000, 9392, 1024, id="less than the default takes"),
        pytest.param(1024, 352, 128, id="a shell's usual bound"),
        pytest.param(64, 1, 8, id="next to none"),
    ],
)
def test_connections_are_as_many_as_descriptors_allow(
    descriptors: int, connections: int, pool: int
) -> None:
    limits = Limits().within(descriptors)
    assert (limits.connections, limits.pool_connections) == (connections, pool)


def test_limits_below_what_descriptors_allow_stay_as_they_are() -> None:
    limits = Limits(connections=7, pool_connections=3)
    assert limits.within(1 << 20) == limits
