"""What both sides' connections stand on: the compression's memory, and streams that no sequence of frames confuses."""

import pytest
from hpack import Decoder
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.h2_peer import GET, H2Peer
from fakes.h2_steps import STEPS, act
from tproxy.codec.codec import Codec
from tproxy.codec.events import Data, Event, RequestStarted
from tproxy.codec.h2_client import Http2Client
from tproxy.codec.h2_compression import TABLE_BYTES, FieldEncoder
from tproxy.codec.h2_server import Http2Server
from tproxy.codec.h2_window import Window
from tproxy.model.http import NO_HEADERS, HttpVersion, RequestHead, ResponseHead
from tproxy.model.limits import Limits
from tproxy.model.outcome import ProxyError

REQUEST = RequestHead(b"POST", b"http", b"shop.example", b"/", NO_HEADERS, HttpVersion.HTTP2)
RESPONSE = ResponseHead(200, NO_HEADERS, HttpVersion.HTTP2)


def test_an_encoder_uses_no_larger_table_than_ours() -> None:
    encoder = FieldEncoder()
    encoder.header_table_size = 2**32 - 1
    assert encoder.header_table_size == TABLE_BYTES


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 5000), max_size=6))
def test_a_decoder_follows_every_resizing(sizes: list[int]) -> None:
    encoder, decoder = FieldEncoder(), Decoder()
    decoder.max_allowed_table_size = 5000
    for value in (b"one", b"two", b"one"):
        for size in sizes:
            encoder.header_table_size = size
        block = encoder.encode([*GET, (b"name", value)])
        assert list(decoder.decode(block, raw=True)) == [*GET, (b"name", value)]


@settings(deadline=None)
@given(size=st.integers(1, 200000), parts=st.lists(st.integers(1, 50000), min_size=1))
def test_a_window_is_never_lost_and_never_more_than_it_was(size: int, parts: list[int]) -> None:
    window, left = Window(size), size
    for part in parts:
        sent = min(part, left)
        assert window.take(sent)
        left += window.give(sent) - sent
        assert size // 2 <= left <= size
    assert left > 0


def told_within_credit(codec: Codec, events: list[Event]) -> None:
    for event in events:
        if isinstance(event, Data):
            codec.consumed(event.stream, event.credit)


@pytest.mark.slow
@given(steps=STEPS)
@settings(max_examples=100, deadline=None)
def test_no_sequence_of_frames_confuses_a_server(steps: list[bytes | tuple[str, int]]) -> None:
    server = Http2Server(Limits())
    H2Peer(server, client=True)
    begun: set[int] = set()
    asked: set[int] = set()
    for step in steps:
        if isinstance(step, bytes):
            try:
                events = server.receive(step)
            except ProxyError:
                assert server.finished
                break
            told_within_credit(server, events)
            asked |= {event.stream for event in events if isinstance(event, RequestStarted)}
        elif step[0] in ("reset", "refuse", "farewell"):
            act(server, *step, RESPONSE)
        elif (step[1] in begun) != (step[0] in ("head", "all")):
            act(server, *step, RESPONSE)
            begun |= {step[1]} & asked
    assert isinstance(server.outbox(), bytes)


@pytest.mark.slow
@given(steps=STEPS)
@settings(max_examples=100, deadline=None)
def test_no_sequence_of_frames_confuses_a_client(steps: list[bytes | tuple[str, int]]) -> None:
    client = Http2Client(Limits())
    H2Peer(client, client=False)
    for ended in (True, False, False):
        client.send_head(client.next_stream(), REQUEST, ended=ended)
    for step in steps:
        if isinstance(step, bytes):
            try:
                told_within_credit(client, client.receive(step))
            except ProxyError:
                assert client.finished
                break
        elif step[0] not in ("head", "all"):
            act(client, *step, REQUEST)
    assert isinstance(client.outbox(), bytes)
