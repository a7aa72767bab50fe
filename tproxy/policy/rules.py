"""From `AuthorizationPolicy` documents to compiled rules, or to everything in them that has no meaning."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tproxy.model.decision import RuleName
from tproxy.model.flow import Flow
from tproxy.model.http import RequestHead
from tproxy.policy.authorize import AllOf, CompiledRule, Field, Read
from tproxy.policy.findings import Code, Finding, Path, did_you_mean
from tproxy.policy.load import Document
from tproxy.policy.match import (
    Keys,
    Matcher,
    Numbers,
    Words,
    check_template,
    is_address,
    is_template,
    networks,
    paths,
    words,
)
from tproxy.policy.paths import decoded_unreserved
from tproxy.policy.reading import written_fields
from tproxy.policy.schema import Action, AuthorizationPolicy, Condition, Operation, Rule, Source

HEADER_KEY = re.compile(r"request\.headers\[([!#$%&'*+.^_`|~0-9A-Za-z-]+)\]")
PORT = re.compile(r"[1-9][0-9]{0,4}")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?|\*[-a-z0-9]*|[-a-z0-9]+\*")
_PRINCIPAL = re.compile(r"[^/]+/ns/[^/]+/sa/[^/]+")
_METHOD = re.compile(r"\*?[!#$%&'+.^_`|~0-9A-Z-]*\*?")
_HOST = re.compile(r"\*?(\[[0-9a-f:.]+\]|[a-z0-9._~!$&'()+,;=-]*)(:[0-9]*)?\*?")
ONE_HOP = frozenset(
    (
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    )
)
"""Headers that are about one connection, and never part of a request that policies see."""
_PORTED = re.compile(r"(?P<host>.*[^:]):[0-9*]+|\[.*\]:[0-9*]+")


class BadValue(ValueError):
    """A value without a meaning, and why."""

    def __init__(self, message: str, code: Code = Code.BAD_VALUE) -> None:
        super().__init__(message)
        self.code = code


# What fields are read from


def _principal(flow: Flow, _: RequestHead | None) -> str | None:
    return flow.identity.principal if flow.identity else None


def _namespace(flow: Flow, _: RequestHead | None) -> str | None:
    return (flow.identity.namespace or None) if flow.identity else None


def _service_account(flow: Flow, _: RequestHead | None) -> str | None:
    peer = flow.identity
    return f"{peer.namespace}/{peer.service_account}" if peer and peer.namespace else None


def _source_ip(flow: Flow, _: RequestHead | None) -> str:
    return flow.peer.host


def _remote_ip(flow: Flow, head: RequestHead | None) -> str:
    """Read the last address that proxies on the way named; without any that is one, the peer's own."""
    forwarded = head.headers.get(b"x-forwarded-for") if head else None
    last = forwarded.rpartition(b",")[2].strip().decode("latin-1") if forwarded else ""
    return last if is_address(last) else flow.peer.host


def _destination_ip(flow: Flow, _: RequestHead | None) -> str:
    return flow.original_dst.host


def _port(flow: Flow, _: RequestHead | None) -> int:
    return flow.original_dst.port


def _server_name(flow: Flow, _: RequestHead | None) -> str | None:
    return flow.sniffed.server_name or None


def _method(_: Flow, head: RequestHead | None) -> bytes | None:
    return head.method if head else None


def _path(_: Flow, head: RequestHead | None) -> bytes | None:
    return head.path.partition(b"?")[0] if head else None


def _authority(_: Flow, head: RequestHead | None) -> bytes | None:
    return canonical(head.authority) if head and head.authority else None


def _host(_: Flow, head: RequestHead | None) -> bytes | None:
    return host_and_port(head.authority)[0] if head and head.authority else None


def canonical(authority: bytes) -> bytes:
    """Bring an authority into one form, so that no spelling of it slips past a policy that names it."""
    host, port = host_and_port(authority)
    return host if port is None else host + b":" + port


