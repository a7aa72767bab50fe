"""A way is told with the entry that decides and why those before it do not, and never guessed."""

import click
import pytest

from fakes.destinations import PLAIN, POD, STORE, entry, rule, secured, snapshot
from fakes.routes import RATINGS, REVIEWS, flow, http, to, virtual
from tproxy.cli.account_text import account_text
from tproxy.model.flow import Direction
from tproxy.policy.account import account
from tproxy.policy.explain import Examiner
from tproxy.policy.explain_route import Directing, directing
from tproxy.policy.facts import Facts, facts_of
from tproxy.policy.schema import CaseProtocol, CaseRequest
from tproxy.policy.snapshot import Snapshot

ID = {"x-request-id": "a"}


def asked(
    host: str | None = "reviews",
    path: str = "/",
    *,
    headers: dict[str, str] | None = None,
    address: str | None = None,
    tcp: bool = False,
    sni: str | None = None,
) -> Facts:
    """A request, or a connection that is no HTTP."""
    request = CaseRequest(
        port=80,
        host=host,
        path=None if tcp else path,
        headers=headers or {},
        destination_ip=address,
        protocol=CaseProtocol.TCP if tcp else CaseProtocol.HTTP,
        sni=sni,
    )
    return facts_of(request, Direction.OUTBOUND)


def connection(address: str | None = None, *, sni: str | None = None) -> Facts:
    """A connection that is no HTTP."""
    return asked(None, address=address, tcp=True, sni=sni)


def way(policies: Snapshot, facts: Facts) -> Directing:
    """Where it would go."""
    found = directing(policies.traffic, facts)
    assert found is not None
    return found


def told(policies: Snapshot, facts: Facts) -> list[str]:
    """What people are told of the way."""
    text = click.unstyle(account_text(account(Examiner(policies).explain(facts))))
    text = text.partition("from an address not known\n")[2].partition("  endpoints")[0]
    lines = text.splitlines()
    return [each for each in lines if not each.startswith(("  host:", "  TLS:", "  to:"))]


SPLIT = (
    "{name: all, route: [{destination: {host: reviews}, weight: 3},"
    " {destination: {host: reviews, subset: v2}, weight: 1}]}"
)
SUBSET = rule("host: reviews, subsets: [{name: v2, labels: {version: v2}}]")


def test_what_comes_in_is_not_led() -> None:
    assert directing(None, facts_of(CaseRequest(port=80))) is None


def test_without_policies_everything_goes_where_it_was_going() -> None:
    policies = snapshot()
    assert way(policies, asked()).route == policies.route(flow())
    assert told(policies, asked()) == []


@pytest.mark.parametrize(
    ("documents", "facts", "missing"),
    [
        pytest.param([http(f"{{{to('ratings')}}}")], asked(None), ("request.host",), id="whom it asks for"),
        pytest.param([PLAIN], asked("elsewhere"), ("destination.ip",), id="where it goes"),
        pytest.param([PLAIN, virtual(f"hosts: [elsewhere], http: [{{{to('ratings')}}}]")], asked("elsewhere"), (), id="not where its name says it"),
        pytest.param([http(f"{{{to('ratings')}}}")], asked(), (), id="nor where nobody has an address"),
        pytest.param([http(SPLIT), SUBSET], asked(), ("request.headers[x-request-id]",), id="its id, where it is drawn"),
        pytest.param([http(SPLIT), SUBSET], asked(headers=ID), (), id="not an id that is there"),
    ],
)  # fmt: skip
def test_what_is_not_known_leaves_it_open(
    documents: list[str], facts: Facts, missing: tuple[str, ...]
) -> None:
    found = way(snapshot(*documents), facts)
    assert found.missing == missing


def test_a_request_of_which_nothing_was_kept_is_not_known() -> None:
    facts = Facts(asked().flow)
    assert way(snapshot(http(f"{{{to('ratings')}}}")), facts).missing == ("request",)


def test_a_condition_on_what_is_not_known_leaves_it_open() -> None:
    matches = "match: [{uri: {exact: /x}}, {headers: {a: {}, b: {}}, method: {exact: GET}}]"
    policies = snapshot(http(f"{{name: a, {matches}, {to('ratings')}}}", f"{{{to('ratings')}}}"))
    known = asked()
    facts = Facts(known.flow, known.head, known.hidden, frozenset())
    assert way(policies, facts).missing == ("request.headers[a]",)
    assert told(policies, facts) == [
        "  route: web/v (p.yaml:1) is about it",
        "    entry a may match (p.yaml:4)",
        "      uri fails: exact '/x' is wanted, it is / (p.yaml:4)",
        "      headers[a] depends on request.headers[a], which is not known (p.yaml:4)",
        "  route: it depends on what is not known: request.headers[a]",
    ]


