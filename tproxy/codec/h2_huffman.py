"""HPACK's Huffman code, read a byte at a time (RFC 7541, 5.2)."""

from typing import NamedTuple

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import (
    HUFFMAN_COMPLETE,
    HUFFMAN_EMIT_SYMBOL,
    HUFFMAN_FAIL,
    HUFFMAN_TABLE,
)

REMEMBERED_STEPS = 8192
"""Of the 65536 steps that there are: text needs a few thousand."""


class _Step(NamedTuple):
    """Where a byte leads to, what it completes on the way, and whether the text may end there."""

    state: int
    text: bytes
    complete: bool


class _Steps(dict[int, _Step]):
    """Steps by the state that they leave, times 256, and the byte. What changes: which were taken lately."""

    def __missing__(self, key: int) -> _Step:
        """Take a step in hpack's table, which goes by half bytes."""
        state, byte = divmod(key, 256)
        text = b""
        flags = 0
        for half in (byte >> 4, byte & 0xF):
            state, flags, symbol = HUFFMAN_TABLE[state * 16 + half]
            if flags & HUFFMAN_FAIL:
                raise HPACKDecodingError("Invalid Huffman string")
            if flags & HUFFMAN_EMIT_SYMBOL:
                text += bytes((symbol,))
        if len(self) >= REMEMBERED_STEPS:
            self.clear()
        self[key] = step = _Step(state, text, bool(flags & HUFFMAN_COMPLETE))
        return step


_STEPS = _Steps()


def decode_huffman(octets: bytes) -> bytes:
    """Return the text that `octets` stand for; HPACKDecodingError when they stand for none."""
    state, complete = 0, True
    texts: list[bytes] = []
    for byte in octets:
        state, text, complete = _STEPS[state << 8 | byte]
        texts.append(text)
    if not complete:
        raise HPACKDecodingError("Incomplete Huffman string")
    return b"".join(texts)
