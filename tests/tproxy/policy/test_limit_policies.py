"""Limits mean exactly what they say, or are refused with every mistake and its place."""

import math

import pytest

from fakes.policies import WORKLOAD, rate_limit, snapshot
from tproxy.model.address import Address
from tproxy.model.flow import Direction, Flow
from tproxy.model.http import Headers, HttpVersion, RequestHead
from tproxy.model.identity import Peer, Workload
from tproxy.model.rate_limit import Advertise, Bandwidth, Counting, Key, RateLimit
from tproxy.policy.compile import compiled
from tproxy.policy.findings import Severity
from tproxy.policy.limits import LONGEST_KEY, LimitBook
from tproxy.policy.nodes import SourceFile
from tproxy.policy.snapshot import Snapshot
from tproxy.resilience.bandwidth import BandwidthSpec
from tproxy.resilience.bucket import LeakyBucketSpec, TokenBucketSpec
from tproxy.resilience.concurrency import ConcurrencySpec
from tproxy.resilience.keyed import KEYS, Overflow
from tproxy.resilience.windows import FixedWindowSpec, SlidingWindowSpec

TEN = "algorithm: FIXED_WINDOW, requests: 10, window: 1m"
AT_ONCE = "algorithm: CONCURRENCY, requests: 10"
TILL = Peer("cluster.local", "shop", "till")


def book(*documents: str) -> LimitBook:
    """What sound documents say."""
    found = snapshot(*documents).rate_limits
    assert found is not None
    return found


def only(limits: str, more: str = "") -> RateLimit:
    """The one limit of requests that a policy has."""
    (limit,) = book(rate_limit(limits, more=more)).requests[Direction.INBOUND]
    return limit.limit


SPECS = [
    pytest.param(
        "algorithm: TOKEN_BUCKET, tokensPerFill: 100, fillInterval: 500ms, maxTokens: 200",
        TokenBucketSpec(100, 0.5, 200),
        id="token bucket",
    ),
    pytest.param(
        "algorithm: LEAKY_BUCKET, ratePerSecond: 20, queue: 0", LeakyBucketSpec(20.0, 0), id="leaky"
    ),
    pytest.param(
        "algorithm: LEAKY_BUCKET, ratePerSecond: 0.5, queue: 9", LeakyBucketSpec(0.5, 9), id="slow"
    ),
    pytest.param(TEN, FixedWindowSpec(10, 60.0), id="fixed window"),
    pytest.param(
        "algorithm: SLIDING_WINDOW, requests: 10, window: 2s",
        SlidingWindowSpec(10, 2.0),
        id="sliding",
    ),
    pytest.param(AT_ONCE, ConcurrencySpec(10), id="concurrency"),
]


@pytest.mark.parametrize(("text", "spec"), SPECS)
def test_each_algorithm_takes_its_own_fields(text: str, spec: object) -> None:
    limit = only(f"{{name: total, {text}}}")
    assert limit.counting == Counting(name="web/p/total", spec=spec)  # type: ignore[arg-type]
    assert (limit.name, limit.short_name) == ("web/p/total", "total")
    assert (limit.shadow, limit.max_delay, limit.advertise) == (False, math.inf, Advertise.REFUSED)
    assert (limit.counting.keys, limit.counting.overflow) == (KEYS, Overflow.SHARE)


def test_what_is_said_of_keys_of_waiting_and_of_the_mode_is_kept() -> None:
    text = "{name: a, algorithm: LEAKY_BUCKET, ratePerSecond: 1, queue: 1, maxDelay: 3s, key: [source.ip, request.method], keys: 5, overflow: FORGET}"
    limit = only(text, more="mode: SHADOW, advertise: NEVER, ")
    assert limit.counting.key == ("source.ip", "request.method")
    assert (limit.counting.keys, limit.counting.overflow) == (5, Overflow.FORGET)
    assert (limit.shadow, limit.max_delay, limit.advertise) == (True, 3.0, Advertise.NEVER)