def host_and_port(authority: bytes) -> tuple[bytes, bytes | None]:
    """Take an authority apart: the host in lower case, without escapes and the dot of the root; the port's digits."""
    host, colon, port = authority.rpartition(b":")
    if not colon or (port and not port.isdigit()) or (b":" in host and not host.endswith(b"]")):
        host, colon, port = authority, b"", b""
    host = decoded_unreserved(host).lower().removesuffix(b".")
    return host, (port.lstrip(b"0") if colon else None)


@dataclass(frozen=True, slots=True)
class Hosts:
    """Hosts, some of them with a port: those are about just that spelling."""

    without: Words[bytes]
    ported: Words[bytes]

    def matches(self, authority: bytes) -> bool:
        """Whether the authority is one of these."""
        return self.without.matches(host_and_port(authority)[0]) or self.ported.matches(authority)

    def keys(self) -> Keys:
        """Return none: two forms of one value are compared."""
        return None


# What fields may say


def _text(values: Sequence[str]) -> Words[str]:
    for value in values:
        _check_wildcard(value)
    return words(values)


def _octets(values: Sequence[str]) -> Words[bytes]:
    for value in values:
        _check_wildcard(value)
    return words([value.encode() for value in values])


def is_open(value: str) -> bool:
    """Whether a `*` opens or ends it, so that it is about several texts."""
    return value.startswith("*") or value.endswith("*")


def _check_wildcard(value: str) -> None:
    inner = value[1:] if value.startswith("*") else value.removesuffix("*")
    if "*" in inner:
        message = (
            f"{value!r}: a `*` may only begin or end a value, elsewhere it would stand for itself"
        )
        raise BadValue(message, Code.WILDCARD)
    if not value:
        raise BadValue("an empty value matches nothing")


def _server_names(values: Sequence[str]) -> Words[str]:
    """Take names as they are read from a ClientHello: in lower case."""
    return _text([value.lower() for value in values])


def _principals(values: Sequence[str]) -> Words[str]:
    for value in values:
        if value.startswith("spiffe:"):
            message = f"{value!r} never matches: write it without `spiffe://`"
            raise BadValue(message, Code.PRINCIPAL_WITH_SCHEME)
        _check_wildcard(value)
        if not (is_open(value) or _PRINCIPAL.fullmatch(value)):
            raise BadValue(f"{value!r} is no principal, write TRUST_DOMAIN/ns/NAMESPACE/sa/NAME")
    return words(values)


def _namespaces(values: Sequence[str]) -> Words[str]:
    for value in values:
        _check_wildcard(value)
        if not _NAMESPACE.fullmatch(value):
            raise BadValue(f"{value!r} is no namespace, write it alone: {_last(value)}")
    return words(values)


def _last(value: str) -> str:
    parts = value.split("/")
    return repr(parts[2] if len(parts) > 2 and parts[1] == "ns" else parts[0] or "foo")


def _service_accounts(values: Sequence[str]) -> Words[str]:
    for value in values:
        _check_wildcard(value)
        if value.count("/") > 1 or (value.startswith("*") and value != "*" and value[1:2] != "/"):
            raise BadValue(f"{value!r} is no service account, write NAMESPACE/NAME or */NAME")
    return words(values)


def _blocks(values: Sequence[str]) -> Matcher[str]:
    try:
        return networks(values)
    except ValueError as error:
        raise BadValue(f"{error}: write an address or a network as 192.0.2.0/24") from error


def _ports(values: Sequence[str]) -> Numbers:
    for value in values:
        if not PORT.fullmatch(value) or int(value) > 65535:
            raise BadValue(f"{value!r} is no port, write one from 1 to 65535")
    return Numbers(frozenset(map(int, values)))


def _methods(values: Sequence[str]) -> Words[bytes]:
    for value in values:
        if not _METHOD.fullmatch(value):
            raise BadValue(f"{value!r} is no method, write one in upper case as GET")
    return _octets(values)


def _paths(values: Sequence[str]) -> Matcher[bytes]:
    for value in values:
        if not is_template(value):
            _check_wildcard(value)
            continue
        try:
            check_template(value)
        except ValueError as error:
            raise BadValue(f"{value!r}: {error}") from error
    return paths(values)