def test_what_surely_fails_is_told_before_what_is_not_known() -> None:
    matches = "match: [{headers: {a: {}}, queryParams: {b: {exact: secret}}}]"
    policies = snapshot(http(f"{{name: a, {matches}, {to('ratings')}}}"))
    known = asked(path="/?b=other")
    facts = Facts(known.flow, known.head, known.hidden, frozenset())
    assert told(policies, facts) == [
        "  route: no entry of web/v (p.yaml:1) matches, so it goes as if there were none",
        "    entry a does not match (p.yaml:4)",
        "      queryParams[b] fails: (hidden) is wanted, it is (hidden) (p.yaml:4)",
        "  cluster: PassthroughCluster, where it was going",
    ]


@pytest.mark.parametrize(
    ("match", "line"),
    [
        pytest.param("headers: {x-canary: {exact: '1'}}", "headers[x-canary] fails: exact '1' is wanted, there is none", id="a header"),
        pytest.param("headers: {authorization: {prefix: Bearer}}", "headers[authorization] fails: (hidden) is wanted, there is none", id="a secret"),
        pytest.param("headers: {cookie: {prefix: a}}", "headers[cookie] fails: (hidden) is wanted, it is (hidden)", id="another secret"),
        pytest.param("withoutHeaders: {cookie: {}}", "withoutHeaders[cookie] fails: not (hidden) is wanted, it is (hidden)", id="what must not be there"),
        pytest.param("withoutHeaders: {b: {}}", "withoutHeaders[b] fails: not any is wanted, it is 1", id="any value"),
        pytest.param("sourceLabels: {app: other}", "it is for app=other, this workload has app=shop", id="another workload"),
        pytest.param("sourceNamespace: db", "it is for namespace db, this workload is in web", id="another namespace"),
        pytest.param("uri: {prefix: /A}, ignoreUriCase: true", "uri fails: prefix '/A', in any case is wanted, it is /", id="a path"),
    ],
)  # fmt: skip
def test_people_are_told_why_an_entry_does_not_match(match: str, line: str) -> None:
    policies = snapshot(
        http(f"{{name: a, match: [{{{match}}}], {to('ratings')}}}", f"{{{to('ratings')}}}")
    )
    assert told(policies, asked(headers={"cookie": "x", "b": "1"})) == [
        "  route: entry web/v.http[1] of web/v (p.yaml:1) decides (p.yaml:4)",
        "    entry a does not match (p.yaml:4)",
        f"      {line} (p.yaml:4)",
        f"  cluster: outbound|80||{RATINGS}",
        "    retries: 2 on connect-failure, reset-before-request",
    ]


def test_people_are_told_what_was_drawn() -> None:
    policies = snapshot(http(SPLIT), SUBSET)
    lines = told(policies, asked(headers=ID))
    assert lines[1:] == [
        f"    75 % to {REVIEWS}: drawn for this one",
        f"    25 % to {REVIEWS}, subset v2",
        "  cluster: PassthroughCluster, where it was going",
        "    retries: 2 on connect-failure, reset-before-request",
    ]
    assert told(policies, asked())[1:4] == [
        f"    75 % to {REVIEWS}",
        f"    25 % to {REVIEWS}, subset v2",
        "  destination: it depends on what is not known: request.headers[x-request-id]",
    ]


def test_people_are_told_who_would_answer() -> None:
    policies = snapshot(http(f"{{{to('ratings')}}}"))
    text = click.unstyle(account_text(account(Examiner(policies).explain(asked()))))
    assert f"  endpoints: that these names lead to\n    {RATINGS}:80" in text


def test_what_is_told_is_what_is_done() -> None:
    policies = snapshot(http(SPLIT), SUBSET)
    ways = set()
    for number in range(20):
        facts = asked(headers={"x-request-id": str(number)})
        found = way(policies, facts)
        assert found.route is policies.route(facts.flow, facts.head)
        assert found.route is not None
        assert found.share is not None
        ways.add(found.share.target.subset)
        assert (found.route.cluster == "PassthroughCluster") is (found.share.target.subset == "")
    assert ways == {"", "v2"}


