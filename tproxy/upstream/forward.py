"""The innermost handler: ask the upstream, and give back what it answers."""

import contextlib
import re
from collections.abc import Mapping
from functools import partial

import trio
from msgspec.structs import replace

from tproxy.model.address import Address
from tproxy.model.exchange import Exchange
from tproxy.model.http import Beside, Body, Headers, Request, RequestHead, Response, ResponseHead
from tproxy.model.outcome import ProxyError, ResponseFlag, Unprocessed, UpstreamError
from tproxy.model.peer_metadata import stripped
from tproxy.net.http_stream import HttpStream
from tproxy.upstream.connector import Connector, Target
from tproxy.upstream.pool import Pool, Pooled

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
"""Methods that may be sent again when nobody knows whether they arrived (RFC 9110, 9.2.2)."""

_OWN = re.compile(rb"(?:\A|,)\s*(?:ntlm|negotiate)\b", re.IGNORECASE)
"""Authentication schemes with which a server may take all that follows on a connection for the same user's."""

CREDENTIALS = frozenset((b"authorization", b"proxy-authorization"))
CHALLENGES = frozenset((b"www-authenticate", b"proxy-authenticate"))


class _Stale(UpstreamError):
    """A pooled connection turned out to be closed: nothing says that the upstream saw the request."""


class Forward:
    """A `Handler` that carries exchanges over pooled upstream connections."""

    def __init__(self, pool: Pool, connector: Connector) -> None:
        self._pool = pool
        self._connector = connector

    async def __call__(self, exchange: Exchange, request: Request) -> Response:
        """Answer with the upstream's response; the connection goes back to the pool when the exchange is over.

        A request that met a connection which the upstream was leaving is sent once more over a new one, if it may
        be: no body, and a method that bears repeating unless it is certain that nobody saw it. Bodies are not kept
        here: whether those are sent again is for retries to say.
        """
        target = self._connector.target(exchange.flow, exchange.route, exchange.endpoint)
        if not request.head.authority:
            request = replace(request, head=_addressed(request.head, target.address))
        try:
            try:
                return await self._ask(target, request)
            except (_Stale, Unprocessed) as error:
                repeatable = isinstance(error, Unprocessed) or request.head.method in IDEMPOTENT
                # An upload leaves nothing of a body but its size: that it has ended does not say that there was none.
                empty = request.body.ended and not request.body.size
                if not (empty and repeatable):
                    raise
            return await self._ask(target, request, distrusting=True)
        except ProxyError as error:
            error.upstream = target.address
            raise

    async def _ask(
        self, target: Target, request: Request, *, distrusting: bool = False
    ) -> Response:
        whole = request.body.ended
        careful = not whole or request.head.method not in IDEMPOTENT
        pooled = await self._pool.take(target, distrusting=distrusting, careful=careful)
        stream = pooled.connection.open()
        uploading: Beside | None = None
        try:
            stream.send_head(request.head, ended=whole)
            if not whole:
                uploading = request.beside(partial(_upload, stream, request.body))
            else:
                await stream.flush()
            fresh, asked = pooled.fresh, trio.current_time()
            try:
                head = await stream.response(request.inform)
            except UpstreamError as error:
                if error.flag is not ResponseFlag.UPSTREAM_CLOSED:
                    raise
                raise _closed(error, pooled, fresh=fresh) from error
        except BaseException:
            if uploading is not None:
                uploading.cancel()
            self._finish(pooled, stream, None)
            raise
        request.life.when_over(partial(self._finish, pooled, stream))
        response = _response(pooled, stream, request, head, trio.current_time() - asked)
        return replace(response, until=uploading) if stream.tunnel else response

    def _finish(self, pooled: Pooled, stream: HttpStream, _: ProxyError | None) -> None:
        if stream.tunnel and stream.truncated and not pooled.connection.codec.multiplexed:
            pooled.stream.reset()  # closed, it would pass for all that its downstream had to say
        stream.release()
        self._pool.give_back(pooled)


def _closed(error: UpstreamError, pooled: Pooled, *, fresh: bool) -> UpstreamError:
    """Say of a connection that was closed instead of an answer what was wrong with it, or that it was stale."""
    if fresh:
        return UpstreamError(error.flag, error.details, cause=pooled.stream.trouble)
    return _Stale(error.flag, error.details, cause=error.cause)


def _response(
    pooled: Pooled, stream: HttpStream, request: Request, head: ResponseHead, took: float
) -> Response:
    # HTTP/2 carries no such scheme but request by request.
    if not pooled.connection.codec.multiplexed and _authenticates(
        request.head.headers, head.headers
    ):
        pooled.shareable = False
    milliseconds = b"%d" % (took * 1000)
    headers = stripped(head.headers).with_value(b"x-envoy-upstream-service-time", milliseconds)
    return Response(
        ResponseHead(head.status, headers, head.version, head.reason),
        stream,
        upstream=pooled.stream.peer,
        upstream_local=pooled.stream.local,
        upstream_identity=pooled.stream.identity,
        upstream_tls=pooled.target.tls,
        upstream_seconds=took,
    )


def _authenticates(asked: Headers, answered: Headers) -> bool:
    """Whether the upstream may know the connection as one user's now: the next request could be another's."""
    return _names_own(CREDENTIALS, asked.by_name()) or _names_own(CHALLENGES, answered.by_name())


def _names_own(names: frozenset[bytes], headers: Mapping[bytes, bytes]) -> bool:
    if names.isdisjoint(headers):
        return False
    return any(_OWN.search(headers[name]) for name in names if name in headers)


async def _upload(stream: HttpStream, body: Body) -> None:
    """Send the request's body; an upstream that does not take it may still say why, and is heard out."""
    with contextlib.suppress(UpstreamError):
        await stream.send_body(body)


def _addressed(head: RequestHead, address: Address) -> RequestHead:
    """Name the upstream in a request that names nobody (HTTP/1.0): HTTP/1.1 demands it."""
    return replace(head, authority=str(address).encode())
