"""Frame boundaries: what is refused before it is waited for, and the frames that h2 does not see."""

from itertools import chain, pairwise

import pytest
from h2.errors import ErrorCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.h2_peer import frame
from tproxy.codec import h2_frames as frames
from tproxy.codec.h2_frames import Body, Broken, Frame, FrameReader, GoAway

SETTINGS = frame(frames.SETTINGS, 0, 0)
OPENING = frames.PREFACE + SETTINGS


def reader(*, preface: bytes = frames.PREFACE) -> FrameReader:
    return FrameReader(preface=preface, frame_bytes=100, block_bytes=150)


def test_frames_come_out_whole_with_their_header_read() -> None:
    data = frame(frames.DATA, 1, 5, b"body")
    told = list(reader().feed(OPENING + data))
    assert told == [Frame(frames.SETTINGS, 0, 0, b""), Frame(frames.DATA, 1, 5, b"body")]
    assert told[1].octets == data


@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, 80), max_size=8))
def test_frames_are_the_same_however_the_bytes_arrive(cuts: list[int]) -> None:
    wire = OPENING + frame(frames.DATA, 0, 1, b"x" * 20) + frame(0x6, 0, 0, b"12345678")
    edges = [0, *sorted(cuts), len(wire)]
    in_pieces = reader()
    pieces = [
        given_frame
        for start, end in pairwise(edges)
        for given_frame in in_pieces.feed(wire[start:end])
    ]
    assert pieces == list(reader().feed(wire))


BROKEN = [
    pytest.param(b"GET / HTTP/1.1\r\n", ErrorCodes.PROTOCOL_ERROR, id="another-protocol"),
    pytest.param(b"PRI * HTTP/2.1", ErrorCodes.PROTOCOL_ERROR, id="preface-that-goes-astray"),
    pytest.param(
        frames.PREFACE + frame(frames.HEADERS, 4, 1), ErrorCodes.PROTOCOL_ERROR, id="no-settings"
    ),
    pytest.param(
        frames.PREFACE + frame(frames.SETTINGS, frames.ACK, 0),
        ErrorCodes.PROTOCOL_ERROR,
        id="acknowledgement-of-nothing",
    ),
    pytest.param(
        OPENING + frame(frames.DATA, 0, 1, b"x" * 101)[:9],
        ErrorCodes.FRAME_SIZE_ERROR,
        id="announced-too-long",
    ),
    pytest.param(
        OPENING
        + frame(frames.HEADERS, 0, 1, b"x" * 100)
        + frame(frames.CONTINUATION, 0, 1, b"x" * 51)[:9],
        ErrorCodes.ENHANCE_YOUR_CALM,
        id="endless-header-block",
    ),
]


@pytest.mark.parametrize(("wire", "code"), BROKEN)
def test_what_cannot_be_a_frame_is_refused_at_its_first_sign(wire: bytes, code: ErrorCodes) -> None:
    with pytest.raises(Broken) as whole:
        list(reader().feed(wire))
    in_bytes = reader()
    with pytest.raises(Broken) as piecewise:
        list(chain(*(in_bytes.feed(wire[at : at + 1]) for at in range(len(wire)))))
    assert whole.value.code == piecewise.value.code == code


def test_a_header_block_ends_with_its_last_continuation() -> None:
    blocks = reader()
    states = [
        blocks.in_block
        for _ in blocks.feed(
            OPENING
            + frame(frames.HEADERS, 0, 1, b"x" * 90)
            + frame(frames.CONTINUATION, frames.END_HEADERS, 1, b"x" * 60)
            + frame(frames.HEADERS, frames.END_HEADERS, 3, b"x" * 90)
        )
    ]
    assert states == [False, True, False, False]


def test_goaway_is_read_as_it_is_written() -> None:
    told = reader(preface=b"").feed(SETTINGS + frames.goaway(7, ErrorCodes.NO_ERROR))
    assert [frames.read_goaway(each) for each in list(told)[1:]] == [GoAway(7)]


@pytest.mark.parametrize(
    ("stream", "payload", "code"),
    [
        pytest.param(1, b"\0" * 8, ErrorCodes.PROTOCOL_ERROR, id="on-a-stream"),
        pytest.param(0, b"\0" * 7, ErrorCodes.FRAME_SIZE_ERROR, id="too-short"),
    ],
)
def test_a_goaway_that_says_nothing_is_refused(
    stream: int, payload: bytes, code: ErrorCodes
) -> None:
    with pytest.raises(Broken) as refused:
        frames.read_goaway(Frame(frames.GOAWAY, 0, stream, payload))
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("flags", "payload", "expected"),
    [
        pytest.param(0, b"body", Body(1, b"body", 4, ended=False), id="plain"),
        pytest.param(1, b"", Body(1, b"", 0, ended=True), id="the-end-alone"),
        pytest.param(8, b"\x02body\0\0", Body(1, b"body", 7, ended=False), id="padded"),
        pytest.param(9, b"\x00body", Body(1, b"body", 5, ended=True), id="padded-with-nothing"),
        pytest.param(8, b"\x02\0\0", Body(1, b"", 3, ended=False), id="all-padding"),
    ],
)
def test_content_comes_out_of_its_padding(flags: int, payload: bytes, expected: Body) -> None:
    assert frames.read_data(Frame(frames.DATA, flags, 1, payload)) == expected


@pytest.mark.parametrize(
    ("stream", "payload"),
    [
        pytest.param(0, b"\0x", id="on-no-stream"),
        pytest.param(1, b"", id="no-padding-length"),
        pytest.param(1, b"\x03abc"[:3], id="padding-longer-than-the-frame"),
    ],
)
def test_content_that_is_all_wrong_is_refused(stream: int, payload: bytes) -> None:
    with pytest.raises(Broken):
        frames.read_data(Frame(frames.DATA, frames.PADDED, stream, payload))


def test_only_settings_that_somebody_reads_go_on() -> None:
    window, unknown = b"\0\4\0\1\0\0", b"\x10\4\0\0\0\1"
    said = Frame(frames.SETTINGS, 0, 0, unknown + window + unknown)
    assert frames.known_settings(said) == frame(frames.SETTINGS, 0, 0, window)


def test_settings_of_no_whole_number_go_on_to_be_refused() -> None:
    said = Frame(frames.SETTINGS, 0, 0, b"\0\4\0")
    assert frames.known_settings(said) == said.octets
