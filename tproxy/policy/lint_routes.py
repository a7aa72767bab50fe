"""Find entries of VirtualServices that are sound and hardly mean what their author thinks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Self

from tproxy.policy.findings import Code, Finding, Path, Severity
from tproxy.policy.hosts import patterns, qualified
from tproxy.policy.load import Document
from tproxy.policy.plans import share
from tproxy.policy.routes import hosts_of, spec_of
from tproxy.policy.schema import (
    Destination,
    HttpMatch,
    HttpRoute,
    ServiceEntry,
    StringMatch,
    TcpMatch,
    TlsMatch,
    VirtualService,
)
from tproxy.policy.scope import Scope
from tproxy.policy.units import duration
from tproxy.resilience.retry import conditions

MOST_COMPARED = 100
"""Earlier matches that one is compared with: files may hold many thousands."""

Compared = HttpMatch | TcpMatch | TlsMatch
Entries = Sequence[tuple[Path, Sequence[Compared]]]

_EVERY_PATH = HttpMatch(uri=StringMatch(prefix="/"))
_NO_CONDITION = ("name", "gateways", "ignore_uri_case")


def route_findings(documents: Sequence[Document], scope: Scope) -> Iterator[Finding]:
    """Look at documents in which there is no mistake."""
    named = _Named.by(documents, scope)
    for document in documents:
        if isinstance(document.config, VirtualService):
            yield from _unreachable(document)
            for index, route in enumerate(spec_of(document).http):
                path: Path = ("spec", "http", index)
                for where, code, message in _entry(route):
                    yield document.finding(
                        code, (*path, *where), message, severity=Severity.WARNING
                    )
            yield from _same_names(document)
            yield from _unnamed(document, hosts_of(document, scope), named)


# What no request gets to


def _unreachable(document: Document) -> Iterator[Finding]:
    spec = spec_of(document)
    http: Entries = [(("spec", "http", at), each.match or ()) for at, each in enumerate(spec.http)]
    tls: Entries = [(("spec", "tls", at), each.match) for at, each in enumerate(spec.tls)]
    tcp: Entries = [(("spec", "tcp", at), each.match or ()) for at, each in enumerate(spec.tcp)]
    for entries in (http, tls, tcp):
        for path, taker in _taken(entries):
            message = f"never decides, as entry {taker[-1]} takes all of it: put it before, or leave it out"
            yield document.finding(Code.UNREACHABLE, path, message, severity=Severity.WARNING)


def _taken(entries: Entries) -> Iterator[tuple[Path, Path]]:
    """Give entries all of whose matches earlier ones include, with the last of these."""
    catch_all: Path | None = None
    before: list[tuple[Path, Compared]] = []
    for path, matches in entries:
        takers = [_taker(match, before) for match in matches]
        if catch_all is not None:
            yield path, catch_all
        elif takers and (last := [each for each in takers if each is not None]) == takers:
            yield path, last[-1]
        if not matches or _EVERY_PATH in matches:
            catch_all = path
        before.extend((path, match) for match in matches)


def _taker(match: Compared, before: Sequence[tuple[Path, Compared]]) -> Path | None:
    for path, other in islice(reversed(before), MOST_COMPARED):
        if _includes(other, match):
            return path
    return None


def _includes(wide: Compared, narrow: Compared) -> bool:
    """Whether all that one match is about, another is about too; no for some of which it is hard to tell."""
    if isinstance(wide, HttpMatch) and isinstance(narrow, HttpMatch) and wide.uri and narrow.uri:
        folded = narrow.ignore_uri_case and not wide.ignore_uri_case
        if folded or not _begins(wide, narrow):
            return False
    return all(
        _field_includes(name, getattr(wide, name), getattr(narrow, name))
        for name in wide.__struct_fields__
        if name not in _NO_CONDITION
    )


def _begins(wide: HttpMatch, narrow: HttpMatch) -> bool:
    """Whether the paths of one match are some of another's."""
    first, then = wide.uri, narrow.uri
    assert first is not None, "the caller looked"
    assert then is not None, "the caller looked"
    if first == then:
        return True
    text = then.exact if then.prefix is None else then.prefix
    if first.prefix is None or text is None:
        return False
    if wide.ignore_uri_case:
        return text.lower().startswith(first.prefix.lower())
    return text.startswith(first.prefix)


def _field_includes(name: str, wide: object, narrow: object) -> bool:
    if wide is None or wide == narrow:
        return True
    if isinstance(wide, Mapping) and isinstance(narrow, Mapping):
        return wide.items() <= narrow.items()
    if isinstance(wide, tuple) and isinstance(narrow, tuple):
        return set(wide) >= set(narrow)
    return name == "uri" and narrow is not None


# What entries say


