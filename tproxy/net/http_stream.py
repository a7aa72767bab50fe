"""One exchange on an HTTP connection, as both its sides handle it: a message to read, and one to write."""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Self, assert_never

from tproxy.codec.events import (
    Data,
    Ended,
    Failed,
    Informed,
    RequestStarted,
    ResponseStarted,
    Room,
)
from tproxy.model.http import NO_HEADERS, Body, Headers, RequestHead, ResponseHead
from tproxy.model.outcome import ProxyError, downstream_gone, stream_idle, upstream_gone
from tproxy.net.bell import Bell
from tproxy.net.passage import pass_content

if TYPE_CHECKING:
    from tproxy.net.http_connection import HttpConnection


def _nobody_cares() -> None:
    """Do nothing about a failure: whoever waits for the stream learns of it."""


class HttpStream:
    """One exchange on a connection: the peer's message to read, ours to write.

    It is the `Body` of the peer's message. What changes: what has arrived and not been pulled.
    """

    __slots__ = (
        "_asked",
        "_codec",
        "_connection",
        "_dormant",
        "_ended",
        "_informed",
        "_moved",
        "_parts",
        "_pulled",
        "_request",
        "_response",
        "_sent_end",
        "begun",
        "bell",
        "failure",
        "number",
        "on_failure",
        "room_bell",
        "size",
        "trailers",
        "tunnel",
    )

    def __init__(
        self, connection: "HttpConnection", number: int, opening: RequestStarted | None = None
    ) -> None:
        self.number = number
        self.bell = Bell()
        self.room_bell: Bell | None = None
        """Of whoever waits for room, which few do."""
        self.size = 0
        self.trailers: Headers = NO_HEADERS
        self._connection = connection
        self._codec = connection.codec
        self._request = opening.head if opening else None
        self._asked = self._request
        self.tunnel = False
        """Whether its two directions end independently, as those of the connection that it has become."""
        self._dormant = (
            opening is not None and not self._codec.multiplexed and opening.head.asks_tunnel
        )
        """Whether what comes next is the tunnel's or a request, which our answer decides: until then it is not read."""
        self._response: ResponseHead | None = None
        self._informed: list[ResponseHead] = []
        self._parts: deque[Data] = deque()
        self._ended = opening.ended if opening else False
        self.begun = False
        """Whether our message has."""
        self._sent_end = False
        self._moved = 0
        self._pulled = 0
        """Credit for the part that was pulled last."""
        self.failure: ProxyError | None = None
        """What ended it before both messages were whole; what has arrived by then can still be pulled."""
        self.on_failure: Callable[[], None] = _nobody_cares
        """Called once the stream fails, for whoever depends on it and does not wait for it."""

    @property
    def connection(self) -> "HttpConnection":
        """What it is one exchange of."""
        return self._connection

    @property
    def request(self) -> RequestHead:
        """The request that opened this stream (server side)."""
        assert self._request is not None, "only a stream that a peer opened has one"
        return self._request

    @property
    def complete(self) -> bool:
        """Whether both messages are whole: nothing is owed in either direction."""
        return self._ended and self._sent_end and self.failure is None

    @property
    def truncated(self) -> bool:
        """Whether our message has begun and not ended."""
        return self.begun and not self._sent_end

    @property
    def progress(self) -> int:
        """What changes whenever a byte of either message moves; where the connection has no other stream, any byte."""
        return self._moved + (0 if self._codec.multiplexed else self._connection.progress)

    def tell(self, event: Informed | ResponseStarted | Data | Ended | Failed | Room) -> None:
        """Take an event of this stream's, and wake whoever waits for it."""
        match event:
            case Data():
                self._parts.append(event)
            case Ended():
                self.trailers = event.trailers
                self._ended = True
            case ResponseStarted():
                self._response, self._ended = event.head, event.ended
                self._moved += 1
                if event.content:
                    self._parts.append(Data(self.number, event.content, 0))
                self._note_tunnel(event.head)
            case Informed():
                self._informed.append(event.head)
                self._moved += 1
            case Room():
                self.roomier()
                return
            case Failed():
                self.failure = event.error
                self.bell.ring()
                self.roomier()
                self.on_failure()
                return
            case _:
                assert_never(event)
        self.bell.ring()

    # The peer's message

    async def response(self, inform: Callable[[ResponseHead], Awaitable[None]]) -> ResponseHead:
        """Wait for the response's head (client side); informational ones go to `inform`."""
        while True:
            while self._informed:
                await inform(self._informed.pop(0))
            if self._response is not None:
                return self._response
            self._raise_if_over()
            await self._connection.until(self.bell, self._has_head)

    @property
    def ready(self) -> bool:
        """Whether the next part, or the end, is at hand without waiting."""
        return bool(self._parts) or self._ended

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more, and nothing waits to be pulled."""
        return self._ended and not self._parts

    def __aiter__(self) -> Self:
        """Give the parts of the peer's body."""
        return self

    async def __anext__(self) -> bytes:
        """Pull the next part, and let the peer send as much as the one before it: whoever asks is done with that."""
        if self._pulled:
            self._codec.consumed(self.number, self._pulled)
            self._pulled = 0
            self._connection.try_flush()
        while not self._parts:
            if self._ended:
                raise StopAsyncIteration
            self._raise_if_over()
            if self._dormant:
                await self._connection.park(self.bell)
            else:
                await self._connection.until(self.bell, self._has_part)
        part = self._parts.popleft()
        self.passed(len(part.data))
        if self._codec.multiplexed:
            self._pulled = part.credit
        return part.data

    def roomier(self) -> None:
        """Wake whoever waits for room."""
        if self.room_bell is not None:
            self.room_bell.ring()

    def whole(self, most: int) -> bytes | None:
        """Pull all of the body, if it is one part of at most so many bytes and nobody waits for its credit; else None."""
        parts = self._parts
        if not self._ended or len(parts) != 1 or self.trailers or self._codec.multiplexed:
            return None
        if len(parts[0].data) > most:
            return None
        content = parts.popleft().data
        self.passed(len(content))
        return content

    def passed(self, size: int) -> None:
        """Count content of the peer's message that was pulled, or passed on without."""
        self.size += size
        self._moved += size

    # Our message

    async def transmit(self, head: RequestHead | ResponseHead, body: Body) -> None:
        """Send a whole message at the pace of both `body` and the peer; what is at hand leaves in one write."""
        self.send_head(head, ended=body.ended)
        if not (self._sent_end or self._codec.multiplexed) and isinstance(body, HttpStream):
            self._send_whole(body)
        if not (self._sent_end and self._connection.try_flush()):
            await self.send_body(body)

    def _send_whole(self, body: "HttpStream") -> None:
        """Send a body that is all there, as most are, without a coroutine for each step."""
        content = None if self.tunnel else body.whole(self._codec.room(self.number))
        if content is not None:
            self._raise_if_unheard()
            self._moved += len(content)
            self._codec.send_data(self.number, content)
            self._codec.send_end(self.number, NO_HEADERS)
            self._sent_end = True

    def send_head(self, head: RequestHead | ResponseHead, *, ended: bool) -> None:
        """Begin our message; it leaves with the next flush."""
        self._raise_if_failed()
        self._codec.send_head(self.number, head, ended=ended)
        self.begun, self._sent_end = True, ended
        self._moved += 1
        if isinstance(head, RequestHead):
            self._asked = head
        else:
            self._note_tunnel(head)
            self._awake()

    async def inform(self, head: ResponseHead) -> None:
        """Send an informational response at once (server side)."""
        self._raise_if_failed()
        self._codec.send_head(self.number, head, ended=False)
        self._moved += 1
        await self._connection.flush()

    async def flush(self) -> None:
        """Write what was sent so far."""
        await self._connection.flush()

    async def send_body(self, body: Body) -> None:
        """Send what follows the head, if anything does, and write it all."""
        if not self._sent_end:
            await self._send_parts(body)
        await self._connection.flush()

    async def _send_parts(self, body: Body) -> None:
        while not body.ended:
            if not body.ready:
                await self._connection.flush()
                await self._pass_on(body)
            try:
                part = await body.__anext__()
            except StopAsyncIteration:
                break
            self._raise_if_unheard()
            if self._codec.room(self.number) < len(part):
                await self._send_piecemeal(part)
            else:
                self._moved += len(part)
                self._codec.send_data(self.number, part)
            del part  # the socket may be full for long
        self._raise_if_unheard()
        self._codec.send_end(self.number, body.trailers)
        self._sent_end = True
        if self.tunnel and not self._codec.multiplexed:
            await self._connection.send_eof()

    async def _pass_on(self, body: Body) -> None:
        """Have what nobody has to see pass inside the kernel."""
        if isinstance(body, HttpStream) and not self._codec.multiplexed:
            pipes = self._connection.pipes or body.connection.pipes
            if pipes is not None:
                await pass_content(body, self, pipes)

    def sent(self, size: int) -> None:
        """Count content of our message that was written by somebody else."""
        self._moved += size
        self._connection.progress += size

    async def _send_piecemeal(self, part: bytes) -> None:
        """Send a part as the peer makes room for it."""
        while part:
            room = self._codec.room(self.number)
            if room:
                self._codec.send_data(self.number, part[:room])
                self._moved += min(room, len(part))
                part = part[room:]
            await self._connection.flush()
            if part:
                self.room_bell = self.room_bell or Bell()
                await self._connection.until(self.room_bell, self._has_room)
                self._raise_if_unheard()

    # The end

    def release(self) -> None:
        """Leave the stream: what is unfinished is given up, what was not pulled is handed back as window.

        The peer hears of it now, if the socket has room: there may be nobody else who writes.
        """
        self._connection.forget(self)
        if self.complete and not (self._pulled or self._parts):
            return
        credit = self._pulled + sum(part.credit for part in self._parts)
        self._pulled = 0
        self._parts.clear()
        if not self.complete:
            self._codec.send_reset(self.number)
        self._codec.consumed(self.number, credit)
        self._connection.try_flush()

    def fail(self, error: ProxyError) -> None:
        """End the stream from our side: whoever waits on it sees `error`."""
        self.tell(Failed(self.number, error))

    def stall(self) -> None:
        """End the stream because nothing has moved on it for too long."""
        asked_all = self._ended if self._request is not None else self._sent_end
        self.fail(stream_idle(request_whole=asked_all))
        self._connection.interrupt()

    def lose(self) -> None:
        """End the stream because its connection is gone; what has arrived can still be pulled."""
        if self.failure is None:
            self.fail(self._peer_gone())

    def _peer_gone(self) -> ProxyError:
        if self._request is not None:
            return downstream_gone()
        return upstream_gone(response_begun=self._response is not None)

    def _note_tunnel(self, response: ResponseHead) -> None:
        """Know a tunnel by the answer that opens it (RFC 9110, 7.8 and 9.3.6)."""
        connects = self._asked is not None and self._asked.method == b"CONNECT"
        self.tunnel = response.status == 101 or (connects and response.status < 300)

    def _awake(self) -> None:
        """Take what came early through a tunnel, or, if there is none, the end of what was no body."""
        if self._dormant:
            self._dormant = False
            self._ended = not self.tunnel
            if self.tunnel:
                self._connection.resume()
            self.bell.ring()

    def _has_head(self) -> bool:
        return self._response is not None or bool(self._informed) or self._over

    def _has_part(self) -> bool:
        return bool(self._parts) or self._ended or self._over

    def _has_room(self) -> bool:
        return self._codec.room(self.number) > 0 or self._over

    @property
    def _over(self) -> bool:
        return self.failure is not None or self._connection.ended

    def _raise_if_failed(self) -> None:
        error = self.failure or self._connection.error
        if error is not None:
            raise error.again()

    def _raise_if_over(self) -> None:
        self._raise_if_failed()
        if self._connection.ended:
            raise self._peer_gone()

    def _raise_if_unheard(self) -> None:
        self._raise_if_failed()
        if self._connection.deaf:
            raise self._peer_gone()
