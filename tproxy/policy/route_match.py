"""What entries of a VirtualService are about: conditions on requests and connections, all of which must hold.

The rule that must not be broken: what strangers send is compared in linear time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from tproxy.model.flow import Flow
from tproxy.model.http import NO_HEADERS, HttpVersion, RequestHead
from tproxy.model.identity import Workload
from tproxy.model.route import Plan
from tproxy.policy.facts import (
    DESTINATION_IP,
    HOST,
    METHOD,
    PATH,
    SERVER_NAME,
    header_fact,
)
from tproxy.policy.hosts import covers
from tproxy.policy.match import networks
from tproxy.policy.paths import Ambiguous, normalised
from tproxy.policy.regexes import expression
from tproxy.policy.rules import host_and_port
from tproxy.policy.schema import HttpMatch, PathNormalization, StringMatch, TcpMatch, TlsMatch

PORT = "destination.port"
SCHEME = "request.scheme"
QUERY = "request.query"

NO_REQUEST = RequestHead(b"", b"", b"", b"", NO_HEADERS, HttpVersion.HTTP11)
"""Stands in for the request of a connection that carries none."""

ROOT = b"/"
"""What every path begins with: the prefix of a match that says nothing of paths."""


class Asking(msgspec.Struct, frozen=True):
    """What is held against conditions."""

    flow: Flow
    head: RequestHead
    port: int
    """The service's."""
    path: bytes | None = None
    """In the form in which paths are compared; None when it has none."""


def asking_of(flow: Flow, head: RequestHead | None, port: int, form: PathNormalization) -> Asking:
    """Bring a request, or a connection that carries none, into the form in which it is compared."""
    if head is None:
        return Asking(flow, NO_REQUEST, port)
    try:
        path = normalised(head.path, form).partition(b"?")[0]
    except Ambiguous:
        return Asking(flow, head, port)
    return Asking(flow, head, port, path)


Read = Callable[[Asking], bytes | None]
Test = Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class Condition:
    """One of a match's fields."""

    field: str
    """As files write it: `headers[x-canary]`."""
    wanted: str
    fact: str
    """What it reads."""
    read: Read
    """None when it is absent."""
    test: Test
    negative: bool = False
    """Whether what is absent or does not match is meant."""

    def holds(self, asking: Asking) -> bool:
        """Whether it does."""
        value = self.read(asking)
        return (value is not None and self.test(value)) is not self.negative


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """One alternative of an entry, and what becomes of what it means."""

    place: str
    """`file:line`."""
    conditions: tuple[Condition, ...] = ()
    left_out: str = ""
    """Why it is not for this workload; empty when it is."""
    prefix: bytes | None = ROOT
    """What a path has that it means; None where it means whole paths."""
    plan: Plan = field(default_factory=Plan)
    """Without destinations."""

    def holds(self, asking: Asking) -> bool:
        """Whether all conditions do."""
        if self.left_out:
            return False
        for each in self.conditions:
            # What `Condition.holds` says, without its call.
            value = each.read(asking)
            if (value is not None and each.test(value)) is each.negative:
                return False
        return True


def http_match(match: HttpMatch, place: str, workload: Workload) -> Match:
    """Compile a sound match of requests."""
    conditions = tuple(_http_conditions(match))
    return Match(place, conditions, left_out(match, workload), _prefix(match.uri))


def connection_match(match: TcpMatch | TlsMatch, place: str, workload: Workload) -> Match:
    """Compile a sound match of connections."""
    return Match(place, tuple(_connection_conditions(match)), left_out(match, workload))


def left_out(match: HttpMatch | TcpMatch | TlsMatch, workload: Workload) -> str:
    """Say why a match is not for a workload; nothing when it is."""
    namespace, labels = match.source_namespace, match.source_labels
    if namespace is not None and namespace != workload.namespace:
        return f"it is for namespace {namespace}, this workload is in {workload.namespace}"
    if any(workload.labels.get(key) != value for key, value in labels.items()):
        return f"it is for {_listed(labels)}, this workload has {_listed(workload.labels)}"
    return ""


def _listed(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items()) or "no labels"


def _prefix(uri: StringMatch | None) -> bytes | None:
    if uri is None:
        return ROOT
    return None if uri.prefix is None else uri.prefix.encode()


