"""Ask the application how it is, as a kubelet would: past policies, and without an identity."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never
from urllib.parse import quote, urljoin, urlsplit

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
USUAL = ((b"user-agent", USER_AGENT), (b"accept", b"*/*"), (b"connection", b"close"))
"""The fields of a kubelet's request, where a probe does not write them itself."""
NOT_PASSED_ON = frozenset((b"host", b"content-length", b"transfer-encoding"))
"""Host is said elsewhere; a probe has no content, whatever it says."""
REDIRECTS = frozenset((301, 302, 303, 307, 308))
WELL_KNOWN = {"http": 80, "https": 443}
URL_CHARACTERS = "/%:=&?~#+!$,;'@()*[]"
"""What stays as it is written; the rest is escaped."""
SERVING = b"\0\0\0\0\x02\x08\x01"
"""A grpc.health.v1.HealthCheckResponse with that status, in its frame."""


@dataclass(frozen=True, slots=True)
class Health:
    """What came of it."""

    status: int
    """200 for an application that is well; else its own, or 503 where it has none."""
    said: bytes


@dataclass(frozen=True, slots=True)
class _Place:
    """What is asked over HTTP; redirects change it."""

    address: Address
    secure: bool
    authority: bytes
    path: str

    @property
    def url(self) -> str:
        """The same in one word."""
        return f"{'https' if self.secure else 'http'}://{self.address}{self.path}"


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
        given = Headers((each.name.encode(), each.value.encode()) for each in asks.http_headers)
        headers = Headers(
            (
                *(field for field in USUAL if field[0] not in given),
                *given.without(NOT_PASSED_ON).fields,
            )
        )
        hosts = (value for name, value in given.fields if name.lower() == b"host")
        place = _Place(
            address, asks.scheme == "HTTPS", next(hosts, str(address).encode()), _path(asks.path)
        )
        for _ in range(MOST_REDIRECTS):
            tls = ANYBODY if place.secure else None
            target = _target(place.address, Protocol.HTTP1, tls)
            head = RequestHead(
                b"GET", b"http", place.authority, place.path.encode(), headers, HttpVersion.HTTP11
            )
            answer, content = await self._answer(target, head, b"")
            following = _redirected(place, answer)
            if following is None:
                return Health(200 if 200 <= answer.status < 400 else answer.status, content)
            place = following
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
    path = quote(path.partition("#")[0], safe=URL_CHARACTERS)
    return path if path.startswith("/") else f"/{path}"


def _redirected(place: _Place, answer: ResponseHead) -> _Place | None:
    """Say where an answer sends to, if that is this pod still; a kubelet takes any other for success."""
    location = answer.headers.get(b"location")
    if answer.status not in REDIRECTS or location is None:
        return None
    try:
        there = urlsplit(urljoin(place.url, quote(location, safe=URL_CHARACTERS)))
        address = Address(place.address.host, there.port or WELL_KNOWN[there.scheme])
    except (ValueError, KeyError):
        return None
    if there.hostname != place.address.host:
        return None
    absolute = there.netloc != str(place.address)
    authority = there.netloc.encode() if absolute else place.authority
    path = _path(there.path + (f"?{there.query}" if there.query else ""))
    return _Place(address, there.scheme == "https", authority, path)


def _unwell(why: str) -> Health:
    return Health(503, f"{why}\n".encode())


def _varint(number: int) -> bytes:
    low = bytes((number & 0x7F,))
    return low if number < 0x80 else bytes((number & 0x7F | 0x80,)) + _varint(number >> 7)
