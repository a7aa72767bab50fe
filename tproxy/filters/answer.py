"""Answer in place of the upstream, where a route says so."""

from collections.abc import Awaitable
from urllib.parse import quote

from tproxy.filters.edits import with_edits, with_path
from tproxy.model.exchange import Exchange, Handler
from tproxy.model.http import (
    Content,
    Headers,
    HttpVersion,
    Request,
    RequestHead,
    Response,
    ResponseHead,
    opens_tunnel,
)
from tproxy.model.route import DirectResponse, Redirect

DIRECT_RESPONSE = "direct_response"
"""What Envoy calls redirects, too."""

GRPC_STATUSES = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
"""What HTTP statuses say in gRPC (its document of that name)."""

GRPC_UNKNOWN = 2

BODILESS = frozenset((204, 304))

NO_TUNNEL = 501
"""What a CONNECT gets where a route has an answer that would open a tunnel, with nobody at its other end."""

MOST_MESSAGE = 4096
"""Bytes of a body that fit into a header field, which they become for gRPC."""

DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}


def answer(forward: Handler, exchange: Exchange, request: Request) -> Awaitable[Response]:
    """Answer, if that is what the route is for (deciding)."""
    plan = exchange.route.plan
    assert plan is not None
    if plan.answer is None:
        return forward(exchange, request)
    return _at_once(with_edits(answered(plan.answer, request.head), plan.response_headers))


def answered(how: Redirect | DirectResponse, head: RequestHead) -> Response:
    """Build the response."""
    fields: tuple[tuple[bytes, bytes], ...] = ()
    body = b""
    if isinstance(how, Redirect):
        fields = ((b"location", location(how, head)),)
    else:
        body = how.body
    if head.is_grpc:
        return _grpc(how.status, body, fields)
    status = how.status
    if opens_tunnel(head, status):
        status, body = NO_TUNNEL, b""
    if status not in BODILESS:
        fields = ((b"content-length", b"%d" % len(body)), *fields)
    if body:
        fields = (*fields, (b"content-type", b"text/plain"))
    unsaid = head.method == b"HEAD" or status in BODILESS
    return Response(
        ResponseHead(status, Headers(fields), HttpVersion.HTTP11),
        Content(b"" if unsaid else body),
        details=DIRECT_RESPONSE,
    )


def location(redirect: Redirect, head: RequestHead) -> bytes:
    """Say where to go, as Envoy does: what the redirect leaves out stays as it was asked for."""
    scheme = redirect.scheme or head.scheme or b"http"
    port = b"" if redirect.port is None else b":%d" % redirect.port
    authority = redirect.authority or _kept(head, scheme, port)
    path = head.path
    if redirect.path is not None:
        path = _redirected(path, redirect.path, redirect.prefix)
    return scheme + b"://" + authority + port + path


def _kept(head: RequestHead, scheme: bytes, port: bytes) -> bytes:
    """Keep the authority that was asked for, without a port that is replaced or was the old scheme's."""
    authority = head.authority
    host = authority[: authority.rindex(b":")] if _has_port(authority) else authority
    was_default = scheme != head.scheme and authority == host + DEFAULT_PORTS.get(head.scheme, b"")
    return host if port or was_default else authority


def _has_port(authority: bytes) -> bool:
    """Whether a port follows: an address of IPv6 has colons of its own, between brackets."""
    return b":" in authority.rpartition(b"]")[2]


def _redirected(path: bytes, replaced_by: bytes, prefix: bytes | None) -> bytes:
    if prefix is None and b"?" in replaced_by:
        return replaced_by  # its own query takes the place of the request's
    return with_path(path, replaced_by, prefix)


def _grpc(status: int, body: bytes, fields: tuple[tuple[bytes, bytes], ...]) -> Response:
    """Trailers-only, status 200: gRPC over HTTP/2, Responses."""
    message = quote(body[:MOST_MESSAGE], safe=" ,.:;()/'").encode()
    fields = (
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"%d" % grpc_status(status)),
        *(((b"grpc-message", message),) if message else ()),
        *fields,
    )
    head = ResponseHead(200, Headers(fields), HttpVersion.HTTP2)
    return Response(head, Content(), details=DIRECT_RESPONSE)


def grpc_status(status: int) -> int:
    """Say an HTTP status in gRPC."""
    return GRPC_STATUSES.get(status, GRPC_UNKNOWN)


async def _at_once(response: Response) -> Response:
    return response
