"""Mistakes in the entries of a VirtualService that are about requests."""

import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable, Iterator, Mapping

from tproxy.policy.findings import Code, Finding, Path
from tproxy.policy.load import Document
from tproxy.policy.plans import PREFIX, grpc_status
from tproxy.policy.regexes import check_substitution, expression
from tproxy.policy.rules import ONE_HOP
from tproxy.policy.schema import (
    FaultAbort,
    HeaderEdits,
    HeaderOperations,
    HttpBody,
    HttpFault,
    HttpMatch,
    HttpRedirect,
    HttpRetry,
    HttpRewrite,
    HttpRoute,
    StringMatch,
)
from tproxy.policy.units import duration
from tproxy.resilience.retry import conditions

LONGEST_SPAN = 3600.0
"""Seconds of a timeout, a delay or a pause: clients give up earlier."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_PATH = re.compile(r"/[!-~]*")
_AUTHORITY = re.compile(r"[0-9A-Za-z._-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_COMMAND = re.compile(r"%[A-Z_]+(\([^)]*\))?(:[0-9]+)?%")
"""What Envoy would put something else for."""
_IN_PATH = re.compile(r"%((?![0-9A-F]{2})[A-Z_]+|[A-Z_]+\([^)]*\))(:[0-9]+)?%")
"""The same, and no escape of a path."""

_FOLDED = re.compile(r"\(\?[a-zA-Z]*i")
_SPECIAL = re.compile(
    r"\\x\{[0-9A-Fa-f]*\}|\\x[0-9A-Fa-f]{2}|\\[pP](\{[^}]*\}|.)|\\.|\(\?P?<[^>]*>|\(\?[a-zA-Z-]+"
)
"""What has letters in an expression that are no text."""
_CAPITAL = re.compile(r"[A-Z]")

_OF_REQUESTS = {
    "uri": "write uri",
    "scheme": "write scheme",
    "method": "write method",
    "authority": "write authority",
    "host": "write authority",
}
_FRAMING = {"content-length", "trailer", *ONE_HOP}
"""Headers that are about how a message is carried."""

_REDIRECTS = (301, 302, 303, 307, 308)

Mistakes = Iterator[tuple[Path, str]]


def http_mistakes(document: Document, path: Path, route: HttpRoute) -> Iterator[Finding]:
    """Find values without a meaning, and fields that contradict each other."""
    for where, message in _entry(route):
        yield document.finding(Code.BAD_VALUE, (*path, *where), message)


def _entry(route: HttpRoute) -> Mistakes:
    yield from _kind(route)
    for index, match in enumerate(route.match or ()):
        yield from _below(("match", index), _match(match))
    yield from _span(("timeout",), route.timeout, zero=True)
    for field, part, check in _parts(route):
        if part is not None:
            yield from _below((field,), check(part))
    yield from _mirrors(route)
    for index, share in enumerate(route.route or ()):
        yield from _below(("route", index, "headers"), _edits(share.headers or HeaderEdits()))


def _parts(route: HttpRoute) -> Iterator[tuple[str, object, Callable[..., Mistakes]]]:
    yield "redirect", route.redirect, _redirect
    yield "rewrite", route.rewrite, _rewrite
    yield "retries", route.retries, _retries
    yield "fault", route.fault, _fault
    yield "headers", route.headers, _edits
    if route.direct_response is not None:
        yield "directResponse", route.direct_response.body, _body


def _below(path: Path, found: Mistakes) -> Mistakes:
    for where, message in found:
        yield (*path, *where), message


def _kind(route: HttpRoute) -> Mistakes:
    """Find entries that do nothing, or two things."""
    said = [
        name
        for name, part in (
            ("route", route.route),
            ("redirect", route.redirect),
            ("directResponse", route.direct_response),
        )
        if part is not None
    ]
    if not said:
        yield (), "does nothing: write route, redirect or directResponse"
    for name in said[1:]:
        yield (name,), f"contradicts {said[0]!r}: leave one of them out"
    if route.route is None:
        for name, part in (
            ("rewrite", route.rewrite),
            ("timeout", route.timeout),
            ("retries", route.retries),
            ("mirror", route.mirror),
            ("mirrors", route.mirrors or None),
        ):
            if part is not None:
                yield (name,), "nobody is asked, as the answer is ours: leave it out"


def _mirrors(route: HttpRoute) -> Mistakes:
    if route.mirror is not None and route.mirrors:
        yield ("mirrors",), "contradicts 'mirror': write all of them into mirrors"
    if route.mirror_percentage is not None and route.mirror is None:
        yield ("mirrorPercentage",), "is that of 'mirror', which there is none of: leave it out"


def _span(path: Path, text: str | None, *, zero: bool = False) -> Mistakes:
    """Find a duration that is none, or is out of bounds."""
    if text is None:
        return
    try:
        seconds = duration(text)
    except ValueError as error:
        yield path, str(error)
        return
    if not (zero and seconds == 0) and not 0.001 <= seconds <= LONGEST_SPAN:
        yield path, f"{text!r} must be 1ms to {LONGEST_SPAN / 60:g}m"


# Matches


def _match(match: HttpMatch) -> Mistakes:
    for name in ("uri", "scheme", "method", "authority"):
        if (wanted := getattr(match, name)) is not None:
            yield from _text((name,), wanted, least=1)
    regex = match.authority.regex if match.authority else None
    if regex is not None and not _FOLDED.match(regex) and _CAPITAL.search(_SPECIAL.sub("", regex)):
        message = "has capitals, and authorities are compared in small letters: write (?i) before"
        yield ("authority", "regex"), message
    for name, several in (("headers", match.headers), ("withoutHeaders", match.without_headers)):
        for header, wanted in several.items():
            yield from _header_name((name, header), header)
            yield from _text((name, header), wanted, least=0)
    for parameter, wanted in match.query_params.items():
        yield from _text(("queryParams", parameter), wanted, least=0)
        if not parameter or not parameter.isascii() or set("&=#") & set(parameter):
            yield ("queryParams", parameter), f"{parameter!r} is no name of a query parameter"


def _text(path: Path, wanted: StringMatch, *, least: int) -> Mistakes:
    said = [each for each in (wanted.exact, wanted.prefix, wanted.regex) if each is not None]
    if len(said) > 1:
        yield path, "says several things: write one of exact, prefix and regex"
    elif len(said) < least:
        yield path, "says nothing: write exact, prefix or regex"
    if wanted.prefix == "":
        yield (*path, "prefix"), "is what every text begins with: leave it out"
    if wanted.regex is not None:
        try:
            expression(wanted.regex)
        except ValueError as error:
            yield (*path, "regex"), str(error)


def _header_name(path: Path, name: str) -> Mistakes:
    lower = name.lower()
    if lower.removeprefix(":") in _OF_REQUESTS:
        yield path, f"{name!r} is no header here: {_OF_REQUESTS[lower.removeprefix(':')]}"
    elif lower in ONE_HOP:
        yield path, f"{name!r} is about one connection, and never part of a request here"
    elif not _TOKEN.fullmatch(name):
        yield path, f"{name!r} is no name of a header"


# What becomes of requests


def _redirect(redirect: HttpRedirect) -> Mistakes:
    if redirect == HttpRedirect(redirect_code=redirect.redirect_code):
        yield (), "leads to where it is: write uri, authority, port or scheme"
    if redirect.uri is not None and not _PATH.fullmatch(redirect.uri.removeprefix(PREFIX)):
        yield ("uri",), f"{redirect.uri!r} is no path: it begins with a slash, and holds no spaces"
    elif redirect.uri and (found := _IN_PATH.search(redirect.uri.removeprefix(PREFIX))):
        yield ("uri",), f"{found[0]!r} would be sent as it is: nothing is put in its place here"
    if redirect.redirect_code not in _REDIRECTS:
        yield ("redirectCode",), f"{redirect.redirect_code} is none of 301, 302, 303, 307 and 308"
    yield from _authority(redirect.authority)


def _rewrite(rewrite: HttpRewrite) -> Mistakes:
    if rewrite == HttpRewrite():
        yield (), "does nothing: write uri, authority or uriRegexRewrite"
    if rewrite.uri is not None and not _is_plain_path(rewrite.uri):
        yield ("uri",), f"{rewrite.uri!r} is no path: it begins with a slash, and has no query"
    yield from _authority(rewrite.authority)
    regex = rewrite.uri_regex_rewrite
    if regex is not None:
        if rewrite.uri is not None:
            yield ("uriRegexRewrite",), "contradicts 'uri': leave one of them out"
        try:
            check_substitution(expression(regex.match), regex.rewrite)
        except ValueError as error:
            yield ("uriRegexRewrite",), str(error)
        if not re.fullmatch(r"[!-~]*", regex.rewrite):
            yield ("uriRegexRewrite", "rewrite"), "holds what no path holds"


def _is_plain_path(text: str) -> bool:
    return _PATH.fullmatch(text) is not None and not set("?#") & set(text)


def _authority(text: str | None) -> Mistakes:
    if text is not None and not _AUTHORITY.fullmatch(text):
        yield ("authority",), f"{text!r} is no authority: write a name, and a port if it needs one"


def _body(body: HttpBody) -> Mistakes:
    if (body.string is None) is (body.bytes is None):
        yield ("body",), "write one of string and bytes"
    if body.bytes is not None:
        try:
            b64decode(body.bytes, validate=True)
        except (NotBase64, ValueError):
            yield ("body", "bytes"), "is no base64"


def _retries(retries: HttpRetry) -> Mistakes:
    yield from _span(("perTryTimeout",), retries.per_try_timeout)
    yield from _span(("backoff",), retries.backoff)
    if retries.retry_on is not None:
        try:
            conditions(retries.retry_on)
        except ValueError as error:
            yield ("retryOn",), str(error)
    if retries.retry_ignore_previous_hosts is False:
        message = "a retry goes to another endpoint where there is one: leave it out"
        yield ("retryIgnorePreviousHosts",), message


def _fault(fault: HttpFault) -> Mistakes:
    if fault == HttpFault():
        yield (), "does nothing: write delay or abort"
    if fault.delay is not None:
        yield from _span(("delay", "fixedDelay"), fault.delay.fixed_delay)
    if fault.abort is not None:
        yield from _below(("abort",), _abort(fault.abort))


def _abort(abort: FaultAbort) -> Mistakes:
    if (abort.http_status is None) is (abort.grpc_status is None):
        yield (), "write one of httpStatus and grpcStatus"
    if abort.grpc_status is not None:
        try:
            grpc_status(abort.grpc_status)
        except ValueError as error:
            yield ("grpcStatus",), str(error)


def _edits(edits: HeaderEdits) -> Mistakes:
    for name, said in (("request", edits.request), ("response", edits.response)):
        if said is not None:
            yield from _below((name,), _operations(said))


def _operations(said: HeaderOperations) -> Mistakes:
    for field, values in (("set", said.set), ("add", said.add)):
        for name, value in values.items():
            yield from _edited((field, name), name)
            yield from _value((field, name), value)
    for index, name in enumerate(said.remove):
        yield from _edited(("remove", index), name)
    yield from _twice(said.set, said.add)


def _edited(path: Path, name: str) -> Mistakes:
    lower = name.lower()
    if lower.startswith(":") or lower == "host":
        yield path, f"{name!r} is no header here: write rewrite"
    elif lower in _FRAMING:
        yield path, f"{name!r} says how a message is carried, and is not the policy's to say"
    elif not _TOKEN.fullmatch(name):
        yield path, f"{name!r} is no name of a header"


def _value(path: Path, value: str) -> Mistakes:
    if not _VALUE.fullmatch(value) or value != value.strip():
        yield path, "is no value of a header: it has one line of ASCII, and no spaces around it"
    elif found := _COMMAND.search(value):
        yield path, f"{found[0]!r} would be sent as it is: nothing is put in its place here"


def _twice(*several: Mapping[str, str]) -> Mistakes:
    for field, said in zip(("set", "add"), several, strict=True):
        first: dict[str, str] = {}
        for name in said:
            if first.setdefault(name.lower(), name) != name:
                yield (field, name), f"is {first[name.lower()]!r} in another case: write it once"
