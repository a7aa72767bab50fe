"""What is known of a request when it is not there any more, or not yet: a case, a question, a line of a log.

The rule that must not be broken: what nobody knows is never taken for absent. A header that is absent decides; one that
the log does not hold leaves the outcome open.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import msgspec

from tproxy.model.address import Address
from tproxy.model.flow import Detection, Direction, Flow, Protocol, Sniffed
from tproxy.model.http import Headers, HttpVersion, RequestHead
from tproxy.model.identity import Peer
from tproxy.policy.schema import CaseProtocol, CaseRequest, CaseSource

PRINCIPAL = "source.principal"
SOURCE_IP = "source.ip"
DESTINATION_IP = "destination.ip"
HOST = "request.host"
METHOD = "request.method"
PATH = "request.path"
SERVER_NAME = "connection.sni"
REMOTE = "remote.ip"

HEADER = "request.headers["
FORWARDED_FOR = f"{HEADER}x-forwarded-for]"

_FACTS = {
    "principals": PRINCIPAL,
    "namespaces": PRINCIPAL,
    "service_accounts": PRINCIPAL,
    "source.namespace": PRINCIPAL,
    "source.serviceAccount": PRINCIPAL,
    "ip_blocks": SOURCE_IP,
    "remote_ip_blocks": REMOTE,
    "hosts": HOST,
    "methods": METHOD,
    "paths": PATH,
}
"""Fields of rules by what they are read from, where that has another name."""

NOWHERE = "0.0.0.0"  # noqa: S104 - an address that nobody has
_GRPC = (b"content-type", b"application/grpc")
_HTTP_ONLY = ("path", "host", "method")
_TRUST_DOMAIN = "cluster.local"


class BadRequest(ValueError):
    """A request that cannot be; `field` is the part that is wrong."""

    def __init__(self, message: str, *field: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Facts:
    """A connection and, if it is HTTP, a request; and what of them is not known."""

    flow: Flow
    head: RequestHead | None = None
    hidden: frozenset[str] = frozenset()
    """Facts that nobody knows, by the names above."""
    headers: frozenset[str] | None = None
    """The headers (`request.headers[…]`, in lower case) that are known, be it to be absent; None for all.

    `remote.ip` among them says that at least the last address of x-forwarded-for is.
    """

    def missing(self, field: str) -> str | None:
        """Return the fact that a rule's field reads and that is not known; None when it is."""
        fact = _FACTS.get(field, field)
        if fact == REMOTE:
            return self._missing_remote()
        return self._unless_known(fact.lower() if fact.startswith(HEADER) else fact)

    def _missing_remote(self) -> str | None:
        if self.head is not None:
            if self.headers is not None and REMOTE not in self.headers:
                return FORWARDED_FOR
            if self.head.headers.get(b"x-forwarded-for"):
                return None
        return self._unless_known(SOURCE_IP)

    def _unless_known(self, fact: str) -> str | None:
        if fact in self.hidden:
            return fact
        unknown = self.headers is not None and fact.startswith(HEADER)
        return fact if unknown and fact not in (self.headers or ()) else None


def header_fact(name: str) -> str:
    """Name a header as facts are named."""
    return f"{HEADER}{name.lower()}]"


def header_of(field: str) -> str | None:
    """Return the header, in lower case, that a rule's field reads; None when it reads none."""
    if _FACTS.get(field, field) == REMOTE:
        return "x-forwarded-for"
    return field[len(HEADER) : -1].lower() if field.startswith(HEADER) else None


def filled(request: CaseRequest, defaults: CaseRequest) -> CaseRequest:
    """Complete a case from its test's defaults: headers are joined, who asks is one fact, and TCP takes nothing of HTTP."""
    if (request.protocol or defaults.protocol) is CaseProtocol.TCP:
        defaults = msgspec.structs.replace(defaults, **dict.fromkeys(_HTTP_ONLY), headers={})
    given: dict[str, Any] = {
        name: getattr(request, name) if getattr(request, name) is not None else value
        for name, value in _fields(defaults).items()
    }
    given["headers"] = {**_lower(defaults.headers), **_lower(request.headers)}
    given["source"] = _filled_source(request.source, defaults.source)
    return CaseRequest(**given)