@pytest.mark.parametrize(
    ("spec", "lines"),
    [
        pytest.param("timeout: 3s, retries: {attempts: 2, perTryTimeout: 1s, retryOn: '503,reset'}", ["    timeout: 3 s", "    retries: 2 on reset, retriable-status-codes, 503, 1 s for each try"], id="timeouts"),
        pytest.param("retries: {attempts: 0}", ["    retries: none"], id="no retries"),
        pytest.param("fault: {delay: {fixedDelay: 2s, percentage: {value: 100}}, abort: {httpStatus: 503, percentage: {value: 100}}}", ["    retries: none", "    faults: 100 % wait 2 s, 100 % fail with 503; this one: waits 2 s, fails"], id="both faults"),
        pytest.param("fault: {abort: {grpcStatus: INTERNAL, percentage: {value: 0.1}}}", ["    retries: none", "    faults: 0.1 % fail with gRPC status 13; this one: unharmed"], id="a fault for few"),
        pytest.param("fault: {delay: {fixedDelay: 2s, percentage: {value: 100}}}", ["    retries: none", "    faults: 100 % wait 2 s; this one: waits 2 s"], id="a delay"),
        pytest.param("rewrite: {uri: /new, authority: a.example}", ["    retries: 2 on connect-failure, reset-before-request", "    rewrite: '/new' in place of '/', authority a.example"], id="a rewrite"),
        pytest.param("match: [{uri: {exact: /}}], rewrite: {uri: /new}", ["    retries: 2 on connect-failure, reset-before-request", "    rewrite: '/new' in place of the path"], id="a rewrite of all"),
        pytest.param("rewrite: {uriRegexRewrite: {match: a, rewrite: b}}", ["    retries: 2 on connect-failure, reset-before-request", "    rewrite: 'b' in place of what matches 'a'"], id="a rewrite by an expression"),
        pytest.param("headers: {request: {set: {a: s3cret, c: x}, remove: [b]}, response: {add: {d: x}}}", ["    retries: 2 on connect-failure, reset-before-request", "    headers: request: remove b; set a, c", "    headers: response: add d"], id="headers without values"),
        pytest.param("mirror: {host: shadow}, mirrorPercentage: {value: 5}", ["    retries: 2 on connect-failure, reset-before-request", "    mirrored: 5 % to outbound|80||shadow.web.svc.cluster.local"], id="a mirror"),
    ],
)  # fmt: skip
def test_people_are_told_what_is_done_on_the_way(spec: str, lines: list[str]) -> None:
    policies = snapshot(http(f"{{name: a, {to('ratings')}, {spec}}}"))
    assert told(policies, asked(headers=ID))[2:] == lines


def test_nobody_knows_whom_a_fault_meets_without_an_id() -> None:
    fault = "fault: {abort: {httpStatus: 503, percentage: {value: 50}}}"
    policies = snapshot(http(f"{{{to('ratings')}, {fault}}}"))
    assert told(policies, asked())[-1] == (
        "    faults: 50 % fail with 503; this one: not known without an x-request-id"
    )


FAULTS = """\
apiVersion: tproxy.io/v1alpha1
kind: FaultPolicy
metadata: {name: f, namespace: web}
spec:
  direction: OUTBOUND
  rules:
  - match: {headers: {x-test: [fail]}}
    abort: {httpStatus: 500, percentage: 100}
  - match: {headers: {x-test: [reset]}}
    reset: {percentage: 100}
  - match: {headers: {x-test: [slow]}}
    throttle: {percentage: 100, bytesPerSecond: 10}
"""


@pytest.mark.parametrize(
    ("value", "line"),
    [
        pytest.param("fail", "100 % fail with 500; this one: fails", id="abort"),
        pytest.param("reset", "100 % are reset; this one: is reset", id="reset"),
        pytest.param("slow", "100 % get 10 bytes per second; this one: is slow", id="throttle"),
    ],
)
@pytest.mark.parametrize("documents", [(), (http(f"{{{to('ratings')}}}"),)], ids=["alone", "led"])
def test_faults_that_no_route_names_are_told(
    documents: tuple[str, ...], value: str, line: str
) -> None:
    policies = snapshot(FAULTS, *documents)
    facts = asked(headers={**ID, "x-test": value})
    assert told(policies, facts)[-1] == f"    faults: {line}"
    found = directing(policies.traffic, facts, policies.faults)
    assert found is not None
    assert found.route == policies.route(facts.flow, facts.head)


