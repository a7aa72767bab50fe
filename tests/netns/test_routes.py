"""What VirtualService says, as real clients and servers in captured pods meet it."""

from functools import partial

import pytest
import trio

from fakes.mutual import Mutual
from fakes.traffic import HOST, URL, own, routes, rule, service, shop, to
from fakes.two_ways import python

pytestmark = pytest.mark.netns

SUBSETS = rule("", "v1", "v2")


async def test_a_canary_gets_its_share_over_reloads_without_a_failed_request(
    mutual: Mutual,
) -> None:
    split = routes(f"{{route: [{to('v1', 90)}, {to('v2', 10)}]}}")
    at = mutual.server.addresses.v4
    store = await shop(mutual, "v1", "v2")
    await mutual.decree(mutual.client, service(at, "v1", "v2"), SUBSETS, split)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_reload, mutual, (service(at, "v1", "v2"), SUBSETS, split))
        load = await store.load(2000)
        nursery.cancel_scope.cancel()
    assert load.failed == 0
    canary = (await store.counts())["v2"]
    assert 133 <= canary <= 267, "five standard deviations around a tenth of 2,000"


async def _reload(mutual: Mutual, policies: tuple[str, ...]) -> None:
    """Put policies in force over and over that differ in nothing that matters."""
    turn = 0
    while True:
        turn += 1
        await mutual.decree(mutual.client, *policies, f"# {turn}\n")


async def test_a_header_chooses_the_canary(mutual: Mutual) -> None:
    chosen = (
        f'{{name: canary, match: [{{headers: {{x-canary: {{exact: "1"}}}}}}], route: [{to("v2")}]}}'
    )
    store = await shop(mutual, "v1", "v2")
    await mutual.decree(
        mutual.client,
        service(mutual.server.addresses.v4, "v1", "v2"),
        SUBSETS,
        routes(f"{chosen}, {{name: rest, route: [{to('v1')}]}}"),
    )
    assert await store.ask() == ("200", "v1")
    assert await store.ask("-H", "X-Canary: 1") == ("200", "v2")
    assert await store.ask("-H", "X-Canary: 2") == ("200", "v1")
    lines = await mutual.mesh.lines(mutual.client, 3)
    told = [(line["route_name"], line["upstream_cluster"]) for line in lines]
    assert told == [
        ("rest", f"outbound|80|v1|{HOST}"),
        ("canary", f"outbound|80|v2|{HOST}"),
        ("rest", f"outbound|80|v1|{HOST}"),
    ]


async def test_a_request_is_rewritten_redirected_or_answered(mutual: Mutual) -> None:
    store = await shop(mutual, "v1")
    await mutual.decree(
        mutual.client,
        service(mutual.server.addresses.v4, "v1"),
        rule("", "v1"),
        routes(
            "{match: [{uri: {prefix: /old}}], redirect: {uri: /new, redirectCode: 308}},"
            ' {match: [{uri: {exact: /hello}}], directResponse: {status: 203, body: {string: "hi"}}},'
            " {match: [{uri: {prefix: /v1/}}], rewrite: {uri: /}, headers: {request: {set: {x-was: v1}}},"
            f" route: [{to('v1')}]}}"
        ),
    )
    run = mutual.mesh.run
    moved = await run(
        "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", URL + "old?a=b"
    )
    assert moved.stdout == f"308 {URL}new?a=b"
    assert (await run("curl", "-sS", "-w", " %{http_code}", URL + "hello")).stdout == "hi 203"
    assert (
        await run("curl", "-sS", "-w", " %{http_code}", URL + "v1/cart?a=b")
    ).stdout == "v1  200"
    seen = (await store.seen("v1"))[-1]
    assert (seen[":path"], seen["x-was"]) == ("/cart?a=b", "v1")


