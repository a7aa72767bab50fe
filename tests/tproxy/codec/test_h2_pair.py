"""Our HTTP/2 client against our HTTP/2 server: what one says is what the other is told."""

from tproxy.codec.events import Data, Ended, Event, Leaving, RequestStarted, ResponseStarted, Room
from tproxy.codec.h2_client import Http2Client
from tproxy.codec.h2_server import Http2Server
from tproxy.model.http import NO_HEADERS, Headers, HttpVersion, RequestHead, ResponseHead
from tproxy.model.limits import Limits

REQUEST = RequestHead(
    b"POST",
    b"http",
    b"shop.example",
    b"/cart?item=1",
    Headers([(b"te", b"trailers"), (b"authorization", b"secret")]),
    HttpVersion.HTTP2,
)
RESPONSE = ResponseHead(200, Headers([(b"content-type", b"application/grpc")]), HttpVersion.HTTP2)
TRAILERS = Headers([(b"grpc-status", b"0")])


class Pair:
    """What changes: both codecs, and what each was told."""

    def __init__(self, limits: Limits) -> None:
        self.client, self.server = Http2Client(limits), Http2Server(limits)
        self.at_client: list[Event] = []
        self.at_server: list[Event] = []
        self.settle()
        self.at_client.clear()
        self.at_server.clear()

    def settle(self) -> None:
        """Carry bytes until both sides are silent."""
        while True:
            there, back = self.client.outbox(), self.server.outbox()
            if not there and not back:
                return
            if there:
                self.at_server += self.server.receive(there)
            if back:
                self.at_client += self.client.receive(back)


def test_a_whole_exchange_arrives_as_it_was_sent() -> None:
    pair = Pair(Limits())
    stream = pair.client.next_stream()
    pair.client.send_head(stream, REQUEST, ended=False)
    pair.client.send_data(stream, b"x" * 50000)
    pair.client.send_end(stream, TRAILERS)
    pair.settle()
    assert pair.at_server == [
        RequestStarted(stream, REQUEST, ended=False),
        Data(stream, b"x" * 50000, 50000),
        Ended(stream, TRAILERS),
    ]
    pair.server.send_head(stream, RESPONSE, ended=False)
    pair.server.send_data(stream, b"y" * 15000)
    pair.server.send_end(stream, TRAILERS)
    pair.settle()
    assert pair.at_client == [
        ResponseStarted(stream, RESPONSE, ended=False),
        Data(stream, b"y" * 15000, 15000),
        Ended(stream, TRAILERS),
    ]


def test_an_upgrade_from_http1_to_http1_survives_http2_between_them() -> None:
    pair = Pair(Limits())
    asked = RequestHead(
        b"GET", b"http", b"shop.example", b"/", NO_HEADERS, HttpVersion.HTTP11, b"websocket"
    )
    stream = pair.client.next_stream()
    pair.client.send_head(stream, asked, ended=False)
    pair.settle()
    (started,) = pair.at_server
    assert isinstance(started, RequestStarted)
    assert (started.head.method, started.head.upgrade) == (b"CONNECT", b"websocket")
    pair.server.send_head(stream, ResponseHead(101, NO_HEADERS, HttpVersion.HTTP11), ended=False)
    pair.settle()
    (answer,) = pair.at_client
    assert isinstance(answer, ResponseStarted)
    assert answer.head.status == 101


def test_the_windows_hold_back_a_sender_until_its_reader_pulls() -> None:
    pair = Pair(Limits(stream_window=70000, connection_window=100000))
    stream = pair.client.next_stream()
    pair.client.send_head(stream, REQUEST, ended=False)
    sent = 0
    while sent < 1_000_000:
        room = pair.client.room(stream)
        pair.client.send_data(stream, b"x" * room)
        sent += room
        pair.settle()
        assert pair.client.room(stream) == 0
        for event in pair.at_server:
            if isinstance(event, Data):
                assert len(event.data) <= 70000
                pair.server.consumed(stream, event.credit)
        pair.at_server.clear()
        pair.settle()
        assert Room(stream) in pair.at_client
        pair.at_client.clear()


def test_a_server_takes_its_leave_within_one_round_trip() -> None:
    pair = Pair(Limits())
    stream = pair.client.next_stream()
    pair.client.send_head(stream, REQUEST, ended=True)
    pair.settle()
    pair.server.farewell()
    pair.settle()
    assert Leaving() in pair.at_client
    assert (pair.client.reusable, pair.client.finished, pair.server.finished) == (False,) * 3
    pair.server.send_head(stream, RESPONSE, ended=True)
    pair.settle()
    assert pair.client.finished
    assert pair.server.finished


def test_hundreds_of_exchanges_leave_nothing_open() -> None:
    pair = Pair(Limits(streams=1))
    for _ in range(200):
        assert pair.client.reusable
        stream = pair.client.next_stream()
        pair.client.send_head(stream, REQUEST, ended=True)
        pair.settle()
        pair.server.send_head(stream, RESPONSE, ended=True)
        pair.settle()
        assert (pair.client.room(stream), pair.server.room(stream)) == (0, 0)
    assert len(pair.at_client) == len(pair.at_server) == 200
