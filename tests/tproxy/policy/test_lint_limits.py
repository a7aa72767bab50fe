"""Limits that hardly limit what their author thinks are told, and used."""

import pytest

from fakes.policies import rate_limit, snapshot

TEN = "algorithm: FIXED_WINDOW, requests: 10, window: 1m"
STRICT = (
    "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: m}\n"
    "spec: {mtls: {mode: STRICT}}\n"
)
PORTS = (
    "apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\n"
    "spec: {ports: [{port: 5432, protocol: TCP, direction: INBOUND}, {port: 80, protocol: HTTP}, {port: 443, protocol: TLS}]}\n"
)


def told(*documents: str) -> list[str]:
    """The warnings, without their place in the file."""
    found = [str(each).split(" ", 1)[1] for each in snapshot(*documents).findings]
    return [each.replace("$.spec.limits", "$") for each in found]


LINTS = [
    pytest.param(
        f"{{name: a, {TEN}, key: source.principal}}",
        "",
        [
            "TPX0206 warning $[0].key: callers on plaintext prove nothing, so all of them share one count:"
            " set PeerAuthentication to STRICT"
        ],
        id="nobody proves anything",
    ),
    pytest.param(
        f"{{name: a, {TEN}, key: [source.ip, request.method]}}",
        "direction: OUTBOUND, ",
        [
            "TPX0222 warning $[0].key: source.ip is the same for all that leaves the application: it tells nobody apart"
        ],
        id="outbound callers",
    ),
    pytest.param(
        f"{{name: a, {TEN}, match: {{ports: [80, 5432]}}}}",
        "",
        [
            "TPX0204 warning $[0].match.ports[1]: port 5432 is declared TCP, where there are no requests: write per: CONNECTION"
        ],
        id="requests on a port without any",
    ),
    pytest.param(
        f"{{name: a, {TEN}, match: {{ports: [5432]}}}}", "direction: OUTBOUND, ", [], id="not there"
    ),
    pytest.param(
        "{name: a, algorithm: CONCURRENCY, requests: 1, per: CONNECTION, match: {ports: [5432]}}",
        "",
        [],
        id="connections to it",
    ),
    pytest.param(
        f"{{name: a, {TEN}}}, {{name: b, {TEN.replace('10', '20')}}}",
        "",
        ["TPX0221 warning $[1]: counts the same as $[0] in the same way: the lower one decides"],
        id="twice",
    ),
    pytest.param(
        "{name: a, algorithm: TOKEN_BUCKET, tokensPerFill: 9, fillInterval: 1s, maxTokens: 5}",
        "",
        [
            "TPX0222 warning $[0].tokensPerFill: only maxTokens, 5, are kept: the rest of each fill is lost"
        ],
        id="tokens that are lost",
    ),
    pytest.param(
        f"{{name: a, {TEN}, keys: 5}}",
        "",
        [
            "TPX0222 warning $[0].keys: all share one count, so there are no keys: leave it out, or name a key"
        ],
        id="no keys",
    ),
    pytest.param(
        f"{{name: a, {TEN}, match: {{paths: ['/users/{{id}}']}}}}",
        "",
        ["TPX0202 warning $[0].match.paths[0]"],
        id="a path in braces",
    ),
]


@pytest.mark.parametrize(("limits", "more", "expected"), LINTS)
def test_what_hardly_limits_is_told(limits: str, more: str, expected: list[str]) -> None:
    found = told(PORTS, rate_limit(limits, more=more))
    assert [each[: len(text)] for each, text in zip(found, expected, strict=True)] == expected


def test_where_everybody_proves_who_they_are_a_principal_is_a_key() -> None:
    assert told(STRICT, rate_limit(f"{{name: a, {TEN}, key: source.principal}}")) == []


def test_a_principal_is_a_key_on_the_ports_where_everybody_proves_it() -> None:
    but_one = STRICT.replace(
        "{mtls: {mode: STRICT}}",
        "{selector: {matchLabels: {app: shop}}, mtls: {mode: STRICT}, portLevelMtls: {9100: {mode: DISABLE}}}",
    )
    for ports, warnings in (("[8080]", 0), ("[8080, 9100]", 1)):
        limit = f"{{name: a, {TEN}, key: source.principal, match: {{ports: {ports}}}}}"
        assert len(told(but_one, rate_limit(limit))) == warnings
    assert len(told(but_one, rate_limit(f"{{name: a, {TEN}, key: source.principal}}"))) == 1


def test_what_is_about_others_is_not_looked_at() -> None:
    document = rate_limit(f"{{name: a, {TEN}, keys: 5}}", namespace="other")
    (found,) = told(document)
    assert found.startswith("TPX0110 info")
