"""What a sidecar remembers of its decisions, and what it tells those who ask."""
# ruff: noqa: ARG001 - the clock's presence makes waiting quick

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result
from msgspec import structs

from fakes.desk import plain_view
from fakes.path import to_app
from fakes.planned import Turns, both, follow, status
from fakes.policies import snapshot as routed
from fakes.routes import http
from fakes.sockets import listening_at
from fakes.talk import Call, answer, whole
from tproxy.admin import ADMIN, Desk, Reply, Table, as_json
from tproxy.cli import main
from tproxy.codec.h1 import Http1Server
from tproxy.model.address import Address
from tproxy.model.decision import ALLOWED, UNPROVEN
from tproxy.model.exchange import Exchange
from tproxy.model.flow import Detection, Direction, Flow, Protocol, Sniffed
from tproxy.model.http import Field, Headers, HttpVersion, RequestHead
from tproxy.model.identity import Workload
from tproxy.model.limits import Limits
from tproxy.model.outcome import PLAINTEXT, ResponseFlag
from tproxy.model.route import Plan
from tproxy.net.http_connection import HttpConnection
from tproxy.net.listener import Listener, Slots
from tproxy.net.tcp_stream import TcpStream
from tproxy.policy.authentication import Authentication
from tproxy.policy.compile import compiled
from tproxy.policy.nodes import SourceFile
from tproxy.policy.schema import MutualTlsMode
from tproxy.policy.snapshot import Snapshot
from tproxy.proxy.http_server import HttpServer
from tproxy.resilience.retry import RetryOn, RetryPolicy
from tproxy.stores.decisions import KEPT, MAX_FIELDS, MAX_PATH, MAX_VALUE, Decisions, Went
from tproxy.stores.journal import Journal
from tproxy.stores.policy_store import PolicyStore
from tproxy.telemetry.metrics import Metrics

FLOW = Flow(
    Direction.INBOUND,
    peer=Address("192.0.2.7", 40000),
    local=Address("192.0.2.1", 15006),
    original_dst=Address("192.0.2.1", 8080),
    sniffed=Sniffed(Protocol.HTTP1, Detection.HTTP11),
)
BYTES = Flow(Direction.INBOUND, FLOW.peer, FLOW.local, FLOW.original_dst)
PATHS = "{to: [{operation: {paths: [/get]}}]}"
TEAM = "{when: [{key: 'request.headers[X-Team]', values: [red]}]}"
SECRET = "{when: [{key: 'request.headers[authorization]', values: [Bearer abc]}]}"
REMOTE = "{from: [{source: {remoteIpBlocks: [192.0.2.9]}}]}"


def snapshot(rule: str, generation: int = 1) -> Snapshot:
    """ALLOW by one rule."""
    text = f"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p}}\nspec: {{rules: [{rule}]}}\n"
    workload = Workload("httpbin", "foo")
    result = compiled([SourceFile("p.yaml", text.encode())], generation, workload)
    assert isinstance(result, Snapshot), "\n".join(map(str, result))
    return result


class Memory:
    """Decisions of one worker, and the policies that make them."""

    def __init__(self, rule: str) -> None:
        self.store = PolicyStore(snapshot(rule))
        self.decisions = Decisions(self.store)

    def decide(
        self, target: str = "/get", request_id: str = "r-1", fields: tuple[Field, ...] = ()
    ) -> None:
        """Decide on a request, and remember."""
        head = RequestHead(
            b"GET", b"http", b"httpbin", target.encode(), Headers(fields), HttpVersion.HTTP11
        )
        policies = self.store.current
        decision, path = policies.judge(FLOW, head)
        exchange = Exchange(FLOW, policies.route(FLOW), decision, path, policies.generation)
        self.decisions.keep(exchange, head, request_id, time.time())

    def asked(self, **query: str) -> dict[str, Any] | None:
        """What is remembered, as it travels."""
        found = self.decisions.asked({name: [value] for name, value in query.items()})
        assert found is not None
        told: list[dict[str, Any]] = json.loads(json.dumps(found))
        return told[0] if told else None