@dataclass(frozen=True, slots=True)
class Kind:
    """How a field of the format is read and written."""

    name: str
    read: Read
    matcher: Callable[[Sequence[str]], Matcher[Any]]
    http: bool = False


SOURCES = {
    "principals": Kind("principals", _principal, _principals),
    "namespaces": Kind("namespaces", _namespace, _namespaces),
    "service_accounts": Kind("service_accounts", _service_account, _service_accounts),
    "ip_blocks": Kind("ip_blocks", _source_ip, _blocks),
    "remote_ip_blocks": Kind("remote_ip_blocks", _remote_ip, _blocks),
}
OPERATIONS = {
    "hosts": Kind("hosts", _host, _octets, http=True),
    "ports": Kind("ports", _port, _ports),
    "methods": Kind("methods", _method, _methods, http=True),
    "paths": Kind("paths", _path, _paths, http=True),
}
CONDITIONS = {
    "source.ip": Kind("source.ip", _source_ip, _blocks),
    "remote.ip": Kind("remote.ip", _remote_ip, _blocks),
    "source.namespace": Kind("source.namespace", _namespace, _namespaces),
    "source.principal": Kind("source.principal", _principal, _principals),
    "source.serviceAccount": Kind("source.serviceAccount", _service_account, _service_accounts),
    "destination.ip": Kind("destination.ip", _destination_ip, _blocks),
    "destination.port": Kind("destination.port", _port, _ports),
    "connection.sni": Kind("connection.sni", _server_name, _server_names),
}


def compiled_field(
    kind: Kind, values: tuple[str, ...], *, negative: bool = False, line: int = 0
) -> Field:
    """Compile what a field says; BadValue when it has no meaning."""
    read, matcher = _hosts(values) if kind.read is _host else (kind.read, kind.matcher(values))
    return Field(kind.name, read, matcher, negative, kind.http, values, line)


