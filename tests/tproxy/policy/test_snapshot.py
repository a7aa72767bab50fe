"""Without traffic policies everything is allowed, and goes where it was going."""

import pytest

from tproxy.model.address import Address
from tproxy.model.decision import ALLOWED
from tproxy.model.flow import Direction, Flow
from tproxy.model.route import Route
from tproxy.policy.snapshot import Snapshot


@pytest.mark.parametrize(
    ("direction", "route"),
    [
        pytest.param(
            Direction.INBOUND, Route("default", "inbound|8080||"), id="to the application"
        ),
        pytest.param(Direction.OUTBOUND, Route("allow_any", "PassthroughCluster"), id="from it"),
    ],
)
def test_a_flow_is_allowed_by_default_and_keeps_its_way(direction: Direction, route: Route) -> None:
    flow = Flow(
        direction, Address("192.0.2.1", 1), Address("192.0.2.2", 2), Address("192.0.2.3", 8080)
    )

    assert Snapshot(1).admit(flow) == ALLOWED
    assert Snapshot(1).route(flow) == route
