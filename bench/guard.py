"""Hold what an exchange costs against bounds that no machine can blur: calls, reads, writes, and memory that stays.

    python bench/guard.py            # the table; exit code 1 if a bound is broken
    python bench/guard.py profile    # where the time goes, by cProfile; `profile 6`: on another of its lines, from 0;
                                     # `profile tcp`: on TCP connections; `profile mtls`: on those in mutual TLS

The path is the real one, from the first byte to the access-log line. Only the sockets are played, by streams that have
everything at hand: so nothing waits, and every run makes the same calls.
"""

import cProfile
import dataclasses
import gc
import pstats
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import cast

import trio
from msgspec.structs import replace

from bench.counting import calls_of
from bench.guard_tcp import Sidecar, Way, carried, costs
from tproxy.codec.h1 import Http1Client
from tproxy.codec.h1_h11 import H11
from tproxy.codec.h1_llhttp import LLHTTP
from tproxy.codec.h1_parser import HeadParser
from tproxy.filters.mirror import Mirroring
from tproxy.filters.pipelines import by_traffic_policies, pipelines, towards_upstream
from tproxy.model.address import Address
from tproxy.model.flow import Detection, Direction, Flow, Protocol, Sniffed
from tproxy.model.identity import Peer, Proof, Workload
from tproxy.model.limits import Limits
from tproxy.net import http_connection
from tproxy.net.departures import Departures
from tproxy.net.handshakes import Handshakes
from tproxy.net.pump import Pipes
from tproxy.net.stream import EagerStream, SocketStream
from tproxy.net.tcp_stream import TcpStream
from tproxy.net.tls_stream import TlsStream
from tproxy.policy.compile import compiled
from tproxy.policy.nodes import SourceFile
from tproxy.policy.snapshot import Snapshot
from tproxy.proxy.connection import serve_http
from tproxy.proxy.register import Register
from tproxy.proxy.runtime import Runtime
from tproxy.proxy.sweeper import Sweeper
from tproxy.stores.clusters import Clusters
from tproxy.stores.identity_store import IdentityStore
from tproxy.stores.journal import Journal
from tproxy.stores.limits import OwnLedger
from tproxy.stores.policy_store import PolicyStore
from tproxy.telemetry.metrics import Metrics
from tproxy.tls.authority import Authority
from tproxy.tls.credentials import Credentials
from tproxy.tls.documents import read_identity
from tproxy.tls.identity import Identity
from tproxy.tls.root import ROOT_LIFETIME, TTL
from tproxy.tls.steps import Ended, Filled, Wait
from tproxy.upstream.balance import Balance
from tproxy.upstream.connector import Connector, Target
from tproxy.upstream.forward import Forward
from tproxy.upstream.pool import Pool
from tproxy.upstream.reach import Reach

