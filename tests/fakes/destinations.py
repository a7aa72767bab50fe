"""Rules about destinations and entries that name them, as text, and what they make of a connection."""

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


def told(*sources: SourceFile, workload: Workload = WORKLOAD) -> list[str]:
    """What is to be said about files, be it that they are refused."""
    result = compiled(sources, 1, workload)
    findings = result.findings if isinstance(result, Snapshot) else result
    return [str(each) for each in findings]


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
    found = policies.route(flow, None if host is None else head(host)).tls
    return replace(found, automatic=False) if found else None


def at_address(policies: Snapshot, *, to: str, port: int = 80) -> UpstreamTls | None:
    """How a connection to an address is secured, where no endpoint is chosen."""
    assert policies.destinations is not None
    found = policies.destinations.choice(Address(to, port), None).tls
    return replace(found, automatic=False) if found else None


def head(host: str) -> RequestHead:
    """A request to a host."""
    return RequestHead(b"GET", b"http", host.encode(), b"/", Headers(()), HttpVersion.HTTP11)


def meshed(name: str = STORE, *expected: str) -> UpstreamTls:
    """Mutual TLS between workloads."""
    return UpstreamTls(
        mode=TlsMode.ISTIO_MUTUAL, server_name=name, subject_alt_names=expected or (TILL,)
    )


def simple(name: str, *expected: str) -> UpstreamTls:
    """TLS in which the upstream proves a name."""
    return UpstreamTls(mode=TlsMode.SIMPLE, server_name=name, subject_alt_names=expected)
