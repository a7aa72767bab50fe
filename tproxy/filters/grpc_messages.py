"""Count the messages of a gRPC exchange while its bodies pass."""

from msgspec.structs import replace

from tproxy.model.http import Request, Response
from tproxy.net.watched_body import WatchedBody
from tproxy.telemetry.grpc_messages import MessageCounter


class MessageCounts:
    """The messages of one exchange, in both directions. What changes: the counts, as its bodies pass."""

    __slots__ = ("_request", "_response")

    def __init__(self) -> None:
        self._request = MessageCounter()
        self._response = MessageCounter()

    def asked(self, request: Request) -> Request:
        """Count the messages of `request`."""
        return replace(request, body=WatchedBody(request.body, part=self._request.feed))

    def answered(self, response: Response) -> Response:
        """Count the messages of `response`."""
        return replace(response, body=WatchedBody(response.body, part=self._response.feed))

    @property
    def so_far(self) -> tuple[int, int]:
        """How many there were in the request, and in the response."""
        return self._request.count, self._response.count
