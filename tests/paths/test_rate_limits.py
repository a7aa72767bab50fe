"""Rates hold whatever carries the requests: exactly, for each key, over reloads, and nobody pays for what another refuses."""

# ruff: noqa: ARG001  (a clock's presence makes waiting quick)

from dataclasses import replace

import pytest
import trio
from trio.abc import Clock

from fakes.path import Path, ask, reset, to_app, to_script
from fakes.planned import Turns, across, follow
from fakes.planned import status as turn
from fakes.policies import authorization, rate_limit, snapshot
from fakes.talk import Call, Heard, answer, whole
from tproxy.model.flow import Direction, Protocol
from tproxy.model.route import Plan
from tproxy.resilience.retry import RetryOn, RetryPolicy

both = pytest.mark.parametrize(
    "protocol",
    [pytest.param(Protocol.HTTP1, id="http1"), pytest.param(Protocol.HTTP2, id="http2")],
)
GRPC = (b"content-type", b"application/grpc")
THREE = "algorithm: FIXED_WINDOW, requests: 3, window: 90s"
RESULTS = ("ok", "limited", "shadow")


class Application:
    """Answers everything. What changes: how often it was asked, and how many wait for a word from the test."""

    def __init__(self) -> None:
        self.asked = 0
        self.go_on: trio.Event | None = None
        self.fields: tuple[tuple[bytes, bytes], ...] = ()

    async def __call__(self, call: Call) -> None:
        await whole(call)
        self.asked += 1
        if self.go_on is not None:
            await self.go_on.wait()
        await answer(call, b"hello", fields=self.fields)


def counted(path: Path, limit: str = "web/p/a") -> dict[str, int]:
    """What the metrics say of a limit."""
    text = path.metrics.exposition()[0].decode()
    found = {}
    for result in RESULTS:
        opening = f'tproxy_ratelimit_total{{limit="{limit}",result="{result}"}} '
        for line in text.splitlines():
            if line.startswith(opening):
                found[result] = int(float(line.removeprefix(opening)))
    return found


async def statuses(path: Path, times: int, target: bytes = b"/") -> list[int | None]:
    """Ask so many times, one after the other on one connection."""
    talk = path.talk()
    return [status(await ask(talk, target)) for _ in range(times)]


def status(heard: Heard) -> int | None:
    """What a response begins with."""
    assert not isinstance(heard.start, tuple)
    return heard.start


@both
async def test_what_is_over_the_limit_is_refused_and_told_when_to_come_again(
    protocol: Protocol, autojump_clock: Clock
) -> None:
    application = Application()
    async with to_app(application, protocol) as path:
        path.policies.swap(snapshot(rate_limit(f"{{name: a, {THREE}}}")))
        assert await statuses(path, 3) == [200, 200, 200]
        await trio.sleep(29.5)
        refused = await path.get()
        assert (refused.start, refused.body) == (429, b"local_rate_limited")
        assert refused.get(b"x-envoy-ratelimited") == [b"true"]
        assert refused.get(b"retry-after") == [b"61"]
        assert refused.get(b"ratelimit-policy") == [b'"a";q=3;w=90']
        assert refused.get(b"ratelimit") == [b'"a";r=0;t=61']
        assert application.asked == 3
        line = (await path.logged(4))[-1]
        assert (line["response_code"], line["response_flags"]) == (429, "RL")
        assert line["response_code_details"] == "local_rate_limited"
        assert line["tproxy"]["ratelimit"] == {"result": "limited", "limits": ["web/p/a"]}
        assert counted(path) == {"ok": 3, "limited": 1}
        await trio.sleep(61)
        assert await statuses(path, 1) == [200]


async def test_a_grpc_call_over_the_limit_has_status_8(autojump_clock: Clock) -> None:
    async with to_app(Application(), Protocol.HTTP2) as path:
        path.policies.swap(snapshot(rate_limit(f"{{name: a, {THREE}}}")))
        await statuses(path, 3)
        refused = await ask(path.talk(), b"/a.B/C", method=b"POST", fields=(GRPC,))
        assert (refused.start, refused.get(b"grpc-status")) == (200, [b"8"])
        assert refused.get(b"x-envoy-ratelimited") == [b"true"]


ADVERTISED = [
    pytest.param("advertise: ALWAYS, ", [b'"a";r=2'], [b'"a";r=0;t=90'], id="always"),
    pytest.param("", [], [b'"a";r=0;t=90'], id="refused"),
    pytest.param("advertise: NEVER, ", [], [], id="never"),
]


