"""Name the protocol that a connection's first bytes open.

The rule that must not be broken: **a verdict never changes**. Once some bytes have settled it, more of them settle it
alike, so how the bytes were cut into packets decides nothing.
"""

from enum import Enum

from tproxy.model.flow import Detection, Protocol, Sniffed
from tproxy.sniff.client_hello import Look, read_client_hello
from tproxy.sniff.http_opening import HttpOpening, read_http_opening


class NeedMore(Enum):
    """No verdict yet: several protocols still fit."""

    NEED_MORE = "need more"


NEED_MORE = NeedMore.NEED_MORE

OPAQUE = Sniffed(Protocol.OPAQUE, Detection.TCP)

_HTTP = {
    HttpOpening.HTTP10: Sniffed(Protocol.HTTP1, Detection.HTTP10),
    HttpOpening.HTTP11: Sniffed(Protocol.HTTP1, Detection.HTTP11),
    HttpOpening.HTTP2: Sniffed(Protocol.HTTP2, Detection.H2),
}


def sniff(data: bytes, limit: int = 8192) -> Sniffed | NeedMore:
    """Judge `data`, everything the peer has said so far; with `limit` bytes there is always a verdict."""
    complete = len(data) >= limit
    data = data[:limit]
    if data[:1] == b"\x16":
        return _tls(data, complete=complete)
    opening = read_http_opening(data, complete=complete)
    if opening is HttpOpening.UNDECIDED:
        return NEED_MORE
    return _HTTP.get(opening, OPAQUE)


def _tls(data: bytes, *, complete: bool) -> Sniffed | NeedMore:
    hello = read_client_hello(data, complete=complete)
    match hello:
        case Look.UNDECIDED:
            return NEED_MORE
        case Look.SOMETHING_ELSE:
            return OPAQUE
        case _:
            return Sniffed(Protocol.TLS, Detection.TLS, hello.server_name, hello.alpn)
