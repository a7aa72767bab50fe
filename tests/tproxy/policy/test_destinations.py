"""How connections to destinations are secured: Istio's documented outcomes, row by row, on compiled files."""

import pytest
from msgspec.structs import replace

from tproxy.model.address import Address
from tproxy.model.flow import Detection, Direction, Flow, Protocol, Sniffed
from tproxy.model.http import Headers, HttpVersion, RequestHead
from tproxy.model.identity import Workload
from tproxy.model.upstream_tls import TlsMode, UpstreamTls
from tproxy.policy.compile import compiled
from tproxy.policy.nodes import SourceFile
from tproxy.policy.snapshot import Snapshot

WORKLOAD = Workload("shop", "web", "shop", labels={"app": "shop"})
POD, OTHER, VIP, UNNAMED = "192.0.2.10", "192.0.2.11", "198.51.100.1", "203.0.113.9"


def document(kind: str, spec: str, metadata: str) -> str:
    """One object of Istio's networking, in YAML's flow style."""
    return f"apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{{metadata}}}\nspec: {spec}\n"


def rule(spec: str, *, name: str = "r", namespace: str = "web") -> str:
    """A DestinationRule."""
    return document("DestinationRule", f"{{{spec}}}", f"name: {name}, namespace: {namespace}")


def secured(host: str, tls: str, **names: str) -> str:
    """A rule about a host that says one thing of TLS."""
    return rule(f'host: "{host}", trafficPolicy: {{tls: {{{tls}}}}}', **names)


def entry(spec: str, *, name: str = "e", namespace: str = "db") -> str:
    """A ServiceEntry."""
    return document("ServiceEntry", f"{{{spec}}}", f"name: {name}, namespace: {namespace}")


SIDECAR = 'labels: {"security.istio.io/tlsMode": istio}'
IN_MESH = "location: MESH_INTERNAL, resolution: STATIC"
MESHED = entry(
    f"hosts: [store], {IN_MESH}, endpoints: [{{address: {POD}, serviceAccount: till, {SIDECAR}}}]"
)
PLAIN = entry(f"hosts: [store], {IN_MESH}, endpoints: [{{address: {POD}, serviceAccount: till}}]")
EXTERNAL = entry(f'hosts: [a.example, b.example, "*.c.example"], addresses: [{POD}]')
STORE = "store.db.svc.cluster.local"
TILL = "spiffe://cluster.local/ns/db/sa/till"


def files(*documents: str, discovered: bool = False) -> SourceFile:
    """A file that holds these documents."""
    name = "d.yaml" if discovered else "p.yaml"
    return SourceFile(name, "---\n".join(documents).encode(), discovered)


def taken(*sources: SourceFile, workload: Workload = WORKLOAD) -> Snapshot:
    """Compile files, which must be sound."""
    result = compiled(sources, 1, workload)
    assert isinstance(result, Snapshot), "\n".join(map(str, result))
    return result


def snapshot(*documents: str, workload: Workload = WORKLOAD) -> Snapshot:
    """Compile documents, which must be sound."""
    return taken(files(*documents), workload=workload)


def tls(
    policies: Snapshot,
    host: str | None = None,
    *,
    to: str = POD,
    port: int = 80,
    protocol: Protocol = Protocol.OPAQUE,
) -> UpstreamTls | None:
    """How a request to a host, or without one a connection that is no HTTP, is secured."""
    carried = protocol if host is None else Protocol.HTTP1
    flow = Flow(
        Direction.OUTBOUND,
        Address("192.0.2.1", 40000),
        Address("192.0.2.1", 15001),
        Address(to, port),
        Sniffed(carried, Detection.DECLARED),
    )
    return policies.route(flow, None if host is None else head(host)).tls


def head(host: str) -> RequestHead:
    """A request to a host."""
    return RequestHead(b"GET", b"http", host.encode(), b"/", Headers(()), HttpVersion.HTTP11)


def meshed(name: str = STORE, *expected: str) -> UpstreamTls:
    """Mutual TLS between workloads."""
    return UpstreamTls(
        mode=TlsMode.ISTIO_MUTUAL, server_name=name, subject_alt_names=expected or (TILL,)
    )


def automatic(name: str = STORE, *expected: str) -> UpstreamTls:
    """The same, which no rule asks for."""
    return replace(meshed(name, *expected), automatic=True)


