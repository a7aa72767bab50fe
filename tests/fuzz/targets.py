"""What the fuzzer feeds, and what must hold whatever it feeds.

Nothing but a ProxyError escapes; the bytes mean the same however they are cut, and whichever parser reads HTTP/1; no
more is held than the limits say and one read; and what is written can be read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

from hyperframe.frame import Frame

from fakes.readers import h11_requests, llhttp_responses
from fakes.wire import joined, parted
from tproxy.codec.codec import Codec
from tproxy.codec.events import Data, Ended, Event, Failed, Refused, RequestStarted
from tproxy.codec.h1 import Http1Client, Http1Server
from tproxy.codec.h1_h11 import H11
from tproxy.codec.h1_llhttp import LLHTTP
from tproxy.codec.h2_client import Http2Client
from tproxy.codec.h2_frames import PREFACE
from tproxy.codec.h2_opening import MIN_FRAME_BYTES
from tproxy.codec.h2_server import Http2Server
from tproxy.model.http import NO_HEADERS, Headers, HttpVersion, RequestHead, ResponseHead
from tproxy.model.limits import Limits
from tproxy.model.outcome import ProxyError
from tproxy.sniff.verdict import NEED_MORE, sniff

LIMITS = Limits(
    head_bytes=2048,
    header_fields=12,
    chunk_line_bytes=64,
    stream_window=4096,
    connection_window=65535,
    part_bytes=MIN_FRAME_BYTES,
    control_frames=50,
    resets=20,
    streams=4,
)
SNIFFED_BYTES = 1024
FRAME_HEADER = 9
FORBIDDEN = ResponseHead(403, NO_HEADERS, HttpVersion.HTTP11)

Check = Callable[[bytes, Sequence[int]], None]
"""Assert what must hold of these bytes, cut at these places."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a codec made of its peer's bytes."""

    events: list[Event]
    refused: tuple[int, str] | None
    """The status and the details of the error that ended the connection."""
    outbox: bytes
    answered: int


