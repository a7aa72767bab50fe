"""HTTP/2 as h2 speaks it, in either role; somebody must `run` it."""

from collections.abc import Iterable, Mapping

import trio
from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings

from fakes.talk import App, Broken, Heard
from tproxy.model.http import Field

GOAWAY = 7
PSEUDO = ((b":scheme", b"http"), (b":authority", b"shop.example"))


class Http2Talk:
    """One connection. What changes: h2's state, its calls, and whether the other side takes its leave."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        client: bool,
        settings: Mapping[SettingCodes, int] | None = None,
    ) -> None:
        self.stream = stream
        self.h2 = H2Connection(H2Configuration(client_side=client, header_encoding=None))
        if settings:
            self.h2.local_settings = Settings(client=client, initial_values=dict(settings))
        self.calls: dict[int, Http2Call] = {}
        self.left: int | None = None
        """The last stream that the other side's GOAWAY lets live (client side)."""
        self.over = False
        self._client = client
        self._unread = b""
        self._opened, self._accepted = trio.open_memory_channel["Http2Call"](1000)
        self._news = trio.Event()
        self._writing = trio.Lock()
        self.h2.initiate_connection()

    async def call(self) -> "Http2Call":
        """Begin one more exchange (client side)."""
        return Http2Call(self, 0)

    async def serve(self, app: App) -> None:
        """Answer requests, all at once, until the other side leaves."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.run)
            async for call in self._accepted:
                nursery.start_soon(self._answer, app, call)

    async def _answer(self, app: App, call: "Http2Call") -> None:
        try:
            await app(call)
        except Broken as broken:
            call.broken_off = str(broken)

    async def run(self) -> None:
        """Listen until the other side leaves."""
        await self.flush()
        while not self.over:
            try:
                data = await self.stream.receive_some(65536)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            self.over = not data
            for event in self.h2.receive_data(self._without_goaway(bytes(data))):
                self._take(event)
            await self.flush()
            self._ring()
        self._opened.close()

    async def flush(self) -> None:
        """Write what h2 has to say."""
        async with self._writing:
            try:
                if data := self.h2.data_to_send():
                    await self.stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.over = True

    async def say_octets(self, octets: bytes) -> None:
        """Write what h2 does not know of."""
        async with self._writing:
            await self.stream.send_all(octets)

    async def news(self) -> None:
        """Wait for anything to happen."""
        await self._news.wait()

    def _without_goaway(self, data: bytes) -> bytes:
        """Keep GOAWAY from a client's h2, for which it would end what is open as well."""
        if not self._client:
            return data
        self._unread += data
        kept = b""
        while len(self._unread) >= 9:
            size = 9 + int.from_bytes(self._unread[:3], "big")
            if len(self._unread) < size:
                break
            octets, self._unread = self._unread[:size], self._unread[size:]
            if octets[3] == GOAWAY:
                self.left = int.from_bytes(octets[9:13], "big")
            else:
                kept += octets
        return kept

    def _ring(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def _take(self, event: events.Event) -> None:
        match event:
            case events.RequestReceived():
                call = self.calls[event.stream_id] = Http2Call(self, event.stream_id)
                pseudo = dict(event.headers)
                start = (bytes(pseudo[b":method"]), bytes(pseudo.get(b":path", b"")))
                call.begin(start, event.headers)
                self._opened.send_nowait(call)
            case events.ResponseReceived():
                status = int(dict(event.headers)[b":status"])
                self.calls[event.stream_id].begin(status, event.headers)
            case events.InformationalResponseReceived():
                status = int(dict(event.headers)[b":status"])
                self.calls[event.stream_id].informed.append(status)
            case events.DataReceived():
                call = self.calls[event.stream_id]
                call.parts.append((event.data, event.flow_controlled_length))
            case events.TrailersReceived():
                heard = self.calls[event.stream_id].heard
                heard.trailers = [(bytes(name), bytes(value)) for name, value in event.headers]
            case events.StreamEnded():
                self.calls[event.stream_id].ended = True
            case events.StreamReset():
                self.calls[event.stream_id].reset = ErrorCodes(event.error_code)


class Http2Call:
    """A `Call`."""

    def __init__(self, talk: Http2Talk, number: int) -> None:
        self.talk = talk
        self.number = number
        self.informed: list[int] = []
        self.parts: list[tuple[bytes, int]] = []
        self.ended = False
        self.reset: ErrorCodes | None = None
        self.broken_off = ""
        """Why the app did not finish."""
        self._heard: Heard | None = None

    @property
    def heard(self) -> Heard:
        assert self._heard is not None, "nothing was heard"
        return self._heard

    def begin(self, start: tuple[bytes, bytes] | int, fields: Iterable[Field]) -> None:
        """Take the other side's head."""
        named = [(bytes(name), bytes(value)) for name, value in fields]
        self._heard = Heard(start, [item for item in named if not item[0].startswith(b":")])

    async def head(self) -> Heard:
        while self._heard is None:
            self._check()
            await self.talk.news()
        return self._heard

    async def part(self) -> bytes:
        while not self.parts:
            if self.ended:
                return b""
            self._check()
            await self.talk.news()
        data, credit = self.parts.pop(0)
        self.heard.body += data
        if credit:
            self.talk.h2.acknowledge_received_data(credit, self.number)
            await self.talk.flush()
        return data or await self.part()

    async def say(self, start: tuple[bytes, bytes] | int, fields: Iterable[Field]) -> None:
        if isinstance(start, tuple):
            self.number = self.talk.h2.get_next_available_stream_id()
            self.talk.calls[self.number] = self
            pseudo: tuple[Field, ...] = ((b":method", start[0]), (b":path", start[1]), *PSEUDO)
        else:
            pseudo = ((b":status", b"%d" % start),)
        self.talk.h2.send_headers(self.number, [*pseudo, *fields])
        await self.talk.flush()

    async def send(self, data: bytes) -> None:
        h2 = self.talk.h2
        while data:
            self._check()
            room = min(h2.local_flow_control_window(self.number), h2.max_outbound_frame_size)
            if room <= 0:
                await self.talk.news()
                continue
            h2.send_data(self.number, data[:room])
            data = data[room:]
            await self.talk.flush()

    async def end(self, trailers: Iterable[Field] = ()) -> None:
        self._check()
        if block := list(trailers):
            self.talk.h2.send_headers(self.number, block, end_stream=True)
        else:
            self.talk.h2.end_stream(self.number)
        await self.talk.flush()

    async def give_up(self) -> None:
        self.talk.h2.reset_stream(self.number, ErrorCodes.CANCEL)
        await self.talk.flush()

    def _check(self) -> None:
        if self.reset is not None:
            raise Broken(f"reset: {self.reset.name}")
        if self.talk.over:
            raise Broken("the connection ended")
