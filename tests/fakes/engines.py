"""HTTP/1's codecs with every parser there is: what is claimed of one is claimed of all."""

from functools import partial

import pytest

from tproxy.codec.h1 import Http1Client, Http1Server
from tproxy.codec.h1_h11 import H11
from tproxy.codec.h1_llhttp import LLHTTP

PARSERS = [pytest.param(parser, id=parser.name) for parser in (H11, LLHTTP)]
SERVERS = [
    pytest.param(partial(Http1Server, parser=parser), id=parser.name) for parser in (H11, LLHTTP)
]
CLIENTS = [
    pytest.param(partial(Http1Client, parser=parser), id=parser.name) for parser in (H11, LLHTTP)
]
