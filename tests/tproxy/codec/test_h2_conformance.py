"""What RFC 9113 and RFC 7541 have a server and a client do about each mistake, and about each legal oddity.

The ids name h2spec's suite, section and number, where it has the case. Every case has a second stream open, which has
to outlive whatever is not the whole connection's.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

import pytest
from h2.errors import ErrorCodes

from fakes.h2_peer import GET, OK, POST, block, frame
from tproxy.codec import h2_frames as frames
from tproxy.codec.events import (
    Data,
    Ended,
    Event,
    Failed,
    Refused,
    RequestStarted,
    ResponseStarted,
    Room,
)
from tproxy.codec.h2_client import Http2Client
from tproxy.codec.h2_engine import CLOSED_STREAMS, Engine
from tproxy.codec.h2_frames import Frame, FrameReader
from tproxy.codec.h2_library import LibraryEngine
from tproxy.codec.h2_own import OwnEngine
from tproxy.codec.h2_server import Http2Server
from tproxy.model.http import NO_HEADERS, Field, Headers, HttpVersion, RequestHead, ResponseHead
from tproxy.model.limits import Limits
from tproxy.model.outcome import ProxyError

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END, ACK, WHOLE, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20

OTHER, BAD = 1, 3
"""The stream that nothing may happen to, and the one that a case is about."""

ANSWER = ResponseHead(200, NO_HEADERS, HttpVersion.HTTP2)
ASK = RequestHead(b"POST", b"http", b"shop.example", b"/", NO_HEADERS, HttpVersion.HTTP2)
Codec = Http2Server | Http2Client
Step = bytes | Callable[[Codec], None]


@dataclass(frozen=True)
class StreamBroken:
    """The stream is reset, once, and fails."""

    code: ErrorCodes


@dataclass(frozen=True)
class ConnectionBroken:
    """The connection ends with a GOAWAY."""

    code: ErrorCodes


@dataclass(frozen=True)
class Nothing:
    """Nobody is told, and nothing is answered."""


@dataclass(frozen=True)
class Answered:
    """These frames come back, and nobody is told."""

    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class Carried:
    """The message is told, whole."""

    body: bytes = b""
    trailers: Headers = NO_HEADERS


Outcome = StreamBroken | ConnectionBroken | Nothing | Answered | Carried

STREAM_PROTOCOL = StreamBroken(ErrorCodes.PROTOCOL_ERROR)
STREAM_CLOSED = StreamBroken(ErrorCodes.STREAM_CLOSED)
STREAM_FRAME_SIZE = StreamBroken(ErrorCodes.FRAME_SIZE_ERROR)
STREAM_FLOW = StreamBroken(ErrorCodes.FLOW_CONTROL_ERROR)
PROTOCOL = ConnectionBroken(ErrorCodes.PROTOCOL_ERROR)
FRAME_SIZE = ConnectionBroken(ErrorCodes.FRAME_SIZE_ERROR)
FLOW = ConnectionBroken(ErrorCodes.FLOW_CONTROL_ERROR)
COMPRESSION = ConnectionBroken(ErrorCodes.COMPRESSION_ERROR)
CLOSED = ConnectionBroken(ErrorCodes.STREAM_CLOSED)
CALM = ConnectionBroken(ErrorCodes.ENHANCE_YOUR_CALM)
NOTHING = Nothing()


def data(octets: bytes = b"x", flags: int = 0, stream: int = BAD) -> bytes:
    return frame(DATA, flags, stream, octets)


def head(
    fields: Iterable[Field] = POST, flags: int = WHOLE, stream: int = BAD, before: bytes = b""
) -> bytes:
    return frame(HEADERS, flags, stream, before + block(fields))


def window(increment: int, stream: int) -> bytes:
    return frame(WINDOW, 0, stream, increment.to_bytes(4, "big"))


def setting(code: int, value: int) -> bytes:
    return frame(SETTINGS, 0, 0, code.to_bytes(2, "big") + value.to_bytes(4, "big"))


def priority(on: int, stream: int = BAD, weight: int = 15) -> bytes:
    return frame(PRIORITY, 0, stream, on.to_bytes(4, "big") + bytes((weight,)))


def reset(stream: int = BAD, code: int = 8) -> bytes:
    return frame(RST, 0, stream, code.to_bytes(4, "big"))


def said(codec: Codec) -> list[Frame]:
    """What the outbox holds."""
    reader = FrameReader(preface=b"", frame_bytes=2**20, block_bytes=2**20)
    return list(reader.feed(frame(SETTINGS, 0, 0) + codec.outbox()))[1:]


def answer(codec: Codec) -> None:
    """Answer the case's request in full."""
    codec.send_head(BAD, ANSWER, ended=True)
    codec.outbox()


def accept(codec: Codec) -> None:
    """Open the case's tunnel."""
    codec.send_head(BAD, ANSWER, ended=False)
    codec.outbox()


