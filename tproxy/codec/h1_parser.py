"""What is asked of an HTTP/1 parser: to split a whole head into its fields, or to refuse it.

It is given heads whose first line and control bytes are known to be strict; that no line is folded is for it to see to.
What the fields mean is judged by `h1_head.py`. So all parsers are held to one reading, and one may be put in another's place.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tproxy.codec.h1_fields import Fields

CODEC_ERROR: Final = "http1.codec_error"


class Malformed(Exception):
    """A peer's message that has no one meaning, in the words of Envoy's response code details."""

    def __init__(self, details: str = CODEC_ERROR, *, status: int = 400) -> None:
        super().__init__(details)
        self.details = details
        self.status = status


@dataclass(frozen=True, slots=True)
class HeadParser:
    """A library's two ways to read a head; both return the fields, or raise Malformed."""

    name: str
    request: Callable[[bytes], Fields]
    response: Callable[[bytes], Fields]
