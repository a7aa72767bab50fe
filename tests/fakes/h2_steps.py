"""What may happen to one side of an HTTP/2 connection, in any order, for hypothesis to choose from."""

from hypothesis import strategies as st

from fakes.h2_peer import GET, OK, POST, block, frame
from tproxy.codec.codec import Codec
from tproxy.model.http import Headers, RequestHead, ResponseHead

STREAMS = st.sampled_from([1, 3, 5])
FRAMES = st.builds(
    frame,
    st.sampled_from([0x0, 0x0, 0x2, 0x3, 0x4, 0x6, 0x7, 0x8]),
    st.sampled_from([0, 1]),
    st.sampled_from([0, 1, 3, 5]),
    st.sampled_from(
        [
            *(b"", b"\0\0\0\0", b"\0\0\0\1", b"\0\0\1\x99", b"\x7f\xff\xff\xff"),
            *(b"\0\0\0\0\0", b"\0\0\0\3\0", b"12345678"),
        ]
    ),
)


SETTINGS = st.builds(
    lambda code, value: frame(0x4, 0, 0, code.to_bytes(2) + value.to_bytes(4)),
    st.integers(0, 9),
    st.sampled_from([0, 1, 2, 100, 16384, 70000, 2**24, 2**31 - 1, 2**32 - 1]),
)


HEADS = st.builds(
    frame,
    st.just(0x1),
    st.sampled_from([4, 5]),
    STREAMS,
    st.sampled_from(
        [
            block(GET),
            block(OK),
            block(((b"a", b"b"),)),
            block(((b"A", b"b"),)),
            block(((b":status", b"103"),)),
            block((*POST, (b"content-length", b"8"))),
            block((*OK, (b"content-length", b"8"))),
        ]
    ),
)
ACTS = st.sampled_from(["head", "end", "data", "all", "reset", "refuse", "farewell"])
STEPS = st.lists(
    st.one_of(HEADS, HEADS, FRAMES, FRAMES, SETTINGS, st.tuples(ACTS, STREAMS)), max_size=14
)


def act(codec: Codec, what: str, stream: int, head: RequestHead | ResponseHead) -> None:
    """Do what a driver may do at any time, whatever has become of the stream."""
    match what:
        case "head" | "all":
            codec.send_head(stream, head, ended=what == "all")
        case "data":
            codec.send_data(stream, b"x" * min(9, codec.room(stream)))
        case "end":
            codec.send_end(stream, Headers([(b"a", b"b")]))
        case "farewell":
            codec.farewell()
        case _:
            codec.send_reset(stream, refused=what == "refuse")