def complete(codec: Codec) -> None:
    """Complete the case's request."""
    codec.send_end(BAD, NO_HEADERS)
    codec.outbox()


def assert_reset(codec: Codec) -> None:
    """Take the one reset that was due by now."""
    assert [each.kind for each in said(codec)] == [RST]


def assert_leaving(codec: Codec) -> None:
    """Take the answer to a GOAWAY."""
    assert [each.kind for each in said(codec)] == [GOAWAY, PING]


def give_up(codec: Codec) -> None:
    """Reset the case's stream, and let that leave."""
    codec.send_reset(BAD)
    codec.outbox()


OPEN = head()
HALF_CLOSED = head(flags=WHOLE | END)
GET_WHOLE = head(GET, flags=WHOLE | END)
LENGTH = (b"content-length", b"1")
LARGEST = 2**31 - 1


def without(name: bytes) -> list[Field]:
    return [field for field in POST if field[0] != name]


def replaced(name: bytes, value: bytes) -> list[Field]:
    return [(each, value if each == name else old) for each, old in POST]


SERVER: dict[str, tuple[list[Step], Outcome]] = {
    # 3.4, 4: frames
    "http2/4.1/1 a frame of unknown type": ([frame(0x16, 0, 0, b"\0" * 8)], NOTHING),
    "http2/4.1/2 undefined flags": (
        [frame(PING, 0x16, 0, b"\0" * 8)],
        Answered((Frame(PING, ACK, 0, b"\0" * 8),)),
    ),
    "http2/4.1/3 the reserved bit": (
        [frame(PING, 0, 2**31, b"\0" * 8)],
        Answered((Frame(PING, ACK, 0, b"\0" * 8),)),
    ),
    "http2/4.2/1 the smallest largest frame": (
        [OPEN, data(b"x" * 16384, END)],
        Carried(b"x" * 16384),
    ),
    "http2/4.2/2 DATA that is too large": ([OPEN, data(b"x" * 65537)[:9]], FRAME_SIZE),
    "http2/4.2/3 HEADERS that are too large": (
        [frame(HEADERS, 5, 3, b"x" * 65537)[:9]],
        FRAME_SIZE,
    ),
    "http2/4.3/1 a block that is none": ([frame(HEADERS, 5, 3, b"\x40")], COMPRESSION),
    "http2/4.3/2 PRIORITY inside a block": (
        [head(flags=0), priority(0), frame(CONTINUATION, WHOLE, 3)],
        PROTOCOL,
    ),
    "http2/4.3/3 another block inside a block": ([head(flags=0), head(stream=5)], PROTOCOL),
    # 5.1: streams
    "http2/5.1/1 DATA when idle": ([data()], PROTOCOL),
    "http2/5.1/2 RST_STREAM when idle": ([reset()], PROTOCOL),
    "http2/5.1/3 WINDOW_UPDATE when idle": ([window(9, BAD)], PROTOCOL),
    "http2/5.1/4 CONTINUATION when idle": ([frame(CONTINUATION, WHOLE, BAD, block(GET))], PROTOCOL),
    "http2/5.1/5 DATA when half closed": ([HALF_CLOSED, data()], STREAM_CLOSED),
    "http2/5.1/6 HEADERS when half closed": ([HALF_CLOSED, HALF_CLOSED], STREAM_CLOSED),
    "http2/5.1/7 CONTINUATION when half closed": (
        [HALF_CLOSED, frame(CONTINUATION, WHOLE, BAD)],
        PROTOCOL,
    ),
    "http2/5.1/8 DATA after the peer's RST_STREAM": ([OPEN, reset(), data()], STREAM_CLOSED),
    "http2/5.1/9 HEADERS after the peer's RST_STREAM": ([OPEN, reset(), OPEN], STREAM_CLOSED),
    "http2/5.1/10 CONTINUATION after the peer's RST_STREAM": (
        [OPEN, reset(), frame(CONTINUATION, WHOLE, BAD)],
        PROTOCOL,
    ),
    "http2/5.1/11 DATA when closed": ([HALF_CLOSED, answer, data()], STREAM_CLOSED),
    "http2/5.1/12 HEADERS when closed": ([HALF_CLOSED, answer, OPEN], CLOSED),
    "http2/5.1/13 CONTINUATION when closed": (
        [HALF_CLOSED, answer, frame(CONTINUATION, WHOLE, BAD)],
        PROTOCOL,
    ),
    "http2/5.1 DATA after our RST_STREAM": ([OPEN, give_up, data(), data(flags=END)], NOTHING),
    "http2/5.1 HEADERS after our RST_STREAM": (
        [OPEN, give_up, head([(b"a", b"b")], WHOLE | END)],
        NOTHING,
    ),
    "http2/5.1 WINDOW_UPDATE, RST_STREAM and PRIORITY after our RST_STREAM": (
        [OPEN, give_up, window(1, BAD), window(0, BAD), reset(), priority(BAD)],
        NOTHING,
    ),
    "http2/5.1 what follows a malformed head": (
        [head([*POST, (b"A", b"b")]), assert_reset, data(), head([(b"a", b"b")], WHOLE | END)],
        NOTHING,
    ),
    "http2/5.1.1/1 an even number": ([head(stream=2)], PROTOCOL),
    "http2/5.1.1/2 a number below the last": ([head(stream=7), head(stream=5)], PROTOCOL),
    "http2/5.3.1/1 HEADERS that depend on themselves": (
        [head(flags=WHOLE | PRIORITIZED, before=b"\0\0\0\3\x0f")],
        STREAM_PROTOCOL,
    ),
    "http2/5.3.1 trailers that depend on themselves": (
        [OPEN, head([(b"a", b"b")], WHOLE | END | PRIORITIZED, before=b"\0\0\0\3\x0f")],
        STREAM_PROTOCOL,
    ),
    "http2/5.3.1/2 PRIORITY that depends on itself": ([OPEN, priority(BAD)], STREAM_PROTOCOL),
    "http2/5.3.1 PRIORITY of an idle stream on itself": ([priority(BAD)], PROTOCOL),
    "http2/5.4.1/1 an invalid PING": ([frame(PING, 0, 0, b"\0" * 6)], FRAME_SIZE),
    "http2/5.5/1 an unknown extension": ([frame(0x16, 0, BAD, b"\0" * 8)], NOTHING),
    "http2/5.5/2 an unknown extension inside a block": (
        [head(flags=0), frame(0x16, 0, 0, b"\0" * 8)],
        PROTOCOL,
    ),
    # 6: each type of frame
    "http2/6.1/1 DATA on stream 0": ([data(stream=0)], PROTOCOL),
    "http2/6.1/3 DATA of padding too long": ([OPEN, data(b"\x06Test", PADDED)], PROTOCOL),
    "http2/6.1 DATA without its padding's length": ([OPEN, data(b"", PADDED)], FRAME_SIZE),
    "http2/6.2/2 HEADERS on another stream inside a block": (
        [head(flags=0), head(stream=5, flags=WHOLE | END)],
        PROTOCOL,
    ),
    "http2/6.2/3 HEADERS on stream 0": ([head(stream=0)], PROTOCOL),
    "http2/6.2/4 HEADERS of padding too long": (
        [frame(HEADERS, WHOLE | PADDED, BAD, b"\xff" + block(GET))],
        PROTOCOL,
    ),
    "http2/6.2 HEADERS without their padding's length": (
        [frame(HEADERS, WHOLE | PADDED, BAD)],
        FRAME_SIZE,
    ),
    "http2/6.2 HEADERS without their priority": (
        [frame(HEADERS, WHOLE | PRIORITIZED, BAD, b"\0\0\0\1")],
        FRAME_SIZE,
    ),
    "http2/6.3/1 PRIORITY on stream 0": ([priority(1, stream=0)], PROTOCOL),
    "http2/6.3/2 PRIORITY of a wrong length": (
        [OPEN, frame(PRIORITY, 0, BAD, b"\0" * 4)],
        STREAM_FRAME_SIZE,
    ),
    "http2/6.3 PRIORITY of a wrong length when idle": (
        [frame(PRIORITY, 0, BAD, b"\0" * 6)],
        FRAME_SIZE,
    ),
    "http2/6.4/1 RST_STREAM on stream 0": ([reset(0)], PROTOCOL),
    "http2/6.4/2 RST_STREAM of a server's number": ([reset(2)], PROTOCOL),
    "http2/6.4/3 RST_STREAM of a wrong length": ([OPEN, frame(RST, 0, BAD, b"\0" * 3)], FRAME_SIZE),
    "http2/6.5/1 SETTINGS, acknowledged with a payload": (
        [frame(SETTINGS, ACK, 0, b"\0\x10\0\0\0\0")],
        FRAME_SIZE,
    ),
    "http2/6.5/2 SETTINGS on a stream": ([frame(SETTINGS, 0, OTHER)], PROTOCOL),
    "http2/6.5/3 SETTINGS of an odd length": ([frame(SETTINGS, 0, 0, b"\0" * 3)], FRAME_SIZE),
    "http2/6.5.2/1 ENABLE_PUSH of 2": ([setting(2, 2)], PROTOCOL),
    "http2/6.5.2/2 INITIAL_WINDOW_SIZE too large": ([setting(4, 2**31)], FLOW),
    "http2/6.5.2/3 MAX_FRAME_SIZE too small": ([setting(5, 16383)], PROTOCOL),
    "http2/6.5.2/4 MAX_FRAME_SIZE too large": ([setting(5, 2**24)], PROTOCOL),
    "http2/6.5.2/5 an unknown setting": (
        [setting(0xFF, 1)],
        Answered((Frame(SETTINGS, ACK, 0, b""),)),
    ),
    "http2/6.5.2 ENABLE_CONNECT_PROTOCOL of 2": ([setting(8, 2)], PROTOCOL),
    "http2/6.5.3/2 SETTINGS": (
        [frame(SETTINGS, 0, 0)],
        Answered((Frame(SETTINGS, ACK, 0, b""),)),
    ),
    "http2/6.6 PUSH_PROMISE by a client": (
        [OPEN, frame(PUSH, WHOLE, BAD, b"\0\0\0\2" + block(GET))],
        PROTOCOL,
    ),
    "http2/6.6 PUSH_PROMISE in pieces": ([OPEN, frame(PUSH, 0, BAD, b"\0\0\0\2")], PROTOCOL),
    "http2/6.7/1 PING": (
        [frame(PING, 0, 0, b"h2spec\0\0")],
        Answered((Frame(PING, ACK, 0, b"h2spec\0\0"),)),
    ),
    "http2/6.7/2 an acknowledged PING": ([frame(PING, ACK, 0, b"invalid\0")], NOTHING),
    "http2/6.7/3 PING on a stream": ([frame(PING, 0, OTHER, b"\0" * 8)], PROTOCOL),
    "http2/6.8/1 GOAWAY on a stream": ([frame(GOAWAY, 0, OTHER, b"\0" * 8)], PROTOCOL),
    "http2/6.9/1 no increment for the connection": ([window(0, 0)], PROTOCOL),
    "http2/6.9/2 no increment for a stream": ([OPEN, window(0, BAD)], STREAM_PROTOCOL),
    "http2/6.9 no increment but the reserved bit": ([OPEN, window(2**31, BAD)], STREAM_PROTOCOL),
    "http2/6.9 no increment for an idle stream": ([window(0, BAD)], PROTOCOL),
    "http2/6.9 no increment for a closed stream": ([HALF_CLOSED, answer, window(0, BAD)], NOTHING),
    "http2/6.9/3 WINDOW_UPDATE of a wrong length": ([frame(WINDOW, 0, 0, b"\0\0\1")], FRAME_SIZE),
    "http2/6.9.1/2 the connection's window beyond the largest": (
        [window(LARGEST, 0), window(LARGEST, 0)],
        FLOW,
    ),
    "http2/6.9.1/3 a stream's window beyond the largest": (
        [OPEN, window(LARGEST, BAD), window(LARGEST, BAD)],
        STREAM_FLOW,
    ),
    "http2/6.9.2/3 a window beyond the largest for all streams": (
        [OPEN, window(LARGEST - 65535, BAD), setting(4, 65536)],
        FLOW,
    ),
    "http2/6.10/2 a continued block and another frame": (
        [head(flags=0), frame(CONTINUATION, 0, BAD), data()],
        PROTOCOL,
    ),
    "http2/6.10/3 CONTINUATION on stream 0": (
        [head(flags=0), frame(CONTINUATION, WHOLE, 0)],
        PROTOCOL,
    ),
    "http2/6.10/4 CONTINUATION of a whole block": (
        [OPEN, frame(CONTINUATION, WHOLE, BAD)],
        PROTOCOL,
    ),
    "http2/6.10/5 CONTINUATION of a continued whole block": (
        [
            head(flags=0),
            frame(CONTINUATION, WHOLE, BAD),
            frame(CONTINUATION, WHOLE, BAD),
        ],
        PROTOCOL,
    ),
    "http2/6.10/6 CONTINUATION behind DATA": (
        [OPEN, data(), frame(CONTINUATION, WHOLE, BAD)],
        PROTOCOL,
    ),
    "http2/6.10 CONTINUATION without end": (
        [head(flags=0), frame(CONTINUATION, 0, BAD) * 65],
        CALM,
    ),
    # 7: error codes
    "http2/7/1 GOAWAY of an unknown code": (
        [frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\xff"), assert_leaving],
        NOTHING,
    ),
    # 8: messages
    "http2/8.1/1 trailers that do not end their message": (
        [OPEN, data(), head([(b"a", b"b")])],
        STREAM_PROTOCOL,
    ),
    "http2/8.1 trailers after trailers": (
        [OPEN, head([(b"a", b"b")], WHOLE | END), head([(b"a", b"b")], WHOLE | END)],
        STREAM_CLOSED,
    ),
    "http2/8.1.2/1 a name in capitals": ([head([*POST, (b"X-Test", b"ok")])], STREAM_PROTOCOL),
    "http2/8.1.2.1/1 an unknown pseudo-header": (
        [head([*POST, (b":test", b"ok")])],
        STREAM_PROTOCOL,
    ),
    "http2/8.1.2.1/2 a response's pseudo-header": (
        [head([*POST, (b":status", b"200")])],
        STREAM_PROTOCOL,
    ),
    "http2/8.1.2.1/3 a pseudo-header in trailers": (
        [OPEN, head([(b":method", b"200")], WHOLE | END)],
        STREAM_PROTOCOL,
    ),
    "http2/8.1.2.1/4 a pseudo-header behind a field": (
        [head([*POST[:2], (b"x-test", b"ok"), *POST[2:]])],
        STREAM_PROTOCOL,
    ),
    "http2/8.1.2.2/1 a field of the connection's": (
        [head([*POST, (b"connection", b"keep-alive")])],
        STREAM_PROTOCOL,
    ),
    "http2/8.1.2.2/2 TE other than trailers": (
        [head([*POST, (b"te", b"trailers, deflate")])],
        STREAM_PROTOCOL,
    ),
    "http2/8.1.2.3/1 an empty path": ([head(replaced(b":path", b""))], STREAM_PROTOCOL),
    "http2/8.1.2.3/2 no method": ([head(without(b":method"))], STREAM_PROTOCOL),
    "http2/8.1.2.3/3 no scheme": ([head(without(b":scheme"))], STREAM_PROTOCOL),
    "http2/8.1.2.3/4 no path": ([head(without(b":path"))], STREAM_PROTOCOL),
    "http2/8.1.2.3/5 two methods": ([head([POST[0], *POST])], STREAM_PROTOCOL),
    "http2/8.1.2.3/6 two schemes": ([head([POST[1], *POST])], STREAM_PROTOCOL),
    "http2/8.1.2.3/7 two paths": ([head([POST[3], *POST])], STREAM_PROTOCOL),
    "http2/8.1.2.6/1 content-length and other DATA": (
        [head([*POST, LENGTH]), data(b"test", END)],
        STREAM_PROTOCOL,
    ),
    "http2/8.1.2.6/2 content-length and more DATA": (
        [head([*POST, LENGTH]), data(b"t"), data(b"est", END)],
        STREAM_PROTOCOL,
    ),
    "http2/8.5 a tunnel with a body": (
        [head([(b":method", b"CONNECT"), (b":authority", b"a:1"), LENGTH])],
        STREAM_PROTOCOL,
    ),
    "http2/8.5 an extended one with a body": (
        [head([(b":protocol", b"websocket"), *replaced(b":method", b"CONNECT"), LENGTH])],
        STREAM_PROTOCOL,
    ),
    "http2/8.5 a tunnel's trailers": (
        [
            head([(b":method", b"CONNECT"), (b":authority", b"a:1")]),
            accept,
            head([(b"a", b"b")], WHOLE | END),
        ],
        STREAM_PROTOCOL,
    ),
    # HPACK
    "hpack/2.3.3/1 an index beyond the table": (
        [frame(HEADERS, 5, BAD, block(POST) + b"\xfe")],
        COMPRESSION,
    ),
    "hpack/2.3.3/2 a name's index beyond the table": (
        [frame(HEADERS, 5, BAD, block(POST) + b"\x7f\x20\x01a")],
        COMPRESSION,
    ),
    "hpack/4.2/1 a resizing behind a field": (
        [frame(HEADERS, 5, BAD, block(POST) + b"\x20")],
        COMPRESSION,
    ),
    "hpack/5.2/1 padding of more than seven bits": (
        [frame(HEADERS, 5, BAD, block(POST) + b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff")],
        COMPRESSION,
    ),
    "hpack/5.2/2 padding of zeros": (
        [frame(HEADERS, 5, BAD, block(POST) + b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90")],
        COMPRESSION,
    ),
    "hpack/5.2/3 the end of string inside a string": (
        [
            frame(
                HEADERS,
                5,
                BAD,
                block(POST) + b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f",
            )
        ],
        COMPRESSION,
    ),
    "hpack/6.1/1 the index 0": ([frame(HEADERS, 5, BAD, block(POST) + b"\x80")], COMPRESSION),
    "hpack/6.3/1 a table beyond the bound": (
        [frame(HEADERS, 5, BAD, b"\x3f\xe2\x1f" + block(POST))],
        COMPRESSION,
    ),
    # Attacks that have a name
    "CVE-2019-9516 fields without a name": ([head([*POST, *[(b"", b"")] * 200])], STREAM_PROTOCOL),
    "CVE-2019-9516 more of them than are taken": (
        [head([*POST, *[(b"", b"")] * 300])],
        StreamBroken(ErrorCodes.ENHANCE_YOUR_CALM),
    ),
    "HPACK bomb": (
        [
            frame(
                HEADERS, 5, BAD, block(POST) + b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000 + b"\xbe" * 60
            )
        ],
        CALM,
    ),
    "HPACK resizings without end": (
        [frame(HEADERS, 5, BAD, b"\x20\x3f\xe1\x1f" * 4000 + block(GET))],
        Carried(),
    ),
    # What is odd and legal
    "generic/2/1 PRIORITY when idle": ([priority(0), GET_WHOLE], Carried()),
    "generic/2/2 WINDOW_UPDATE when half closed": ([GET_WHOLE, window(1, BAD)], Carried()),
    "generic/2/3 PRIORITY when half closed": ([GET_WHOLE, priority(0)], Carried()),
    "generic/2/5 PRIORITY when closed": ([HALF_CLOSED, answer, priority(0)], NOTHING),
    "generic/3.1/2 DATA in several frames": (
        [OPEN, data(), data(b"y"), data(b"z", END)],
        Carried(b"xyz"),
    ),
    "generic/3.1/3 DATA in padding": (
        [OPEN, data(b"\x06Test" + b"\0" * 6, PADDED | END)],
        Carried(b"Test"),
    ),
    "generic/3.2/2 HEADERS in padding": (
        [frame(HEADERS, WHOLE | END | PADDED, BAD, b"\x08" + block(GET) + b"\0" * 8)],
        Carried(),
    ),
    "generic/3.2/3 HEADERS of some priority": (
        [head(GET, WHOLE | END | PRIORITIZED, before=b"\0\0\0\0\xff")],
        Carried(),
    ),
    "generic/3.2 HEADERS of some priority in padding": (
        [frame(HEADERS, 0x2D, BAD, b"\x02\x80\0\0\1\0" + block(GET) + b"\0\0")],
        Carried(),
    ),
    "generic/3.3/1 PRIORITY 1": ([priority(0, weight=0), GET_WHOLE], Carried()),
    "generic/3.3/2 PRIORITY 256": ([priority(0, weight=255), GET_WHOLE], Carried()),
    "generic/3.3/3 PRIORITY that depends on another": ([priority(OTHER), GET_WHOLE], Carried()),
    "generic/3.3/4 PRIORITY that excludes the others": (
        [priority(2**31 | OTHER), GET_WHOLE],
        Carried(),
    ),
    "generic/3.3/5 PRIORITY of a later stream": ([priority(0, stream=99), GET_WHOLE], Carried()),
    "generic/3.9/1 WINDOW_UPDATE for the connection": ([window(1, 0), GET_WHOLE], Carried()),
    "generic/3.10/1 CONTINUATION": (
        [
            frame(HEADERS, END, BAD, block(GET[:2])),
            frame(CONTINUATION, WHOLE, BAD, block(GET[2:])),
        ],
        Carried(),
    ),
    "generic/3.10/2 several CONTINUATIONs": (
        [
            frame(HEADERS, END, BAD, block(GET)[:7]),
            frame(CONTINUATION, 0, BAD, block(GET)[7:9]),
            frame(CONTINUATION, 0, BAD),
            frame(CONTINUATION, WHOLE, BAD, block(GET)[9:]),
        ],
        Carried(),
    ),
    "generic/4/2 HEAD": ([head(replaced(b":method", b"HEAD"), WHOLE | END)], Carried()),
    "generic/4/4 POST with trailers": (
        [OPEN, data(b"test"), head([(b"x-test", b"ok")], WHOLE | END)],
        Carried(b"test", Headers([(b"x-test", b"ok")])),
    ),
    "generic/5/1 indexed fields": ([frame(HEADERS, 5, BAD, b"\x82\x86\x84\x01\x01a")], Carried()),
    "generic/5/2 literals that are indexed": (
        [frame(HEADERS, 5, BAD, b"\x82\x86\x84\x41\x01a\x40\x01b\x01c\xbe")],
        Carried(),
    ),
    "generic/5/4 literals in Huffman's code": (
        [
            frame(
                HEADERS,
                5,
                BAD,
                b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
            )
        ],
        Carried(),
    ),
    "generic/5/10 literals that are never indexed": (
        [frame(HEADERS, 5, BAD, b"\x82\x86\x84\x11\x01a\x10\x01b\x01c")],
        Carried(),
    ),
    "generic/5/14 a resizing": ([frame(HEADERS, 5, BAD, b"\x20\x82\x86\x84\x01\x01a")], Carried()),
    "generic/5/15 several resizings": (
        [frame(HEADERS, 5, BAD, b"\x20\x3f\xe1\x1f\x82\x86\x84\x01\x01a")],
        Carried(),
    ),
}


def serving(engine: type[Engine] = OwnEngine) -> Http2Server:
    """A server that has read a client's opening, and a request whose body is to come."""
    server = Http2Server(Limits(), engine)
    server.receive(frames.PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0))
    server.receive(head(stream=OTHER))
    server.outbox()
    return server


def asking(engine: type[Engine]) -> Http2Client:
    """A client that has read a server's opening, and has sent two heads."""
    client = Http2Client(Limits(), engine)
    client.receive(frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0))
    for stream in (OTHER, BAD):
        client.send_head(stream, ASK, ended=False)
    client.outbox()
    return client


def told(codec: Codec, steps: Sequence[Step], size: int) -> list[Event]:
    """What comes of `steps`, their bytes in pieces of `size`."""
    events: list[Event] = []
    for step in steps:
        if isinstance(step, bytes):
            for at in range(0, len(step), size):
                events += codec.receive(step[at : at + size])
        else:
            step(codec)
    return events


def check(codec: Codec, steps: Sequence[Step], size: int, expected: Outcome) -> None:
    """Hold what comes of `steps` against what is expected, and the other stream's life with it."""
    if isinstance(expected, ConnectionBroken):
        with pytest.raises(ProxyError):
            told(codec, steps, size)
        last = said(codec)[-1]
        assert (last.kind, int.from_bytes(last.payload[4:8])) == (GOAWAY, expected.code)
        assert codec.finished
        return
    events = told(codec, steps, size)
    answers = said(codec)
    match expected:
        case StreamBroken(code):
            assert answers == [Frame(RST, 0, BAD, code.to_bytes(4, "big"))]
            assert codec.room(BAD) == 0
            assert {each.stream for each in events if isinstance(each, Failed | Refused)} <= {BAD}
        case Nothing():
            assert answers == []
        case Answered(due):
            assert (tuple(answers), events) == (due, [])
        case Carried(body, trailers):
            assert answers == []
            assert_carried(events, body, trailers)
        case _:
            assert_never(expected)
    assert_alive(codec)


def assert_carried(events: Iterable[Event], body: bytes, trailers: Headers) -> None:
    opened, *rest = (each for each in events if not isinstance(each, Room))
    assert isinstance(opened, RequestStarted | ResponseStarted)
    *parts, last = rest or [opened]
    assert b"".join(part.data for part in parts if isinstance(part, Data)) == body
    assert last == (Ended(BAD, trailers) if rest else opened)
    assert rest or opened.ended


def assert_alive(codec: Codec) -> None:
    """The other stream goes on in both directions."""
    opening = [] if isinstance(codec, Http2Server) else [head(OK, stream=OTHER)]
    events = told(codec, [*opening, data(b"on we go", END, OTHER)], 9999)
    assert events[-2:] == [Data(OTHER, b"on we go", 8), Ended(OTHER, NO_HEADERS)]
    assert codec.room(OTHER) > 0


ENGINES = pytest.mark.parametrize("engine", [OwnEngine, LibraryEngine])
SIZES = pytest.mark.parametrize("size", [1, 9999], ids=["byte by byte", "whole"])


@pytest.mark.parametrize(
    ("steps", "expected"), [pytest.param(*case, id=name) for name, case in SERVER.items()]
)
@SIZES
@ENGINES
def test_a_server_does_as_the_rfc_says(
    steps: list[Step], expected: Outcome, size: int, engine: type[Engine]
) -> None:
    check(serving(engine), steps, size, expected)


LINKS = head([(b":status", b"103"), (b"link", b"</a>")])
BEGUN = head(OK)
TRAILERS = head([(b"a", b"b")], WHOLE | END)

CLIENT: dict[str, tuple[list[Step], Outcome]] = {
    "5.1 DATA before the head": ([data()], STREAM_PROTOCOL),
    "5.1 the end before the head": ([data(b"", END)], STREAM_PROTOCOL),
    "5.1 DATA after an informational head": ([LINKS, data()], STREAM_PROTOCOL),
    "5.1 DATA after the end": ([BEGUN, data(flags=END), data()], STREAM_CLOSED),
    "5.1 HEADERS after the end": ([BEGUN, data(flags=END), TRAILERS], STREAM_CLOSED),
    "5.1 HEADERS when closed": ([complete, BEGUN, TRAILERS, BEGUN], CLOSED),
    "5.1 DATA after our RST_STREAM": ([BEGUN, give_up, data(), data(flags=END)], NOTHING),
    "5.1 a response after our RST_STREAM": ([give_up, LINKS, BEGUN, TRAILERS], NOTHING),
    "5.1 DATA on an idle stream": ([data(stream=99)], PROTOCOL),
    "5.1.1 a response to nothing": ([head(OK, stream=99)], PROTOCOL),
    "5.1.1 a request": ([head(GET, stream=2)], PROTOCOL),
    "5.1.1 RST_STREAM of a server's number": ([reset(2)], PROTOCOL),
    "5.3.1 a response that depends on itself": (
        [head(OK, WHOLE | PRIORITIZED, before=b"\0\0\0\3\x0f")],
        STREAM_PROTOCOL,
    ),
    "5.3.1 PRIORITY that depends on itself": ([priority(BAD)], STREAM_PROTOCOL),
    "6.3 PRIORITY of a wrong length": ([frame(PRIORITY, 0, BAD, b"\0" * 6)], STREAM_FRAME_SIZE),
    "6.5 SETTINGS, acknowledged with a payload": (
        [frame(SETTINGS, ACK, 0, b"\0\4\0\0\0\0")],
        FRAME_SIZE,
    ),
    "6.5.2 ENABLE_PUSH by a server": ([setting(2, 1)], PROTOCOL),
    "6.6 PUSH_PROMISE": ([frame(PUSH, WHOLE, BAD, b"\0\0\0\2" + block(GET))], PROTOCOL),
    "6.7 PING, acknowledged though never sent": ([frame(PING, ACK, 0, b"12345678")], NOTHING),
    "6.9 no increment for a stream": ([window(0, BAD)], STREAM_PROTOCOL),
    "6.9.1 a stream's window beyond the largest": ([window(LARGEST, BAD)], STREAM_FLOW),
    "8.1 trailers that do not end their message": (
        [BEGUN, head([(b"a", b"b")])],
        STREAM_PROTOCOL,
    ),
    "8.1 trailers that end nothing of a whole request": (
        [complete, BEGUN, head([(b"a", b"b")])],
        STREAM_PROTOCOL,
    ),
    "8.1 an informational response that ends": (
        [head([(b":status", b"103")], WHOLE | END)],
        STREAM_PROTOCOL,
    ),
    "8.1 an informational response behind the final one": ([BEGUN, LINKS], STREAM_PROTOCOL),
    "8.1 two final responses": ([BEGUN, BEGUN], STREAM_PROTOCOL),
    "8.1 informational responses without end": (
        [LINKS * 33],
        StreamBroken(ErrorCodes.ENHANCE_YOUR_CALM),
    ),
    "8.1 a final response in trailers": ([BEGUN, head(OK, WHOLE | END)], STREAM_PROTOCOL),
    "8.3.2 no status": ([head([(b"a", b"b")])], STREAM_PROTOCOL),
    "8.3.2 an empty head": ([head([])], STREAM_PROTOCOL),
    "8.3.2 a request's pseudo-header": ([head([*OK, (b":path", b"/")])], STREAM_PROTOCOL),
    "8.1.1 an informational response of some length": (
        [head([(b":status", b"103"), LENGTH])],
        STREAM_PROTOCOL,
    ),
    "8.1.1 no content of some length": ([head([(b":status", b"204"), LENGTH])], STREAM_PROTOCOL),
    "8.1.1 no content, said twice": (
        [head([(b":status", b"204"), (b"content-length", b"0")], WHOLE | END)],
        Carried(),
    ),
    "8.6 a switch of protocols": ([head([(b":status", b"101")])], STREAM_PROTOCOL),
    "8.1 a response in full": (
        [BEGUN, data(b"body"), TRAILERS],
        Carried(b"body", Headers([(b"a", b"b")])),
    ),
}


@pytest.mark.parametrize(
    ("steps", "expected"), [pytest.param(*case, id=name) for name, case in CLIENT.items()]
)
@SIZES
@ENGINES
def test_a_client_does_as_the_rfc_says(
    steps: list[Step], expected: Outcome, size: int, engine: type[Engine]
) -> None:
    check(asking(engine), steps, size, expected)


def test_the_last_of_several_values_of_a_setting_counts() -> None:
    server = serving()
    told(server, [frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0" + b"\0\4\0\0\0\1"), OPEN], 9999)
    assert server.room(BAD) == 1


def test_no_block_is_too_late_to_be_decoded() -> None:
    """What a stream that was reset adds to the table is what later streams refer to."""
    server = serving()
    told(server, [OPEN, give_up], 9999)
    told(server, [frame(HEADERS, WHOLE | END, BAD, b"\x40\x01a\x01b")], 9999)
    (started,) = told(server, [frame(HEADERS, WHOLE | END, 5, block(GET) + b"\xbe")], 9999)
    assert isinstance(started, RequestStarted)
    assert started.head.headers == Headers([(b"a", b"b")])


@pytest.mark.slow
def test_streams_that_were_given_up_are_remembered_within_bounds() -> None:
    server = Http2Server(Limits(resets=10**6))
    server.receive(frames.PREFACE + frame(SETTINGS, 0, 0))
    for stream in range(1, 2 * CLOSED_STREAMS + 3, 2):
        server.receive(head(stream=stream))
        server.send_reset(stream)
    server.outbox()
    assert server.receive(data(stream=3)) == []
    assert server.outbox() == b""
    assert server.receive(data(stream=1)) == []
    assert said(server) == [Frame(RST, 0, 1, ErrorCodes.STREAM_CLOSED.to_bytes(4, "big"))]
