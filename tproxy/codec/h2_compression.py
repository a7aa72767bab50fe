"""HPACK with a table that no peer can make us fill, and with errors that end the connection (RFC 7541).

The rule that must not be broken: both ends' tables change by the same entries in the same order. So a block that
cannot be read whole ends the connection, and one that was written is sent.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TypeVar, cast

from h2.errors import ErrorCodes
from hpack import HPACKError, NeverIndexedHeaderTuple
from hpack.exceptions import HPACKDecodingError, InvalidTableIndexError
from hpack.table import HeaderTable

from tproxy.codec.h2_frames import Broken
from tproxy.codec.h2_huffman import decode_huffman
from tproxy.model.http import Field

TABLE_BYTES = 4096
"""The compression table we use even if the peer offers a larger one: it is our memory that it fills."""

ENTRY_OVERHEAD = 32
"""What a table's size counts for each entry besides its bytes (RFC 7541, 4.1)."""

VOLATILE = frozenset(
    {
        *(b":path", b"age", b"content-length", b"etag", b"location", b"set-cookie"),
        *(b"if-modified-since", b"if-none-match", b"range", b"content-range"),
        *(b"x-request-id", b"traceparent", b"b3", b"x-b3-traceid", b"x-b3-spanid"),
        *(b"x-b3-parentspanid", b"grpc-timeout", b"x-envoy-upstream-service-time"),
    }
)
"""Fields whose values seldom come again: in the table they would push out those that do, so they enter at the second time."""

REMEMBERED_VALUE_BYTES = 128
"""What is worth remembering of a volatile field's last value."""

KNOWN_BLOCKS = 16
"""Blocks that are remembered of one connection: the methods of a service, the heads of its answers."""

KNOWN_BLOCK_BYTES = 512
"""What is remembered of a connection is little beside what its table may hold."""

Read = TypeVar("Read")

_INDEXED = 0x80
_ADDED = 0x40
_RESIZED = 0x20
_NEVER_ADDED = 0x10
_HUFFMAN = 0x80

_LONGEST_INTEGER = 4
"""Bytes that an integer may go on in: more than any index or length that fits a block."""

_STATIC = HeaderTable.STATIC_TABLE
_FIRST_DYNAMIC = len(_STATIC) + 1
_STATIC_FIELDS = {field: index for index, field in enumerate(_STATIC, 1)}
_STATIC_NAMES = {name: index for index, (name, _) in reversed([*enumerate(_STATIC, 1)])}
_READABLE: tuple[Field, ...] = ((b"", b""), *_STATIC)
"""By index; the first is none."""


def list_size(fields: Iterable[Field]) -> int:
    """Measure a block as MAX_HEADER_LIST_SIZE does (RFC 9113, 6.5.2)."""
    lengths = [*map(len, chain.from_iterable(fields))]
    return sum(lengths) + len(lengths) // 2 * ENTRY_OVERHEAD


def _entry_size(field: Field) -> int:
    return len(field[0]) + len(field[1]) + ENTRY_OVERHEAD


class FieldList:
    """A block's fields. What changes: what they were read as, so that a block that comes again is not read again."""

    __slots__ = ("_read", "_reader", "fields", "size")

    def __init__(self, fields: list[Field]) -> None:
        self.fields = fields
        self.size = list_size(fields)
        """As MAX_HEADER_LIST_SIZE counts."""
        self._reader: object = None
        self._read: object = None

    def read(self, reader: Callable[[Sequence[Field]], Read]) -> Read:
        """Return what `reader` makes of the fields, which must depend on nothing else and never change."""
        if self._reader is not reader:
            self._read = reader(self.fields)
            self._reader = reader
        return cast("Read", self._read)


