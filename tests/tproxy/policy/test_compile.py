"""Files mean exactly what they say, or are refused with every mistake and its place."""

import re
from pathlib import Path

import msgspec
import pytest

from tproxy.model.address import Address
from tproxy.model.flow import Direction, Flow, Protocol
from tproxy.model.identity import Workload
from tproxy.policy.compile import compiled
from tproxy.policy.findings import Code, Finding, Severity
from tproxy.policy.nodes import SourceFile, read
from tproxy.policy.schema import LogFormat, MutualTlsMode, ProxyConfigSpec
from tproxy.policy.snapshot import AccessLogSettings, DetectionSettings, Snapshot
from tproxy.policy.units import duration, size

POLICIES = Path(__file__).parents[3] / "policies"
COPIED = sorted(each.name for each in POLICIES.glob("*.yaml"))
HEAD = "apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\n"


def snapshot(text: str) -> Snapshot:
    """Compile a file that must be sound."""
    result = compiled([SourceFile("p.yaml", text.encode())], 7)
    assert isinstance(result, Snapshot), "\n".join(map(str, result))
    return result


def mistakes(*files: str | bytes) -> list[str]:
    """Return what is found in files that must be refused, named a.yaml, b.yaml …"""
    sources = [
        SourceFile(f"{name}.yaml", text if isinstance(text, bytes) else text.encode())
        for name, text in zip("abc", files, strict=False)
    ]
    result = compiled(sources, 7)
    assert isinstance(result, tuple)
    return [str(each) for each in result]


def test_every_field_is_taken() -> None:
    result = snapshot(
        HEAD
        + """
metadata: {name: mine, namespace: shop, labels: {a: b}, annotations: {c: d}}
spec:
  workload:
    name: cart-v1
    namespace: shop
    serviceAccount: cart
    labels: {app: cart, version: "1"}
  ports:
  - {port: 8080, protocol: HTTP, direction: INBOUND}
  - {port: 8080, protocol: GRPC, direction: OUTBOUND}
  - {port: 8443, protocol: TLS}
  - {port: 3306, protocol: TCP}
  - {port: 81, protocol: HTTP2}
  detection: {timeout: 500ms, maxBytes: 4KiB}
  telemetry: {accessLog: {format: text, enabled: false}}
"""
    )

    assert result.generation == 7
    assert result.workload == Workload(
        "cart-v1", "shop", "cart", labels={"app": "cart", "version": "1"}
    )
    assert result.detection == DetectionSettings(0.5, 4096)
    assert result.access_log == AccessLogSettings(enabled=False, format=LogFormat.TEXT)
    declared = {
        (port, direction.value): result.declared(direction, port)
        for port in (8080, 8443, 3306, 81, 80)
        for direction in Direction
    }
    assert declared == {
        (8080, "inbound"): Protocol.HTTP1,
        (8080, "outbound"): Protocol.HTTP2,
        (8443, "inbound"): Protocol.TLS,
        (8443, "outbound"): Protocol.TLS,
        (3306, "inbound"): Protocol.OPAQUE,
        (3306, "outbound"): Protocol.OPAQUE,
        (81, "inbound"): Protocol.HTTP2,
        (81, "outbound"): Protocol.HTTP2,
        (80, "inbound"): None,
        (80, "outbound"): None,
    }


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        pytest.param(Direction.INBOUND, Protocol.HTTP1, id="declared"),
        pytest.param(Direction.OUTBOUND, None, id="the other direction"),
    ],
)
def test_a_port_s_upstream_is_asked_in_its_own_version(
    direction: Direction, expected: Protocol | None
) -> None:
    port = "{port: 81, protocol: HTTP2, direction: INBOUND, upstreamProtocol: HTTP}"
    policies = snapshot(HEAD + f"spec: {{ports: [{port}]}}\n")
    here, there = Address("192.0.2.1", 15006), Address("192.0.2.2", 81)
    assert policies.route(Flow(direction, here, here, there)).protocol is expected


@pytest.mark.parametrize(
    "files",
    [
        pytest.param([], id="no file"),
        pytest.param([b""], id="an empty file"),
        pytest.param([b"# nothing\n---\n---\n"], id="empty documents"),
        pytest.param([HEAD.encode() + b"spec: {}\n", b""], id="an empty spec"),
    ],
)
def test_what_is_not_said_has_its_default(files: list[bytes]) -> None:
    sources = [SourceFile(f"{index}.yaml", each) for index, each in enumerate(files)]

    assert compiled(sources, 1) == Snapshot(1)


