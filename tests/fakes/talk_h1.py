"""HTTP/1 as h11 speaks it, in either role."""

from collections.abc import Iterable

import h11
import trio

from fakes.talk import App, Broken, Heard
from tproxy.model.http import Field


class Http1Talk:
    """One connection. What changes: h11's state."""

    def __init__(self, stream: trio.abc.Stream, *, client: bool) -> None:
        self.stream = stream
        self.h11 = h11.Connection(h11.CLIENT if client else h11.SERVER)

    async def call(self) -> "Http1Call":
        """Begin one more exchange (client side)."""
        if self.h11.our_state is not h11.IDLE:
            self.h11.start_next_cycle()
        return Http1Call(self)

    async def serve(self, app: App) -> None:
        """Answer requests until the other side has no more, or one of them ended the connection."""
        while True:
            call = Http1Call(self)
            event = await self.hear()
            if not isinstance(event, h11.Request):
                break
            call.begin(event)
            await app(call)
            if self.h11.our_state is not h11.DONE or self.h11.their_state is not h11.DONE:
                break
            self.h11.start_next_cycle()
        await self.stream.aclose()

    async def hear(self) -> h11.Event | type[h11.PAUSED]:
        """Wait for the next event."""
        while True:
            try:
                event = self.h11.next_event()
            except h11.RemoteProtocolError as error:
                raise Broken(str(error)) from error
            if event is not h11.NEED_DATA:
                assert not isinstance(event, type) or event is h11.PAUSED
                return event
            try:
                self.h11.receive_data(bytes(await self.stream.receive_some(65536)))
            except trio.BrokenResourceError as error:
                raise Broken("reset") from error

    async def say(self, event: h11.Event) -> None:
        """Send an event."""
        data = self.h11.send(event)
        if data:
            await self.stream.send_all(data)


class Http1Call:
    """A `Call`."""

    def __init__(self, talk: Http1Talk) -> None:
        self.talk = talk
        self.informed: list[int] = []
        self._heard: Heard | None = None

    @property
    def heard(self) -> Heard:
        assert self._heard is not None, "nothing was heard"
        return self._heard

    def begin(self, event: h11.Request | h11.Response) -> None:
        """Take the other side's head."""
        start = (
            (event.method, event.target) if isinstance(event, h11.Request) else event.status_code
        )
        self._heard = Heard(start, list(event.headers.raw_items()))

    async def head(self) -> Heard:
        while self._heard is None:
            event = await self.talk.hear()
            if isinstance(event, h11.InformationalResponse):
                self.informed.append(event.status_code)
            elif isinstance(event, h11.Response):
                self.begin(event)
            else:
                raise Broken(f"{event!r} instead of a head")
        return self._heard

    async def part(self) -> bytes:
        event = await self.talk.hear()
        if isinstance(event, h11.Data):
            self.heard.body += event.data
            return bytes(event.data)
        if not isinstance(event, h11.EndOfMessage):
            raise Broken(f"{event!r} instead of a body")
        self.heard.trailers = list(event.headers)
        return b""

    async def say(self, start: tuple[bytes, bytes] | int, fields: Iterable[Field]) -> None:
        if isinstance(start, tuple):
            method, target = start
            headers = [(b"host", b"shop.example"), *fields]
            await self.talk.say(h11.Request(method=method, target=target, headers=headers))
        elif start < 200:
            await self.talk.say(h11.InformationalResponse(status_code=start, headers=list(fields)))
        else:
            await self.talk.say(h11.Response(status_code=start, headers=list(fields)))

    async def send(self, data: bytes) -> None:
        if data:
            await self.talk.say(h11.Data(data=data))

    async def end(self, trailers: Iterable[Field] = ()) -> None:
        await self.talk.say(h11.EndOfMessage(headers=list(trailers)))

    async def give_up(self) -> None:
        await trio.aclose_forcefully(self.talk.stream)


async def head_of(stream: trio.abc.ReceiveStream) -> bytes:
    """Read raw bytes up to the end of a head, and what came with it."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = await stream.receive_some(65536)
        assert part, f"the stream ended after {data!r}"
        data += part
    return data


async def rest_of(stream: trio.abc.ReceiveStream) -> bytes:
    """Read raw bytes until the stream ends."""
    data = b""
    while part := await stream.receive_some(65536):
        data += part
    return data
