"""Count the messages of a gRPC exchange while its bodies pass."""

from typing import Self

from msgspec.structs import replace

from tproxy.model.http import Body, Headers, Request, Response
from tproxy.model.outcome import ProxyError
from tproxy.telemetry.grpc_messages import MessageCounter


class CountedBody:
    """A body whose messages are counted as they are pulled."""

    __slots__ = ("_body", "_feed")

    def __init__(self, body: Body, counter: MessageCounter) -> None:
        self._body = body
        self._feed = counter.feed

    @property
    def size(self) -> int:
        """Bytes pulled so far."""
        return self._body.size

    @property
    def trailers(self) -> Headers:
        """Complete when the body has ended."""
        return self._body.trailers

    @property
    def failure(self) -> ProxyError | None:
        """Why it will never be whole, once that is so."""
        return self._body.failure

    @property
    def ready(self) -> bool:
        """Whether the next part, or the end, is at hand without waiting."""
        return self._body.ready

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more, and nothing waits to be pulled."""
        return self._body.ended

    def __aiter__(self) -> Self:
        """Give the parts."""
        return self

    async def __anext__(self) -> bytes:
        """Pull the next part, and count what is in it."""
        part = await self._body.__anext__()
        self._feed(part)
        return part


class MessageCounts:
    """The messages of one exchange, in both directions. What changes: the counts, as its bodies pass."""

    __slots__ = ("_request", "_response")

    def __init__(self) -> None:
        self._request = MessageCounter()
        self._response = MessageCounter()

    def asked(self, request: Request) -> Request:
        """Count the messages of `request`."""
        return replace(request, body=CountedBody(request.body, self._request))

    def answered(self, response: Response) -> Response:
        """Count the messages of `response`."""
        return replace(response, body=CountedBody(response.body, self._response))

    @property
    def so_far(self) -> tuple[int, int]:
        """How many there were in the request, and in the response."""
        return self._request.count, self._response.count
