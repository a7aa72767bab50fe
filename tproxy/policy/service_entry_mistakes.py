"""What a `ServiceEntry` cannot mean, told with its place and what to do."""

from collections.abc import Iterator

from tproxy.model.identity import UNKNOWN
from tproxy.policy.findings import Code, Finding, Path, Severity
from tproxy.policy.hosts import EVERYTHING, is_host, is_identity, is_name, is_open
from tproxy.policy.load import Document
from tproxy.policy.schema import (
    ExportTo,
    Location,
    Resolution,
    ServiceEndpoint,
    ServiceEntry,
    ServiceEntrySpec,
    ServiceProtocol,
)
from tproxy.policy.scope import Scope
from tproxy.policy.service_endpoints import (
    TLS_MODE,
    WITH_SIDECAR,
    has_sidecar,
    is_network,
    is_numeric,
)

_NAMELESS_BYTES = (ServiceProtocol.TCP, ServiceProtocol.MONGO)
_LOOKED_UP = (Resolution.DNS, Resolution.DNS_ROUND_ROBIN)


def mistakes(document: Document, scope: Scope) -> Iterator[Finding]:
    """Tell of what one document cannot mean."""
    spec = _spec(document)
    yield from _host_mistakes(document, scope)
    yield from _address_mistakes(document)
    yield from _port_mistakes(document)
    for index, endpoint in enumerate(spec.endpoints):
        yield from _endpoint_mistakes(document, endpoint, ("spec", "endpoints", index))
    if any(each.service_account for each in spec.endpoints) and _nowhere(document, scope):
        yield document.finding(Code.CONFLICT, ("metadata",), _NAMELESS)
    yield from _name_mistakes(document)
    yield from _resolution_mistakes(document)
    yield from _idle_ports(document)
    yield from _export_mistakes(document, scope)


def foreign(document: Document, scope: Scope) -> bool:
    """Whether an entry is for workloads of another namespace only."""
    private = _spec(document).export_to == (ExportTo.NAMESPACE,)
    return private and scope.namespace_of(document.config) != scope.workload.namespace


_NAMELESS = (
    "nobody said in which namespace this entry is, and its hosts or service accounts are of one:"
    " set metadata.namespace"
)


def _nowhere(document: Document, scope: Scope) -> bool:
    return scope.namespace_of(document.config) == UNKNOWN


def _host_mistakes(document: Document, scope: Scope) -> Iterator[Finding]:
    for index, host in enumerate(_spec(document).hosts):
        path: Path = ("spec", "hosts", index)
        if not is_host(host) or host == EVERYTHING:
            message = f"{host!r} is no name of a service: write a DNS name, or `*.suffix`"
            yield document.finding(Code.BAD_VALUE, path, message)
        elif "." not in host and _nowhere(document, scope):
            yield document.finding(Code.CONFLICT, path, _NAMELESS)


def _address_mistakes(document: Document) -> Iterator[Finding]:
    for index, address in enumerate(_spec(document).addresses):
        if not is_network(address):
            message = f"{address!r} is no address and no network: write 192.0.2.1 or 192.0.2.0/24"
            yield document.finding(Code.BAD_VALUE, ("spec", "addresses", index), message)


def _port_mistakes(document: Document) -> Iterator[Finding]:
    numbers: dict[int, int] = {}
    names: dict[str, int] = {}
    for index, port in enumerate(_spec(document).ports):
        path: Path = ("spec", "ports", index)
        for key, first in (
            ("number", numbers.setdefault(port.number, index)),
            ("name", names.setdefault(port.name, index)),
        ):
            if first != index:
                message = f"is that of $.spec.ports[{first}] already: a port stands once"
                yield document.finding(Code.CONFLICT, (*path, key), message)


def _endpoint_mistakes(
    document: Document, endpoint: ServiceEndpoint, path: Path
) -> Iterator[Finding]:
    spec = _spec(document)
    if not is_numeric(endpoint):
        yield from _endpoint_name_mistakes(document, endpoint, path)
    known = [port.name for port in spec.ports]
    for name in endpoint.ports:
        if name not in known:
            message = f"{name!r} is none of $.spec.ports: write the name of one of them"
            yield document.finding(Code.BAD_VALUE, (*path, "ports", name), message)
    if endpoint.weight == 0:
        message = "no request goes to an endpoint of weight 0: leave it out when it stays so"
        where = (*path, "weight")
        yield document.finding(Code.NO_EFFECT, where, message, severity=Severity.WARNING)
    yield from _mode_mistakes(document, endpoint, path)


def _endpoint_name_mistakes(
    document: Document, endpoint: ServiceEndpoint, path: Path
) -> Iterator[Finding]:
    if _spec(document).resolution not in _LOOKED_UP:
        message = f"{endpoint.address!r} is no IP address: write 192.0.2.1 or 2001:db8::1, or set spec.resolution to DNS"
        yield document.finding(Code.BAD_VALUE, (*path, "address"), message)
    elif not is_name(endpoint.address):
        message = f"{endpoint.address!r} is neither an IP address nor a name that can be looked up"
        yield document.finding(Code.BAD_VALUE, (*path, "address"), message)


