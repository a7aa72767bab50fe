"""llhttp (httptools) as the parser of HTTP/1 heads: several times as fast as h11, and in its strict mode.

llhttp knows only registered methods, and takes no length said twice. What it refuses is h11's to judge, so that with it
neither more nor less is accepted, and nothing is refused in other words.
"""

from typing import Final

import httptools

from tproxy.codec.h1_fields import Fields
from tproxy.codec.h1_h11 import H11
from tproxy.codec.h1_parser import HeadParser

_Parser = httptools.HttpRequestParser | httptools.HttpResponseParser


def _request(block: bytes) -> Fields:
    fields = Fields()
    took = _takes(httptools.HttpRequestParser(fields), block)
    return fields if took and _are_all(fields, block) else H11.request(block)


def _response(block: bytes) -> Fields:
    fields = Fields()
    took = _takes(httptools.HttpResponseParser(fields), block)
    return fields if took and _are_all(fields, block) else H11.response(block)


def _takes(parser: _Parser, block: bytes) -> bool:
    """Feed a parser that is used once: it would wait for the body of a head, which is read elsewhere."""
    try:
        parser.feed_data(block)
    except httptools.HttpParserUpgrade:
        # Raised behind the head, as what follows may be no HTTP.
        return True
    except httptools.HttpParserError:
        return False
    return True


def _are_all(fields: Fields, block: bytes) -> bool:
    """Whether each line is a field: were one folded or skipped, there would be fewer."""
    return len(fields.onward) + fields.ended == block.count(b"\r\n") - 2


LLHTTP: Final = HeadParser("httptools", _request, _response)