def test_bandwidth_is_of_connections_and_bursts_for_a_second_unless_it_is_said() -> None:
    documents = rate_limit(
        "{name: a, per: CONNECTION, algorithm: BANDWIDTH, bytesPerSecond: 1KiB},"
        " {name: b, per: CONNECTION, algorithm: BANDWIDTH, bytesPerSecond: 10, burst: 2MiB, match: {ports: [1]}}"
    )
    first, second = book(documents).bandwidths[Direction.INBOUND]
    assert first.limit == Bandwidth(name="web/p/a", spec=BandwidthSpec(1024, 1024))
    assert second.limit.spec == BandwidthSpec(10, 2 << 20)
    found = book(documents)
    assert [each.name for each in found.bandwidth_of(flow(port=1))] == ["web/p/a", "web/p/b"]
    assert [each.name for each in found.bandwidth_of(flow(port=2))] == ["web/p/a"]


def flow(
    *, port: int = 8080, peer: Peer | None = None, direction: Direction = Direction.INBOUND
) -> Flow:
    """A connection."""
    here = Address("192.0.2.1", port)
    return Flow(direction, Address("198.51.100.7", 40000), here, here, identity=peer)


def head(path: bytes = b"/", *fields: tuple[bytes, bytes], method: bytes = b"GET") -> RequestHead:
    """A request."""
    return RequestHead(method, b"http", b"shop", path, Headers(fields), HttpVersion.HTTP11)


MATCHES = [
    pytest.param("methods: [POST]", head(method=b"POST"), True, id="method"),
    pytest.param("methods: [POST]", head(), False, id="other method"),
    pytest.param("paths: ['/up*']", head(b"/upload?x=1"), True, id="path"),
    pytest.param("paths: ['/up/{*}/x']", head(b"/up/1/x"), True, id="template"),
    pytest.param("paths: ['/up/{*}/x']", head(b"/up/1/2/x"), False, id="not the template"),
    pytest.param("paths: ['/up']", head(b"/%75p"), True, id="spelled otherwise"),
    pytest.param("paths: ['/up']", head(b"//x/../up"), True, id="spelled at length"),
    pytest.param("paths: ['/up%00']", head(b"/up%00"), True, id="no safe reading: as it is"),
    pytest.param("hosts: [SHOP]", head(), True, id="host"),
    pytest.param("hosts: ['shop:80']", head(), False, id="host with a port"),
    pytest.param("headers: {X-Kind: [a, 'b*']}", head(b"/", (b"x-kind", b"bc")), True, id="header"),
    pytest.param("headers: {X-Kind: [a]}", head(), False, id="no header"),
    pytest.param("ports: [8080]", head(), True, id="port"),
    pytest.param("ports: [80], methods: [GET]", head(), False, id="all must hold"),
]


@pytest.mark.parametrize(("match", "request_head", "holds"), MATCHES)
def test_a_limit_is_about_what_it_matches(
    match: str, request_head: RequestHead, *, holds: bool
) -> None:
    found = book(rate_limit(f"{{name: a, match: {{{match}}}, {TEN}}}"))
    assert bool(found.of_request(flow(), request_head)) is holds


def test_the_path_that_other_policies_have_read_is_the_one_that_counts() -> None:
    found = book(rate_limit(f"{{name: a, match: {{paths: [/a]}}, {TEN}}}"))
    assert found.of_request(flow(), head(b"/b"), b"/a")
    assert not found.of_request(flow(), head(b"/a"), b"/b")