def _mode_mistakes(document: Document, endpoint: ServiceEndpoint, path: Path) -> Iterator[Finding]:
    mode = endpoint.labels.get(TLS_MODE, WITH_SIDECAR)
    if mode not in (WITH_SIDECAR, "disabled"):
        message = f"{mode!r} is no mode: write {WITH_SIDECAR} where there is a sidecar, disabled or nothing elsewhere"
        yield document.finding(Code.BAD_VALUE, (*path, "labels", TLS_MODE), message)
    elif has_sidecar(endpoint) and _spec(document).location is Location.MESH_EXTERNAL:
        message = "changes nothing outside the mesh: set spec.location to MESH_INTERNAL"
        yield document.finding(
            Code.NO_EFFECT, (*path, "labels", TLS_MODE), message, severity=Severity.WARNING
        )


def _name_mistakes(document: Document) -> Iterator[Finding]:
    """Find who could never be proven."""
    spec = _spec(document)
    meshed = any(map(has_sidecar, spec.endpoints))
    for index, name in enumerate(spec.subject_alt_names or ()):
        path: Path = ("spec", "subjectAltNames", index)
        if not is_identity(name) and (meshed or not is_name(name)):
            wanted = "spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/NAME"
            wanted = wanted if meshed else f"{wanted}, or a DNS name"
            message = f"{name!r} is nobody who could be there: write {wanted}"
            yield document.finding(Code.BAD_VALUE, path, message)


def _resolution_mistakes(document: Document) -> Iterator[Finding]:
    """Find endpoints where there must be none, or some, or another number, and names that nobody could look up."""
    spec = _spec(document)
    if spec.resolution is Resolution.NONE and spec.endpoints:
        message = "NONE has no endpoints: set spec.resolution to STATIC, or write addresses"
        yield document.finding(Code.CONFLICT, ("spec", "endpoints"), message)
    if spec.resolution is Resolution.STATIC and not spec.endpoints:
        message = "STATIC needs endpoints: write them, or NONE"
        yield document.finding(Code.CONFLICT, ("spec", "resolution"), message)
    if spec.resolution is Resolution.DNS_ROUND_ROBIN and len(spec.endpoints) > 1:
        message = "DNS_ROUND_ROBIN has one endpoint at most: set spec.resolution to DNS"
        yield document.finding(Code.CONFLICT, ("spec", "endpoints"), message)
    if spec.resolution in _LOOKED_UP:
        yield from _lookup_mistakes(document)


def _idle_ports(document: Document) -> Iterator[Finding]:
    """Find what is said of ports and changes nothing."""
    spec = _spec(document)
    for index, port in enumerate(spec.ports):
        path: Path = ("spec", "ports", index)
        if spec.resolution is Resolution.NONE and port.target_port is not None:
            message = "changes nothing, for connections go where they were going (resolution NONE)"
            where = (*path, "targetPort")
            yield document.finding(Code.NO_EFFECT, where, message, severity=Severity.WARNING)
        if port.protocol in _NAMELESS_BYTES and not spec.addresses:
            message = "such connections ask for no name, so none is known to be for it: write spec.addresses"
            where = (*path, "protocol")
            yield document.finding(Code.NO_EFFECT, where, message, severity=Severity.WARNING)


def _lookup_mistakes(document: Document) -> Iterator[Finding]:
    spec = _spec(document)
    if not spec.ports:
        message = f"{spec.resolution} needs the ports at which names are dialled: write spec.ports"
        yield document.finding(Code.CONFLICT, ("spec", "resolution"), message)
    for index, host in enumerate(spec.hosts):
        if is_open(host) and not spec.endpoints:
            message = (
                f"{host!r} cannot be looked up: write endpoints, or set spec.resolution to NONE"
            )
            yield document.finding(Code.CONFLICT, ("spec", "hosts", index), message)


def _export_mistakes(document: Document, scope: Scope) -> Iterator[Finding]:
    if len(_spec(document).export_to) > 1:
        message = "several words contradict each other: write one"
        yield document.finding(Code.CONFLICT, ("spec", "exportTo"), message)
    if foreign(document, scope):
        namespace = scope.namespace_of(document.config)
        message = (
            f"is for workloads of {namespace}, this one is in {scope.workload.namespace}: not read"
        )
        path: Path = ("spec", "exportTo")
        yield document.finding(Code.FOREIGN_NAMESPACE, path, message, severity=Severity.INFO)


def _spec(document: Document) -> ServiceEntrySpec:
    assert isinstance(document.config, ServiceEntry), "the caller told kinds apart"
    return document.config.spec
