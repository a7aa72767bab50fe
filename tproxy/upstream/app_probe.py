"""Ask the application how it is, as a kubelet would: past policies, and without an identity."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never
from urllib.parse import urljoin, urlsplit

import trio

from tproxy.codec.codec import Codec
from tproxy.model.address import Address
from tproxy.model.app_probe import AppProbe, Grpc, HttpGet, TcpSocket
from tproxy.model.flow import Direction, Protocol
from tproxy.model.http import Content, Headers, HttpVersion, RequestHead, ResponseHead
from tproxy.model.limits import Limits
from tproxy.model.outcome import ProxyError
from tproxy.model.upstream_tls import TlsMode, UpstreamTls
from tproxy.net.http_connection import HttpConnection
from tproxy.net.http_stream import HttpStream
from tproxy.upstream.connector import Connector, Target, source_of

MOST_REDIRECTS = 10
"""As many as a kubelet follows."""
MOST_CONTENT = 10240
"""Bytes of an answer that are passed on, and that a kubelet reads."""
ANYBODY = UpstreamTls(mode=TlsMode.SIMPLE, insecure_skip_verify=True)
"""A kubelet does not look at an application's certificate."""
USER_AGENT = b"kube-probe/tproxy"
SERVING = b"\0\0\0\0\x02\x08\x01"
"""A grpc.health.v1.HealthCheckResponse with that status, in its frame."""


@dataclass(frozen=True, slots=True)
class Health:
    """What came of it."""

    status: int
    """200 for an application that is well; else its own, or 503 where it has none."""
    said: bytes


class AppProber:
    """Asks an application of this pod. Nothing of it changes."""

    def __init__(
        self, connector: Connector, codec: Callable[[Protocol], Codec], limits: Limits
    ) -> None:
        self._connector = connector
        self._codec = codec
        self._limits = limits

    async def ask(self, probe: AppProbe, host: str) -> Health:
        """Ask at `host`, which is one of this pod's addresses."""
        try:
            with trio.fail_after(probe.timeout_seconds):
                return await self._asked(probe.asks, host)
        except trio.TooSlowError:
            return _unwell(f"no answer within {probe.timeout_seconds} s")
        except ProxyError as error:
            return _unwell(error.cause or error.details)

    async def _asked(self, asks: HttpGet | TcpSocket | Grpc, host: str) -> Health:
        address = Address(host, asks.port)
        match asks:
            case HttpGet():
                return await self._got(asks, address)
            case TcpSocket():
                (await self._connector.connect(_target(address, Protocol.OPAQUE))).close()
                return Health(200, b"listens\n")
            case Grpc():
                return await self._checked(asks, address)
            case _:
                assert_never(asks)

    async def _got(self, asks: HttpGet, address: Address) -> Health:
        fields = [(each.name.encode(), each.value.encode()) for each in asks.http_headers]
        given = Headers(tuple(fields))
        authority = given.get(b"host") or str(address).encode()
        usual = ((b"user-agent", USER_AGENT), (b"accept", b"*/*"))
        headers = Headers(
            (
                *(field for field in usual if given.get(field[0]) is None),
                *(field for field in fields if field[0].lower() != b"host"),
            )
        )
        tls = ANYBODY if asks.scheme == "HTTPS" else None
        url = f"{asks.scheme.lower()}://{authority.decode('latin-1')}{_path(asks.path)}"
        for _ in range(MOST_REDIRECTS):
            path = url.partition("://")[2].partition("/")[2]
            head = RequestHead(
                b"GET", b"http", authority, f"/{path}".encode(), headers, HttpVersion.HTTP11
            )
            answer, content = await self._answer(_target(address, Protocol.HTTP1, tls), head, b"")
            url_next = _redirected(url, answer)
            if url_next is None:
                return Health(200 if answer.status < 400 else answer.status, content)
            url = url_next
        return _unwell(f"more than {MOST_REDIRECTS} redirects")

    async def _checked(self, asks: Grpc, address: Address) -> Health:
        service = (asks.service or "").encode()
        message = b"\x0a" + _varint(len(service)) + service if service else b""
        head = RequestHead(
            b"POST",
            b"http",
            str(address).encode(),
            b"/grpc.health.v1.Health/Check",
            Headers(
                (
                    (b"content-type", b"application/grpc"),
                    (b"te", b"trailers"),
                    (b"user-agent", USER_AGENT),
                )
            ),
            HttpVersion.HTTP2,
        )
        framed = b"\0" + len(message).to_bytes(4, "big") + message
        answer, content = await self._answer(_target(address, Protocol.HTTP2), head, framed)
        if answer.status == 200 and content == SERVING:
            return Health(200, b"SERVING\n")
        return _unwell(
            f"grpc.health.v1.Health does not say SERVING of {asks.service or 'it all'!r}"
        )

    async def _answer(
        self, target: Target, head: RequestHead, content: bytes
    ) -> tuple[ResponseHead, bytes]:
        transport = await self._connector.connect(target)
        try:
            connection = HttpConnection(transport, self._codec(target.protocol), self._limits)
            await connection.greeted()
            stream = connection.open()
            await stream.transmit(head, Content(content))
            answer = await stream.response(_ignored)
            return answer, await _bounded(stream)
        finally:
            transport.close()


async def _ignored(_: ResponseHead) -> None:
    """Drop an informational response."""


async def _bounded(stream: HttpStream) -> bytes:
    content = b""
    async for part in stream:
        content += part
        if len(content) > MOST_CONTENT:
            break
    return content[:MOST_CONTENT]


def _target(address: Address, protocol: Protocol, tls: UpstreamTls | None = None) -> Target:
    # From where the capture rules let what is for the application pass.
    return Target(address, protocol, source_of(address, Direction.INBOUND), tls)


def _path(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


def _redirected(url: str, answer: ResponseHead) -> str | None:
    """Say where an answer sends to, if that is this application still; a kubelet takes any other for success."""
    place = answer.headers.get(b"location")
    if not 300 <= answer.status < 400 or place is None:
        return None
    there = urljoin(url, place.decode("latin-1"))
    here = urlsplit(url)
    same = urlsplit(there)[:2] == here[:2]
    return there.partition("#")[0] if same else None


def _unwell(why: str) -> Health:
    return Health(503, f"{why}\n".encode())


def _varint(number: int) -> bytes:
    low = bytes((number & 0x7F,))
    return low if number < 0x80 else bytes((number & 0x7F | 0x80,)) + _varint(number >> 7)