def verdict(told: dict[str, Any] | None) -> tuple[str, list[str]]:
    """What the explanation says, and what it would have to know."""
    assert told is not None
    return told["explanation"]["verdict"], told["explanation"]["missing"]


def test_a_decision_is_found_by_its_request_id() -> None:
    memory = Memory(PATHS)
    memory.decide(request_id="r-1")
    memory.decide("/x/../put?token=s3cret", request_id="r-2")
    allowed, denied = memory.asked(id="r-1"), memory.asked(id="r-2")
    assert allowed is not None
    assert denied is not None
    assert (allowed["verdict"], allowed["rule"]) == ("ALLOW", "ns[foo]-policy[p]-rule[0]")
    assert (denied["verdict"], denied["reason"], denied["rule"]) == ("DENY", "no_allow_match", None)
    assert denied["explanation"]["request"]["path"] == "/put"
    assert "s3cret" not in json.dumps(denied)
    assert memory.asked(id="r-3") is None


def test_the_last_denial_is_found_whatever_was_allowed_since() -> None:
    memory = Memory(PATHS)
    assert memory.asked(last="denied") is None
    memory.decide("/put", "r-1")
    memory.decide("/pot", "r-2")
    for _ in range(KEPT + 1):
        memory.decide(request_id="r-3")
    told = memory.asked(last="denied")
    assert told is not None
    assert told["request_id"] == "r-2"


def test_the_oldest_decisions_go() -> None:
    memory = Memory(PATHS)
    for number in range(KEPT + 1):
        memory.decide("/put", f"r-{number}")
    assert memory.asked(id="r-0") is None
    assert memory.asked(id="r-1") is not None


def test_asking_for_nothing_is_told_apart_from_finding_nothing() -> None:
    assert Memory(PATHS).decisions.asked({}) is None
    assert Memory(PATHS).decisions.asked({"last": ["allowed"]}) is None


def test_what_no_policy_was_about_is_not_remembered() -> None:
    memory = Memory(PATHS)
    memory.store.swap(Snapshot(2))
    memory.decide()
    memory.decisions.keep_connection(FLOW, ALLOWED, 2)
    assert memory.asked(id="r-1") is None


def test_a_connection_is_remembered_without_an_id() -> None:
    memory = Memory(PATHS)
    memory.decisions.keep_connection(BYTES, memory.store.current.admit(BYTES), 1)
    told = memory.asked(last="denied")
    assert told is not None
    assert told["request_id"] is None
    assert told["explanation"]["policies"][0]["rules"][0]["missed"][0]["missing"] == "http"


@pytest.mark.parametrize(
    ("rule", "fields", "expected"),
    [
        pytest.param(TEAM, ((b"x-TEAM", b"red"), (b"Cookie", b"s3cret")), ("ALLOW", []), id="a header that is read"),
        pytest.param(TEAM, ((b"X-Other", b"s3cret"),), ("DENY", []), id="one that is absent"),
        pytest.param(TEAM, ((b"x-team", b"r" * (MAX_VALUE + 1)),), ("UNDETERMINED", ["request.headers[x-team]"]), id="one that is too long"),
        pytest.param(TEAM, ((b"x-team", b"r"),) * (MAX_FIELDS + 1), ("UNDETERMINED", ["request.headers[x-team]"]), id="one that is there too often"),
        pytest.param(SECRET, ((b"authorization", b"Bearer abc s3cret"),), ("UNDETERMINED", ["request.headers[authorization]"]), id="a secret"),
        pytest.param(REMOTE, ((b"X-Forwarded-For", b"192.0.2.8, 192.0.2.9"),), ("ALLOW", []), id="proxies on the way"),
        pytest.param(REMOTE, (), ("DENY", []), id="no proxies on the way"),
    ],
)  # fmt: skip
def test_headers_are_kept_that_policies_read_and_that_are_no_secret(
    rule: str, fields: tuple[Field, ...], expected: tuple[str, list[str]]
) -> None:
    memory = Memory(rule)
    memory.decide(fields=fields)
    assert verdict(memory.asked(id="r-1")) == expected
    rings = (memory.decisions._allowed, memory.decisions._denied)
    assert "s3cret" not in repr([each for ring in rings for each in ring])


