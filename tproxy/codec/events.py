"""What a codec tells its driver: the same words for HTTP/1 and HTTP/2, server and client side."""

import msgspec

from tproxy.model.http import Headers, RequestHead, ResponseHead
from tproxy.model.outcome import ProxyError


class RequestStarted(msgspec.Struct, frozen=True):
    """A downstream opened `stream` with a request (server side)."""

    stream: int
    head: RequestHead
    ended: bool
    """No body and no trailers follow; no `Ended` will be told."""


class Refused(msgspec.Struct, frozen=True):
    """A downstream tried to open `stream`, and was answered with its reset (server side)."""

    stream: int
    error: ProxyError


class Informed(msgspec.Struct, frozen=True):
    """An informational response other than 101 came before the real one (client side)."""

    stream: int
    head: ResponseHead


class ResponseStarted(msgspec.Struct, frozen=True):
    """The upstream answers on `stream` (client side)."""

    stream: int
    head: ResponseHead
    ended: bool
    """Nothing follows but `content`; no `Data` and no `Ended` will be told."""
    content: bytes = b""
    """All of the body, where it came with the head and nobody counts credit; only with `ended`."""


class Data(msgspec.Struct, frozen=True):
    """A part of a body, never empty."""

    stream: int
    data: bytes
    credit: int
    """What to hand to `consumed` once the part has been pulled or discarded: its flow-controlled length."""


class Ended(msgspec.Struct, frozen=True):
    """The message on `stream` is complete."""

    stream: int
    trailers: Headers


class Failed(msgspec.Struct, frozen=True):
    """`stream` is over before its message was complete; nothing more may be sent on it."""

    stream: int
    error: ProxyError


class Room(msgspec.Struct, frozen=True):
    """There may be room to send again on `stream`, or on every stream when it is 0."""

    stream: int


class Leaving(msgspec.Struct, frozen=True):
    """The peer takes no further requests on this connection; streams that are open go on."""


Event = (
    RequestStarted | Refused | Informed | ResponseStarted | Data | Ended | Failed | Room | Leaving
)