USERS = "'request.path[/users/{*}/{**}]'"
KEY_CASES = [
    pytest.param("all", head(), None, (), id="all"),
    pytest.param("source.ip", head(), None, ("198.51.100.7",), id="address"),
    pytest.param("source.principal", head(), TILL, ("cluster.local/ns/shop/sa/till",), id="peer"),
    pytest.param("source.principal", head(), None, (None,), id="nobody"),
    pytest.param("request.method", head(), None, ("GET",), id="method"),
    pytest.param("request.path", head(b"/a//b?c"), None, ("/a/b",), id="path"),
    pytest.param(USERS, head(b"/users/7/x/y?z"), None, ("7/x/y",), id="values of a template"),
    pytest.param(USERS, head(b"/shoes"), None, (None,), id="another path"),
    pytest.param(
        "'request.headers[X-Key]'", head(b"/", (b"x-KEY", b"k")), None, ("k",), id="header"
    ),
    pytest.param("'request.headers[X-Key]'", head(), None, (None,), id="no header"),
    pytest.param("[source.ip, request.method]", head(), None, ("198.51.100.7", "GET"), id="two"),
]


@pytest.mark.parametrize(("key", "request_head", "peer", "expected"), KEY_CASES)
def test_whoever_has_the_same_key_shares_a_count(
    key: str, request_head: RequestHead, peer: Peer | None, expected: Key
) -> None:
    found = book(rate_limit(f"{{name: a, key: {key}, {TEN}}}"))
    (applied,) = found.of_request(flow(peer=peer), request_head)
    assert (applied.key, applied.result) == (expected, None)


def test_a_long_value_is_known_by_its_digest() -> None:
    found = book(rate_limit(f"{{name: a, key: 'request.headers[k]', {TEN}}}"))
    long = [bytes([each]) * (LONGEST_KEY + 1) for each in (97, 98, 97, 200)]
    keys = [found.of_request(flow(), head(b"/", (b"k", each)))[0].key[0] for each in long]
    assert keys[0] == keys[2] != keys[1]
    assert all(key and len(key) == 33 for key in keys)


def test_limits_are_of_one_direction_and_of_what_they_count() -> None:
    found = book(
        rate_limit(
            f"{{name: a, per: CONNECTION, key: source.ip, {AT_ONCE}, match: {{ports: [8080]}}}}"
        ),
        rate_limit(f"{{name: b, {TEN}}}", more="direction: OUTBOUND, ", name="q"),
    )
    (applied,) = found.of_connection(flow())
    assert (applied.limit.name, applied.key) == ("web/p/a", ("198.51.100.7",))
    assert found.of_connection(flow(port=1)) == ()
    assert found.of_request(flow(), head()) == ()
    leaving = flow(direction=Direction.OUTBOUND)
    (applied,) = found.of_request(leaving, head())
    assert applied.limit.name == "web/q/b"
    assert found.of_connection(leaving) == ()
    assert [(*each[:2], each[2].limit.name) for each in found.every()] == [
        (Direction.INBOUND, "CONNECTION", "web/p/a"),
        (Direction.OUTBOUND, "REQUEST", "web/q/b"),
    ]


def test_every_names_bandwidths_too() -> None:
    found = book(
        rate_limit("{name: a, per: CONNECTION, algorithm: BANDWIDTH, bytesPerSecond: 1KiB}")
    )
    ((direction, per, limit),) = found.every()
    assert (direction, per, limit.scoped.place) == (
        Direction.INBOUND,
        "CONNECTION",
        "policies.yaml:4",
    )


SCOPES = [
    pytest.param(rate_limit(f"{{name: a, {TEN}}}"), True, id="its namespace"),
    pytest.param(rate_limit(f"{{name: a, {TEN}}}", namespace="istio-system"), True, id="the mesh"),
    pytest.param(
        rate_limit(f"{{name: a, {TEN}}}", namespace="other"), False, id="another namespace"
    ),
    pytest.param(
        rate_limit(f"{{name: a, {TEN}}}", more="selector: {matchLabels: {app: shop}}, "),
        True,
        id="its labels",
    ),
    pytest.param(
        rate_limit(f"{{name: a, {TEN}}}", more="selector: {matchLabels: {app: till}}, "),
        False,
        id="other labels",
    ),
]


@pytest.mark.parametrize(("document", "about"), SCOPES)
def test_a_policy_is_about_workloads_as_an_authorization_policy_is(
    document: str, *, about: bool
) -> None:
    assert (snapshot(document).rate_limits is not None) is about