def test_a_path_that_is_too_long_is_kept_cut_short_and_not_judged_again() -> None:
    memory = Memory(PATHS)
    memory.decide("/" + "x" * MAX_PATH)
    assert verdict(memory.asked(id="r-1")) == ("UNDETERMINED", ["request.path"])


def test_a_decision_is_explained_by_the_policies_in_force_which_are_named() -> None:
    memory = Memory(PATHS)
    memory.decide()
    memory.store.swap(snapshot(TEAM, generation=2))
    told = memory.asked(id="r-1")
    assert told is not None
    assert (told["generation"], told["explained_by"], told["verdict"]) == (1, 2, "ALLOW")
    # Nobody looked for this header when the request was decided.
    assert verdict(told) == ("UNDETERMINED", ["request.headers[x-team]"])


def test_a_connection_that_proves_nothing_is_remembered_as_denied() -> None:
    store = PolicyStore(Snapshot(1, authentication=Authentication(MutualTlsMode.STRICT)))
    lines: list[bytes] = []
    journal = Journal(Metrics(Workload("shop", "web"), "1"), lines.append, store)
    with journal.connection(FLOW):
        journal.refused(FLOW, PLAINTEXT, UNPROVEN)
    (told,) = journal.decisions.asked({"last": ["denied"]}) or []
    assert (told["verdict"], told["reason"]) == ("DENY", "plaintext_on_strict_port")
    assert told["explanation"]["reason"] == "plaintext_on_strict_port"
    assert json.loads(lines[0])["tproxy"]["authz"]["reason"] == "plaintext_on_strict_port"


OUT = structs.replace(FLOW, direction=Direction.OUTBOUND)
SPLIT = (
    "{name: testers, match: [{headers: {x-canary: {exact: '1'}}}], route: [{destination: {host: shop, port: {number: 81}}}]},"
    " {name: asked, match: [{queryParams: {a: {exact: b}}}], route: [{destination: {host: shop, port: {number: 82}}}]},"
    " {name: old, match: [{uri: {prefix: /old}}], redirect: {uri: /new}},"
    " {name: rest, route: [{destination: {host: shop, port: {number: 83}}, weight: 50},"
    " {destination: {host: shop, port: {number: 84}}, weight: 50}]}"
)


class Ways:
    """Ways that one worker has chosen, and the policies that chose them."""

    def __init__(self) -> None:
        self.store = PolicyStore(routed(http(SPLIT, hosts="shop")))
        self.decisions = Decisions(self.store)

    def go(self, target: str = "/", *fields: Field, attempts: int = 1) -> None:
        """Lead a request on its way, and remember."""
        headers = Headers((*fields, (b"x-request-id", b"r-1")))
        head = RequestHead(b"GET", b"http", b"shop", target.encode(), headers, HttpVersion.HTTP11)
        policies = self.store.current
        decision, path = policies.judge(OUT, head)
        route = policies.route(OUT, head)
        exchange = Exchange(OUT, route, decision, path, policies.generation)
        went = Went(route.name, route.cluster, attempts, (ResponseFlag.NONE,), 200)
        self.decisions.keep(exchange, head, "r-1", time.time(), went)

    def asked(self) -> dict[str, Any]:
        """What is remembered, as it travels."""
        (told,) = self.decisions.asked({"id": ["r-1"]}) or []
        travelled: dict[str, Any] = json.loads(json.dumps(told))
        return travelled


