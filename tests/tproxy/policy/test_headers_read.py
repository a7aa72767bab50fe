"""What policies read of requests is known beforehand, so that it can be kept."""

from fakes.policies import authorization, rate_limit, snapshot
from fakes.routes import http, to
from tproxy.model.flow import Direction
from tproxy.policy.headers_read import headers_read

JUDGED = authorization(
    "{rules: [{from: [{source: {remoteIpBlocks: [192.0.2.0/24]}}], to: [{operation: {paths: [/a]}}],"
    " when: [{key: 'request.headers[X-Team]', values: [red]}]}]}"
)
OTHERS = authorization(
    "{selector: {matchLabels: {app: other}}, rules: [{when: [{key: 'request.headers[x-other]', values: [a]}]}]}",
    name="q",
)
LIMITED = rate_limit(
    "{name: a, match: {headers: {x-in: [a]}}, algorithm: FIXED_WINDOW, requests: 1, window: 1m}"
)
HARMED = (
    "apiVersion: tproxy.io/v1alpha1\nkind: FaultPolicy\nmetadata: {name: f, namespace: web}\n"
    "spec: {direction: OUTBOUND, rules: [{match: {headers: {x-out: [a]}}, reset: {percentage: 1}}]}\n"
)
LED = http(
    f"{{match: [{{headers: {{x-canary: {{exact: a}}}}, uri: {{prefix: /}}, withoutHeaders: {{x-old: {{}}}}}}], {to('shop')}}}"
)


def test_headers_are_named_by_the_direction_in_which_they_are_read() -> None:
    read = headers_read(snapshot(JUDGED, OTHERS, LIMITED, HARMED, LED))
    assert read == {
        Direction.INBOUND: {"x-forwarded-for", "x-team", "x-in"},
        Direction.OUTBOUND: {"x-out", "x-canary", "x-old"},
    }


def test_nothing_is_read_where_nothing_is_said() -> None:
    assert headers_read(snapshot()) == dict.fromkeys(Direction, frozenset())
