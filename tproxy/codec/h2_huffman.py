"""HPACK's Huffman code, read a byte at a time (RFC 7541, 5.2)."""

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import (
    HUFFMAN_COMPLETE,
    HUFFMAN_EMIT_SYMBOL,
    HUFFMAN_FAIL,
    HUFFMAN_TABLE,
)

REMEMBERED_STEPS = 16384
"""Of the 65536 steps that there are: text needs a few thousand."""


class Machine:
    """hpack's machine, whose table goes by half bytes. What changes: which steps of whole bytes are remembered."""

    def __init__(self) -> None:
        self.states = [_State(number, self) for number in range(len(HUFFMAN_TABLE) // 16)]
        self._remembered = 0

    def step(self, number: int, byte: int) -> tuple["_State", bytes, bool]:
        """Go on from a state."""
        text, flags = b"", 0
        for half in (byte >> 4, byte & 0xF):
            number, flags, symbol = HUFFMAN_TABLE[number * 16 + half]
            if flags & HUFFMAN_FAIL:
                raise HPACKDecodingError("Invalid Huffman string")
            if flags & HUFFMAN_EMIT_SYMBOL:
                text += bytes((symbol,))
        self._make_room()
        return self.states[number], text, bool(flags & HUFFMAN_COMPLETE)

    def _make_room(self) -> None:
        if self._remembered >= REMEMBERED_STEPS:
            self._remembered = 0
            for state in self.states:
                state.clear()
        self._remembered += 1


class _State(dict[int, tuple["_State", bytes, bool]]):
    """Where each byte leads, what text it completes, and whether that may end there."""

    __slots__ = ("_machine", "_number")

    def __init__(self, number: int, machine: Machine) -> None:
        super().__init__()
        self._number = number
        self._machine = machine

    def __missing__(self, byte: int) -> tuple["_State", bytes, bool]:
        """Take a step for the first time."""
        self[byte] = step = self._machine.step(self._number, byte)
        return step


_START = Machine().states[0]


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
