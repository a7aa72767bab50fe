"""VirtualServices as text, and the ways that they choose."""

from fakes.destinations import UNNAMED, WORKLOAD, document, files
from tproxy.model.address import Address
from tproxy.model.flow import Detection, Direction, Flow, Protocol, Sniffed
from tproxy.model.http import Headers, HttpVersion, RequestHead
from tproxy.model.identity import Workload
from tproxy.model.route import Plan, Route
from tproxy.policy.compile import compiled
from tproxy.policy.snapshot import Snapshot

REVIEWS = "reviews.web.svc.cluster.local"
RATINGS = "ratings.web.svc.cluster.local"


def virtual(spec: str, *, name: str = "v", namespace: str = "web") -> str:
    """A VirtualService."""
    return document("VirtualService", f"{{{spec}}}", f"name: {name}, namespace: {namespace}")


def http(*entries: str, hosts: str = "reviews") -> str:
    """A VirtualService of these entries."""
    return virtual(f"hosts: [{hosts}], http: [{', '.join(entries)}]")


def to(host: str, **more: str) -> str:
    """A destination in the form of an entry's `route`."""
    fields = ", ".join(f"{name}: {value}" for name, value in {"host": host, **more}.items())
    return f"route: [{{destination: {{{fields}}}}}]"


def asked(
    host: str = "reviews",
    path: str = "/",
    *,
    method: str = "GET",
    headers: tuple[tuple[str, str], ...] = (),
) -> RequestHead:
    """A request."""
    fields = Headers((name.encode(), value.encode()) for name, value in headers)
    return RequestHead(
        method.encode(), b"http", host.encode(), path.encode(), fields, HttpVersion.HTTP11
    )


def flow(address: str = UNNAMED, port: int = 80, *, sni: str = "", source: int = 1) -> Flow:
    """A connection from the application."""
    here = Address("192.0.2.1", source)
    protocol = Protocol.TLS if sni else Protocol.OPAQUE
    sniffed = Sniffed(protocol, Detection.DECLARED, sni)
    return Flow(Direction.OUTBOUND, here, here, Address(address, port), sniffed)


def plan(route: Route) -> Plan:
    """What a route has done."""
    assert route.plan is not None
    return route.plan


def findings(*documents: str, workload: Workload = WORKLOAD) -> list[str]:
    """What is to be said of documents, be it that they are refused: code and severity, place, message."""
    result = compiled([files(*documents)], 1, workload)
    told = result.findings if isinstance(result, Snapshot) else result
    return [str(each).partition(" ")[2] for each in told]
