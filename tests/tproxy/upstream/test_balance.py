"""What is under way while policies are loaded goes to nobody for whom it was not meant, and waits for nothing in vain."""

import random

import pytest
import trio

from fakes.clusters import address, cluster, endpoints
from tproxy.model.address import Address
from tproxy.model.cluster import Cluster, Dns, DnsName, Endpoint, Origin
from tproxy.model.exchange import Exchange
from tproxy.model.flow import Direction, Flow
from tproxy.model.limits import Limits
from tproxy.model.outcome import ResponseFlag, UpstreamError
from tproxy.model.route import Plan, Route
from tproxy.stores.clusters import Clusters
from tproxy.upstream.balance import known, pick

CLIENT, OURS = Address("192.0.2.99", 40000), Address("127.0.0.1", 15001)


def sent_to(spec: Cluster, dialled: Address) -> Exchange:
    """A request to a cluster from a connection that was going to `dialled`."""
    flow = Flow(Direction.OUTBOUND, CLIENT, OURS, dialled)
    return Exchange(flow, Route("default", spec.name, plan=Plan(destination=spec)), generation=1)


def at_work() -> Clusters:
    """The clusters of a worker."""
    return Clusters(random.Random(1).random)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(endpoints(1), None, id="endpoints, and now where it was going"),
        pytest.param(None, endpoints(1), id="where it was going, and now endpoints"),
    ],
)
async def test_what_was_chosen_for_the_other_kind_of_cluster_goes_nowhere(
    before: Origin | None, after: Origin | None
) -> None:
    clusters, earlier, later = at_work(), cluster(before), cluster(after)
    clusters.of(earlier, 0.0, 1)
    clusters.of(later, 0.0, 2)
    live = clusters.of(earlier, 0.0, 1)
    with pytest.raises(UpstreamError) as caught:
        pick(live, sent_to(earlier, Address("203.0.113.5", 80)))
    assert caught.value.flag is ResponseFlag.NO_HEALTHY_UPSTREAM
    assert live.active == 0
    pick(live, sent_to(later, Address("203.0.113.5", 80))).done()


async def test_whoever_waits_for_endpoints_waits_for_those_that_policies_name_now(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001  (its presence makes waiting quick)
) -> None:
    names = [Dns((DnsName(f"{each}.example", 80),)) for each in "ab"]
    clusters = at_work()
    live = clusters.of(cluster(names[0]), 0.0, 1)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(known, live, Limits())
        await trio.testing.wait_all_tasks_blocked()
        clusters.of(cluster(names[1]), 0.0, 2)
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks, "nothing is known of the others yet"
        clusters.found(names[1], (Endpoint(address(1)),), 0.0)
    assert trio.current_time() - began < 1