@both
@pytest.mark.parametrize(("more", "allowed", "refused"), ADVERTISED)
async def test_limits_are_told_of_where_the_policy_says_so(
    protocol: Protocol, more: str, allowed: list[bytes], refused: list[bytes], autojump_clock: Clock
) -> None:
    async with to_app(Application(), protocol) as path:
        path.policies.swap(snapshot(rate_limit(f"{{name: a, {THREE}}}", more=more)))
        assert (await path.get()).get(b"ratelimit") == allowed
        await statuses(path, 2)
        heard = await path.get()
        assert heard.get(b"ratelimit") == refused
        assert heard.get(b"retry-after") == [b"90"]


QUOTAS = [
    pytest.param(
        "algorithm: TOKEN_BUCKET, tokensPerFill: 5, fillInterval: 500ms, maxTokens: 20",
        b'"a";q=10;w=1',
        id="tokens twice a second",
    ),
    pytest.param(
        "algorithm: LEAKY_BUCKET, ratePerSecond: 20, queue: 1", b'"a";q=20;w=1', id="leak"
    ),
    pytest.param(
        "algorithm: LEAKY_BUCKET, ratePerSecond: 0.3, queue: 1", b'"a";q=1;w=4', id="slow leak"
    ),
    pytest.param(
        "algorithm: SLIDING_WINDOW, requests: 7, window: 2500ms", b'"a";q=8;w=3', id="window"
    ),
    pytest.param(
        "algorithm: CONCURRENCY, requests: 7", b'"a";q=7;qu="concurrent-requests"', id="at once"
    ),
]


@pytest.mark.parametrize(("limit", "policy"), QUOTAS)
async def test_quotas_are_told_in_whole_seconds(
    limit: str, policy: bytes, autojump_clock: Clock
) -> None:
    async with to_app(Application(), Protocol.HTTP1) as path:
        path.policies.swap(
            snapshot(rate_limit(f"{{name: a, {limit}}}", more="advertise: ALWAYS, "))
        )
        assert (await path.get()).get(b"ratelimit-policy") == [policy]


async def test_what_the_upstream_says_of_its_own_limits_passes(autojump_clock: Clock) -> None:
    application = Application()
    application.fields = ((b"x-envoy-ratelimited", b"true"), (b"ratelimit", b'"theirs";r=1'))
    async with to_app(application, Protocol.HTTP1) as path:
        path.policies.swap(
            snapshot(rate_limit(f"{{name: a, {THREE}}}", more="advertise: ALWAYS, "))
        )
        heard = await path.get()
        assert heard.get(b"x-envoy-ratelimited") == [b"true"]
        assert heard.get(b"ratelimit") == [b'"theirs";r=1', b'"a";r=2']


async def test_what_is_only_tried_is_counted_and_marked_and_refuses_nobody(
    autojump_clock: Clock,
) -> None:
    async with to_app(Application(), Protocol.HTTP1) as path:
        tried = rate_limit(f"{{name: a, {THREE}}}", more="mode: SHADOW, advertise: ALWAYS, ")
        path.policies.swap(snapshot(tried))
        assert await statuses(path, 5) == [200] * 5
        assert counted(path) == {"ok": 3, "shadow": 2}
        lines = await path.logged(5)
        assert [line["tproxy"]["ratelimit"]["result"] for line in lines] == [
            *["ok"] * 3,
            *["shadow"] * 2,
        ]
        assert (await path.get()).get(b"ratelimit") == []


async def test_what_one_limit_refuses_uses_nothing_up_of_the_others(autojump_clock: Clock) -> None:
    wide = "{name: wide, algorithm: FIXED_WINDOW, requests: 4, window: 90s}"
    narrow = "{name: narrow, match: {paths: [/narrow]}, algorithm: FIXED_WINDOW, requests: 1, window: 90s}"
    tried = "{name: tried, algorithm: FIXED_WINDOW, requests: 99, window: 90s}"
    async with to_app(Application(), Protocol.HTTP1) as path:
        path.policies.swap(
            snapshot(
                rate_limit(f"{wide}, {narrow}"), rate_limit(tried, more="mode: SHADOW, ", name="q")
            )
        )
        assert await statuses(path, 6, b"/narrow") == [200, *[429] * 5]
        assert await statuses(path, 4) == [200, 200, 200, 429]
        assert counted(path, "web/p/wide") == {"ok": 4, "limited": 1}
        assert counted(path, "web/p/narrow") == {"ok": 1, "limited": 5}
        assert counted(path, "web/q/tried") == {"ok": 4}