def _entry(route: HttpRoute) -> Iterator[tuple[Path, Code, str]]:
    yield from _paths(route)
    yield from _idle_faults(route)
    yield from _retries(route)
    yield from _shares(route)
    copied = [route.mirror, *(each.destination for each in route.mirrors)]
    asked = [each.destination for each in route.route or ()]
    for index, mirror in enumerate(copied):
        if mirror is not None and mirror in asked:
            path: Path = ("mirrors", index - 1, "destination") if index else ("mirror",)
            yield path, Code.REPEATED, "gets the requests themselves, and copies of them beside"


def _paths(route: HttpRoute) -> Iterator[tuple[Path, Code, str]]:
    for index, match in enumerate(route.match or ()):
        uri = match.uri
        if match.ignore_uri_case and (uri is None or uri.regex is not None):
            path: Path = ("match", index, "ignoreUriCase")
            message = (
                "changes nothing without exact or prefix of uri: write (?i) into an expression"
            )
            yield path, Code.NO_EFFECT, message
        text = "" if uri is None else uri.exact or uri.prefix or ""
        if text and (text[0] not in "/*" or set("?#") & set(text)):
            message = f"{text!r} never matches: a path begins with a slash, and is compared without its query"
            yield ("match", index, "uri"), Code.PATH_NEVER_MATCHES, message


def _idle_faults(route: HttpRoute) -> Iterator[tuple[Path, Code, str]]:
    if route.fault is None:
        return
    for name, part in (("delay", route.fault.delay), ("abort", route.fault.abort)):
        if part is not None and not share(part.percentage, 0.0):
            message = "is for no request: write percentage: {value: 10}"
            yield ("fault", name), Code.NO_EFFECT, message
    for name, said in (("timeout", route.timeout), ("retries", route.retries)):
        if said is not None:
            message = "changes nothing beside a fault, which a route has in place of it"
            yield (name,), Code.NO_EFFECT, message


def _retries(route: HttpRoute) -> Iterator[tuple[Path, Code, str]]:
    retries = route.retries
    if retries is None:
        return
    met = conditions(retries.retry_on)[0] if retries.retry_on else frozenset()
    words = sorted(each.word for each in met if each.grpc_status is not None)
    if words and retries.attempts:
        message = (
            f"{', '.join(words)}: a gRPC call is a POST, and what it asked for may be done twice"
        )
        yield ("retries", "retryOn"), Code.UNSAFE_RETRIES, message
    whole = 0.0 if route.timeout is None else duration(route.timeout)
    one = 0.0 if retries.per_try_timeout is None else duration(retries.per_try_timeout)
    if whole and one >= whole:
        message = f"is not below the whole timeout {route.timeout}, so there is no second try"
        yield ("retries", "perTryTimeout"), Code.USELESS_TRY_TIMEOUT, message


def _shares(route: HttpRoute) -> Iterator[tuple[Path, Code, str]]:
    first: dict[Destination, int] = {}
    shares = route.route or ()
    for index, each in enumerate(shares):
        if (other := first.setdefault(each.destination, index)) != index:
            path: Path = ("route", index, "destination")
            yield path, Code.REPEATED, f"is that of route[{other}] already: add the weights"
        elif len(shares) > 1 and not each.weight:
            yield ("route", index), Code.NO_EFFECT, "has no weight, so it gets nothing"


def _same_names(document: Document) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for index, route in enumerate(spec_of(document).http):
        if route.name is not None and first.setdefault(route.name, index) != index:
            message = f"entry {first[route.name]} has this name too: logs do not tell them apart"
            path: Path = ("spec", "http", index, "name")
            yield document.finding(Code.REPEATED, path, message, severity=Severity.WARNING)


@dataclass(frozen=True, slots=True)
class _Named:
    """Whom ServiceEntries name."""

    hosts: frozenset[str]
    covering: frozenset[str]
    """Every name and pattern that is about one of these."""

    @classmethod
    def by(cls, documents: Sequence[Document], scope: Scope) -> Self:
        """Gather it."""
        hosts = frozenset(
            qualified(host, scope.namespace_of(each.config))
            for each in documents
            if isinstance(each.config, ServiceEntry)
            for host in each.config.spec.hosts
        )
        return cls(hosts, frozenset(each for host in hosts for each in patterns(host)))

    def knows(self, host: str) -> bool:
        """Whether one of them is about some of what a name or a pattern is about."""
        return host in self.covering or not self.hosts.isdisjoint(patterns(host))


def _unnamed(document: Document, hosts: Sequence[str], named: _Named) -> Iterator[Finding]:
    """Find entries for connections to services whose addresses nobody knows."""
    if spec_of(document).tcp and not any(map(named.knows, hosts)):
        message = (
            f"no ServiceEntry says which addresses {hosts[0]} has, so tcp is about no connection"
        )
        path: Path = ("spec", "hosts")
        yield document.finding(Code.UNNAMED_HOST, path, message, severity=Severity.WARNING)
