"""What Istio's proxies tell each other about their workloads; applications must not see it, as they could take it for the truth."""

from typing import Final

from tproxy.model.http import Headers

PEER_METADATA: Final = frozenset((b"x-envoy-peer-metadata", b"x-envoy-peer-metadata-id"))
"""Istio's metadata exchange; requests lose it with all that is forged (`forwarded_client_cert`)."""


def stripped(headers: Headers) -> Headers:
    """Take it from the head of a response; no trailers get this far with it."""
    return (
        headers if PEER_METADATA.isdisjoint(headers.by_name()) else headers.without(PEER_METADATA)
    )