@pytest.mark.parametrize(
    ("target", "fields", "route"),
    [
        pytest.param("/", ((b"X-Canary", b"1"),), "testers", id="by a header"),
        pytest.param("/old/a", (), "old", id="by a path"),
        pytest.param("/new", (), "rest", id="drawn"),
    ],
)
def test_a_way_is_explained_as_it_was_chosen(
    target: str, fields: tuple[Field, ...], route: str
) -> None:
    ways = Ways()
    ways.go(target, *fields)
    told = ways.asked()
    explained = told["explanation"]["route"]
    assert (told["reason"], told["went"]["route"]) == ("outbound", route)
    assert (explained["entry"], explained["missing"]) == (route, [])
    assert explained["cluster"] == told["went"]["cluster"]


def test_a_query_is_not_kept_and_not_taken_for_absent() -> None:
    ways = Ways()
    ways.go("/?a=b")
    told = ways.asked()
    assert told["went"]["route"] == "asked"
    assert told["explanation"]["route"]["missing"] == ["request.query"]
    assert "a=b" not in json.dumps(told)


def test_a_way_that_other_policies_chose_is_told_and_not_explained() -> None:
    ways = Ways()
    ways.go()
    ways.store.swap(routed(generation=3))
    told = ways.asked()
    assert (told["generation"], told["explained_by"]) == (2, 3)
    assert told["went"]["route"] == "rest"
    assert told["explanation"] is None


def test_ways_do_not_wash_away_what_was_denied() -> None:
    ways = Ways()
    for _ in range(KEPT + 1):
        ways.go()
    assert [len(each) for each in (ways.decisions._led, ways.decisions._denied)] == [KEPT, 0]


@both
async def test_what_came_of_a_way_is_remembered(
    autojump_clock: trio.testing.MockClock, protocol: Protocol
) -> None:
    async with to_app(Turns([status(503), status(200)]), protocol) as path:
        follow(
            path, Plan(retry=RetryPolicy(attempts=2, retry_on=frozenset((RetryOn.GATEWAY_ERROR,))))
        )
        await path.get(b"/", ((b"x-request-id", b"r-1"),))
        await path.logged()
        (kept,) = path.runtime.journal.decisions._led
    assert kept.went == Went("planned", "outbound|80||shop.example", 2, (ResponseFlag.NONE,), 200)


async def test_the_command_tells_the_way_of_what_left_and_why() -> None:
    ways = Ways()
    ways.go("/", (b"x-canary", b"1"), attempts=2)
    async with administration(ways) as port:
        done = await explain(port, "--id", "r-1")
        ways.go("/old")
        ours = await explain(port, "--id", "r-1")
        ways.store.swap(routed(generation=3))
        later = await explain(port, "--id", "r-1")
    first, way, verdict, *_ = done.output.splitlines()
    assert first == "request r-1: ALLOW, outbound, by generation 2 of the policies"
    name = "outbound|81||shop.web.svc.cluster.local"
    assert way == f"it went by route testers, cluster {name}, 2 attempts: status 200"
    assert verdict == "ALLOW GET / to port 8080"
    assert (
        "  route: entry testers of web/v (policies.yaml:1) decides (policies.yaml:4)" in done.output
    )
    assert "it went by route old, answered by the sidecar: status 200\n" in ours.output
    assert later.output.splitlines()[2:] == ["not explained, as generation 3 is in force now"]


async def greet(call: Call) -> None:
    """Answer."""
    await whole(call)
    await answer(call, b"hello")


@pytest.mark.parametrize("protocol", [Protocol.HTTP1, Protocol.HTTP2])
async def test_what_passes_the_proxy_is_remembered_under_its_id(protocol: Protocol) -> None:
    async with to_app(greet, protocol) as path:
        path.runtime.policies.swap(snapshot(PATHS, generation=2))
        ids = [(b"x-request-id", b"r-1")], [(b"x-request-id", b"r-2")]
        assert (await path.get(b"/get", tuple(ids[0]))).start == 200
        assert (await path.get(b"/put?a=b", tuple(ids[1]))).start == 403
        await path.logged(2)
        asked = path.runtime.journal.decisions.asked
        (allowed,), (denied,) = asked({"id": ["r-1"]}) or [], asked({"last": ["denied"]}) or []
    assert (allowed["verdict"], allowed["generation"]) == ("ALLOW", 2)
    assert (denied["verdict"], denied["request_id"]) == ("DENY", "r-2")


