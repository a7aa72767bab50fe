"""What the endpoints of a `ServiceEntry` say: where they are, and whether a sidecar stands beside them."""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network

from tproxy.model.address import Address
from tproxy.policy.schema import ServiceEndpoint, ServicePort

TLS_MODE = "security.istio.io/tlsMode"
WITH_SIDECAR = "istio"
ANY_PORT = 0


def network(text: str) -> IPv4Network | IPv6Network:
    """Read an address or a network as connections show it; ValueError when it is none."""
    found = ip_network(text, strict=False)
    if "%" in text or Address.of(str(found.network_address), 0).host != str(found.network_address):
        raise ValueError(f"{text!r} is an address that no connection has")
    return found


def is_network(text: str) -> bool:
    """Whether it is an address or a network."""
    try:
        network(text)
    except ValueError:
        return False
    return True


def is_numeric(endpoint: ServiceEndpoint) -> bool:
    """Whether an endpoint is at an address, and not under a name that is to be looked up."""
    return "/" not in endpoint.address and is_network(endpoint.address)


def has_sidecar(endpoint: ServiceEndpoint) -> bool:
    """Whether an endpoint speaks mutual TLS of the mesh."""
    return endpoint.labels.get(TLS_MODE) == WITH_SIDECAR


def number_at(endpoint: ServiceEndpoint, port: ServicePort) -> int:
    """Return how an endpoint numbers a port of the service."""
    return endpoint.ports.get(port.name) or port.target_port or port.number


def endpoint_ports(
    ports: Sequence[ServicePort], endpoint: ServiceEndpoint
) -> Iterator[tuple[int, int]]:
    """Give each port as the service and as the endpoint numbers it."""
    if not ports:
        yield ANY_PORT, ANY_PORT
    for port in ports:
        yield port.number, number_at(endpoint, port)