async def test_whoever_is_denied_uses_nothing_up(autojump_clock: Clock) -> None:
    deny = authorization("{action: DENY, rules: [{to: [{operation: {paths: [/no]}}]}]}")
    async with to_app(Application(), Protocol.HTTP1) as path:
        path.policies.swap(snapshot(deny, rate_limit(f"{{name: a, {THREE}}}")))
        assert await statuses(path, 9, b"/no") == [403] * 9
        assert counted(path) == {}
        assert await statuses(path, 4) == [200, 200, 200, 429]


async def test_a_probe_is_answered_whatever_the_limits(autojump_clock: Clock) -> None:
    application = Application()
    async with to_app(application, Protocol.HTTP1) as path:
        probes = (
            "apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\n"
            f"spec: {{probes: [{{port: {path.origin.address.port}, path: /healthz}}]}}\n"
        )
        path.policies.swap(snapshot(probes, rate_limit(f"{{name: a, {THREE}}}")))
        assert await statuses(path, 4) == [200, 200, 200, 429]
        assert await statuses(path, 3, b"/healthz") == [200] * 3
        assert await statuses(path, 1, b"/healthz/x") == [429]
        assert counted(path) == {"ok": 3, "limited": 2}


async def test_each_key_has_its_own_count_and_no_spelling_of_a_path_is_another_one(
    autojump_clock: Clock,
) -> None:
    limit = f"{{name: a, key: 'request.path[/users/{{*}}]', {THREE}}}"
    async with to_app(Application(), Protocol.HTTP1) as path:
        path.policies.swap(snapshot(rate_limit(limit)))
        paths = (b"/users/7", b"/users/%37?x", b"//users/./7", b"/users/7", b"/users/8")
        talk = path.talk()
        assert [(await ask(talk, each)).start for each in paths] == [200, 200, 200, 429, 200]


EXACT = [
    pytest.param(
        "algorithm: TOKEN_BUCKET, tokensPerFill: 7, fillInterval: 1s, maxTokens: 7", id="tokens"
    ),
    pytest.param("algorithm: FIXED_WINDOW, requests: 7, window: 1s", id="fixed window"),
    pytest.param("algorithm: SLIDING_WINDOW, requests: 7, window: 1s", id="sliding window"),
]


@both
@pytest.mark.parametrize("limit", EXACT)
async def test_four_clients_at_once_get_exactly_what_is_allowed(
    protocol: Protocol, limit: str, autojump_clock: Clock
) -> None:
    application = Application()
    async with to_app(application, protocol) as path:
        path.policies.swap(snapshot(rate_limit(f"{{name: a, {limit}}}")))
        found: list[int | None] = []

        async def client() -> None:
            found.extend(await statuses(path, 5))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(client)
        assert (found.count(200), found.count(429), application.asked) == (7, 13, 7)
        assert counted(path) == {"ok": 7, "limited": 13}


@both
async def test_a_leaky_bucket_puts_what_comes_in_a_row(
    protocol: Protocol, autojump_clock: Clock
) -> None:
    limit = "{name: a, algorithm: LEAKY_BUCKET, ratePerSecond: 2, queue: 3}"
    async with to_app(Application(), protocol) as path:
        path.policies.swap(snapshot(rate_limit(limit)))
        began, ends = trio.current_time(), list[tuple[int | None, float]]()

        async def client() -> None:
            heard = await path.get()
            ends.append((status(heard), trio.current_time() - began))

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(client)
        refused = [seconds for said, seconds in ends if said == 429]
        assert refused == pytest.approx([0.0, 0.0], abs=0.1)
        waits = sorted(seconds for said, seconds in ends if said == 200)
        assert waits == pytest.approx([0.0, 0.5, 1.0, 1.5], abs=0.1)


async def test_nobody_waits_for_longer_than_the_limit_says(autojump_clock: Clock) -> None:
    limit = "{name: a, algorithm: LEAKY_BUCKET, ratePerSecond: 1, queue: 9, maxDelay: 1s}"
    async with to_app(Application(), Protocol.HTTP2) as path:
        path.policies.swap(snapshot(rate_limit(limit)))
        heard: list[Heard] = []

        async def client() -> None:
            heard.append(await path.get())

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(client)
        assert [status(each) for each in heard].count(200) == 2
        assert {tuple(each.get(b"retry-after")) for each in heard} == {(), (b"1",)}