REQUEST = (
    b"GET /catalogue/shoes?size=9 HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: client/1.0\r\n"
    b"Accept: application/json\r\nAccept-Encoding: gzip\r\nX-Request-Id: 0a1b2c3d-0000-4000-8000-00000000000f\r\n\r\n"
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Thu, 26 Nov 2026 12:00:00 GMT\r\nContent-Type: application/json\r\n"
    b'Content-Length: 1024\r\nConnection: keep-alive\r\nETag: "abc"\r\n\r\n' + b"x" * 1024
)
POLICIES = b"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec: {rules: [{to: [{operation: {methods: [GET], paths: ["/catalogue/*"]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody-administers, namespace: shop}
spec: {action: DENY, rules: [{to: [{operation: {paths: ["/admin/*"]}}]}]}
"""
PROVEN = b"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  rules:
  - from: [{source: {principals: [cluster.local/ns/shop/sa/till]}}]
    to: [{operation: {methods: [GET], paths: ["/catalogue/*"]}}]
"""
ENTRY = b"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop, namespace: shop}
spec:
  hosts: [shop.example.com]
  addresses: [192.0.2.1]
  ports: [{number: 8080, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints:
  - {address: 192.0.2.11, labels: {version: v1}}
  - {address: 192.0.2.12, labels: {version: v1}}
  - {address: 192.0.2.21, labels: {version: v2}}
"""
"""What is asked for is one of its hosts; v1 has two endpoints."""
STEERED = (
    ENTRY
    + b"""
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop, namespace: shop}
spec:
  host: shop.example.com
  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: [shop.example.com]
  http:
  - match: [{headers: {x-canary: {exact: "1"}}}]
    route: [{destination: {host: shop.example.com, subset: v2}}]
  - match: [{uri: {prefix: /basket}}]
    route: [{destination: {host: shop.example.com, subset: v1}}]
  - match: [{uri: {prefix: /catalogue}}]
    route:
    - {destination: {host: shop.example.com, subset: v1}, weight: 90}
    - {destination: {host: shop.example.com, subset: v2}, weight: 10}
    retries: {attempts: 2, retryOn: "5xx,connect-failure"}
    timeout: 5s
"""
)
LIMITED = b"""
apiVersion: tproxy.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: shop, namespace: shop}
spec:
  direction: INBOUND
  limits:
  - {name: total, algorithm: TOKEN_BUCKET, tokensPerFill: 1000000, fillInterval: 1s, maxTokens: 1000000}
  - {name: per-caller, key: source.ip, algorithm: SLIDING_WINDOW, requests: 1000000, window: 1s}
"""
"""Nothing that is measured here is over a limit."""
MUTUAL = b"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: everything, namespace: shop}
spec:
  host: "*"
  trafficPolicy:
    tls: {mode: ISTIO_MUTUAL, subjectAltNames: ["spiffe://cluster.local/ns/shop/sa/web"]}
"""
STRICT = b"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: shop}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: tills, namespace: shop}
spec: {rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/till]}}]}]}
"""
LIMITS = Limits()
HERE, THERE = Address("192.0.2.1", 8080), Address("192.0.2.2", 40000)
FLOW = Flow(Direction.INBOUND, THERE, HERE, HERE, Sniffed(Protocol.HTTP1, Detection.HTTP11))
LEAVING = replace(FLOW, direction=Direction.OUTBOUND)
OWN, TILL = Peer("cluster.local", "shop", "web"), Peer("cluster.local", "shop", "till")
PROOF = Proof(OWN, "ab" * 32, "TLSv1.3", "tproxy-http/1.1")


class Played(EagerStream):
    """A peer that never keeps anybody waiting. What changes: how much it has still to say, and what it was asked."""

    peer = THERE
    local = HERE
    identity = None

    def __init__(self, says: bytes, times: int, *, first: bool) -> None:
        self._says = says
        self._due = says if first else b""
        self._left = times - first
        self.reads = 0
        self.writes = 0

    @property
    def goes_on(self) -> bool:
        """Whether there is something left to say."""
        return bool(self._left or self._due)

    def go_on(self, times: int) -> None:
        """Be ready to say it so many times more."""
        self._left += times

    @property
    def expectant(self) -> bool:
        """Whether anything is due."""
        return bool(self._due)

    def expect(self) -> None:
        """Expect what is due."""

    def try_receive(self, max_bytes: int) -> bytes | None:
        """Give all that is due; an end once nothing is left to say."""
        self.reads += 1
        if not self._due:
            return None if self._left else b""
        part, self._due = self._due[:max_bytes], self._due[max_bytes:]
        return part

    def try_send(self, data: bytes | memoryview) -> int:
        """Take all of it, and have the next thing to say."""
        self.writes += 1
        if self._left:
            self._left -= 1
            self._due = self._says
        return len(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Never be reached."""
        raise AssertionError(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Never be reached."""
        raise AssertionError(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Never be reached."""
        raise AssertionError

    async def send_eof(self) -> None:
        """End nothing."""

    async def aclose(self) -> None:
        """Close nothing."""

    def end(self) -> bool:
        """End nothing."""
        return True

    def interrupt(self) -> None:
        """Wake nobody."""

    def close(self) -> None:
        """Close nothing."""

    def reset(self) -> None:
        """Reset nothing."""

    def fileno(self) -> int:
        """Be open."""
        return 0

    def exhausted(self) -> None:
        """Have told already that nothing is due."""


class PlayedTls:
    """`Steps` without OpenSSL: what `Played` says and hears is what was decrypted and is to be encrypted."""

    peer = TILL
    alpn = PROOF.alpn

    def __init__(self, beneath: Played) -> None:
        self._beneath = beneath

    def proof(self) -> Proof:
        """Tell how it would have been proven."""
        return PROOF

    def handshake(self) -> Wait | None:
        """Have shaken hands."""

    def fill(self, room: memoryview) -> Filled:
        """Give all that is due, and the end with the last of it."""
        part = self._beneath.try_receive(len(room)) or b""
        room[: len(part)] = part
        return len(part), Wait.READABLE if self._beneath.goes_on else Ended.ENDED

    def write(self, piece: bytes | memoryview) -> Wait | None:
        """Take all of it."""
        self._beneath.try_send(bytes(piece))
        return None

    def end(self) -> Wait | None:
        """End nothing."""


class Unwatched:
    """Stands for `Departures`, which needs sockets."""

    @contextmanager
    def watched(self, *_: object) -> Iterator[None]:
        """Watch nothing."""
        yield


@dataclass(frozen=True, slots=True)
class Case:
    """One way through the proxy, and what an exchange may cost on it."""

    name: str
    parser: HeadParser
    most_calls: int
    """Calls of Python functions and built-in ones."""
    policies: bytes = POLICIES
    flow: Flow = FLOW
    mutual: bool = False
    """Whether the downstream has proven by TLS who it is."""
    most_reads: float = 2.1
    most_writes: float = 2.1
    most_kept: int = 64
    """Bytes that stay for each exchange: memory that grows would end every sidecar."""


CASES = (
    Case("HTTP/1.1, no policies", LLHTTP, 437, policies=b""),
    Case("HTTP/1.1, authorized", LLHTTP, 482),
    Case("HTTP/1.1 read by h11, authorized", H11, 821),
    Case("HTTP/1.1 in mutual TLS, authorized", LLHTTP, 506, policies=PROVEN, mutual=True),
    Case("HTTP/1.1, limited twice", LLHTTP, 532, policies=LIMITED),
    Case("HTTP/1.1 to a service", LLHTTP, 577, policies=ENTRY, flow=LEAVING),
    Case("HTTP/1.1 to a share of a service", LLHTTP, 715, policies=STEERED, flow=LEAVING),
)


class Bench:
    """The proxy with played peers. What changes: what it has counted."""

    def __init__(self, case: Case, identity: Identity | None = None) -> None:
        self._case = case
        identities = None if identity is None else IdentityStore(Credentials(identity))
        snapshot: Snapshot | tuple[object, ...] = Snapshot(1)
        if case.policies:
            files = [SourceFile("bench.yaml", case.policies)]
            snapshot = compiled(files, 1, Workload("web", "shop"))
        assert isinstance(snapshot, Snapshot), snapshot
        store = PolicyStore(snapshot)
        metrics = Metrics(Workload("web", "shop"), "0")
        journal = Journal(metrics, self._drop, store)
        register = Register()
        self.lines = 0
        self.reads = self.writes = 0
        self._journal = journal
        self._upstream = Played(RESPONSE, 0, first=False)

        async def dial(_: Target) -> TcpStream:
            return cast("TcpStream", self._upstream)

        drawn = random.Random(1).random  # noqa: S311 - every run draws the same
        connector, clusters = Connector(LIMITS, identities), Clusters(drawn)
        pool = Pool(dial, lambda _: Http1Client(LIMITS, case.parser), LIMITS)
        ledger = OwnLedger(store)
        features = metrics.own.features
        planned = by_traffic_policies(
            Mirroring(LIMITS, features.mirrored),
            clusters,
            limits=LIMITS,
            counts=features,
            random=drawn,
        )
        forward = towards_upstream(Balance(clusters, Forward(pool, connector)), planned)
        lines = pipelines(journal, forward, store, LIMITS, ledger)
        self._runtime = Runtime(
            policies=store,
            pipelines=lines,
            overflow=lines,
            reach=Reach(connector, clusters, LIMITS),
            journal=journal,
            register=register,
            sweeper=Sweeper(LIMITS, register),
            departures=cast("Departures", Unwatched()),
            pipes=Pipes(),
            handshakes=Handshakes(LIMITS.handshakes),
            limits=LIMITS,
            ledger=ledger,
            own_ports=frozenset(),
            parser=case.parser,
            identities=identities,
        )

    @property
    def captured(self) -> Runtime:
        """The same proxy for connections that come by TPROXY."""
        return dataclasses.replace(self._runtime, tproxy_inbound=True)

    def _drop(self, _: bytes) -> None:
        self.lines += 1

    async def carry(self, exchanges: int) -> None:
        """Carry a connection with so many exchanges."""
        self._upstream.go_on(exchanges)
        downstream = Played(REQUEST, exchanges, first=True)
        before = self._upstream.reads, self._upstream.writes
        stream, flow = cast("SocketStream", downstream), self._case.flow
        if self._case.mutual:
            stream = TlsStream(cast("TcpStream", downstream), PlayedTls(downstream))
            flow = flow.authenticated(TILL, PROOF)
        with self._journal.connection(flow):
            await serve_http(stream, flow, self._runtime)
        self.reads = downstream.reads + self._upstream.reads - before[0]
        self.writes = downstream.writes + self._upstream.writes - before[1]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one more exchange on a connection takes."""

    calls: float
    reads: float
    writes: float
    kept: float
    microseconds: float
    """Told, and held against nothing: it depends on the machine."""


def measured(case: Case, few: int = 50, many: int = 550) -> Cost:
    """Measure the difference that many exchanges make."""
    bench = Bench(case)

    def run(exchanges: int) -> None:
        trio.run(bench.carry, exchanges)

    run(many)  # caches fill
    few_calls = calls_of(partial(run, few))
    reads, writes = bench.reads, bench.writes
    more = many - few
    calls = (calls_of(partial(run, many)) - few_calls) / more
    reads, writes = bench.reads - reads, bench.writes - writes
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(4):
        run(many)
    gc.collect()
    kept = (sys.getallocatedblocks() - before) * 64 / (4 * many)
    times = []
    for _ in range(9):
        began = time.perf_counter()
        run(many)
        times.append((time.perf_counter() - began) / many)
    return Cost(calls, reads / more, writes / more, kept, min(times) * 1e6)


def main() -> int:
    """Print the table; return 1 if a bound is broken."""
    # A connection reads less at once when its turns take long, as they do while every call is counted.
    http_connection.LONG_TURN = float("inf")
    broken = 0
    for case in CASES:
        cost = measured(case)
        held = (
            cost.calls <= case.most_calls
            and cost.reads <= case.most_reads
            and cost.writes <= case.most_writes
            and cost.kept <= case.most_kept
        )
        broken += not held
        print(
            f"{'ok ' if held else 'NOT'} {case.name:34} {cost.calls:6.1f} calls (<= {case.most_calls}),"
            f" {cost.reads:.2f} reads, {cost.writes:.2f} writes, {cost.kept:5.1f} bytes kept; {cost.microseconds:6.1f} us here"
        )
    for each in costs(plain_way(), mutual_way()):
        broken += not each.held
        print(each)
    return 1 if broken else 0


def plain_way() -> Way:
    """Capture connections before their origin."""
    return (Sidecar(Bench(CASES[0]).captured),)


def mutual_way() -> Way:
    """Capture connections behind their client, too, and have both sides prove who they are."""
    now = datetime.now(UTC)
    authority = Authority.create(OWN.trust_domain, lifetime=ROOT_LIFETIME, now=now)

    def side(own: Peer, policies: bytes, direction: Direction) -> Sidecar:
        svid, _ = authority.issue(own, ttl=TTL, now=now)
        identity = read_identity(svid.certificate, svid.key, authority.bundle, now=now)
        case = Case(own.service_account, LLHTTP, 0, policies=policies)
        return Sidecar(Bench(case, identity).captured, direction)

    return side(TILL, MUTUAL, Direction.OUTBOUND), side(OWN, STRICT, Direction.INBOUND)


def profile_connections(way: Way) -> None:
    """Print where the time of TCP connections goes."""
    carried(way, 500)
    profiler = cProfile.Profile()
    profiler.runcall(carried, way, 2000)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(60)


def profile(case: Case) -> None:
    """Print where the time goes."""
    bench = Bench(case)
    trio.run(bench.carry, 500)
    profiler = cProfile.Profile()
    profiler.runcall(trio.run, bench.carry, 5000)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    if sys.argv[1:] == ["profile", "tcp"]:
        profile_connections(plain_way())
    elif sys.argv[1:] == ["profile", "mtls"]:
        profile_connections(mutual_way())
    elif sys.argv[1:2] == ["profile"]:
        profile(CASES[int(sys.argv[2]) if sys.argv[2:] else 1])
    else:
        sys.exit(main())
