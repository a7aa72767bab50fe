"""Answer for whatever failed before the response began; afterwards it is too late."""

from urllib.parse import quote

from msgspec.structs import replace

from tproxy.model.exchange import Exchange, Handler
from tproxy.model.http import (
    Content,
    Headers,
    HttpVersion,
    Request,
    RequestHead,
    Response,
    ResponseHead,
)
from tproxy.model.outcome import DownstreamError, Dropped, ProxyError, ResponseFlag

CONNECT_ERROR = "upstream connect error or disconnect/reset before headers. reset reason: "

MESSAGES = {
    ResponseFlag.DENIED: "RBAC: access denied",
    ResponseFlag.NO_HEALTHY_UPSTREAM: "no healthy upstream",
    ResponseFlag.UPSTREAM_CONNECT: CONNECT_ERROR + "connection failure",
    ResponseFlag.UPSTREAM_CLOSED: CONNECT_ERROR + "connection termination",
    ResponseFlag.UPSTREAM_RESET: CONNECT_ERROR + "remote reset",
    ResponseFlag.UPSTREAM_PROTOCOL: CONNECT_ERROR + "protocol error",
    ResponseFlag.UPSTREAM_TIMEOUT: "upstream request timeout",
    ResponseFlag.IDLE_TIMEOUT: "stream timeout",
    ResponseFlag.FAULT_INJECTED: "fault filter abort",
}
"""Envoy's words, which people search for; for other flags the details say it."""


async def rescue(forward: Handler, exchange: Exchange, request: Request) -> Response:
    """Turn a failure into a local reply (deciding), unless it is none to be answered.

    A downstream that broke its own protocol is past it.
    """
    try:
        return await forward(exchange, request)
    except (DownstreamError, Dropped):
        raise
    except ProxyError as error:
        return local_reply(error, request.head)


def local_reply(error: ProxyError, request: RequestHead) -> Response:
    """Build the response that tells `error`, as the protocol in use tells errors."""
    head, content = (_grpc if request.is_grpc else _plain)(error)
    if error.flag is ResponseFlag.OVERFLOW:
        head = replace(head, headers=head.headers.plus((b"x-envoy-overloaded", b"true")))
    if request.method == b"HEAD":
        content = Content()
    return Response(
        head,
        content,
        flag=error.flag,
        details=error.details,
        cause=error.cause,
        upstream=error.upstream,
    )


def _plain(error: ProxyError) -> tuple[ResponseHead, Content]:
    text = message(error).encode()
    fields = ((b"content-length", b"%d" % len(text)), (b"content-type", b"text/plain"))
    return ResponseHead(error.status, Headers(fields), HttpVersion.HTTP11), Content(text)


def _grpc(error: ProxyError) -> tuple[ResponseHead, Content]:
    """Trailers-only, status 200: gRPC over HTTP/2, Responses."""
    fields = (
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"%d" % error.grpc_status),
        (b"grpc-message", quote(message(error), safe=" ,.:;()/'").encode()),
    )
    return ResponseHead(200, Headers(fields), HttpVersion.HTTP2), Content()


def message(error: ProxyError) -> str:
    """Say what a peer may know: what happened, never to whom or why in our own words."""
    return MESSAGES.get(error.flag, error.details)