@both
async def test_what_is_under_way_counts_until_it_is_over(
    protocol: Protocol, autojump_clock: Clock
) -> None:
    application = Application()
    application.go_on = trio.Event()
    async with to_app(application, protocol) as path:
        path.policies.swap(snapshot(rate_limit("{name: a, algorithm: CONCURRENCY, requests: 2}")))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(path.get)
            nursery.start_soon(path.get)
            while application.asked < 2:
                await trio.testing.wait_all_tasks_blocked()
            refused = await path.get()
            assert (refused.start, refused.get(b"retry-after")) == (429, [b"1"])
            application.go_on.set()
        assert await statuses(path, 3) == [200] * 3
        await (
            trio.testing.wait_all_tasks_blocked()
        )  # an answer is read before its giver is done with it
        assert path.ledger.keys() == {"web/p/a": 0}


async def test_whoever_leaves_early_is_no_longer_under_way(autojump_clock: Clock) -> None:
    application = Application()
    application.go_on = trio.Event()
    async with to_app(application, Protocol.HTTP1) as path:
        path.policies.swap(
            snapshot(rate_limit("{name: a, algorithm: CONCURRENCY, requests: 1, key: source.ip}"))
        )
        near = path.dial()
        await near.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        while not application.asked:
            await trio.testing.wait_all_tasks_blocked()
        assert path.ledger.keys() == {"web/p/a": 1}
        near.reset()
        await path.logged()
        assert path.ledger.keys() == {"web/p/a": 0}


@both
async def test_whoever_leaves_while_it_waits_for_its_turn_asks_nobody(
    protocol: Protocol, autojump_clock: Clock
) -> None:
    application = Application()
    async with to_app(application, protocol) as path:
        limit = "{name: a, algorithm: LEAKY_BUCKET, ratePerSecond: 0.1, queue: 3}"
        path.policies.swap(snapshot(rate_limit(limit)))
        assert await statuses(path, 1) == [200]
        with trio.move_on_after(5):
            await statuses(path, 1)
        path.stop()
        (_, line) = await path.logged(2)
        assert (line["response_code"], line["tproxy"]["ratelimit"]["result"]) == (0, "ok")
        await trio.sleep(30)
        assert application.asked == 1
        assert await statuses(path, 1) == [200]


async def test_a_reload_that_leaves_a_limit_alone_leaves_its_count(autojump_clock: Clock) -> None:
    other = "{name: b, algorithm: FIXED_WINDOW, requests: 99, window: 90s}"
    async with to_app(Application(), Protocol.HTTP1) as path:
        path.policies.swap(snapshot(rate_limit(f"{{name: a, {THREE}}}")))
        await statuses(path, 3)
        again = rate_limit(f"{other}, {{name: a, match: {{methods: [GET]}}, {THREE}}}")
        path.policies.swap(snapshot(again, generation=3))
        assert await statuses(path, 1) == [429]
        path.policies.swap(snapshot(rate_limit(f"{{name: a, {THREE.replace('3', '4')}}}")))
        assert await statuses(path, 5) == [200] * 4 + [429]
        assert path.ledger.keys() == {"web/p/a": 1}


async def test_what_leaves_the_application_has_limits_of_its_own(autojump_clock: Clock) -> None:
    async with to_app(Application(), Protocol.HTTP1) as path:
        path.policies.swap(
            snapshot(rate_limit(f"{{name: a, {THREE}}}", more="direction: OUTBOUND, "))
        )
        assert await statuses(path, 4) == [200] * 4
        path.direction = Direction.OUTBOUND
        assert await statuses(path, 4) == [200, 200, 200, 429]


@across
async def test_what_is_sent_again_counts_once(
    protocol: Protocol, upstream: Protocol, autojump_clock: Clock
) -> None:
    app = Turns([turn(503), turn(200, b"at last")])
    async with to_app(app, protocol, upstream=upstream) as path:
        limited = snapshot(rate_limit(f"{{name: a, {THREE}}}", more="direction: OUTBOUND, "))
        path.policies.swap(replace(path.policies.current, rate_limits=limited.rate_limits))
        follow(path, Plan(retry=RetryPolicy(retry_on=frozenset({RetryOn.SERVER_ERROR}))))
        assert await statuses(path, 4) == [200, 200, 200, 429]
        assert len(app.heads) == 4
        assert counted(path) == {"ok": 3, "limited": 1}