def _http_conditions(match: HttpMatch) -> Iterator[Condition]:
    if match.port is not None:
        yield _port(match.port)
    if match.uri is not None:
        folded = match.ignore_uri_case and match.uri.regex is None
        test, wanted = _folded(match.uri) if folded else _text(match.uri), _written(match.uri)
        wanted += ", in any case" if folded else ""
        yield Condition("uri", wanted, PATH, _any_path if match.uri.prefix == "/" else _path, test)
    if match.scheme is not None:
        yield Condition("scheme", _written(match.scheme), SCHEME, _scheme, _text(match.scheme))
    if match.method is not None:
        yield Condition("method", _written(match.method), METHOD, _method, _text(match.method))
    if match.authority is not None:
        text = _text if match.authority.regex is not None else _folded
        test = _either(text(match.authority))
        yield Condition("authority", _written(match.authority), HOST, _authority, test)
    yield from _headers("headers", match.headers, negative=False)
    yield from _headers("withoutHeaders", match.without_headers, negative=True)
    for name, wants in match.query_params.items():
        field = f"queryParams[{name}]"
        yield Condition(field, _written(wants), QUERY, _parameter(name), _text(wants))


def _headers(
    field: str, wanted: Mapping[str, StringMatch], *, negative: bool
) -> Iterator[Condition]:
    for name, wants in wanted.items():
        key, read = f"{field}[{name.lower()}]", _header(name)
        yield Condition(key, _written(wants), header_fact(name), read, _text(wants), negative)


def _connection_conditions(match: TcpMatch | TlsMatch) -> Iterator[Condition]:
    if match.port is not None:
        yield _port(match.port)
    if isinstance(match, TlsMatch):
        wanted = ", ".join(match.sni_hosts)
        test = _covered([each.lower() for each in match.sni_hosts])
        yield Condition("sniHosts", wanted, SERVER_NAME, _server_name, test)
    if match.destination_subnets is not None:
        wanted = ", ".join(match.destination_subnets)
        test = _among(match.destination_subnets)
        yield Condition("destinationSubnets", wanted, DESTINATION_IP, _destination, test)


def _port(number: int) -> Condition:
    return Condition("port", str(number), PORT, _dialled, (b"%d" % number).__eq__)


# What conditions read


def _path(asking: Asking) -> bytes | None:
    return asking.path


def _any_path(asking: Asking) -> bytes:
    """Read what every path begins with, of those without a safe reading too."""
    return asking.head.path[:1]


def _scheme(asking: Asking) -> bytes:
    return asking.head.scheme


def _method(asking: Asking) -> bytes:
    return asking.head.method


def _authority(asking: Asking) -> bytes | None:
    return asking.head.authority.lower() or None


def _dialled(asking: Asking) -> bytes:
    return b"%d" % asking.port


def _destination(asking: Asking) -> bytes:
    return asking.flow.original_dst.host.encode()


def _server_name(asking: Asking) -> bytes | None:
    return asking.flow.sniffed.server_name.lower().encode() or None


def _header(name: str) -> Read:
    key = name.lower().encode()
    return lambda asking: asking.head.headers.get(key)


def _parameter(name: str) -> Read:
    """Read a query parameter as it is sent: escapes are not resolved, as Envoy leaves them."""
    key = name.encode()

    def read(asking: Asking) -> bytes | None:
        for each in asking.head.path.partition(b"?")[2].split(b"&"):
            found, _, value = each.partition(b"=")
            if found == key:
                return value
        return None

    return read


# How they compare


def _text(wanted: StringMatch) -> Test:
    if wanted.exact is not None:
        return wanted.exact.encode().__eq__
    if wanted.prefix is not None:
        prefix = wanted.prefix.encode()
        return lambda value: value.startswith(prefix)
    if wanted.regex is not None:
        fullmatch = expression(wanted.regex).fullmatch
        return lambda value: fullmatch(value) is not None
    return lambda _: True


def _folded(wanted: StringMatch) -> Test:
    test = _text(StringMatch(exact=_lower(wanted.exact), prefix=_lower(wanted.prefix)))
    return lambda value: test(value.lower())


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _either(test: Test) -> Test:
    """Compare an authority with its port and without."""
    return lambda value: test(value) or test(host_and_port(value)[0])


def _among(blocks: Sequence[str]) -> Test:
    subnets = networks(blocks)
    return lambda value: subnets.matches(value.decode())


def _covered(hosts: Sequence[str]) -> Test:
    return lambda value: any(covers(host, value.decode()) for host in hosts)


def _written(wanted: StringMatch) -> str:
    for word in ("exact", "prefix", "regex"):
        if (text := getattr(wanted, word)) is not None:
            return f"{word} {text!r}"
    return "any"
