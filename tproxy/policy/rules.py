"""From `AuthorizationPolicy` documents to compiled rules, or to everything in them that has no meaning."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tproxy.model.decision import RuleName
from tproxy.model.flow import Flow
from tproxy.model.http import RequestHead
from tproxy.policy.authorize import AllOf, CompiledRule, Field, Read
from tproxy.policy.findings import Code, Finding, Path, did_you_mean
from tproxy.policy.load import Document
from tproxy.policy.match import (
    Matcher,
    Numbers,
    Words,
    check_template,
    is_template,
    networks,
    paths,
    words,
)
from tproxy.policy.schema import Action, AuthorizationPolicy, Condition, Operation, Rule, Source

HEADER_KEY = re.compile(r"request\.headers\[([!#$%&'*+.^_`|~0-9A-Za-z-]+)\]")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_PORTED = re.compile(r"(?P<host>.*[^:]):[0-9*]+|\[.*\]:[0-9*]+")


class BadValue(ValueError):
    """A value without a meaning, and why."""


# What fields are read from


def _principal(flow: Flow, _: RequestHead | None) -> str | None:
    return flow.identity.principal if flow.identity else None


def _namespace(flow: Flow, _: RequestHead | None) -> str | None:
    return flow.identity.namespace if flow.identity else None


def _service_account(flow: Flow, _: RequestHead | None) -> str | None:
    peer = flow.identity
    return f"{peer.namespace}/{peer.service_account}" if peer else None


def _source_ip(flow: Flow, _: RequestHead | None) -> str:
    return flow.peer.host


def _remote_ip(flow: Flow, head: RequestHead | None) -> str:
    """Read the last address that proxies on the way named; without any, the peer's own."""
    forwarded = head.headers.get(b"x-forwarded-for") if head else None
    if not forwarded:
        return flow.peer.host
    return forwarded.rpartition(b",")[2].strip().decode("latin-1")


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
    return head.authority.lower() or None if head else None


def _host(flow: Flow, head: RequestHead | None) -> bytes | None:
    authority = _authority(flow, head)
    return None if authority is None else bare_host(authority)


def bare_host(authority: bytes) -> bytes:
    """Take the port, and the dot of a name that is written from the root, from a host."""
    host, colon, port = authority.rpartition(b":")
    if not colon or not port.isdigit() or (b":" in host and not host.endswith(b"]")):
        host = authority
    return host.removesuffix(b".")


@dataclass(frozen=True, slots=True)
class Hosts:
    """Hosts, some of them with a port: those are about just that spelling."""

    without: Words[bytes]
    ported: Words[bytes]

    def matches(self, authority: bytes) -> bool:
        """Whether the authority is one of these."""
        return self.without.matches(bare_host(authority)) or self.ported.matches(authority)


# What fields may say


def _text(values: Sequence[str]) -> Words[str]:
    for value in values:
        _check_wildcard(value)
    return words(values)


def _octets(values: Sequence[str]) -> Words[bytes]:
    for value in values:
        _check_wildcard(value)
    return words([value.encode() for value in values])


def _check_wildcard(value: str) -> None:
    inner = value[1:] if value.startswith("*") else value.removesuffix("*")
    if "*" in inner:
        raise BadValue(f"{value!r}: a `*` stands for itself here; it may only begin or end a value")
    if not value:
        raise BadValue("an empty value matches nothing")


def _principals(values: Sequence[str]) -> Words[str]:
    for value in values:
        if value.startswith("spiffe://"):
            raise BadValue(f"{value!r}: write it without `spiffe://`")
    return _text(values)


def _blocks(values: Sequence[str]) -> Matcher[str]:
    try:
        return networks(values)
    except ValueError as error:
        raise BadValue(f"{error}: write an address or a network as 192.0.2.0/24") from error


def _ports(values: Sequence[str]) -> Numbers:
    for value in values:
        if not _PORT.fullmatch(value) or int(value) > 65535:
            raise BadValue(f"{value!r} is no port, write one from 1 to 65535")
    return Numbers(frozenset(map(int, values)))


def _methods(values: Sequence[str]) -> Words[bytes]:
    for value in values:
        if value != value.upper():
            raise BadValue(f"{value!r}: methods are in upper case")
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


def _header(values: Sequence[str]) -> Words[bytes]:
    return _octets(values)