def test_nothing_is_limited_where_no_policy_says_so() -> None:
    assert snapshot().rate_limits is None


def refused(*limits: str, more: str = "", workload: Workload = WORKLOAD) -> list[str]:
    """The mistakes in a policy, without the place in the file."""
    content = rate_limit(", ".join(limits), more=more).encode()
    result = compiled([SourceFile("a", content)], 1, workload)
    assert not isinstance(result, Snapshot)
    errors = [each for each in result if each.severity is Severity.ERROR]
    return [str(each).split(" ", 1)[1].replace("$.spec.limits[0]", "$") for each in errors]


MISTAKES = [
    pytest.param(
        "{name: a, algorithm: TOKEN_BUCKET, tokensPerFill: 1}",
        [
            "TPX0106 error $: TOKEN_BUCKET needs 'fillInterval'",
            "TPX0106 error $: TOKEN_BUCKET needs 'maxTokens'",
        ],
        id="missing",
    ),
    pytest.param(
        f"{{name: a, {AT_ONCE}, window: 1s, keys: 5}}",
        [
            "TPX0109 error $.window: means nothing with CONCURRENCY, which takes requests",
            "TPX0109 error $.keys: means nothing with CONCURRENCY, which takes requests",
        ],
        id="surplus",
    ),
    pytest.param(
        "{name: a, algorithm: FIXED_WINDOW, requests: 0, window: 0s}",
        [
            "TPX0108 error $.requests: 0 is not from 1 to 1000000000",
            "TPX0108 error $.window: '0s' must be above 0 and at most 1440m",
        ],
        id="zeros",
    ),
    pytest.param(
        "{name: a, algorithm: LEAKY_BUCKET, ratePerSecond: -0.5, queue: -1, maxDelay: soon}",
        [
            "TPX0108 error $.ratePerSecond: -0.5 must be above 0, at least one in a day, and at most 1000000000",
            "TPX0108 error $.queue: -1 is not from 0 to 16384",
            "TPX0108 error $.maxDelay: 'soon' is no duration, write `500ms`, `3s` or `1m`",
        ],
        id="negatives",
    ),
    pytest.param(
        "{name: a, per: CONNECTION, algorithm: BANDWIDTH, bytesPerSecond: 0, burst: much}",
        [
            "TPX0108 error $.bytesPerSecond: 0 is not from 1 to 1000000000",
            "TPX0108 error $.burst: 'much' is no size, write `8192`, `8KiB` or `1MiB`",
        ],
        id="sizes",
    ),
    pytest.param(
        f"{{name: a, {TEN}, key: source.ip, keys: 16385}}",
        ["TPX0108 error $.keys: 16385 is not from 1 to 16384"],
        id="too many keys",
    ),
    pytest.param(
        "{name: a, algorithm: BANDWIDTH, bytesPerSecond: 1, key: source.ip}",
        [
            "TPX0109 error $.per: BANDWIDTH is about connections that are carried as bytes: write per: CONNECTION",
            "TPX0109 error $.key: BANDWIDTH is each connection's own: leave it out",
        ],
        id="bandwidth of requests",
    ),
    pytest.param(
        f"{{name: A_b, {TEN}}}",
        ["TPX0108 error $.name: 'A_b' is no name: use a-z, 0-9, `-` and `.`"],
        id="name",
    ),
    pytest.param(
        f"{{name: a, {TEN}, key: source.pricipal}}",
        ["TPX0108 error $.key: unknown key 'source.pricipal', did you mean 'source.principal'?"],
        id="misspelt key",
    ),
    pytest.param(
        f"{{name: a, {TEN}, key: [all, nonsense]}}",
        [
            "TPX0108 error $.key[0]: 'all' tells nobody apart from others: leave it out of the list",
            "TPX0108 error $.key[1]: unknown key 'nonsense', known are all, source.principal, source.ip,"
            " request.method, request.path, request.path[TEMPLATE], request.headers[NAME]",
        ],
        id="keys in a list",
    ),
    pytest.param(
        f"{{name: a, {TEN}, key: ['request.path[/a]', 'request.path[/{{**}}/{{*}}]', 'request.headers[host]']}}",
        [
            "TPX0108 error $.key[0]: '/a' has neither {*} nor {**}, so all have one key: write `all`",
            "TPX0108 error $.key[1]: '/{**}/{*}': {**} must be the last operator",
            "TPX0108 error $.key[2]: 'request.headers[host]': HTTP/2 has none, write operation.hosts",
        ],
        id="keys that are none",
    ),
    pytest.param(
        f"{{name: a, per: CONNECTION, {AT_ONCE}, key: request.path, match: {{methods: [GET], headers: {{a: [b]}}}}}}",
        [
            "TPX0109 error $.match.methods: is about requests, and this limit is about connections: write ports, or per: REQUEST",
            "TPX0109 error $.match.headers.a: is about requests, and this limit is about connections: write ports, or per: REQUEST",
            "TPX0109 error $.key: 'request.path' is about requests, and this limit is about connections",
        ],
        id="requests on a connection",
    ),
    pytest.param(
        f"{{name: a, {TEN}, match: {{}}}}",
        [
            "TPX0108 error $.match: is empty, which would mean everything: leave it out, or say what is meant"
        ],
        id="empty match",
    ),
    pytest.param(
        f"{{name: a, {TEN}, match: {{methods: [get], paths: ['/{{a}}/{{**}}/{{*}}', '/a*b'], headers: {{'a b': [c], te: [d]}}}}}}",
        [
            "TPX0108 error $.match.methods[0]: 'get' is no method, write one in upper case as GET",
            "TPX0108 error $.match.paths[0]: '/{a}/{**}/{*}': {*} and {**} must be whole segments",
            "TPX0202 error $.match.paths[1]: '/a*b': a `*` may only begin or end a value, elsewhere it would stand for itself",
            "TPX0108 error $.match.headers.a b: 'a b' is no name of a header",
            "TPX0109 error $.match.headers.te: 'request.headers[te]': never seen, it is about one connection",
        ],
        id="values",
    ),
    pytest.param(
        f"{{name: a, {TEN}, match: {{ports: [0]}}, rate: 1}}",
        [
            "TPX0106 error $.match.ports[0]: expected `int` >= 1",
            "TPX0103 error $.rate: unknown field 'rate', known are name, algorithm, match, per, key, tokensPerFill,"
            " fillInterval, maxTokens, ratePerSecond, queue, maxDelay, requests, window, bytesPerSecond, burst, keys, overflow",
        ],
        id="format",
    ),
]


