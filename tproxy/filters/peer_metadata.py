"""Keep what Istio's proxies tell each other about their workloads from applications, which could take it for the truth."""

from msgspec.structs import replace

from tproxy.model.exchange import Exchange, Handler
from tproxy.model.http import Request, Response

PEER_METADATA = frozenset((b"x-envoy-peer-metadata", b"x-envoy-peer-metadata-id"))
"""Istio's metadata exchange; requests lose it with all that is forged (`forwarded_client_cert`)."""


async def strip_peer_metadata(forward: Handler, exchange: Exchange, request: Request) -> Response:
    """Take it from the response's head (deciding); no trailers get this far with it."""
    response = await forward(exchange, request)
    headers = response.head.headers
    if PEER_METADATA.isdisjoint(headers.by_name()):
        return response
    return replace(response, head=replace(response.head, headers=headers.without(PEER_METADATA)))