def test_nobody_knows_of_faults_without_what_they_are_about() -> None:
    known = asked()
    facts = Facts(known.flow, known.head, known.hidden, frozenset())
    line = told(snapshot(FAULTS), facts)[-1]
    assert line == "    faults: depend on what is not known: request.headers[x-test]"
    assert told(snapshot(FAULTS), asked()) == []


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        pytest.param("redirect: {uri: /new, authority: a.example, port: 81, scheme: https}", "301 to https, a.example, /new, port 81", id="a redirect"),
        pytest.param("directResponse: {status: 503, body: {string: down}}", "503, 4 bytes", id="an answer"),
    ],
)  # fmt: skip
def test_people_are_told_of_answers_of_ours(spec: str, line: str) -> None:
    assert told(snapshot(http(f"{{name: a, {spec}}}")), asked()) == [
        "  route: entry a of web/v (p.yaml:1) decides (p.yaml:4)",
        f"    answer of ours: {line}",
    ]


def test_connections_are_told_of_alike() -> None:
    shares = "route: [{destination: {host: a}, weight: 1}, {destination: {host: b, port: {number: 81}}, weight: 1}]"
    service = entry('hosts: [store], addresses: ["198.51.100.7"]', namespace="web")
    store = virtual(f"hosts: [store], tcp: [{{match: [{{port: 81}}], {to('a')}}}, {{{shares}}}]")
    policies = snapshot(service, store)
    assert told(policies, connection("198.51.100.7")) == [
        "  route: entry web/v.tcp[1] of web/v (p.yaml:6) decides (p.yaml:9)",
        "    entry web/v.tcp[0] does not match (p.yaml:9)",
        "      port fails: 81 is wanted, it is 80 (p.yaml:9)",
        "    50 % to a.web.svc.cluster.local",
        "    50 % to b.web.svc.cluster.local, port 81",
        "  destination: it depends on what is not known: source.port",
    ]


def test_a_name_that_tls_asks_for_is_told() -> None:
    tls = virtual(f"hosts: [a.example], tls: [{{match: [{{sniHosts: [a.example]}}], {to('a')}}}]")
    found = way(snapshot(tls), connection(sni="a.example"))
    assert found.chosen is not None
    assert found.chosen.name == "web/v.tls[0]"


# How it is secured on its way


def mode(policies: Snapshot, facts: Facts) -> str:
    """In which mode of TLS."""
    securing = Examiner(policies).explain(facts).tls
    assert securing is not None
    return securing.mode


SECURE = 'labels: {"security.istio.io/tlsMode": istio}'


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        pytest.param(f"{{address: 192.0.2.20, {SECURE}}}", "ISTIO_MUTUAL", id="a sidecar"),
        pytest.param("{address: 192.0.2.20}", "DISABLE", id="no sidecar"),
        pytest.param(f"{{address: 192.0.2.20, {SECURE}}}, {{address: 192.0.2.21}}", "UNDETERMINED", id="one of two"),
    ],
)  # fmt: skip
def test_a_route_to_endpoints_is_secured_as_they_are(endpoints: str, expected: str) -> None:
    ports = "ports: [{number: 80, name: http}]"
    ratings = entry(
        f"hosts: [ratings], {ports}, location: MESH_INTERNAL, resolution: STATIC, endpoints: [{endpoints}]",
        namespace="web",
    )
    policies = snapshot(http(f"{{{to('ratings')}}}"), ratings)
    assert mode(policies, asked(address="203.0.113.9")) == expected


def test_a_route_to_a_name_is_secured_as_the_rule_about_it_says() -> None:
    policies = snapshot(http(f"{{{to('ratings')}}}"), secured("ratings", "mode: SIMPLE"))
    assert mode(policies, asked()) == "SIMPLE"


def test_what_is_not_drawn_is_not_known_to_be_secured() -> None:
    assert mode(snapshot(http(SPLIT), SUBSET), asked()) == "UNDETERMINED"


def test_a_route_to_where_it_was_going_is_secured_as_that_is() -> None:
    policies = snapshot(http(f"{{{to('reviews')}}}"), secured("reviews", "mode: SIMPLE"))
    assert mode(policies, asked()) == "SIMPLE"
    answered = snapshot(http("{directResponse: {status: 200}}"), secured("reviews", "mode: SIMPLE"))
    assert mode(answered, asked()) == "SIMPLE"


def test_a_route_to_a_service_without_endpoints_is_secured_as_the_address_is() -> None:
    open_ended = entry('hosts: [a.example], addresses: ["198.51.100.7"]', namespace="web")
    routes = virtual(f"hosts: [a.example], http: [{{{to('a.example')}}}]")
    policies = snapshot(open_ended, routes, secured("a.example", "mode: SIMPLE"))
    assert mode(policies, asked("a.example", address="198.51.100.7")) == "SIMPLE"


def test_a_service_that_is_dialled_at_an_endpoint_goes_there() -> None:
    found = way(snapshot(PLAIN), asked(STORE, address=POD))
    assert found.chosen is None
    assert found.route is not None
