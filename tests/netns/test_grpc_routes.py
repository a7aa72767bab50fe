"""gRPC by routes, between real clients and servers: shares, retries by status, faults and deadlines."""

import pytest

from fakes.mutual import Mutual
from fakes.traffic import VIP, routes, rule, service, to
from fakes.two_ways import python

pytestmark = pytest.mark.netns


async def served(mutual: Mutual, bad: str = "OK") -> None:
    """Serve two versions, the second of which answers a status."""
    await mutual.mesh.serve(python("grpc_versions.py", "serve", "v1", "8081"), 8081)
    await mutual.mesh.serve(python("grpc_versions.py", "serve", "v2", "8082", bad), 8082)


async def called(mutual: Mutual, *argv: str) -> dict[str, int]:
    """Count what came of calls."""
    done = await mutual.mesh.run(*python("grpc_versions.py", "call", f"{VIP}:80", *argv))
    counts = (each.split("=") for each in done.stdout.split())
    return {name: int(count) for name, count in counts}


async def test_calls_are_shared_out_and_repeated_where_a_status_says_so(mutual: Mutual) -> None:
    await served(mutual, "UNAVAILABLE")
    pair = service(mutual.server.addresses.v4, "v1", "v2"), rule("", "v1", "v2")
    split = routes(f"{{route: [{to('v1', 80)}, {to('v2', 20)}]}}")
    await mutual.decree(mutual.client, *pair, split)
    counts = await called(mutual, "200", "Who")
    assert sum(counts.values()) == 200
    assert 12 <= counts["UNAVAILABLE"] <= 68, "five standard deviations around a fifth of 200"
    again = "retries: {attempts: 2, retryOn: unavailable}"
    everyone = "route: [{destination: {host: shop.example}}]"
    # A third of the calls and more is sent again: who fails has to be left out, or the budget ends it.
    careful = rule("outlierDetection: {consecutiveGatewayErrors: 3, maxEjectionPercent: 50}")
    await mutual.decree(mutual.client, pair[0], careful, routes(f"{{{everyone}, {again}}}"))
    assert await called(mutual, "100", "Who") == {"v1": 100}
    lines = await mutual.mesh.lines(mutual.client, 300)
    assert max(line["tproxy"]["attempts"] for line in lines[-100:]) == 2


async def test_faults_and_deadlines_are_told_as_grpc_tells_them(mutual: Mutual) -> None:
    await served(mutual)
    aborted = (
        "{match: [{uri: {exact: /shop.Shop/Who}}],"
        " fault: {abort: {percentage: {value: 100}, grpcStatus: RESOURCE_EXHAUSTED}}, "
        f"route: [{to('v1')}]}}"
    )
    hurried = f"{{timeout: 200ms, retries: {{attempts: 0}}, route: [{to('v1')}]}}"
    pair = service(mutual.server.addresses.v4, "v1", "v2"), rule("", "v1", "v2")
    await mutual.decree(mutual.client, *pair, routes(f"{aborted}, {hurried}"))
    assert await called(mutual, "5", "Who") == {"RESOURCE_EXHAUSTED": 5}
    assert await called(mutual, "2", "Late") == {"DEADLINE_EXCEEDED": 2}
    lines = await mutual.mesh.lines(mutual.client, 7)
    assert [line["response_flags"] for line in lines] == ["FI"] * 5 + ["UT"] * 2
    patient = routes(f"{{timeout: 10s, retries: {{attempts: 0}}, route: [{to('v1')}]}}")
    await mutual.decree(mutual.client, *pair, patient)
    assert await called(mutual, "1", "Late", "0.3") == {"DEADLINE_EXCEEDED": 1}
