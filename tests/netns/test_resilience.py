"""What keeps a service up while its endpoints fail, and what protects it, with real clients and servers."""

import json

import pytest
import trio

from fakes.footprint import answer
from fakes.mutual import Mutual
from fakes.sidecars import ADMIN
from fakes.traffic import HOST, Shop, own, routes, rule, service, shop

pytestmark = [pytest.mark.netns, pytest.mark.timed]


async def test_an_endpoint_dies_under_load_and_no_client_sees_it(mutual: Mutual) -> None:
    store = await shop(mutual, "v1", "v2", "v3")
    await mutual.decree(
        mutual.client,
        service(mutual.server.addresses.v4, "v1", "v2", "v3"),
        rule(
            "outlierDetection: {consecutive5xxErrors: 3, baseEjectionTime: 2s, maxEjectionPercent: 50}"
        ),
        routes(
            f"{{route: [{{destination: {{host: {HOST}}}}}],"
            " retries: {attempts: 3, retryOn: 'connect-failure,reset,503'}}"
        ),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_kill_when_busy, store)
        load = await store.load(2000)
    assert (load.codes, load.failed) == ((2000, 0, 0, 0), 0)


async def _kill_when_busy(store: Shop) -> None:
    await store.busy("v1", 100)
    await store.processes["v1"].kill()


async def test_a_breaker_opens_asks_nobody_and_closes_again(mutual: Mutual) -> None:
    store = await shop(mutual, "v1")
    await mutual.decree(
        mutual.client,
        service(mutual.server.addresses.v4, "v1"),
        own(
            "ResiliencePolicy",
            f"host: {HOST}, breaker: {{consecutiveFailures: 3, penalty: {{min: 500ms, max: 1s}}}}",
        ),
    )
    await store.mood("v1", status=503)
    answers = [await store.ask() for _ in range(6)]
    assert [version for _, version in answers] == ["v1"] * 3 + [""] * 3
    assert {status for status, _ in answers} == {"503"}
    assert len(await store.seen("v1")) == 3
    flags = [line["response_flags"] for line in await mutual.mesh.lines(mutual.client, 6)]
    assert flags == ["-"] * 3 + ["UH"] * 3
    await store.mood("v1")
    await store.until("v1")


async def test_an_outlier_is_ejected_and_returns(mutual: Mutual) -> None:
    store = await shop(mutual, "v1", "v2")
    await mutual.decree(
        mutual.client,
        service(mutual.server.addresses.v4, "v1", "v2"),
        rule(
            "loadBalancer: {simple: ROUND_ROBIN},"
            " outlierDetection: {consecutive5xxErrors: 2, baseEjectionTime: 1s, maxEjectionPercent: 50}"
        ),
    )
    await store.mood("v2", status=500)
    answers = [await store.ask() for _ in range(12)]
    assert [status for status, _ in answers].count("500") == 2
    assert {version for _, version in answers[4:]} == {"v1"}
    assert await _ejected(mutual) == {8082}
    await store.mood("v2")
    await store.until("v2")


async def _ejected(mutual: Mutual) -> set[int]:
    """Return the ports of the service's endpoints that the sidecar says are ejected."""
    said = b"GET /clusters?format=json HTTP/1.0\r\n\r\n"
    body = (await answer(mutual.client, ADMIN, said)).partition(b"\r\n\r\n")[2]
    clusters = {each["name"]: each for each in json.loads(body)["cluster_statuses"]}
    return {
        each["address"]["socket_address"]["port_value"]
        for each in clusters[f"outbound|80||{HOST}"]["host_statuses"]
        if each["health_status"]["failed_outlier_check"]
    }


async def test_a_rate_limit_is_exact_for_several_clients(mutual: Mutual) -> None:
    store = await shop(mutual, "v1")
    await mutual.decree(mutual.client, service(mutual.server.addresses.v4, "v1"))
    await mutual.decree(
        mutual.server,
        own(
            "RateLimitPolicy",
            "direction: INBOUND, limits: [{name: total, algorithm: TOKEN_BUCKET,"
            " tokensPerFill: 50, fillInterval: 60s, maxTokens: 50}]",
        ),
    )
    load = await store.load(200, 4)
    assert load.codes == (50, 0, 150, 0)
    lines = await mutual.mesh.lines(mutual.server, 200)
    assert sum(line["response_flags"] == "RL" for line in lines) == 150
    limited = await mutual.mesh.run("curl", "-sSi", f"http://{mutual.server.addresses.v4}:8081/")
    assert "429 Too Many Requests" in limited.stdout
    assert "retry-after: " in limited.stdout.lower()


async def test_a_leaky_bucket_lets_requests_out_evenly(mutual: Mutual) -> None:
    store = await shop(mutual, "v1")
    await mutual.decree(mutual.client, service(mutual.server.addresses.v4, "v1"))
    await mutual.decree(
        mutual.server,
        own(
            "RateLimitPolicy",
            "direction: INBOUND, limits: [{name: even, algorithm: LEAKY_BUCKET,"
            " ratePerSecond: 50, queue: 100}]",
        ),
    )
    began = trio.current_time()
    load = await store.load(100, 8)
    took = trio.current_time() - began
    assert load.codes == (100, 0, 0, 0)
    assert 1.9 < took < 3.5, "100 requests at 50 in a second"
    came = sorted(float(each[":at"]) for each in await store.seen("v1"))
    most = max(sum(at <= each < at + 0.2 for each in came) for at in came)
    assert most <= 14, "ten in a fifth of a second, and what the machine bunches up"


async def test_more_than_a_circuit_takes_is_refused_at_once(mutual: Mutual) -> None:
    store = await shop(mutual, "v1")
    await mutual.decree(
        mutual.client,
        service(mutual.server.addresses.v4, "v1"),
        rule("connectionPool: {http: {http2MaxRequests: 2}}"),
    )
    await store.mood("v1", delay=0.5)
    load = await store.load(8, 8)
    assert load.codes == (2, 0, 0, 6)
    flags = [line["response_flags"] for line in await mutual.mesh.lines(mutual.client, 8)]
    assert flags.count("UO") == 6
