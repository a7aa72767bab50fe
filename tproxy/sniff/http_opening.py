r"""Tell HTTP's opening from that of other protocols that begin with text.

HTTP/2 with prior knowledge opens with its whole preface. HTTP/1 opens with a line that begins with a token and ends
with a version, however wrong the rest of it is: the codec refuses it with a status, where an opaque connection would
carry it past every rule. Other text protocols (`EHLO x`, `SET a b`, `SSH-2.0-x`, and HTTP/0.9's `GET /`) show at the
end of their first line that they are none of it, binary ones at the first byte that no token holds.
"""

import re
from enum import Enum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# RFC 9110, 5.6.2. Any token is a method: Envoy's and llhttp's lists of known ones turn WebDAV's successors opaque.
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?: |\Z)")
_VERSION = re.compile(rb" HTTP/1\.([0-9])[ \t\r]*\Z")
# What a request line longer than the bound begins with: a long query is no reason to pass unread.
_TARGET = re.compile(rb"[A-Z]+ (?:/|https?://)")


class HttpOpening(Enum):
    """What the first line says."""

    HTTP10 = "HTTP/1.0"
    HTTP11 = "HTTP/1.1"
    """Also later minor versions, whose messages a 1.1 recipient reads (RFC 9110, 2.5)."""
    HTTP2 = "HTTP/2"
    UNDECIDED = "undecided"
    SOMETHING_ELSE = "something else"


def read_http_opening(data: bytes, *, complete: bool) -> HttpOpening:
    """Judge the opening; `complete` when no more of it will be looked at, and then it is never undecided."""
    if data.startswith(PREFACE):
        return HttpOpening.HTTP2
    if PREFACE.startswith(data):
        return HttpOpening.SOMETHING_ELSE if complete else HttpOpening.UNDECIDED
    # An empty line before a request is ignored (RFC 9112, 2.2), as Envoy does: what to make of it is the codec's.
    line, newline, _ = data.lstrip(b"\r\n").partition(b"\n")
    if line and not _METHOD.match(line):
        return HttpOpening.SOMETHING_ELSE
    if newline:
        return _version(line)
    if not complete:
        return HttpOpening.UNDECIDED
    return HttpOpening.HTTP11 if _TARGET.match(line) else HttpOpening.SOMETHING_ELSE


def _version(line: bytes) -> HttpOpening:
    found = _VERSION.search(line)
    if found is None:
        return HttpOpening.SOMETHING_ELSE
    return HttpOpening.HTTP10 if found[1] == b"0" else HttpOpening.HTTP11
