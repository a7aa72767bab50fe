"""Which parser reads HTTP/1: llhttp where it is installed, h11 everywhere."""

from typing import Final

from tproxy.codec.h1_h11 import H11
from tproxy.codec.h1_parser import HeadParser

CHOICES: Final = ("auto", "h11", "httptools")


def head_parser(choice: str) -> HeadParser:
    """Return the parser that is asked for by name; ModuleNotFoundError when it is not installed."""
    if choice == "h11":
        return H11
    try:
        from tproxy.codec.h1_llhttp import LLHTTP  # noqa: PLC0415  (an extra)
    except ModuleNotFoundError:
        if choice == "auto":
            return H11
        raise
    return LLHTTP
