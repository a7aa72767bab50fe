"""Our HPACK against hpack's: whatever one writes the other reads, and both refuse the same."""

from collections.abc import Sequence

import pytest
from hpack import Decoder, Encoder, HeaderTuple, HPACKError, NeverIndexedHeaderTuple
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman as hpack_decode_huffman
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fakes.h2_peer import GET, block
from tproxy.codec import h2_huffman
from tproxy.codec.h2_compression import (
    KNOWN_BLOCKS,
    REMEMBERED_VALUE_BYTES,
    TABLE_BYTES,
    FieldDecoder,
    FieldEncoder,
    list_size,
)
from tproxy.codec.h2_frames import Broken
from tproxy.codec.h2_huffman import decode_huffman
from tproxy.model.http import Field

LARGE = 1 << 20
HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)

NAMES = st.sampled_from([b":path", b":status", b"cookie", b"etag", b"x-a", b"x-b", b"x" * 200])
VALUES = st.one_of(
    st.sampled_from([b"", b"/", b"200", b"a", b"b" * 126, b"c" * 127, b"d" * 4000, b"e" * 5000]),
    st.binary(max_size=40),
)
PLAIN = st.tuples(NAMES, VALUES)
FIELDS = st.one_of(PLAIN, PLAIN, st.builds(NeverIndexedHeaderTuple, NAMES, VALUES))
BLOCKS = st.lists(st.lists(FIELDS, max_size=8), max_size=6)
SIZES = st.lists(st.integers(0, 5000), max_size=3)
STEPS = st.lists(st.tuples(SIZES, st.lists(FIELDS, max_size=6)), max_size=6)


def kept_from_tables(fields: list[Field]) -> list[bool]:
    return [isinstance(field, NeverIndexedHeaderTuple) for field in fields]


@pytest.mark.slow
@settings(deadline=None)
@given(blocks=BLOCKS, huffman=st.booleans())
def test_what_hpack_writes_is_read(blocks: list[list[Field]], huffman: bool) -> None:
    encoder, decoder = Encoder(), FieldDecoder(LARGE)
    for fields in blocks:
        assert decoder.decode(encoder.encode(fields, huffman=huffman)).fields == fields


@pytest.mark.slow
@settings(deadline=None)
@given(steps=STEPS)
def test_what_is_written_is_read_by_hpack_and_by_us(
    steps: list[tuple[list[int], list[Field]]],
) -> None:
    encoder, hpack, ours = FieldEncoder(), Decoder(LARGE), FieldDecoder(LARGE)
    for sizes, fields in steps:
        for size in sizes:
            encoder.header_table_size = size
        block = encoder.encode(fields)
        assert list(hpack.decode(block, raw=True)) == fields
        read = ours.decode(block)
        assert (read.fields, read.size) == (fields, list_size(fields))
        assert kept_from_tables(read.fields) == kept_from_tables(fields)
        assert encoder._size == ours._size == hpack.header_table._current_size
        assert encoder._size <= encoder.header_table_size


@settings(deadline=None, max_examples=400)
@given(block=st.binary(max_size=60))
@example(block=b"\x80")
@example(block=b"\xff\x80\x00")
@example(block=b"\x82\x20")
@example(block=b"\x3f\xe2\x1f")
@example(block=b"\x00\x01a\x81\xff")
@example(block=b"\x00\x01a\x82\xff\xff")
@example(block=b"\x00\x05a")
@example(block=b"\x40")
@example(block=b"\x7f")
def test_what_hpack_refuses_is_refused(block: bytes) -> None:
    try:
        fields = list(Decoder(LARGE).decode(block, raw=True))
    except HPACKError:
        with pytest.raises(Broken, match="compression_error"):
            FieldDecoder(LARGE).decode(block)
        return
    assert FieldDecoder(LARGE).decode(block).fields == fields


def test_a_block_that_comes_again_is_read_once() -> None:
    encoder, decoder = FieldEncoder(), FieldDecoder(LARGE)
    decoder.decode(encoder.encode([*GET, (b"a", b"b")]))
    reads: list[int] = []

    def count(fields: Sequence[Field]) -> int:
        reads.append(len(fields))
        return len(reads)

    block = encoder.encode([*GET, (b"a", b"b")])
    assert [decoder.decode(block).read(count) for _ in range(3)] == [1, 1, 1]
    decoder.decode(encoder.encode([(b"c", b"d")]))
    assert decoder.decode(block).fields == [*GET[:2], (b"a", b"b"), GET[3], (b"c", b"d")]
    decoder.decode(b"\x20")
    with pytest.raises(Broken, match="compression_error"):
        decoder.decode(block)