@asynccontextmanager
async def administration(memory: "Memory | Ways", table: Table = ADMIN) -> AsyncIterator[int]:
    """The admin port of a sidecar that remembers."""
    view = replace(plain_view(), decisions=memory.decisions.asked)
    listener = Listener(
        [listening_at("127.0.0.1")], partial(serve, Desk(table, view)), slots=Slots(9)
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve)
        yield listener.addresses[0].port
        nursery.cancel_scope.cancel()


async def serve(desk: Desk, stream: TcpStream) -> None:
    """Answer whoever asks."""
    limits = Limits()
    connection = HttpConnection(stream, Http1Server(limits), limits)
    await HttpServer(connection, desk.answer, limits).run()


async def explain(port: int, *words: str) -> Result:
    """Call `tproxy policy explain` beside the sidecar."""
    command = ["policy", "explain", "--admin-port", str(port), *words]
    return await trio.to_thread.run_sync(partial(CliRunner().invoke, main, command))


DENIED = """\
request r-1: DENY, no_allow_match, by generation 1 of the policies
DENY GET /put to port 8080
  some policy allows something, and no rule allows this
  who asks: nobody, as the connection is plaintext; from 192.0.2.7
  host: httpbin

ALLOW foo/p (p.yaml:1)
  rule 0 does not match, for one field only (p.yaml:4)
    to[0].paths (line 4) fails: one of /get is wanted, it is /put
"""


async def test_the_command_explains_what_a_running_sidecar_decided() -> None:
    memory = Memory(PATHS)
    memory.decide("/put")
    async with administration(memory) as port:
        by_id, last = await explain(port, "--id", "r-1"), await explain(port, "--last-denied")
        told = await explain(port, "--last-denied", "--format", "json")
        memory.store.swap(snapshot(TEAM, generation=2))
        later = await explain(port, "--id", "r-1")
    assert (by_id.exit_code, by_id.output) == (0, DENIED)
    assert last.output == DENIED
    assert json.loads(told.output)["explanation"]["reason"] == "no_allow_match"
    assert "explained by generation 2, which is in force now\n" in later.output


async def test_the_command_says_when_there_is_nothing_to_explain() -> None:
    async with administration(Memory(PATHS)) as port:
        done = await explain(port, "--id", "r-1")
    assert done.exit_code == 1
    assert "remembers no such decision" in done.stderr
    done = await explain(port, "--id", "r-1")
    assert done.exit_code == 1
    assert "does not answer" in done.stderr


async def test_the_command_takes_the_latest_of_several_workers() -> None:
    memories = [Memory(PATHS), Memory(PATHS), Memory(PATHS)]
    for memory, path in zip(memories, ("/one", "/two", ""), strict=True):
        if path:
            memory.decide(path)
    workers = {
        str(at): {"decisions": memory.decisions.asked({"last": ["denied"]})}
        for at, memory in enumerate(memories)
    }
    table = {"/decisions": {"GET": lambda *_: as_json({"workers": workers})}}
    async with administration(memories[0], table) as port:
        done = await explain(port, "--last-denied")
    assert "DENY GET /two to port 8080\n" in done.output


async def test_the_command_says_when_somebody_else_answers() -> None:
    table = {"/decisions": {"GET": lambda *_: Reply(200, b"hello")}}
    async with administration(Memory(PATHS), table) as port:
        done = await explain(port, "--last-denied")
    assert done.exit_code == 1
    assert "answers something else" in done.stderr