def copied(*names: str, shown: bool = False) -> list[SourceFile]:
    """The files that operators copy, or what they show in comments as well."""
    texts = {name: (POLICIES / name).read_text() for name in names}
    if shown:
        texts = {
            name: re.sub(r"(?m)^( *)#(?=[^ ]|  )", r"\1", text) for name, text in texts.items()
        }
    return [SourceFile(name, text.encode()) for name, text in texts.items()]


def test_the_policies_that_operators_copy_compile_and_are_the_defaults() -> None:
    assert compiled(copied(*COPIED), 1) == Snapshot(1)


def test_every_setting_of_the_proxy_is_shown() -> None:
    (source,) = copied("proxy.yaml", shown=True)
    (node,) = read(source, [])
    told = {field.encode_name for field in msgspec.structs.fields(ProxyConfigSpec)}
    assert node.plain()["spec"].keys() == told


def test_what_the_copied_policies_show_in_comments_compiles_too() -> None:
    result = compiled(copied("proxy.yaml", shown=True), 1)
    assert isinstance(result, Snapshot), "\n".join(map(str, result))
    assert result.workload.name == "httpbin-v1"
    assert result.declared(Direction.INBOUND, 8080) is Protocol.HTTP1
    assert result.declared(Direction.OUTBOUND, 3306) is Protocol.OPAQUE


def test_the_copied_examples_are_in_force_without_a_warning_once_their_marks_are_deleted() -> None:
    files = copied(*COPIED, shown=True)
    result = compiled(files, 1)
    assert isinstance(result, Snapshot), "\n".join(map(str, result))
    assert {each.severity for each in result.findings} <= {Severity.INFO}
    assert result.authentication.of(8080) is MutualTlsMode.STRICT
    assert result.authentication.of(9100) is MutualTlsMode.DISABLE
    assert result.authorizer.enforced.guarded
    assert result.authorizer.enforced.deny.requests
    assert result.authorizer.tried is not None
    assert result.authorizer.audit.requests
    assert result.rate_limits is not None
    assert len(result.rate_limits.requests[Direction.INBOUND]) == 4
    assert len(result.rate_limits.connections[Direction.OUTBOUND]) == 1


def shown_in_docs() -> list[str]:
    """The examples of the page on traffic, those of a part of a VirtualService made whole."""
    page = (POLICIES.parent / "docs" / "traffic.md").read_text()
    whole = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: shop}\n"
    return [
        text if text.startswith("apiVersion") else f"{whole}spec:\n  hosts: [shop.example]\n{text}"
        for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    ]


@pytest.mark.parametrize("text", shown_in_docs())
def test_the_examples_of_the_page_on_traffic_compile(text: str) -> None:
    service = shown_in_docs()[0].rpartition("---\n")[0]
    alone = "kind: ServiceEntry" in text
    files = [text] if alone else [text, service]
    workload = Workload("shop", "default", "shop", labels={"app": "shop"})
    result = compiled(
        [SourceFile(f"{at}", each.encode()) for at, each in enumerate(files)], 1, workload
    )
    assert isinstance(result, Snapshot), "\n".join(map(str, result))


def test_every_code_is_listed_for_operators() -> None:
    readme = (POLICIES / "README.md").read_text()
    assert set(re.findall(r"(?m)^\| `(TPX\d{4})`", readme)) == {str(code) for code in Code}


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_text() -> None:
    text = (
        HEAD
        + """spec:
  workload: {nmae: x, labels: {a: 1}}
  ports:
  - {port: 80, protocol: HTPP}
  - {port: 99999, protocol: TCP}
  detection: {timeOut: 3s, maxBytes: [1]}
  telemetry: {accessLog: {enabled: yes}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
"""
    )

    assert mistakes(text, "a: [") == [
        "a.yaml:4:14 TPX0103 error $.spec.workload.nmae: unknown field 'nmae', did you mean 'name'?",
        "a.yaml:4:35 TPX0106 error $.spec.workload.labels.a: expected `str`, got `int`, put it in quotes",
        "a.yaml:6:26 TPX0106 error $.spec.ports[0].protocol: invalid enum value 'HTPP', did you mean 'HTTP'?",
        "a.yaml:7:12 TPX0106 error $.spec.ports[1].port: expected `int` <= 65535",
        "a.yaml:8:15 TPX0103 error $.spec.detection.timeOut: unknown field 'timeOut', did you mean 'timeout'?",
        "a.yaml:8:38 TPX0106 error $.spec.detection.maxBytes: expected `int | str | null`, got `array`",
        "a.yaml:9:36 TPX0106 error $.spec.telemetry.accessLog.enabled: expected `bool`, got `str`",
        "a.yaml:12:1 TPX0107 error $.kind: RequestAuthentication is not supported by this version"
        " (tokens are not verified: write principals, or verify them in the application);"
        " refusing to start rather than ignore it",
        "b.yaml:2:1 TPX0102 error $: did not find expected node content, while parsing a flow node",
    ]


