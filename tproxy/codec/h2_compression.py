"""HPACK as h2 may use it: field blocks that it does not see, and a table that no peer can make us fill."""

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from hpack import Decoder, Encoder, HeaderTuple, HPACKError, OversizedHeaderListError

TABLE_BYTES = 4096
"""The compression table we use even if the peer offers a larger one: it is our memory that it fills."""


class FieldDecoder(Decoder):
    """Keeps the block that it decoded last, and shows h2 a response's `:status` only."""

    def __init__(self, max_header_list_size: int, *, client: bool) -> None:
        super().__init__(max_header_list_size)
        self.fields: list[HeaderTuple] = []
        self._shown = b":status" if client else b""

    def decode(self, data: bytes, raw: bool = False) -> list[HeaderTuple]:  # noqa: FBT001, FBT002  (hpack's signature)
        try:
            self.fields = list(super().decode(data, raw))
        except OversizedHeaderListError:
            raise
        except HPACKError as error:
            raise _CompressionError(str(error)) from error
        return [field for field in self.fields[:1] if field[0] == self._shown]


class _CompressionError(ProtocolError):
    """The code that RFC 9113, 4.3 asks for, where h2 has PROTOCOL_ERROR."""

    error_code = ErrorCodes.COMPRESSION_ERROR


class FieldEncoder(Encoder):
    """Bounds its table, and announces the smallest and the last of several resizings (RFC 7541, 4.2)."""

    @property
    def header_table_size(self) -> int:
        return self.header_table.maxsize

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        size = min(value, TABLE_BYTES)
        if size != self.header_table.maxsize:
            self.header_table.maxsize = size
            self.table_size_changes = [min([size, *self.table_size_changes]), size]
