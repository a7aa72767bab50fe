"""A document that is held against the schema is told of every mistake, at the place where it stands."""

import pytest

from tproxy.model.identity import Workload
from tproxy.policy.compile import compiled
from tproxy.policy.nodes import SourceFile
from tproxy.policy.schema import FOREIGN_GROUPS, OTHER_KINDS

EMPTY = "an empty list would mean anything at all: name what is meant, or leave the field out"


def mistakes(kind: str, spec: str) -> list[str]:
    """Return what is wrong with a document whose spec is one line in YAML's flow style."""
    text = f"apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: p}}\nspec: {spec}\n"
    result = compiled([SourceFile("p", text.encode())], 1, Workload(namespace="foo"))
    assert isinstance(result, tuple)
    return [str(each) for each in result]


@pytest.mark.parametrize(
    ("spec", "findings"),
    [
        pytest.param("{rules: }", ["4:15 TPX0106 error $.spec.rules: must be a list, not nothing"], id="no rules behind the word"),
        pytest.param("{rules: [{from: }]}", ["4:23 TPX0106 error $.spec.rules[0].from: must be a list, not nothing"], id="nobody behind from"),
        pytest.param("{rules: [{to: [{operation: {paths: , methods: [GET]}}]}]}", ["4:42 TPX0106 error $.spec.rules[0].to[0].operation.paths: must be a list, not nothing"], id="no path behind paths"),
        pytest.param("{rules: [{when: [{key: source.ip, values: }]}]}", ["4:49 TPX0106 error $.spec.rules[0].when[0].values: must be a list, not nothing"], id="no value behind values"),
        pytest.param("{rules: [null]}", ["4:16 TPX0106 error $.spec.rules[0]: must be a mapping, not nothing"], id="a rule that is nothing"),
        pytest.param("{selector: }", ["4:18 TPX0106 error $.spec.selector: must be a mapping, not nothing"], id="a selector that is nothing"),
        pytest.param("{rules: [{from: [{source: }]}]}", ["4:33 TPX0106 error $.spec.rules[0].from[0].source: must be a mapping, not nothing"], id="a source that is nothing"),
        pytest.param("{rules: [{from: []}]}", [f"4:23 TPX0106 error $.spec.rules[0].from: {EMPTY}"], id="an empty list of sources"),
        pytest.param("{rules: [{from: [{source: {principals: []}}]}]}", [f"4:46 TPX0106 error $.spec.rules[0].from[0].source.principals: {EMPTY}"], id="an empty list of values"),
        pytest.param(
            "{rules: [{to: [{operation: {path: [/x], methods: get, ports: [1]}}], form: 1}, {to: [{}]}]}",
            [
                "4:35 TPX0103 error $.spec.rules[0].to[0].operation.path: unknown field 'path', did you mean 'paths'?",
                "4:56 TPX0106 error $.spec.rules[0].to[0].operation.methods: must be a list, not 'get'",
                "4:69 TPX0106 error $.spec.rules[0].to[0].operation.ports[0]: expected `str`, got `int`, put it in quotes",
                "4:76 TPX0103 error $.spec.rules[0].form: unknown field 'form', did you mean 'from'?",
                "4:92 TPX0106 error $.spec.rules[1].to[0]: needs a field 'operation'",
            ],
            id="all mistakes of a rule",
        ),
        pytest.param("{action: CUSTOM, rules: [{}]}", ["4:16 TPX0106 error $.spec.action: invalid enum value 'CUSTOM': not supported by this version, no external authorizer is asked: what it decides must be written as ALLOW or DENY rules"], id="CUSTOM"),
        pytest.param("{action: deny, rules: [{}]}", ["4:16 TPX0106 error $.spec.action: invalid enum value 'deny', did you mean 'DENY'?"], id="an action in lower case"),
        pytest.param("{provider: {name: x}}", ["4:8 TPX0103 error $.spec.provider: 'provider' is not supported by this version, no external authorizer is asked"], id="a provider"),
        pytest.param("{rules: [{from: [{source: {requestPrincipals: [x]}}]}]}", ["4:34 TPX0103 error $.spec.rules[0].from[0].source.requestPrincipals: 'requestPrincipals' is not supported by this version, tokens are not verified"], id="tokens"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_rule_has_its_place_and_is_never_read_as_anything_at_all(
    spec: str, findings: list[str]
) -> None:
    assert mistakes("AuthorizationPolicy", spec) == [f"p:{each}" for each in findings]


@pytest.mark.parametrize(
    ("spec", "finding"),
    [
        pytest.param("{mtls: }", "4:14 TPX0106 error $.spec.mtls: must be a mapping, not nothing", id="mtls that is nothing"),
        pytest.param("{portLevelMtls: {80: }}", "4:28 TPX0106 error $.spec.portLevelMtls.80: must be a mapping, not nothing", id="a port that is nothing"),
        pytest.param("{portLevelMtls: {80: {mode: }}}", "4:35 TPX0106 error $.spec.portLevelMtls.80.mode: expected `str`, got `null`, known are UNSET, DISABLE, PERMISSIVE, STRICT", id="a mode that is nothing"),
        pytest.param("{mtls: {mode: strict}}", "4:21 TPX0106 error $.spec.mtls.mode: invalid enum value 'strict', did you mean 'STRICT'?", id="a mode in lower case"),
    ],
)  # fmt: skip
def test_a_mistake_in_an_authentication_has_its_place(spec: str, finding: str) -> None:
    assert mistakes("PeerAuthentication", spec) == [f"p:{finding}"]


@pytest.mark.parametrize("kind", OTHER_KINDS)
@pytest.mark.parametrize("group", FOREIGN_GROUPS)
def test_what_other_proxies_would_do_is_refused_with_what_to_do_instead(
    kind: str, group: str
) -> None:
    result = compiled([SourceFile("p", f"apiVersion: {group}v1\nkind: {kind}\n".encode())], 1)
    assert isinstance(result, tuple)
    assert [each.message for each in result] == [
        f"{kind} is not supported by this version ({OTHER_KINDS[kind]});"
        " refusing to start rather than ignore it"
    ]
