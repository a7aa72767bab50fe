"""Tell the application who has called it, and let nobody else say so: Envoy's SANITIZE_SET, and SANITIZE outbound.

No filter of a pipeline, since policies read requests before any: `proxy/connection.py` has it look first.
"""

from collections.abc import Callable
from functools import partial
from itertools import product

from msgspec.structs import replace

from tproxy.model.flow import Direction, Flow
from tproxy.model.http import Request
from tproxy.model.peer_metadata import PEER_METADATA

FORWARDED_CLIENT_CERT = b"x-forwarded-client-cert"
SPELLINGS = frozenset(
    b"x%cforwarded%cclient%ccert" % between for between in product(b"-_", repeat=3)
)
"""What an application may take for it: in the variables of CGI and WSGI both characters are an underscore."""

CONTROLS = frozenset(
    {
        b"x-envoy-decorator-operation",
        b"x-envoy-downstream-service-cluster",
        b"x-envoy-downstream-service-node",
        b"x-envoy-expected-rq-timeout-ms",
        b"x-envoy-force-trace",
        b"x-envoy-hedge-on-per-try-timeout",
        b"x-envoy-internal",
        b"x-envoy-ip-tags",
        b"x-envoy-max-retries",
        b"x-envoy-original-url",
        b"x-envoy-retriable-header-names",
        b"x-envoy-retriable-status-codes",
        b"x-envoy-retry-grpc-on",
        b"x-envoy-retry-on",
        b"x-envoy-upstream-alt-stat-name",
        b"x-envoy-upstream-rq-per-try-timeout-ms",
        b"x-envoy-upstream-rq-timeout-alt-response",
        b"x-envoy-upstream-rq-timeout-ms",
    }
)
"""What steers a proxy, or claims to come from inside: Envoy takes it from external requests too.

What gateways tell applications passes, as x-forwarded-for does: x-envoy-external-address, x-envoy-attempt-count.
"""

FORGED = {
    Direction.INBOUND: CONTROLS | PEER_METADATA | SPELLINGS,
    # The application may steer whoever carries its requests.
    Direction.OUTBOUND: PEER_METADATA | SPELLINGS,
}
"""What no request may say by itself, in lower case."""

Sanitize = Callable[[Request], Request]


def sanitizer(flow: Flow) -> Sanitize:
    """Make what takes forged fields from a connection's requests, and adds who has sent them where that is proven."""
    return partial(_sanitized, FORGED[flow.direction], client_cert(flow))


def client_cert(flow: Flow) -> bytes | None:
    """Write who the downstream has proven to be, as Istio's sidecars do; None on plaintext.

    A SPIFFE id has no character that would need quotes, and an SVID no subject that anybody asks for.
    """
    peer, proof = flow.identity, flow.proof
    if peer is None or proof is None:
        return None
    text = f'By={proof.own.spiffe_id};Hash={proof.certificate};Subject="";URI={peer.spiffe_id}'
    return text.encode()


def _sanitized(names: frozenset[bytes], client_cert: bytes | None, request: Request) -> Request:
    headers = clean = request.head.headers
    if not names.isdisjoint(headers.index):
        clean = headers.without(names)
    if client_cert is not None:
        clean = clean.with_value(FORWARDED_CLIENT_CERT, client_cert)
    if clean is headers:
        return request
    return replace(request, head=replace(request.head, headers=clean))