def simple(name: str, *expected: str) -> UpstreamTls:
    """TLS in which the upstream proves a name."""
    return UpstreamTls(mode=TlsMode.SIMPLE, server_name=name, subject_alt_names=expected)


ISTIO = "mode: ISTIO_MUTUAL"


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        pytest.param([MESHED], automatic(), id="an endpoint with a sidecar is spoken to by mutual TLS, as its service account"),
        pytest.param([PLAIN], None, id="one without is not"),
        pytest.param([MESHED.replace("MESH_INTERNAL", "MESH_EXTERNAL")], None, id="nor is one outside the mesh"),
        pytest.param([MESHED.replace("serviceAccount: till, ", "")], UpstreamTls(mode=TlsMode.ISTIO_MUTUAL, automatic=True, server_name=STORE), id="without a service account anybody of the mesh may answer"),
        pytest.param([MESHED.replace("hosts:", "subjectAltNames: [spiffe://td/ns/a/sa/b], hosts:")], automatic(STORE, "spiffe://td/ns/a/sa/b"), id="the entry's names win over the service account"),
        pytest.param([MESHED.replace("hosts: [store]", 'hosts: ["*.example", b.example]')], automatic("b.example"), id="the first host that is no pattern is asked for"),
        pytest.param([MESHED.replace("hosts: [store]", 'hosts: ["*.example"]')], automatic(""), id="of patterns nobody is asked for"),
        pytest.param([MESHED, secured("store.db.svc.cluster.local", "mode: DISABLE")], None, id="DISABLE wins over automatic mutual TLS"),
        pytest.param([MESHED, rule(f"host: {STORE}")], automatic(), id="a rule that says nothing of TLS leaves it automatic"),
        pytest.param([PLAIN, secured(STORE, ISTIO)], meshed(), id="ISTIO_MUTUAL expects the endpoint's service account"),
        pytest.param([MESHED, secured(STORE, f"{ISTIO}, subjectAltNames: [spiffe://td/ns/a/sa/b], sni: c.example")], meshed("c.example", "spiffe://td/ns/a/sa/b"), id="unless it names somebody"),
        pytest.param([MESHED, secured(STORE, "mode: SIMPLE")], simple(STORE), id="SIMPLE expects the name"),
        pytest.param([PLAIN.replace("hosts:", "subjectAltNames: [x.example], hosts:"), secured(STORE, "mode: SIMPLE, caCertificates: /ca")], UpstreamTls(mode=TlsMode.SIMPLE, server_name=STORE, subject_alt_names=("x.example",), ca_certificates="/ca"), id="or whom the entry names"),
        pytest.param([PLAIN.replace("hosts:", "subjectAltNames: [x.example], hosts:"), secured(STORE, "mode: SIMPLE, subjectAltNames: [y.example]")], simple(STORE, "y.example"), id="or whom the rule names"),
        pytest.param([PLAIN.replace("hosts:", "subjectAltNames: [x.example], hosts:"), secured(STORE, "mode: SIMPLE, insecureSkipVerify: true")], UpstreamTls(mode=TlsMode.SIMPLE, server_name=STORE, insecure_skip_verify=True), id="or nobody if verification is skipped"),
        pytest.param([MESHED, secured(STORE, "mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /a, caCrl: /r")], UpstreamTls(mode=TlsMode.MUTUAL, server_name=STORE, client_certificate="/c", private_key="/k", ca_certificates="/a", ca_crl="/r"), id="MUTUAL shows a certificate from files"),
        pytest.param([MESHED, secured(STORE, "mode: SIMPLE, clientCertificate: /c, privateKey: /k")], simple(STORE), id="SIMPLE shows none"),
        pytest.param(["apiVersion: tproxy.io/v1alpha1\nkind: ProxyConfig\nspec: {trustDomain: td.example}\n", MESHED], automatic(STORE, "spiffe://td.example/ns/db/sa/till"), id="service accounts are of the trust domain"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "host", [pytest.param(None, id="bytes"), pytest.param("evil.example", id="a Host of others")]
)
def test_an_address_that_an_entry_names_is_secured_by_its_names(
    documents: list[str], expected: UpstreamTls | None, host: str | None
) -> None:
    assert tls(snapshot(*documents), host) == expected


def test_an_applications_own_tls_is_wrapped_as_anything_else() -> None:
    assert tls(snapshot(MESHED), protocol=Protocol.TLS) == automatic()
