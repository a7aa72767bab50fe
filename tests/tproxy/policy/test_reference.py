"""What is written about the format is what is loaded: the page, and the schemas that editors check against."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry, Resource

from tproxy.policy.check import check
from tproxy.policy.nodes import SourceFile, read
from tproxy.policy.reference import documentation, page, schema_files
from tproxy.policy.schema import KINDS, Source

ROOT = Path(__file__).parents[3]
SCHEMAS = ROOT / "docs" / "schemas"


def test_the_page_is_up_to_date() -> None:
    text = (ROOT / "docs" / "policies.md").read_text()
    assert page(text) == text, "run `make docs`"


def test_the_schemas_are_up_to_date() -> None:
    there = {path.name: path.read_text() for path in SCHEMAS.iterdir()}
    assert there == schema_files(), "run `make docs`"


def test_what_stands_below_a_field_is_what_is_told_of_it() -> None:
    assert documentation(Source)["service_accounts"].startswith("`foo/bar`, or `bar` of")


def validator() -> Draft202012Validator:
    """What an editor uses for a file with several kinds."""
    schemas = {name: json.loads(text) for name, text in schema_files().items()}
    resources = [(name, Resource.from_contents(each)) for name, each in schemas.items()]
    registry: Registry[Any] = Registry().with_resources(resources)
    return Draft202012Validator(schemas["any.json"], registry=registry)


SOUND = [
    "apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\nspec: {ports: [{port: 80, protocol: TCP, direction: INBOUND}], detection: {maxBytes: 8KiB}}",
    "apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\nspec: {probes: [{port: 80, path: /a}], workload: {labels: {a: b}}, telemetry: {accessLog: {enabled: false}}}",
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec: {action: DENY, rules: [{from: [{source: {principals: [a]}}], to: [{operation: {ports: ['1']}}], when: [{key: source.ip, values: [a]}]}, {}]}",
    "apiVersion: security.istio.io/v1beta1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {mtls: {mode: STRICT}, portLevelMtls: {80: {mode: DISABLE}}}",
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: a, exportTo: [.], trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true}, portLevelSettings: [{port: {number: 80}}]}}",
    "apiVersion: networking.istio.io/v1alpha3\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: [a], resolution: STATIC, ports: [{number: 80, name: http, protocol: GRPC-Web}], endpoints: [{address: 192.0.2.1, ports: {http: 8080}, weight: 3}]}",
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}, outlierDetection: {consecutive5xxErrors: 3, maxEjectionPercent: 50}, connectionPool: {http: {http2MaxRequests: 8}}}, subsets: [{name: v1, labels: {version: v1}}]}",
]
UNSOUND = [
    "apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\nspec: {ports: [{port: 0, protocol: TCP}]}",
    "apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\nspec: {probes: [{port: 80, path: a}]}",
    "apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\nspec: {defaultAction: allow}",
    "apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\nspec: {workload: {name: ''}}",
    "apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\nspec: {workload: {labels: {a: 1}}}",
    "apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig",
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nspec: {}",
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec: {action: CUSTOM}",
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec: {rules: }",
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec: {rules: [{from: []}]}",
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec: {rules: [{to: [{operation: {path: [a]}}]}]}",
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec: {rules: [{to: [{operation: {ports: [80]}}]}]}",
    "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {mtls: {mode: on}}",
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: a, trafficPolicy: {tls: {}}}",
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: a, subsets: [{labels: {a: b}}]}",
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: a, trafficPolicy: {connectionPool: {tcp: {maxConnections: 0}}}}",
    "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: []}",
    "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: [a], endpoints: [{address: a, ports: {http: 0}}]}",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "sound"),
    [(text, True) for text in SOUND] + [(text, False) for text in UNSOUND],
)
def test_editors_refuse_what_loading_refuses(text: str, sound: bool) -> None:
    (node,) = read(SourceFile("p", text.encode()), [])
    document = node.plain()
    kind = KINDS[document["apiVersion"], document["kind"]]
    assert (check("p", node, kind) == []) is sound
    if sound:
        validator().validate(document)
    else:
        with pytest.raises(ValidationError):
            validator().validate(document)


@pytest.mark.parametrize("path", sorted((ROOT / "policies").glob("*.yaml")), ids=lambda path: path.name)  # fmt: skip
def test_editors_take_the_policies_that_operators_copy(path: Path) -> None:
    for node in read(SourceFile(path.name, path.read_bytes()), []):
        validator().validate(node.plain())


def test_another_version_of_a_kind_is_refused_by_editors_too() -> None:
    with pytest.raises(ValidationError):
        validator().validate(
            {"apiVersion": "v1", "kind": "AuthorizationPolicy", "metadata": {}, "spec": {}}
        )