def test_no_more_blocks_are_remembered_than_there_is_room_for() -> None:
    decoder = FieldDecoder(LARGE)
    for number in range(100):
        decoder.decode(block([(b"a", b"%d" % number)]))
        assert 0 < len(decoder._known) <= KNOWN_BLOCKS
    decoder = FieldDecoder(LARGE)
    decoder.decode(block([(b"a", b"b" * 100)] * 6))
    decoder.decode(FieldEncoder().encode([NeverIndexedHeaderTuple(b"a", b"secret")]))
    assert not decoder._known


def test_an_integer_that_goes_on_too_long_is_refused() -> None:
    with pytest.raises(Broken, match="compression_error"):
        FieldDecoder(LARGE).decode(b"\xff\x80\x80\x80\x80\x00")


def test_a_block_that_grows_beyond_its_bound_is_refused() -> None:
    encoder = Encoder()
    fields = [(b"name", b"x" * 1000)] * 20
    block = encoder.encode(fields)
    assert len(block) < 1000
    assert FieldDecoder(list_size(fields)).decode(block).fields == fields
    with pytest.raises(Broken, match="headers_too_large"):
        FieldDecoder(list_size(fields) - 1).decode(block)


def test_no_more_of_a_block_is_read_than_what_refuses_it() -> None:
    with pytest.raises(Broken, match="headers_too_large"):
        FieldDecoder(320).decode(b"\x82" * 11 + b"\xff")


def test_what_seldom_comes_again_leaves_the_table_to_the_rest() -> None:
    encoder = FieldEncoder()
    steady = [(b"user-agent", b"a client"), (b"x-tenant", b"shop")]
    encoder.encode([*GET, *steady])
    size = encoder._size
    for number in range(200):
        block = encoder.encode([*steady, (b"x-request-id", b"%d" % number), (b"etag", b"y" * 3500)])
        assert block[:2] == b"\xbf\xbe"
    assert encoder._size == size


def test_what_comes_again_after_all_enters_the_table() -> None:
    encoder = FieldEncoder()
    path = [(b":path", b"/shop.Cart/GetItem")]
    blocks = [encoder.encode(path) for _ in range(3)]
    assert [block[:1] for block in blocks] == [b"\x04", b"\x44", b"\xbe"]


def test_a_long_value_is_not_remembered() -> None:
    encoder = FieldEncoder()
    path = [(b":path", b"/" + b"x" * REMEMBERED_VALUE_BYTES)]
    assert encoder.encode(path) == encoder.encode(path)
    assert encoder._size == 0


def test_entries_far_down_the_table_are_found() -> None:
    encoder, decoder = FieldEncoder(), FieldDecoder(LARGE)
    fields = [(b"%d" % number, b"") for number in range(100)]
    for _ in range(2):
        block = encoder.encode(fields)
        assert decoder.decode(block).fields == fields
    assert len(block) < 200


def test_an_entry_that_takes_most_of_the_table_is_not_added() -> None:
    encoder = FieldEncoder()
    encoder.encode([(b"cookie", b"x" * (TABLE_BYTES * 3 // 4))])
    assert encoder._size == 0


def test_a_secret_goes_on_in_letters_even_where_the_static_table_has_it() -> None:
    block = FieldEncoder().encode([NeverIndexedHeaderTuple(b":method", b"GET")])
    assert block == b"\x12\x03GET"
    assert FieldEncoder().encode([HeaderTuple(b":method", b"GET")]) == b"\x82"


@given(text=st.binary(max_size=80))
def test_huffman_text_is_read_as_it_was_written(text: bytes) -> None:
    assert decode_huffman(HUFFMAN.encode(text)) == text


@settings(max_examples=400)
@given(octets=st.binary(max_size=8))
def test_huffman_text_means_what_hpack_says(octets: bytes) -> None:
    try:
        expected = hpack_decode_huffman(octets)
    except HPACKError:
        with pytest.raises(HPACKError):
            decode_huffman(octets)
        return
    assert decode_huffman(octets) == expected


def test_no_more_steps_are_remembered_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(h2_huffman, "REMEMBERED_STEPS", 16)
    states = h2_huffman.Machine().states
    for byte in range(60):
        assert states[0][byte] is states[0][byte]
        assert sum(map(len, states)) <= 16
