"""Ways of connections that are no HTTP of ours, and policies of every kind that change while requests go by them."""

from collections import Counter
from pathlib import Path

import pytest
import trio
import trustme

from fakes.mutual import Mutual
from fakes.traffic import HOST, VIP, istio, own, routes, rule, service, shop, to
from fakes.two_ways import python

pytestmark = pytest.mark.netns

PAIR = (7001, 7002)


def entry(address: str, protocol: str, port: int) -> str:
    """Name a service of two versions, at two ports of one address."""
    endpoints = ", ".join(
        f"{{address: {address}, ports: {{main: {each}}}, labels: {{version: v{index}}}}}"
        for index, each in enumerate(PAIR, 1)
    )
    return istio(
        "ServiceEntry",
        f"hosts: [{HOST}], addresses: [{VIP}], resolution: STATIC,"
        f" ports: [{{number: {port}, name: main, protocol: {protocol}}}], endpoints: [{endpoints}]",
    )


async def test_a_connection_goes_by_the_server_name_that_it_asks_for(
    mutual: Mutual, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "root.pem")
    for port, name in zip(PAIR, ("a.example", "b.example"), strict=True):
        pem = tmp_path / f"{port}.pem"
        authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(pem)
        await mutual.mesh.serve(python("https_server.py", str(port), str(pem)), port)
    tls = ", ".join(
        f"{{match: [{{sniHosts: [{name}]}}], route: [{to(f'v{index}')}]}}"
        for index, name in enumerate(("a.example", "b.example"), 1)
    )
    await mutual.decree(
        mutual.client,
        entry(mutual.server.addresses.v4, "TLS", 443),
        rule("", "v1", "v2"),
        istio("VirtualService", f'hosts: [{HOST}, "*.example"], tls: [{tls}]'),
    )
    for name in ("a.example", "b.example"):
        done = await mutual.mesh.run(
            *("curl", "-sS", "--cacert", f"{tmp_path}/root.pem"),
            *("--resolve", f"{name}:443:{VIP}", f"https://{name}/{name}"),
        )
        assert (done.stdout, done.stderr) == (f"/{name}", "")
    lines = await mutual.mesh.lines(mutual.client, 2)
    assert [line["upstream_cluster"] for line in lines] == [
        f"outbound|443|v{version}|{HOST}" for version in (1, 2)
    ]


async def test_connections_are_shared_out_by_weight_and_one_that_is_refused_goes_elsewhere(
    mutual: Mutual,
) -> None:
    for port in PAIR:
        echo = f"SYSTEM:echo {port}; cat"
        await mutual.mesh.serve(["socat", f"TCP4-LISTEN:{port},fork,reuseaddr", echo], port)
    split = istio(
        "VirtualService",
        f"hosts: [{HOST}], tcp: [{{route: [{to('v1', 50)}, {to('v2', 50)}]}}]",
    )
    pair = entry(mutual.server.addresses.v4, "TCP", 7000)
    await mutual.decree(mutual.client, pair, rule("", "v1", "v2"), split)
    met = Counter([await _met(mutual) for _ in range(24)])
    assert set(met) == {str(port) for port in PAIR}
    # A sidecar takes connections to what is down; where there is none, whoever dials is refused.
    pair = pair.replace(
        f"{mutual.server.addresses.v4}, ports: {{main: {PAIR[1]}",
        f"{mutual.outsider.addresses.v4}, ports: {{main: {PAIR[1]}",
    )
    await mutual.decree(mutual.client, pair, rule("loadBalancer: {simple: ROUND_ROBIN}"))
    assert {await _met(mutual) for _ in range(4)} == {str(PAIR[0])}


async def _met(mutual: Mutual) -> str:
    """Who answers a connection to the service."""
    command = f"(sleep 0.05; echo bye) | socat -t1 - TCP4:{VIP}:7000"
    done = await mutual.mesh.run("sh", "-c", command)
    return done.stdout.split()[0] if done.stdout else done.stderr


KINDS = {
    "routes": routes(f"{{route: [{to('v1', 50)}, {to('v2', 50)}], timeout: %ds}}"),
    "rules": rule(
        "loadBalancer: {simple: RANDOM}, connectionPool: {http: {http2MaxRequests: %d}}", "v1", "v2"
    ),
    "resilience": own("ResiliencePolicy", f"host: {HOST}, breaker: {{consecutiveFailures: %d}}"),
    "limits": own(
        "RateLimitPolicy",
        "direction: OUTBOUND, limits: [{name: all, algorithm: TOKEN_BUCKET, tokensPerFill: 1%d000,"
        " fillInterval: 1s, maxTokens: 90000}]",
    ),
    "faults": own(
        "FaultPolicy",
        "direction: OUTBOUND, rules: [{match: {paths: [/nobody%d]}, abort: {percentage: 100, httpStatus: 418}}]",
    ),
}


async def test_policies_of_every_kind_change_under_load_without_a_failed_request(
    mutual: Mutual,
) -> None:
    store = await shop(mutual, "v1", "v2")
    pair = service(mutual.server.addresses.v4, "v1", "v2")
    reloads = 0

    async def change() -> None:
        nonlocal reloads
        while True:
            reloads += 1
            texts = [text % (20 + reloads) for text in KINDS.values()]
            await mutual.decree(mutual.client, pair, *texts)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(change)
        await store.until("v1")
        load = await store.load(3000, 4)
        nursery.cancel_scope.cancel()
    assert (load.codes, load.failed) == ((3000, 0, 0, 0), 0)
    assert reloads > 5
