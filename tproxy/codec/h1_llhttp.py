"""llhttp (httptools) as the parser of HTTP/1 heads: several times as fast as h11, and in its strict mode.

llhttp knows only registered methods, and takes no length said twice. What it refuses is h11's to judge, so that with it
neither more nor less is accepted, and nothing is refused in other words.
"""

from typing import Final

import httptools

from tproxy.codec.h1_h11 import H11
from tproxy.codec.h1_parser import HeadParser
from tproxy.model.http import Field

_Parser = httptools.HttpRequestParser | httptools.HttpResponseParser


class _Heard:
    """What the parser calls back. What changes: the fields so far."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: list[Field] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value.rstrip(b" \t")))


def _request(block: bytes) -> list[Field]:
    heard = _Heard()
    took = _takes(httptools.HttpRequestParser(heard), heard, block)
    return heard.fields if took else H11.request(block)


def _response(block: bytes) -> list[Field]:
    heard = _Heard()
    took = _takes(httptools.HttpResponseParser(heard), heard, block)
    return heard.fields if took else H11.response(block)


def _takes(parser: _Parser, heard: _Heard, block: bytes) -> bool:
    """Feed a parser that is used once: it would wait for the body of a head, which is read elsewhere."""
    try:
        parser.feed_data(block)
    except httptools.HttpParserUpgrade:
        # Raised behind the head, as what follows may be no HTTP.
        return True
    except httptools.HttpParserError:
        return False
    # Were a line folded or skipped, there would be fewer.
    return len(heard.fields) == block.count(b"\n") - 2


LLHTTP: Final = HeadParser("httptools", _request, _response)
