"""Entries that are sound and hardly mean what their author thinks are told of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.destinations import entry, snapshot
from fakes.routes import asked, findings, flow, http, to, virtual
from tproxy.model.http import RequestHead

GOOD = to("ratings")


def entries(*matches: str) -> str:
    """A VirtualService of entries with these matches; none for every request."""
    return http(*(f"{{{f'match: [{each}], ' if each else ''}{GOOD}}}" for each in matches))


@pytest.mark.parametrize(
    ("matches", "taken"),
    [
        pytest.param(("", "{uri: {exact: /a}}", ""), {1: 0, 2: 0}, id="behind one for all"),
        pytest.param(("{uri: {prefix: /}}", "{method: {exact: GET}}"), {1: 0}, id="behind one for all paths"),
        pytest.param(("{uri: {exact: /a}}", "{uri: {exact: /a}}"), {1: 0}, id="twice"),
        pytest.param(("{uri: {exact: /a}, name: x}", "{uri: {exact: /a}, name: 'y'}"), {1: 0}, id="twice under two names"),
        pytest.param(("{uri: {prefix: /a}}", "{uri: {prefix: /a/b}}", "{uri: {exact: /ab}}"), {1: 0, 2: 0}, id="a longer path behind a prefix"),
        pytest.param(("{uri: {prefix: /A}, ignoreUriCase: true}", "{uri: {exact: /a/b}}"), {1: 0}, id="behind a prefix in any case"),
        pytest.param(("{uri: {prefix: /a}}", "{uri: {exact: /A/b}, ignoreUriCase: true}"), {}, id="one in any case behind a prefix in one"),
        pytest.param(("{uri: {exact: /a}}", "{uri: {prefix: /a}}"), {}, id="a prefix behind a path"),
        pytest.param(("{uri: {prefix: /a}}", "{uri: {regex: /a.*}}"), {}, id="nobody knows of expressions"),
        pytest.param(("{uri: {regex: /a.*}}", "{uri: {exact: /a}}"), {}, id="nobody knows behind an expression"),
        pytest.param(("{uri: {exact: /a}}", "{method: {exact: GET}}"), {}, id="every path behind one"),
        pytest.param(("{headers: {a: {}}}", "{headers: {a: {}, b: {}}}"), {1: 0}, id="more headers"),
        pytest.param(("{headers: {a: {}, b: {}}}", "{headers: {a: {}}}"), {}, id="fewer headers"),
        pytest.param(("{port: 80}", "{port: 81}"), {}, id="another port"),
        pytest.param(("{port: 80}", "{uri: {exact: /a}}", "{port: 80, uri: {exact: /b}}"), {2: 0}, id="more fields"),
        pytest.param(("{port: 80}, {port: 81}", "{port: 81}, {port: 80}"), {1: 0}, id="all of several"),
        pytest.param(("{port: 80}", "{port: 80}, {port: 81}"), {}, id="one of several"),
    ],
)  # fmt: skip
def test_what_an_earlier_entry_takes_all_of_is_told(
    matches: tuple[str, ...], taken: dict[int, int]
) -> None:
    assert findings(entries(*matches)) == [
        f"TPX0211 warning $.spec.http[{each}]: never decides, as entry {by} takes all of it: put it before, or leave it out"
        for each, by in taken.items()
    ]


def test_what_an_earlier_entry_for_connections_takes_is_told() -> None:
    store = entry('hosts: [a.example], addresses: ["198.51.100.7"]', namespace="web")
    wide, narrow = 'sniHosts: ["a.example", "b.a.example"]', "sniHosts: [a.example]"
    tls = f"tls: [{{match: [{{{wide}}}], {GOOD}}}, {{match: [{{{narrow}}}], {GOOD}}}]"
    tcp = f"tcp: [{{{GOOD}}}, {{match: [{{port: 80}}], {GOOD}}}]"
    told = findings(virtual(f'hosts: [a.example, "*.a.example"], {tls}, {tcp}'), store)
    assert [each.partition(":")[0] for each in told] == [
        "TPX0211 warning $.spec.tls[1]",
        "TPX0211 warning $.spec.tcp[1]",
    ]


@pytest.mark.parametrize(
    ("spec", "finding"),
    [
        pytest.param("fault: {delay: {fixedDelay: 1s}}", "TPX0222 warning $.spec.http[0].fault.delay: is for no request: write percentage: {value: 10}", id="a fault for nobody"),
        pytest.param("fault: {abort: {httpStatus: 500, percentage: {value: 0}}}", "TPX0222 warning $.spec.http[0].fault.abort: is for no request: write percentage: {value: 10}", id="a fault for zero percent"),
        pytest.param("fault: {abort: {httpStatus: 500, percentage: {value: 1}}}, timeout: 1s", "TPX0222 warning $.spec.http[0].timeout: changes nothing beside a fault, which a route has in place of it", id="a timeout beside a fault"),
        pytest.param("fault: {abort: {httpStatus: 500, percentage: {value: 1}}}, retries: {attempts: 1}", "TPX0222 warning $.spec.http[0].retries: changes nothing beside a fault, which a route has in place of it", id="retries beside a fault"),
        pytest.param("retries: {attempts: 1, retryOn: 'reset,internal,unavailable'}", "TPX0216 warning $.spec.http[0].retries.retryOn: internal, unavailable: a gRPC call is a POST, and what it asked for may be done twice", id="calls done twice"),
        pytest.param("timeout: 1s, retries: {attempts: 1, perTryTimeout: 1s}", "TPX0217 warning $.spec.http[0].retries.perTryTimeout: is not below the whole timeout 1s, so there is no second try", id="no time for a second try"),
        pytest.param("mirror: {host: ratings}", "TPX0221 warning $.spec.http[0].mirror: gets the requests themselves, and copies of them beside", id="a mirror of itself"),
        pytest.param("mirrors: [{destination: {host: a}}, {destination: {host: ratings}}]", "TPX0221 warning $.spec.http[0].mirrors[1].destination: gets the requests themselves, and copies of them beside", id="one mirror of itself"),
        pytest.param("match: [{uri: {exact: a}}]", "TPX0209 warning $.spec.http[0].match[0].uri: 'a' never matches: a path begins with a slash, and is compared without its query", id="no path"),
        pytest.param("match: [{uri: {prefix: '/a?b'}}]", "TPX0209 warning $.spec.http[0].match[0].uri: '/a?b' never matches: a path begins with a slash, and is compared without its query", id="a query"),
        pytest.param("match: [{port: 80, ignoreUriCase: true}]", "TPX0222 warning $.spec.http[0].match[0].ignoreUriCase: changes nothing without exact or prefix of uri: write (?i) into an expression", id="the case of nothing"),
    ],
)  # fmt: skip
def test_what_hardly_means_what_it_says_is_told(spec: str, finding: str) -> None:
    assert findings(http(f"{{{GOOD}, {spec}}}")) == [finding]


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param("retries: {attempts: 0, retryOn: internal}", id="no retries"),
        pytest.param("retries: {attempts: 1, perTryTimeout: 1s}", id="no timeout"),
        pytest.param("timeout: 2s, retries: {attempts: 1, perTryTimeout: 1s, retryOn: 5xx}", id="time for two"),
        pytest.param("mirror: {host: ratings, port: {number: 81}}", id="a mirror beside it"),
        pytest.param("match: [{uri: {regex: a}}, {uri: {exact: '*'}}]", id="paths"),
    ],
)  # fmt: skip
def test_what_means_what_it_says_is_not(spec: str) -> None:
    assert findings(http(f"{{{GOOD}, {spec}}}")) == []


def test_destinations_that_get_nothing_or_stand_twice_are_told() -> None:
    shares = "{destination: {host: a}, weight: 1}, {destination: {host: b}}, {destination: {host: a}, weight: 2}"
    assert findings(http(f"{{route: [{shares}]}}")) == [
        "TPX0222 warning $.spec.http[0].route[1]: has no weight, so it gets nothing",
        "TPX0221 warning $.spec.http[0].route[2].destination: is that of route[0] already: add the weights",
    ]


def test_entries_of_one_name_are_told() -> None:
    first = f"{{name: a, match: [{{port: 1}}], {GOOD}}}"
    assert findings(http(first, f"{{name: a, {GOOD}}}")) == [
        "TPX0221 warning $.spec.http[1].name: entry 0 has this name too: logs do not tell them apart"
    ]


def test_connections_to_addresses_that_nobody_knows_are_told() -> None:
    document = virtual(f"hosts: [store], tcp: [{{{GOOD}}}]")
    assert findings(document) == [
        "TPX0223 warning $.spec.hosts: no ServiceEntry says which addresses store.web.svc.cluster.local has,"
        " so tcp is about no connection"
    ]
    store = entry('hosts: [store], addresses: ["198.51.100.7"]', namespace="web")
    assert findings(document, store) == []


PATHS = ("/", "/a", "/A", "/ab", "/a/b")
TEXTS = st.sampled_from([f"{how}: {path}" for how in ("exact", "prefix") for path in PATHS])
CASES = st.booleans().map(lambda folded: ", ignoreUriCase: true" if folded else "")
URIS = st.tuples(TEXTS, CASES).map(lambda uri: f"uri: {{{uri[0]}}}{uri[1]}")
METHODS = st.sampled_from(["method: {exact: GET}", "method: {prefix: P}"])
HEADERS = st.sampled_from(
    ["headers: {a: {}}", "headers: {a: {exact: x}}", "headers: {a: {}, b: {}}"]
)
ABSENT = st.sampled_from(["withoutHeaders: {a: {}}", "withoutHeaders: {b: {exact: x}}"])
MATCHES = st.lists(
    st.tuples(*(st.one_of(st.none(), each) for each in (URIS, METHODS, HEADERS, ABSENT)))
    .filter(any)
    .map(lambda fields: f"{{{', '.join(filter(None, fields))}}}"),
    max_size=2,
).map(", ".join)
ASKED = st.builds(
    asked,
    st.just("reviews"),
    st.sampled_from(PATHS),
    method=st.sampled_from(["GET", "PUT"]),
    headers=st.sampled_from([(), (("a", "x"),), (("a", "y"), ("b", "x"))]),
)


@pytest.mark.slow
@given(st.lists(MATCHES, min_size=2, max_size=5), st.lists(ASKED, max_size=8))
def test_what_is_told_never_to_decide_never_does(
    matches: list[str], requests: list[RequestHead]
) -> None:
    document = entries(*matches)
    idle = {each.split("[")[1].split("]")[0] for each in findings(document) if "TPX0211" in each}
    policies = snapshot(document)
    names = {policies.route(flow(), request).name for request in requests}
    assert names.isdisjoint(f"web/v.http[{each}]" for each in idle)