@pytest.mark.parametrize(("limit", "expected"), MISTAKES)
def test_what_has_no_meaning_is_refused(limit: str, expected: list[str]) -> None:
    assert sorted(refused(limit)) == sorted(expected)


def test_two_limits_have_two_names() -> None:
    assert refused(f"{{name: a, {TEN}}}", f"{{name: a, {AT_ONCE}}}") == [
        "TPX0109 error $.spec.limits[1].name: 'a' is the name of $ already"
    ]


def test_there_is_nothing_to_try_of_bandwidth() -> None:
    limit = "{name: a, per: CONNECTION, algorithm: BANDWIDTH, bytesPerSecond: 1}"
    (told,) = refused(limit, more="mode: SHADOW, ")
    assert told.startswith("TPX0109 error $.algorithm: BANDWIDTH refuses nothing")


def test_more_limits_than_there_is_room_for_are_refused() -> None:
    limits = [f"{{name: a{each}, {TEN}}}" for each in range(65)]
    (told,) = refused(*limits)
    assert (
        told
        == "TPX0109 error $.spec.limits: more than 64 limits are about this workload: leave some out"
    )


def test_a_policy_of_which_nobody_can_tell_whether_it_applies_is_refused() -> None:
    (told,) = refused(f"{{name: a, {TEN}}}", workload=Workload())
    assert "TPX0109 error $.metadata.namespace" in told
