"""h11 as the parser of HTTP/1 heads: always there, and the reference for what is accepted."""

from typing import Final

import h11

from tproxy.codec.h1_fields import Fields
from tproxy.codec.h1_parser import HeadParser, Malformed

# h11 reads a response, informational ones and 101 included, only after a request that could have caused it.
_ANY_REQUEST = h11.Request(method="GET", target="/", headers=[("host", "any"), ("upgrade", "any")])


def _request(block: bytes) -> Fields:
    return _fields(h11.Connection(h11.SERVER), block)


def _response(block: bytes) -> Fields:
    connection = h11.Connection(h11.CLIENT)
    connection.send(_ANY_REQUEST)
    return _fields(connection, block)


def _fields(connection: h11.Connection, block: bytes) -> Fields:
    # h11 would unfold lines.
    if b"\n " in block or b"\n\t" in block:
        raise Malformed
    connection.receive_data(block)
    try:
        head = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise _refusal(block, error) from error
    assert isinstance(head, h11.Request | h11.Response | h11.InformationalResponse), (
        "the block is a whole head"
    )
    fields = Fields()
    for name, value in head.headers.raw_items():
        fields.on_header(name, value)
    return fields


def _refusal(block: bytes, error: h11.RemoteProtocolError) -> Malformed:
    if error.error_status_hint == 501:
        return Malformed("http1.invalid_transfer_encoding", status=501)
    if b" HTTP/1.1\r\n" in block and b"\r\nhost:" not in block.lower():
        return Malformed("missing_host_header")
    return Malformed()


H11: Final = HeadParser("h11", _request, _response)
