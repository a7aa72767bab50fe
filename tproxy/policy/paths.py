"""Bring request paths into one form, so that no spelling of a path slips past a policy that names it.

The rule that must not be broken: **the bytes that policies match are the bytes that are sent on**. What is not in the
wanted form is rewritten before anybody decides. The modes and their outcomes are Istio's (Path Normalization).
"""

import re
from collections.abc import Callable

from tproxy.policy.schema import PathNormalization

# Nothing to decode, no backslash, no two slashes, no segment that begins with a dot: what almost all paths look like.
_PLAIN = re.compile(rb"(?:/[^/.%\\][^/%\\]*)*/?")
_ESCAPED_NUL = re.compile(rb"%00")
_ESCAPED_UNRESERVED = re.compile(rb"%(?:2[DEde]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])")
_ESCAPED_SLASH = re.compile(rb"%(?:2[Ff]|5[Cc])")
_SLASHES = re.compile(rb"/{2,}")


class Ambiguous(ValueError):
    """A path that has no safe reading: NUL ends it for some."""


def normalised(target: bytes, mode: PathNormalization) -> bytes:
    """Return `target` with its path in the form of `mode`, and its query as it is; Ambiguous when it has none."""
    path, mark, query = target.partition(b"?")
    if _ESCAPED_NUL.search(path):
        raise Ambiguous
    if not path.startswith(b"/") or _PLAIN.fullmatch(path):
        return target
    for step in _STEPS[mode]:
        path = step(path)
    return path + mark + query


def _decode_slashes(path: bytes) -> bytes:
    return _ESCAPED_SLASH.sub(b"/", path)


def decoded_unreserved(path: bytes) -> bytes:
    """Decode what need not be escaped (RFC 3986, 6.2.2.2); once, so that `%252e` stays what it is."""
    return _ESCAPED_UNRESERVED.sub(lambda found: bytes((int(found[0][1:], 16),)), path)


def _straighten(path: bytes) -> bytes:
    return path.replace(b"\\", b"/")


def _resolve_dots(path: bytes) -> bytes:
    """Remove dot segments (RFC 3986, 5.2.4); an empty segment is one that `..` takes away."""
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)


def _merge_slashes(path: bytes) -> bytes:
    return _SLASHES.sub(b"/", path)


_BASE: tuple[Callable[[bytes], bytes], ...] = (_straighten, decoded_unreserved, _resolve_dots)
_STEPS: dict[PathNormalization, tuple[Callable[[bytes], bytes], ...]] = {
    PathNormalization.NONE: (),
    PathNormalization.BASE: _BASE,
    PathNormalization.MERGE_SLASHES: (*_BASE, _merge_slashes),
    PathNormalization.DECODE_AND_MERGE_SLASHES: (_decode_slashes, *_BASE, _merge_slashes),
}
