"""HPACK's Huffman code, read a byte at a time (RFC 7541, 5.2)."""

from typing import Self

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import (
    HUFFMAN_COMPLETE,
    HUFFMAN_EMIT_SYMBOL,
    HUFFMAN_FAIL,
    HUFFMAN_TABLE,
)

REMEMBERED_STEPS = 16384
"""Of the 65536 steps that there are: text needs a few thousand."""


class _State(dict[int, tuple["_State", bytes, bool]]):
    """Where each byte leads, what text it completes, and whether that may end there. What changes: what is remembered."""

    __slots__ = ("_all", "_number")

    def __init__(self, number: int, states: list[Self]) -> None:
        super().__init__()
        self._number = number
        self._all = states

    def __missing__(self, byte: int) -> tuple["_State", bytes, bool]:
        """Take a step in hpack's table, which goes by half bytes."""
        number, text, flags = self._number, b"", 0
        for half in (byte >> 4, byte & 0xF):
            number, flags, symbol = HUFFMAN_TABLE[number * 16 + half]
            if flags & HUFFMAN_FAIL:
                raise HPACKDecodingError("Invalid Huffman string")
            if flags & HUFFMAN_EMIT_SYMBOL:
                text += bytes((symbol,))
        self._make_room()
        self[byte] = step = self._all[number], text, bool(flags & HUFFMAN_COMPLETE)
        return step

    def _make_room(self) -> None:
        if sum(map(len, self._all)) >= REMEMBERED_STEPS:
            for state in self._all:
                state.clear()


def _states() -> list[_State]:
    states: list[_State] = []
    states.extend(_State(number, states) for number in range(len(HUFFMAN_TABLE) // 16))
    return states


_START = _states()[0]


def decode_huffman(octets: bytes) -> bytes:
    """Return the text that `octets` stand for; HPACKDecodingError when they stand for none."""
    state, complete = _START, True
    texts: list[bytes] = []
    for byte in octets:
        state, text, complete = state[byte]
        texts.append(text)
    if not complete:
        raise HPACKDecodingError("Incomplete Huffman string")
    return b"".join(texts)