async def echo(stream: trio.SocketStream) -> None:
    """Say what is said."""
    async for part in stream:
        await stream.send_all(part)
    await stream.send_eof()


TWO_AT_ONCE = rate_limit("{name: a, per: CONNECTION, algorithm: CONCURRENCY, requests: 2}")


async def test_connections_over_a_limit_are_reset(autojump_clock: Clock) -> None:
    async with to_script(echo) as path:
        path.policies.swap(snapshot(TWO_AT_ONCE))
        first, second = path.relay(), path.relay()
        for each in (first, second):
            await each.send_all(b"x")
            assert await each.receive_some(1) == b"x"
        third = path.relay()
        with pytest.raises(trio.BrokenResourceError):
            await third.receive_some(1)
        (line,) = await path.logged()
        assert (line["response_flags"], line["response_code"]) == ("RL", 0)
        assert line["response_code_details"] == "local_rate_limited"
        assert line["tproxy"]["ratelimit"] == {"result": "limited", "limits": ["web/p/a"]}
        assert counted(path) == {"ok": 2, "limited": 1}
        await first.send_eof()
        assert await first.receive_some(1) == b""
        await path.logged(2)
        again = path.relay()
        await again.send_all(b"y")
        assert await again.receive_some(1) == b"y"


@both
async def test_connections_that_carry_requests_are_limited_too(
    protocol: Protocol, autojump_clock: Clock
) -> None:
    limit = "{name: a, per: CONNECTION, key: source.ip, algorithm: FIXED_WINDOW, requests: 2, window: 90s}"
    async with to_app(Application(), protocol) as path:
        path.policies.swap(snapshot(rate_limit(limit)))
        assert await statuses(path, 9) == [200] * 9
        assert await statuses(path, 1) == [200]
        near = path.dial()
        with pytest.raises(trio.BrokenResourceError):
            await near.receive_some(1)
        assert counted(path) == {"ok": 2, "limited": 1}


async def test_connections_wait_for_their_turn(autojump_clock: Clock) -> None:
    limit = "{name: a, per: CONNECTION, algorithm: LEAKY_BUCKET, ratePerSecond: 1, queue: 5}"
    async with to_script(echo) as path:
        path.policies.swap(snapshot(rate_limit(limit)))
        began = trio.current_time()
        for _ in range(3):
            near = path.relay()
            await near.send_all(b"x")
            assert await near.receive_some(1) == b"x"
        assert trio.current_time() - began == pytest.approx(2.0, abs=0.1)


async def test_denied_connections_use_nothing_up(autojump_clock: Clock) -> None:
    deny = authorization("{action: DENY, rules: [{}]}")
    async with to_script(echo) as path:
        path.policies.swap(snapshot(deny, TWO_AT_ONCE))
        near = path.relay()
        with pytest.raises(trio.BrokenResourceError):
            await near.receive_some(1)
        assert counted(path) == {}


@pytest.mark.parametrize(
    "size", [pytest.param(300_000, id="a lot"), pytest.param(100, id="little")]
)
async def test_bytes_pass_no_faster_than_bandwidth_allows_and_all_of_them_pass(
    size: int, autojump_clock: Clock
) -> None:
    limit = "{name: a, per: CONNECTION, algorithm: BANDWIDTH, bytesPerSecond: 10000, burst: 50000}"
    async with to_script(echo) as path:
        path.policies.swap(snapshot(rate_limit(limit)))
        near, began, content = (
            path.relay(),
            trio.current_time(),
            bytes(range(256)) * (size // 256 + 1),
        )

        async def say() -> None:
            await near.send_all(content)
            await near.send_eof()

        heard = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(say)
            while part := await near.receive_some(65536):
                heard += part
                allowed = 50000 + 10000 * (trio.current_time() - began)
                assert len(heard) <= allowed + 1
        assert heard == content
        assert trio.current_time() - began >= (len(content) - 50000) / 10000 - 0.1
        (line,) = await path.logged()
        assert (line["bytes_received"], line["bytes_sent"]) == (len(content), len(content))
        assert line["tproxy"]["ratelimit"] is None


async def test_what_breaks_on_a_paced_connection_breaks_on_the_other_side(
    autojump_clock: Clock,
) -> None:
    async def script(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)
        reset(stream)

    limit = "{name: a, per: CONNECTION, algorithm: BANDWIDTH, bytesPerSecond: 10}"
    async with to_script(script) as path:
        path.policies.swap(snapshot(rate_limit(limit)))
        near = path.relay()
        await near.send_all(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await near.receive_some(1)
