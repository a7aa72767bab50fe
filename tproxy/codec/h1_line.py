"""The first line of an HTTP/1 head, read before the rest has come: no use in waiting for what follows a bad one."""

import re
from functools import lru_cache
from http import HTTPStatus
from typing import Final

import msgspec

from tproxy.codec.h1_parser import Malformed
from tproxy.codec.headers import STANDARD_METHODS, valid_authority, valid_method, valid_path
from tproxy.model.http import HttpVersion

# What nearly all are: a registered method, and a path of the bytes that `valid_path` allows.
_ASKS_A_PATH = STANDARD_METHODS - {b"CONNECT"}
_ORIGIN_LINE = re.compile(rb"([!-~]+) (/[!\"$-\[\]-~]*) HTTP/1\.([01])")
_REQUEST_LINE = re.compile(rb"([!-~]+) ([!-\xff]+) HTTP/1\.([01])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([^\x00-\x08\x0a-\x1f\x7f]*))?")
_ABSOLUTE_FORM = re.compile(rb"http://([^/?]*)(/[^?]*)?(\?.*)?", re.IGNORECASE)
HTTP10: Final = HttpVersion.HTTP10
HTTP11: Final = HttpVersion.HTTP11
_STATUS_LINES: Final = 32
"""How many are remembered: nearly all responses begin with the same few, and each could be as long as a head."""
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_VERSIONS = {b"0": HTTP10, b"1": HTTP11}


class RequestLine(msgspec.Struct, frozen=True):
    """What a request's first line asks for."""

    method: bytes
    version: HttpVersion
    authority: bytes | None
    """What CONNECT or an absolute target names; None where only Host does."""
    path: bytes
    """As in `RequestHead`."""
    absolute: bool = False


class StatusLine(msgspec.Struct, frozen=True):
    """What a response's first line says."""

    status: int
    version: HttpVersion
    reason: bytes


def read_request_line(line: bytes) -> RequestLine:
    """Refuse a line that is none, or whose method or target two readers could take for different ones."""
    parts = _ORIGIN_LINE.fullmatch(line)
    if parts is not None and (method := parts[1]) in _ASKS_A_PATH:
        return RequestLine(method, _VERSIONS[parts[3]], None, parts[2])
    return _any_request_line(line)


def _any_request_line(line: bytes) -> RequestLine:
    parts = _REQUEST_LINE.fullmatch(line)
    if parts is None:
        raise Malformed
    method, target, minor = parts.groups()
    if not valid_method(method):
        raise Malformed("http.invalid_method")
    authority, path = _destination(method, target)
    absolute = authority is not None and method != b"CONNECT"
    return RequestLine(method, _VERSIONS[minor], authority, path, absolute)


def _destination(method: bytes, target: bytes) -> tuple[bytes | None, bytes]:
    """Return the authority, where the target names one, and the path (RFC 9112, 3.2)."""
    if method == b"CONNECT":
        if valid_authority(target):
            return target, b""
    elif valid_path(target) or (target == b"*" and method == b"OPTIONS"):
        return None, target
    elif (absolute := _ABSOLUTE_FORM.fullmatch(target)) is not None:
        authority, path, query = absolute.groups()
        if method == b"OPTIONS" and valid_authority(authority) and not path and not query:
            return authority, b"*"
        path = (path or b"/") + (query or b"")
        if valid_authority(authority) and valid_path(path):
            return authority, path
    raise Malformed("http1.invalid_url")


@lru_cache(maxsize=_STATUS_LINES)
def read_status_line(line: bytes) -> StatusLine:
    """Refuse a line that is not the first of an HTTP/1 response."""
    parts = _STATUS_LINE.fullmatch(line)
    if parts is None:
        raise Malformed
    minor, status, reason = parts.groups()
    return StatusLine(int(status), _VERSIONS[minor], reason or b"")


@lru_cache(maxsize=_STATUS_LINES)
def render_status_line(status: int, reason: bytes = b"") -> bytes:
    """Write a status line; HTTP/2 has no reasons, so the registered one is given."""
    return b"HTTP/1.1 %d %b" % (status, reason or _REASONS.get(status, b""))
