"""Four readers of HTTP/1 that share no code with the proxy or with each other's parsers: h11, llhttp, Python's, a sloppy one."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from socket import socket
from typing import cast

import h11
import httptools


@dataclass(frozen=True, slots=True)
class Read:
    """A message, as far as proxy and origin must agree on it."""

    start: tuple[bytes, bytes] | int
    """A request's method and target, or a final response's status."""
    host: bytes
    body: bytes


Reader = Callable[[bytes], list[Read]]
"""Find the whole messages of one connection; one that is not whole is left out."""


def h11_requests(wire: bytes) -> list[Read]:
    """What h11 serves."""
    connection = h11.Connection(h11.SERVER)
    if wire:  # nothing would be the end of the stream
        connection.receive_data(wire)
    found: list[Read] = []
    while isinstance(request := connection.next_event(), h11.Request):
        body = _h11_body(connection)
        if body is None:
            break
        host = dict(request.headers).get(b"host", b"")
        found.append(Read((request.method, request.target), host, body))
        if connection.their_state is not h11.DONE:
            break
        connection.send(h11.Response(status_code=204, headers=[]))
        connection.send(h11.EndOfMessage())
        connection.start_next_cycle()
    return found


def h11_responses(wire: bytes, method: bytes = b"GET") -> list[Read]:
    """What h11 hears after one request."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    connection.send(h11.EndOfMessage())
    if wire:  # nothing would be the end of the stream
        connection.receive_data(wire)
    while isinstance(response := connection.next_event(), h11.InformationalResponse):
        pass
    if not isinstance(response, h11.Response):
        return []
    body = _h11_body(connection)
    assert not connection.trailing_data[0], "nothing follows a response that nobody asked for"
    return [] if body is None else [Read(response.status_code, b"", body)]


def _h11_body(connection: h11.Connection) -> bytes | None:
    body = b""
    while isinstance(part := connection.next_event(), h11.Data):
        body += part.data
    return body if isinstance(part, h11.EndOfMessage) else None


class _Heard:
    """What llhttp calls back. What changes: the message that it is in."""

    def __init__(self) -> None:
        self.found: list[Read] = []
        self.request: httptools.HttpRequestParser | None = None
        self.response: httptools.HttpResponseParser | None = None
        self.on_message_begin()

    def on_message_begin(self) -> None:
        self.target = self.host = self.body = b""

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"host":
            self.host += value.rstrip()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if self.request is not None:
            start = (self.request.get_method(), self.target)
            self.found.append(Read(start, self.host, self.body))
        elif self.response is not None and (status := self.response.get_status_code()) >= 200:
            self.found.append(Read(status, b"", self.body))


def llhttp_requests(wire: bytes) -> list[Read]:
    """What llhttp, and so Node.js, serves; it knows no methods but registered ones."""
    heard = _Heard()
    heard.request = httptools.HttpRequestParser(heard)
    with contextlib.suppress(httptools.HttpParserUpgrade):
        heard.request.feed_data(wire)
    return heard.found


def llhttp_responses(wire: bytes) -> list[Read]:
    """What llhttp hears; it cannot be told that the request was a HEAD."""
    heard = _Heard()
    heard.response = httptools.HttpResponseParser(heard)
    heard.response.feed_data(wire)
    return heard.found


class _Handler(BaseHTTPRequestHandler):
    """Python's own server, without its socket."""

    def __init__(self, wire: bytes) -> None:
        self.rfile = self.unread = BytesIO(wire)
        self.wfile = self.said = BytesIO()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the library's name)
        """Say nothing."""

    def next(self) -> Read | None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline.endswith(b"\n") or not self.parse_request():
            return None
        method, target, _ = self.requestline.encode("latin-1").split(b" ")
        fields = {k.lower().encode(): v.strip().encode("latin-1") for k, v in self.headers.items()}
        body = _body(self.unread, fields)
        return None if body is None else Read((method, target), fields.get(b"host", b""), body)


def python_requests(wire: bytes) -> list[Read]:
    """What `http.server` serves, with e-mail's idea of header fields."""
    handler = _Handler(wire)
    found = list(iter(handler.next, None))
    assert not handler.said.getvalue(), "refused"
    return found


class _Kept(BytesIO):
    """As much of a socket as `HTTPResponse` uses; it stays open for the message that follows."""

    def makefile(self, _: str) -> BytesIO:
        return self

    def close(self) -> None:
        """Stay open."""


def python_responses(wire: bytes, method: bytes = b"GET") -> list[Read]:
    """What `http.client` hears; it takes informational responses but 100 for final ones."""
    source = _Kept(wire)
    found: list[Read] = []
    while source.tell() < len(wire):
        response = HTTPResponse(cast("socket", source), method=method.decode())
        try:
            response.begin()
            body = response.read()
        except (HTTPException, ConnectionError):
            break
        if response.status >= 200:
            found.append(Read(response.status, b"", body))
    return found


def _lines(file: BytesIO) -> list[bytes] | None:
    """A block of lines, ended any way at all."""
    lines: list[bytes] = []
    while (line := file.readline()).endswith(b"\n"):
        if not (stripped := line.strip()):
            return lines
        lines.append(stripped)
    return None


def _fields(lines: list[bytes]) -> dict[bytes, bytes]:
    """Fields by name; the last of several wins."""
    pairs = (line.partition(b":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _body(file: BytesIO, fields: Mapping[bytes, bytes]) -> bytes | None:
    if b"chunked" in fields.get(b"transfer-encoding", b"").lower():
        return _chunks(file)
    length = int(fields.get(b"content-length", b"0"))
    body = file.read(length)
    return body if len(body) == length else None


def _chunks(file: BytesIO) -> bytes | None:
    body = b""
    while (line := file.readline()).endswith(b"\n"):
        size = int(line.partition(b";")[0].strip(), 16)
        if not size:
            return None if _lines(file) is None else body
        body += file.read(size)
        file.readline()
    return None


def sloppy_requests(wire: bytes) -> list[Read]:
    """What a server understands that takes everything for granted."""
    file = BytesIO(wire)
    found: list[Read] = []
    while lines := _lines(file):
        method, target, *_ = lines[0].split()
        fields = _fields(lines[1:])
        body = _body(file, fields)
        if body is None:
            break
        found.append(Read((method, target), fields.get(b"host", b""), body))
    return found


def sloppy_responses(wire: bytes, method: bytes = b"GET") -> list[Read]:
    """What a client understands that takes everything for granted."""
    file = BytesIO(wire)
    found: list[Read] = []
    while lines := _lines(file):
        status = int(lines[0].split()[1])
        bare = method == b"HEAD" or status < 200 or status in {204, 304}
        body = b"" if bare else _body(file, _fields(lines[1:]))
        if body is None:
            break
        if status >= 200:
            found.append(Read(status, b"", body))
    return found


REQUEST_READERS: Mapping[str, Reader] = {
    "h11": h11_requests,
    "llhttp": llhttp_requests,
    "python": python_requests,
    "sloppy": sloppy_requests,
}