@dataclass(frozen=True, slots=True)
class Kind:
    """How a field of the format is read and written."""

    read: Read
    matcher: Callable[[Sequence[str]], Matcher[Any]]
    http: bool = False


SOURCES = {
    "principals": Kind(_principal, _principals),
    "namespaces": Kind(_namespace, _text),
    "service_accounts": Kind(_service_account, _text),
    "ip_blocks": Kind(_source_ip, _blocks),
    "remote_ip_blocks": Kind(_remote_ip, _blocks),
}
OPERATIONS = {
    "hosts": Kind(_host, _octets, http=True),
    "ports": Kind(_port, _ports),
    "methods": Kind(_method, _methods, http=True),
    "paths": Kind(_path, _paths, http=True),
}
CONDITIONS = {
    "source.ip": Kind(_source_ip, _blocks),
    "remote.ip": Kind(_remote_ip, _blocks),
    "source.namespace": Kind(_namespace, _text),
    "source.principal": Kind(_principal, _principals),
    "source.serviceAccount": Kind(_service_account, _text),
    "destination.ip": Kind(_destination_ip, _blocks),
    "destination.port": Kind(_port, _ports),
    "connection.sni": Kind(_server_name, _text),
}


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


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
        for name, kind in kinds.items():
            for negative in (False, True):
                attribute = f"not_{name}" if negative else name
                values: tuple[str, ...] | None = getattr(said, attribute)
                if values is not None:
                    field = self._field((*path, _camel(attribute)), name, kind, values)
                    fields.extend(_signed(field, negative=negative))
        if said == type(said)():
            self._find(path, "is empty, which would mean anything at all: say what is meant")
        return AllOf(tuple(fields))

    def _field(self, path: Path, name: str, kind: Kind, values: tuple[str, ...]) -> Field | None:
        try:
            if name == "service_accounts":
                values = tuple(self._qualified(value) for value in values)
            line = self._document.node.nearest(path).line
            if name == "hosts":
                return _host_field(values, line)
            matcher = kind.matcher(values)
            return Field(name, kind.read, matcher, http=kind.http, values=values, line=line)
        except BadValue as bad:
            self._find(path, str(bad))
            return None

    def _qualified(self, value: str) -> str:
        """Complete `bar` to `foo/bar`, foo being the policy's own namespace."""
        return value if "/" in value or value.startswith("*") else f"{self._namespace}/{value}"

    def _condition(self, path: Path, condition: Condition) -> Iterator[Field]:
        key = condition.key
        kind = CONDITIONS.get(key) or _header_kind(key)
        if kind is None:
            hint = did_you_mean(key, CONDITIONS) or (
                f", known are request.headers[NAME], {', '.join(CONDITIONS)}"
            )
            self._find((*path, "key"), f"unknown key {key!r}{hint}")
            return
        if condition.values is None and condition.not_values is None:
            self._find(path, "needs `values` or `notValues`")
        for attribute, values in (
            ("values", condition.values),
            ("notValues", condition.not_values),
        ):
            if values is not None:
                field = self._field((*path, attribute), key, kind, values)
                yield from _signed(field, negative=attribute == "notValues")

    def _find(self, path: Path, message: str) -> None:
        self.findings.append(self._document.finding(Code.BAD_VALUE, path, message))


def _signed(field: Field | None, *, negative: bool) -> Iterator[Field]:
    if field is not None:
        yield replace(field, negative=negative)


def _header_kind(key: str) -> Kind | None:
    found = HEADER_KEY.fullmatch(key)
    if found is None:
        return None
    name = found[1].lower().encode()

    def read(_: Flow, head: RequestHead | None) -> bytes | None:
        if head is None or name not in head.headers:
            return None
        return b",".join(value for each, value in head.headers if each.lower() == name)

    return Kind(read, _header, http=True)


def _host_field(values: tuple[str, ...], line: int) -> Field:
    lower = [value.lower() for value in values]
    ported = [value for value in lower if _PORTED.fullmatch(value)]
    without = _octets([value.removesuffix(".") for value in lower if value not in ported])
    if not ported:
        return Field("hosts", _host, without, http=True, values=values, line=line)
    hosts = Hosts(without, _octets(ported))
    return Field("hosts", _authority, hosts, http=True, values=values, line=line)
