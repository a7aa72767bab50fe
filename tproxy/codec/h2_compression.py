"""HPACK with a table that no peer can make us fill, and with errors that end the connection."""

from h2.errors import ErrorCodes
from hpack import Decoder, Encoder, HeaderTuple, HPACKError, OversizedHeaderListError

from tproxy.codec.h2_frames import Broken

TABLE_BYTES = 4096
"""The compression table we use even if the peer offers a larger one: it is our memory that it fills."""


class FieldDecoder:
    """What changes: the table that every block of the connection adds to."""

    def __init__(self, list_bytes: int) -> None:
        self._hpack = Decoder(list_bytes)

    def decode(self, block: bytes) -> list[HeaderTuple]:
        """Decompress a block; one that can not be has spoilt the table for all that follow (RFC 9113, 4.3)."""
        try:
            return list(self._hpack.decode(block, raw=True))
        except OversizedHeaderListError as error:
            raise Broken(ErrorCodes.ENHANCE_YOUR_CALM, "http2.headers_too_large") from error
        except HPACKError as error:
            raise Broken(ErrorCodes.COMPRESSION_ERROR, cause=str(error)) from error


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