class FieldDecoder:
    """What changes: the table that every block of the connection adds to.

    A peer that has nothing to add to it sends the same bytes for the same fields.
    """

    def __init__(self, list_bytes: int) -> None:
        self._list_bytes = list_bytes
        self._known: dict[bytes, FieldList] = {}
        """Blocks that mean what they did until the table changes."""
        self._repeatable = True
        """Whether the block at hand left the table as it was, and held nothing that must not be remembered."""
        self._table: list[Field] = [*_READABLE]
        """Static entries, then what was added, newest first."""
        self._size = 0
        self._most = TABLE_BYTES

    def decode(self, block: bytes) -> FieldList:
        """Decompress a block; one that can not be has spoilt the table for all that follow (RFC 9113, 4.3)."""
        if (known := self._known.get(block)) is not None:
            return known
        self._repeatable = len(block) <= KNOWN_BLOCK_BYTES
        try:
            fields = FieldList(self._decoded(block))
        except IndexError as error:
            raise Broken(ErrorCodes.COMPRESSION_ERROR, cause="Truncated header block") from error
        except HPACKError as error:
            raise Broken(ErrorCodes.COMPRESSION_ERROR, cause=str(error)) from error
        if fields.size > self._list_bytes:
            raise Broken(ErrorCodes.ENHANCE_YOUR_CALM, "http2.headers_too_large")
        if self._repeatable:
            self._remember(block, fields)
        return fields

    def _remember(self, block: bytes, fields: FieldList) -> None:
        if len(self._known) >= KNOWN_BLOCKS:
            self._known.clear()
        self._known[block] = fields

    def _forget(self) -> None:
        self._repeatable = False
        self._known.clear()

    def _decoded(self, block: bytes) -> list[Field]:
        table = self._table
        fields: list[Field] = []
        at, end, most = 0, len(block), self._list_bytes // ENTRY_OVERHEAD
        while at < end and len(fields) <= most:  # beyond, it is refused whatever follows
            first = block[at]
            if _INDEXED < first < 0xFF and first & 0x7F < len(table):
                fields.append(table[first & 0x7F])
                at += 1
            elif first & 0xE0 == _RESIZED:
                at = self._resize(block, at, begun=bool(fields))
            else:
                field, at = self._field(block, at)
                fields.append(field)
        return fields

    def _resize(self, block: bytes, at: int, *, begun: bool) -> int:
        size, at = _read_integer(block, at, 0x1F)
        if begun or size > TABLE_BYTES:
            raise HPACKDecodingError("Table resized where or as it may not be")
        self._forget()
        self._most = size
        self._evict()
        return at

    def _field(self, block: bytes, at: int) -> tuple[Field, int]:
        first = block[at]
        if first & _INDEXED:
            index, at = _read_integer(block, at, 0x7F)
            return self._entry(index), at
        most = 0x3F if first & _ADDED else 0xF
        index = first & most
        if index < most:
            at += 1
        else:
            index, at = _read_integer(block, at, most)
        if index:
            name = self._entry(index)[0]
        else:
            name, at = _read_string(block, at)
        value, at = _read_string(block, at)
        if first & _ADDED:
            self._add((name, value))
        elif first & _NEVER_ADDED:
            self._repeatable = False
            return NeverIndexedHeaderTuple(name, value), at
        return (name, value), at

    def _entry(self, index: int) -> Field:
        if not 0 < index < len(self._table):
            raise InvalidTableIndexError(f"Invalid table index {index}")
        return self._table[index]

    def _add(self, field: Field) -> None:
        self._forget()
        self._table.insert(_FIRST_DYNAMIC, field)
        self._size += _entry_size(field)
        self._evict()

    def _evict(self) -> None:
        """Drop the oldest entries, of which the last one added may be one, until the others fit."""
        while self._size > self._most:
            self._size -= _entry_size(self._table.pop())