def _fields(request: CaseRequest) -> dict[str, object]:
    return {name: getattr(request, name) for name in request.__struct_fields__}


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _filled_source(source: CaseSource, defaults: CaseSource) -> CaseSource:
    named = source if _names_somebody(source) else defaults
    return CaseSource(
        principal=named.principal,
        namespace=named.namespace,
        service_account=named.service_account,
        ip=source.ip or defaults.ip,
    )


def _names_somebody(source: CaseSource) -> bool:
    said = source.principal is not msgspec.UNSET
    return said or bool(source.namespace or source.service_account)


def facts_of(request: CaseRequest, direction: Direction = Direction.INBOUND) -> Facts:
    """Make of a request what policies are asked about; BadRequest when it cannot be."""
    if request.port is None:
        raise BadRequest("which port? policies and modes depend on it", "port")
    protocol = request.protocol or CaseProtocol.HTTP
    if protocol is CaseProtocol.TCP:
        _refuse_http(request)
    source, destination = request.source.ip, request.destination_ip
    flow = Flow(
        direction,
        peer=Address(_ip(source, "source", "ip"), 0),
        local=Address(NOWHERE, 0),
        original_dst=Address(_ip(destination, "destinationIp"), request.port),
        sniffed=_sniffed(protocol, request.sni),
        identity=_identity(request.source),
    )
    unsaid = {
        PRINCIPAL: not _names_somebody(request.source),
        SOURCE_IP: source is None,
        DESTINATION_IP: destination is None,
        HOST: request.host is None,
    }
    head = None if protocol is CaseProtocol.TCP else _head(request, protocol)
    return Facts(flow, head, frozenset(fact for fact, each in unsaid.items() if each))


def _refuse_http(request: CaseRequest) -> None:
    for name in (*_HTTP_ONLY, "headers"):
        if getattr(request, name):
            raise BadRequest(f"a connection of protocol tcp has no {name}", name)


def _ip(text: str | None, *field: str) -> str:
    try:
        return str(ip_address(text or NOWHERE))
    except ValueError as error:
        raise BadRequest(f"{text!r} is no address", *field) from error


_CARRIED_AS = {
    CaseProtocol.HTTP: Protocol.HTTP1,
    CaseProtocol.GRPC: Protocol.HTTP2,
    CaseProtocol.TCP: Protocol.OPAQUE,
}


def _sniffed(protocol: CaseProtocol, server_name: str | None) -> Sniffed:
    carried = _CARRIED_AS[protocol]
    if server_name and carried is Protocol.OPAQUE:
        carried = Protocol.TLS
    return Sniffed(carried, Detection.DECLARED, server_name or "")


def _identity(source: CaseSource) -> Peer | None:
    if source.principal is msgspec.UNSET:
        if not source.namespace:
            if source.service_account:
                raise BadRequest("a service account is one of a namespace: name it", "source")
            return None
        return Peer(_TRUST_DOMAIN, source.namespace, source.service_account or "default")
    if source.namespace or source.service_account:
        raise BadRequest("a principal says namespace and service account already", "source")
    return principal(source.principal)


def principal(text: str | None) -> Peer | None:
    """Read who proved to be somebody, nobody for None; BadRequest when it is none."""
    try:
        return None if text is None else Peer.parse(text)
    except ValueError as error:
        raise BadRequest(str(error), "source", "principal") from error


def _head(request: CaseRequest, protocol: CaseProtocol) -> RequestHead:
    grpc = protocol is CaseProtocol.GRPC
    headers = headers_of(request.headers.items())
    if grpc and b"content-type" not in headers:
        headers = headers.plus(_GRPC)
    return RequestHead(
        (request.method or ("POST" if grpc else "GET")).encode(),
        b"http",
        (request.host or "").encode(),
        (request.path or "/").encode(),
        headers,
        HttpVersion.HTTP2 if grpc else HttpVersion.HTTP11,
    )


def headers_of(items: Iterable[tuple[str, str]]) -> Headers:
    """Make header fields of text."""
    return Headers((name.encode(), value.encode()) for name, value in items)