def pieces(data: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    """`data`, cut."""
    places = sorted({0, *(cut % (len(data) + 1) for cut in cuts), len(data)})
    return (data[start:end] for start, end in pairwise(places))


def listen(
    codec: Codec, data: bytes, cuts: Sequence[int], answer: Callable[[Codec, int], None]
) -> Told:
    """Feed `codec`; `answer` is given each request that is whole, and only codecs of one exchange at a time ask."""
    events: list[Event] = []
    answered = 0
    refused = None
    try:
        for piece in pieces(data, cuts):
            told = codec.receive(piece)
            while told:
                events += told
                parts = chain.from_iterable(map(parted, told))
                for number in (number for event in parts if (number := whole(event))):
                    answer(codec, number)
                    answered += 1
                told = codec.resume()
            assert held(codec) <= bound(codec) + len(piece)
    except ProxyError as error:
        refused = (error.status, error.details)
    return Told(joined(events), refused, codec.outbox(), answered)


def whole(event: Event) -> int:
    """The number of the request that `event` completes, or that waits for an answer before it goes on; 0 for none."""
    match event:
        case RequestStarted(stream=stream, head=head, ended=ended):
            return stream if ended or head.upgrade or head.method == b"CONNECT" else 0
        case Ended(stream=stream):
            return stream
        case _:
            return 0


def held(codec: Codec) -> int:
    """Bytes that wait in the codec for what comes behind them."""
    match codec:
        case Http1Server() | Http1Client():
            return len(codec._unread)
        case Http2Server() | Http2Client():
            return len(codec._link._frames._buffer)
        case _:
            raise AssertionError(codec)


def bound(codec: Codec) -> int:
    """What a codec may hold."""
    if isinstance(codec, Http2Server | Http2Client):
        return FRAME_HEADER + MIN_FRAME_BYTES
    return max(LIMITS.head_bytes, LIMITS.stream_window)


def check_alike(told: Told, other: Told) -> None:
    """What a read told before it failed is lost with it, so two refusals are compared by their words only."""
    assert told.refused == other.refused
    if told.refused is None:
        assert [by_words(event) for event in told.events] == [
            by_words(event) for event in other.events
        ]
        assert (told.outbox, told.answered) == (other.outbox, other.answered)


def by_words(event: Event) -> Event | tuple[type, int, str]:
    """Errors are compared by what they say."""
    match event:
        case Failed(stream=stream, error=error) | Refused(stream=stream, error=error):
            return type(event), stream, str(error)
        case _:
            return event


def forbid(codec: Codec, stream: int) -> None:
    """Answer with a refusal."""
    codec.send_head(stream, FORBIDDEN, ended=True)


def wait(_: Codec, __: int) -> None:
    """Answer later."""


def h1_server(data: bytes, cuts: Sequence[int]) -> None:
    """A downstream's HTTP/1."""
    told = listen(Http1Server(LIMITS, H11), data, cuts, forbid)
    check_alike(told, listen(Http1Server(LIMITS, H11), data, (), forbid))
    check_alike(told, listen(Http1Server(LIMITS, LLHTTP), data, cuts, forbid))
    refusals = told.refused is not None
    assert len(llhttp_responses(told.outbox)) == told.answered + refusals


def h1_client(data: bytes, cuts: Sequence[int]) -> None:
    """An upstream's HTTP/1."""
    told = listen(asking(Http1Client(LIMITS, H11)), data, cuts, wait)
    check_alike(told, listen(asking(Http1Client(LIMITS, H11)), data, (), wait))
    check_alike(told, listen(asking(Http1Client(LIMITS, LLHTTP)), data, cuts, wait))
    assert len(h11_requests(told.outbox)) == 1


def h2_server(data: bytes, cuts: Sequence[int]) -> None:
    """A downstream's HTTP/2."""
    told = listen(Http2Server(LIMITS), data, cuts, wait)
    check_alike(told, listen(Http2Server(LIMITS), data, (), wait))
    check_content(told)
    check_frames(told.outbox)


def h2_client(data: bytes, cuts: Sequence[int]) -> None:
    """An upstream's HTTP/2."""
    told = listen(asking(Http2Client(LIMITS)), data, cuts, wait)
    check_alike(told, listen(asking(Http2Client(LIMITS)), data, (), wait))
    check_content(told)
    assert told.outbox.startswith(PREFACE)
    check_frames(told.outbox.removeprefix(PREFACE))


def opening(data: bytes, cuts: Sequence[int]) -> None:
    """Whatever a connection begins with."""
    verdict = sniff(data, SNIFFED_BYTES)
    assert verdict is not NEED_MORE or len(data) < SNIFFED_BYTES
    for cut in cuts:
        assert sniff(data[: cut % (len(data) + 1)], SNIFFED_BYTES) in (NEED_MORE, verdict)


def asking(codec: Codec) -> Codec:
    """Send a request."""
    fields = Headers([(b"Host", b"a")])
    head = RequestHead(b"GET", b"http", b"a", b"/", fields, HttpVersion.HTTP11)
    codec.send_head(codec.next_stream(), head, ended=True)
    return codec


def check_content(told: Told) -> None:
    """Nobody consumes here, so no stream's content exceeds its window."""
    size: dict[int, int] = {}
    for event in told.events:
        if isinstance(event, Data):
            size[event.stream] = size.get(event.stream, 0) + len(event.data)
    assert all(each <= 65535 for each in size.values())


def check_frames(outbox: bytes) -> None:
    """Frames, whole ones, and nothing else."""
    octets = memoryview(outbox)
    while octets:
        frame, length = Frame.parse_frame_header(octets[:FRAME_HEADER])
        assert len(octets) >= FRAME_HEADER + length
        frame.parse_body(octets[FRAME_HEADER : FRAME_HEADER + length])
        octets = octets[FRAME_HEADER + length :]


TARGETS: Mapping[str, Check] = {
    "h1-server": h1_server,
    "h1-client": h1_client,
    "h2-server": h2_server,
    "h2-client": h2_client,
    "opening": opening,
}