def _read_integer(block: bytes, at: int, most: int) -> tuple[int, int]:
    """Read an integer whose first byte holds up to `most` of it, and say where the next thing begins."""
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    for place in range(_LONGEST_INTEGER):
        byte = block[at + place]
        value += (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise HPACKDecodingError("Integer too large")


def _read_string(block: bytes, at: int) -> tuple[bytes, int]:
    first = block[at]
    length = first & 0x7F
    if length < 0x7F:
        at += 1
    else:
        length, at = _read_integer(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise HPACKDecodingError("Truncated header block")
    octets = block[at:end]
    return (decode_huffman(octets) if first & _HUFFMAN else octets), end


class FieldEncoder:
    """What changes: the table that every block adds to, and how large the peer lets it be.

    Text is not compressed but by the table: on the wires of a mesh that would cost more than it saves.
    """

    def __init__(self) -> None:
        self._entries: deque[Field] = deque()
        self._places: dict[Field, int] = {}
        """How many entries were added before each one."""
        self._coded: dict[Field, bytes] = {}
        """How fields are written that a table has, until the next one is added."""
        self._added = 0
        self._size = 0
        self._most = TABLE_BYTES
        self._resized: list[int] = []
        self._last: dict[bytes, bytes] = {}
        """The volatile fields' last values."""

    @property
    def header_table_size(self) -> int:
        """How large the table may be."""
        return self._most

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        """Resize the table; the smallest and the last of several sizes are announced (RFC 7541, 4.2)."""
        size = min(value, TABLE_BYTES)
        if size != self._most:
            self._most = size
            self._resized = [min([size, *self._resized]), size]
            self._make_room(0)
            self._coded.clear()

    def encode(self, fields: Iterable[Field]) -> bytes:
        """Compress a block."""
        announced = self._announced() if self._resized else b""
        coded, write = self._coded, self._write
        # A field that may enter no table equals one that may, so only plain ones are looked up.
        return announced + b"".join(
            [(type(field) is tuple and coded.get(field)) or write(field) for field in fields]
        )

    def _announced(self) -> bytes:
        sizes, self._resized = sorted({*self._resized}), []
        return b"".join([_integer(_RESIZED, 0x1F, size) for size in sizes])

    def _write(self, field: Field) -> bytes:
        """Write a field as the tables have it, or in letters."""
        if isinstance(field, NeverIndexedHeaderTuple):
            return self._letters(_NEVER_ADDED, field)
        index = _STATIC_FIELDS.get(field)
        if index is None and (place := self._places.get(field)) is not None:
            index = _FIRST_DYNAMIC - 1 + self._added - place
        if index is not None:
            self._coded[field] = octets = _integer(_INDEXED, 0x7F, index)
            return octets
        name, value = field
        size = _entry_size(field)
        if size > self._most * 3 // 4 or (name in VOLATILE and not self._repeats(name, value)):
            return self._letters(0, field)
        self._add((name, value), size)
        return self._letters(_ADDED, field)

    def _letters(self, kind: int, field: Field) -> bytes:
        name, value = field
        known = _NAMED[kind].get(name)
        begun = bytes((kind,)) + _string(name) if known is None else known
        return begun + _string(value)

    def _repeats(self, name: bytes, value: bytes) -> bool:
        if self._last.get(name) == value:
            return True
        if len(value) <= REMEMBERED_VALUE_BYTES:
            self._last[name] = value
        return False

    def _add(self, field: Field, size: int) -> None:
        self._make_room(size)
        self._coded.clear()
        self._entries.append(field)
        self._places[field] = self._added
        self._added += 1
        self._size += size

    def _make_room(self, size: int) -> None:
        while self._size + size > self._most and self._entries:
            oldest = self._entries.popleft()
            del self._places[oldest]
            self._size -= _entry_size(oldest)


def _integer(kind: int, most: int, value: int) -> bytes:
    if value < most:
        return bytes((kind | value,))
    octets = bytearray((kind | most,))
    value -= most
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def _string(text: bytes) -> bytes:
    return _integer(0, 0x7F, len(text)) + text


def _named(kind: int, most: int) -> dict[bytes, bytes]:
    """Return how a field of `kind` begins whose name the static table has."""
    return {name: _integer(kind, most, index) for name, index in _STATIC_NAMES.items()}


_NAMED = {
    kind: _named(kind, most) for kind, most in ((0, 0xF), (_NEVER_ADDED, 0xF), (_ADDED, 0x3F))
}
