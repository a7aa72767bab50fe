"""What a codec tells its driver: the same words for HTTP/1 and HTTP/2, server and client side."""

from dataclasses import dataclass

from tproxy.model.http import Headers, RequestHead, ResponseHead
from tproxy.model.outcome import ProxyError


@dataclass(frozen=True, slots=True)
class RequestStarted:
    """A downstream opened `stream` with a request (server side)."""

    stream: int
    head: RequestHead
    ended: bool
    """No body and no trailers follow; no `Ended` will be told."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A downstream tried to open `stream`, and was answered with its reset (server side)."""

    stream: int
    error: ProxyError


@dataclass(frozen=True, slots=True)
class Informed:
    """An informational response other than 101 came before the real one (client side)."""

    stream: int
    head: ResponseHead


@dataclass(frozen=True, slots=True)
class ResponseStarted:
    """The upstream answers on `stream` (client side)."""

    stream: int
    head: ResponseHead
    ended: bool
    """No body and no trailers follow; no `Ended` will be told."""


@dataclass(frozen=True, slots=True)
class Data:
    """A part of a body, never empty."""

    stream: int
    data: bytes
    credit: int
    """What to hand to `consumed` once the part has been pulled or discarded: its flow-controlled length."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The message on `stream` is complete."""

    stream: int
    trailers: Headers


@dataclass(frozen=True, slots=True)
class Failed:
    """`stream` is over before its message was complete; nothing more may be sent on it."""

    stream: int
    error: ProxyError


@dataclass(frozen=True, slots=True)
class Room:
    """There may be room to send again on `stream`, or on every stream when it is 0."""

    stream: int


@dataclass(frozen=True, slots=True)
class Leaving:
    """The peer takes no further requests on this connection; streams that are open go on."""


Event = (
    RequestStarted | Refused | Informed | ResponseStarted | Data | Ended | Failed | Room | Leaving
)