@pytest.mark.parametrize(
    ("spec", "finding"),
    [
        pytest.param(
            "spec: {x: 1}",
            "3:8 TPX0103 error $.spec.x: unknown field 'x', known are rootNamespace, defaultAction, pathNormalization, probes, trustDomain, outboundTrafficPolicy, workload, ports, detection, telemetry",
            id="unknown field without a near one",
        ),
        pytest.param(
            "metadata: {}", "1:1 TPX0106 error $: needs a field 'spec'", id="missing field"
        ),
        pytest.param(
            "spec:", "3:6 TPX0106 error $.spec: must be a mapping, not nothing", id="nothing"
        ),
        pytest.param(
            "spec: 5", "3:7 TPX0106 error $.spec: must be a mapping, not 5", id="a number"
        ),
        pytest.param(
            "spec: {ports: {}}",
            "3:15 TPX0106 error $.spec.ports: must be a list, not a mapping",
            id="a mapping for a list",
        ),
        pytest.param(
            "spec: {workload: {labels: []}}",
            "3:27 TPX0106 error $.spec.workload.labels: must be a mapping, not a list",
            id="a list for a mapping",
        ),
        pytest.param(
            "spec: {workload: {name: ''}}",
            "3:25 TPX0106 error $.spec.workload.name: expected `str` of length >= 1",
            id="an empty name",
        ),
        pytest.param(
            "spec: {telemetry: {accessLog: {format: xml}}}",
            "3:40 TPX0106 error $.spec.telemetry.accessLog.format: invalid enum value 'xml', known are json, text",
            id="a value without a near one",
        ),
        pytest.param(
            "spec: {detection: {timeout: soon}}",
            "3:20 TPX0108 error $.spec.detection.timeout: 'soon' is no duration, write `500ms`, `3s` or `1m`",
            id="no duration",
        ),
        pytest.param(
            "spec: {detection: {timeout: 0s}}",
            "3:20 TPX0108 error $.spec.detection.timeout: '0s' must be above 0 and at most 60s",
            id="no time at all",
        ),
        pytest.param(
            "spec: {detection: {timeout: 2m}}",
            "3:20 TPX0108 error $.spec.detection.timeout: '2m' must be above 0 and at most 60s",
            id="too long",
        ),
        pytest.param(
            "spec: {detection: {maxBytes: 8k}}",
            "3:20 TPX0108 error $.spec.detection.maxBytes: '8k' is no size, write `8192`, `8KiB` or `1MiB`",
            id="no size",
        ),
        pytest.param(
            "spec: {detection: {maxBytes: 1}}",
            "3:20 TPX0108 error $.spec.detection.maxBytes: 1 must be 24 to 65536 bytes",
            id="too small",
        ),
        pytest.param(
            "spec: {ports: [{port: 1, protocol: TCP}, {port: 1, protocol: TLS, direction: INBOUND}]}",
            "3:43 TPX0109 error $.spec.ports[1].port: port 1 is declared inbound already in $.spec.ports[0]",
            id="a port twice",
        ),
        pytest.param(
            "spec: {ports: [{port: 1, protocol: TCP, upstreamProtocol: HTTP2}]}",
            "3:41 TPX0109 error $.spec.ports[0].upstreamProtocol:"
            " TCP cannot be translated, only HTTP, HTTP2 and GRPC can",
            id="bytes to be translated",
        ),
        pytest.param(
            "spec: {trustDomain: A.example}",
            "3:8 TPX0108 error $.spec.trustDomain: 'A.example' is no trust domain: use a-z, 0-9, `.`, `-` and `_`",
            id="no trust domain",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place_and_what_to_do(spec: str, finding: str) -> None:
    assert mistakes(HEAD + spec) == [f"a.yaml:{finding}"]


def test_both_bad_settings_of_detection_are_told() -> None:
    assert len(mistakes(HEAD + "spec: {detection: {timeout: x, maxBytes: y}}")) == 2


def test_a_second_proxy_config_is_refused_and_the_first_named() -> None:
    good = HEAD + "spec: {}\n"

    assert mistakes("# first\n" + good, good) == [
        "b.yaml:2:1 TPX0109 error $.kind: a second ProxyConfig, the first is a.yaml:2: a sidecar has one, merge them"
    ]


@pytest.mark.parametrize(
    ("document", "finding"),
    [
        pytest.param(
            "apiVersion: networking.istio.io/v1beta1\nkind: ProxyConfig",
            "2:1 TPX0107 error $.kind: ProxyConfig is not supported by this version"
            " (write apiVersion: tproxy.io/v1alpha1, whose fields are others); refusing to start rather than ignore it",
            id="istio's kind of our name",
        ),
        pytest.param(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute",
            "2:1 TPX0107 error $.kind: HTTPRoute is not supported by this version"
            " (write a VirtualService); refusing to start rather than ignore it",
            id="gateway api",
        ),
        pytest.param(
            "apiVersion: tproxy.io/v1\nkind: ProxyConfig",
            "2:1 TPX0107 error $.kind: ProxyConfig of 'tproxy.io/v1' is not supported,"
            " write apiVersion: tproxy.io/v1alpha1",
            id="another version",
        ),
        pytest.param(
            "apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfg",
            "2:1 TPX0107 error $.kind: unknown kind 'ProxyConfg', did you mean 'ProxyConfig'?",
            id="misspelt",
        ),
        pytest.param(
            "apiVersion: v1\nkind: Pod",
            "2:1 TPX0107 error $.kind: unknown kind 'Pod' of 'v1', known are ProxyConfig, RateLimitPolicy, FaultPolicy, ResiliencePolicy, PolicyTest, AuthorizationPolicy, PeerAuthentication, DestinationRule, ServiceEntry, VirtualService",
            id="no policy",
        ),
        pytest.param(
            "kind: ProxyConfig",
            "1:1 TPX0107 error $.kind: is no policy: it needs `apiVersion` and `kind`",
            id="no version",
        ),
        pytest.param(
            "- 1",
            "1:1 TPX0107 error $: is no policy: it needs `apiVersion` and `kind`",
            id="a list",
        ),
    ],
)
def test_other_kinds_are_refused_and_never_ignored(document: str, finding: str) -> None:
    assert mistakes(document) == [f"a.yaml:{finding}"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("3s", 3.0), ("1.5s", 1.5), ("1m", 60.0), ("1h", 3600.0)]
)
def test_durations_have_a_unit(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "3", "s", "-1s", "1d", "1 s", "1e3s", "٣s", "1s\n"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        duration(text)


@pytest.mark.parametrize(
    ("text", "octets"), [(8192, 8192), ("24B", 24), ("8KiB", 8192), ("1MiB", 1 << 20)]
)
def test_sizes_are_bytes_or_have_a_binary_unit(text: int | str, octets: int) -> None:
    assert size(text) == octets


@pytest.mark.parametrize("text", ["", "KiB", "8K", "8KB", "-1", -1, "1.5KiB", "9" * 10])
def test_what_is_no_size_is_refused(text: int | str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        size(text)


def test_the_readme_shows_a_finding_as_it_is_told() -> None:
    told = mistakes(HEAD + "metadata:\n  name: default\nspec:\n\n\n  detection:\n    timeOut: 3s\n")
    readme = (POLICIES / "README.md").read_text()

    assert told[0].replace("a.yaml", "policies/proxy.yaml") in readme


def test_findings_are_values() -> None:
    (finding,) = compiled([SourceFile("a.yaml", b"kind: x")], 1)  # type: ignore[misc]

    assert isinstance(finding, Finding)
    assert (finding.file, finding.mark.line, finding.code) == ("a.yaml", 1, "TPX0107")