async def test_faults_come_at_their_percentages(mutual: Mutual) -> None:
    store = await shop(mutual, "v1")
    await mutual.decree(
        mutual.client,
        service(mutual.server.addresses.v4, "v1"),
        rule("", "v1"),
        routes(
            "{fault: {abort: {percentage: {value: 30}, httpStatus: 418},"
            " delay: {percentage: {value: 20}, fixedDelay: 10ms}},"
            f" route: [{to('v1')}]}}"
        ),
    )
    load = await store.load(1000)
    assert 228 <= load.codes[2] <= 372, "five standard deviations around 30 % of 1,000"
    assert load.codes[0] + load.codes[2] == 1000
    flags = [line["response_flags"] for line in await mutual.mesh.lines(mutual.client, 1000)]
    delayed = sum("DI" in each for each in flags)
    assert 137 <= delayed <= 263, "five standard deviations around 20 % of 1,000"
    assert sum("FI" in each for each in flags) == load.codes[2]


async def test_a_mirror_is_seen_by_the_shadow_alone(mutual: Mutual) -> None:
    store = await shop(mutual, "v1", "v2")
    await mutual.decree(
        mutual.client,
        service(mutual.server.addresses.v4, "v1", "v2"),
        SUBSETS,
        routes(f"{{route: [{to('v1')}], mirrors: [{to('v2')}]}}"),
    )
    await store.mood("v2", status=500, delay=0.2)
    for _ in range(3):
        assert await store.ask("-d", "cart=1") == ("200", "v1")
    await store.busy("v2", 3)
    shadows, originals = await store.seen("v2"), await store.seen("v1")
    assert {each.get("x-tproxy-shadow") for each in shadows} == {"1"}
    assert all("x-tproxy-shadow" not in each for each in originals)
    assert {each["x-request-id"] for each in shadows} == {
        each["x-request-id"] for each in originals
    }
    assert {each[":method"] for each in shadows} == {"POST"}


async def test_a_timeout_is_told_and_a_slow_try_is_repeated(mutual: Mutual) -> None:
    store = await shop(mutual, "v1", "v2")
    await mutual.decree(
        mutual.client,
        service(mutual.server.addresses.v4, "v1", "v2"),
        rule("loadBalancer: {simple: ROUND_ROBIN}", "v1", "v2"),
        routes(
            "{match: [{uri: {prefix: /hurry}}], timeout: 200ms, retries: {attempts: 0},"
            f" route: [{to('v1')}]}}, {{timeout: 5s, retries: {{attempts: 2, perTryTimeout: 300ms, retryOn: 5xx}},"
            f" route: [{{destination: {{host: {HOST}}}}}]}}"
        ),
    )
    await store.mood("v1", delay=1)
    late = await mutual.mesh.run("curl", "-sS", "-w", " %{http_code}", URL + "hurry")
    assert late.stdout == "upstream request timeout 504"
    for _ in range(3):
        assert await store.ask() == ("200", "v2")
    lines = await mutual.mesh.lines(mutual.client, 4)
    assert lines[0]["response_flags"] == "UT"
    assert {line["response_flags"] for line in lines[1:]} == {"-"}
    assert max(line["tproxy"]["attempts"] for line in lines[1:]) == 2


async def test_faults_of_what_comes_in_are_met_by_whoever_asks(mutual: Mutual) -> None:
    await mutual.mesh.serve(python("http_sink.py", "8080"), 8080)
    await mutual.decree(
        mutual.server,
        own(
            "FaultPolicy",
            "direction: INBOUND, rules: ["
            '{match: {paths: ["/10"]}, reset: {percentage: 100}},'
            ' {match: {paths: ["/30000"]}, throttle: {percentage: 100, bytesPerSecond: 10KiB}}]',
        ),
    )
    curl = ("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download} %{time_total}")
    asked = partial(mutual.mesh.run, *curl)
    assert (await asked("http://server:8080/10")).stdout.startswith("503 ")
    assert (await asked("http://server:8080/20")).stdout.startswith("200 20 ")
    status, size, seconds = (await asked("http://server:8080/30000")).stdout.split()
    assert (status, size) == ("200", "30000")
    assert 1.5 < float(seconds) < 4
    lines = await mutual.mesh.lines(mutual.server, 3)
    assert [line["response_flags"] for line in lines] == ["FI", "-", "DI"]