class RuleCompiler:
    """Compiles the rules of one document. What changes: the mistakes that were found in it."""

    def __init__(self, document: Document, namespace: str) -> None:
        assert isinstance(document.config, AuthorizationPolicy), "the caller told kinds apart"
        self._document = document
        self._policy = document.config
        self._namespace = namespace
        self.findings: list[Finding] = []

    def rules(self) -> list[CompiledRule]:
        """Compile every rule; with findings, they are not to be used."""
        spec = self._policy.spec
        if spec.action is not Action.ALLOW and not spec.rules:
            self._find(
                ("spec",), f"{spec.action} without rules has no effect, name what it is about"
            )
        return [self._rule(index, rule) for index, rule in enumerate(spec.rules or ())]

    def _rule(self, index: int, rule: Rule) -> CompiledRule:
        path: Path = ("spec", "rules", index)
        mark = self._document.node.nearest(path)
        name = RuleName(
            self._namespace, self._policy.metadata.name, index, self._document.file, mark.line
        )
        sources = tuple(
            self._source((*path, "from", at, "source"), each.source)
            for at, each in enumerate(rule.from_ or ())
        )
        operations = tuple(
            self._operation((*path, "to", at, "operation"), each.operation)
            for at, each in enumerate(rule.to or ())
        )
        conditions = tuple(
            field
            for at, each in enumerate(rule.when or ())
            for field in self._condition((*path, "when", at), each)
        )
        return CompiledRule(name, (sources, operations, (AllOf(conditions),) if conditions else ()))

    def _source(self, path: Path, source: Source) -> AllOf:
        return self._all_of(path, source, SOURCES)

    def _operation(self, path: Path, operation: Operation) -> AllOf:
        return self._all_of(path, operation, OPERATIONS)

    def _all_of(self, path: Path, said: Source | Operation, kinds: dict[str, Kind]) -> AllOf:
        fields: list[Field] = []
        empty = True
        for attribute, written, name, negative in written_fields(type(said)):
            values: tuple[str, ...] | None = getattr(said, attribute)
            if values is None:
                continue
            empty = False
            field = self._field((*path, written), kinds[name], values, negative=negative)
            if field is not None:
                fields.append(field)
        if empty:
            self._find(path, "is empty, which would mean anything at all: say what is meant")
        return AllOf(tuple(fields))

    def _field(
        self, path: Path, kind: Kind, values: tuple[str, ...], *, negative: bool
    ) -> Field | None:
        try:
            line = self._document.node.nearest(path).line
            return self._compiled(kind, values, negative=negative, line=line)
        except BadValue:
            self._find_bad(path, kind, values)
            return None

    def _compiled(
        self, kind: Kind, values: tuple[str, ...], *, negative: bool = False, line: int = 0
    ) -> Field:
        if kind.read is _service_account:
            values = tuple(self._qualified(value) for value in values)
        return compiled_field(kind, values, negative=negative, line=line)

    def _find_bad(self, path: Path, kind: Kind, values: tuple[str, ...]) -> None:
        for index, value in enumerate(values):
            try:
                self._compiled(kind, (value,))
            except BadValue as bad:
                self._find((*path, index), str(bad), bad.code)

    def _qualified(self, value: str) -> str:
        """Complete `bar` to `foo/bar`, foo being the policy's own namespace."""
        return value if "/" in value or value.startswith("*") else f"{self._namespace}/{value}"

    def _condition(self, path: Path, condition: Condition) -> Iterator[Field]:
        key = condition.key
        kind = CONDITIONS.get(key) or header_kind(key)
        if kind is None:
            hint = did_you_mean(key, CONDITIONS) or (
                f", known are request.headers[NAME], {', '.join(CONDITIONS)}"
            )
            self._find((*path, "key"), f"unknown key {key!r}{hint}")
            return
        if (why := never_there(key)) is not None:
            self._find((*path, "key"), why)
        if condition.values is None and condition.not_values is None:
            self._find(path, "needs `values` or `notValues`")
        for attribute, values in (
            ("values", condition.values),
            ("notValues", condition.not_values),
        ):
            if values is not None:
                negative = attribute == "notValues"
                field = self._field((*path, attribute), kind, values, negative=negative)
                if field is not None:
                    yield field

    def _find(self, path: Path, message: str, code: Code = Code.BAD_VALUE) -> None:
        self.findings.append(self._document.finding(code, path, message))


def never_there(key: str) -> str | None:
    """Say why a header is not to be asked for, if so."""
    found = HEADER_KEY.fullmatch(key)
    name = found[1].lower() if found else ""
    if name == "host":
        return f"{key!r}: HTTP/2 has none, write operation.hosts"
    return f"{key!r}: never seen, it is about one connection" if name in ONE_HOP else None


def header_kind(key: str) -> Kind | None:
    """Return how a header is read, if the key asks for one."""
    found = HEADER_KEY.fullmatch(key)
    if found is None:
        return None
    name = found[1].lower().encode()

    def read(_: Flow, head: RequestHead | None) -> bytes | None:
        if head is None or name not in head.headers:
            return None
        return b",".join(value for each, value in head.headers if each.lower() == name)

    return Kind(key, read, _octets, http=True)


def _hosts(values: tuple[str, ...]) -> tuple[Read, Matcher[bytes]]:
    lower = [value.lower() for value in values]
    for value in lower:
        _check_host(value)
    ported = [value for value in lower if is_ported(value)]
    without = _octets([value.removesuffix(".") for value in lower if value not in ported])
    if not ported:
        return _host, without
    exact = [value if is_open(value) else canonical(value.encode()).decode() for value in ported]
    return _authority, Hosts(without, _octets(exact))


def _check_host(value: str) -> None:
    _check_wildcard(value)
    if not _HOST.fullmatch(value):
        message = f"{value!r} is no host: write a name, or an address (IPv6 in brackets), and at most a port"
        raise BadValue(message)


def is_ported(host: str) -> bool:
    """Whether a host names a port, so that it is about just that one."""
    return _PORTED.fullmatch(host) is not None
