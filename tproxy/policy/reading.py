"""Take rules apart as they are written, with the place of each field: what lints look at."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from tproxy.policy.findings import Path
from tproxy.policy.schema import Condition, Operation, Rule, Source

_PROVEN = frozenset(("principals", "namespaces", "service_accounts"))
_SPELLED = frozenset(("paths", "hosts", "methods", "remote_ip_blocks", "connection.sni"))
_HTTP = frozenset(("hosts", "methods", "paths"))
_SAME = {
    "source.ip": "ip_blocks",
    "remote.ip": "remote_ip_blocks",
    "source.namespace": "namespaces",
    "source.principal": "principals",
    "source.serviceAccount": "service_accounts",
    "destination.port": "ports",
}
"""What conditions ask for that other fields ask for too."""


class Said(msgspec.Struct, frozen=True):
    """One field of a rule: which values are wanted, or excluded."""

    path: Path
    name: str
    negative: bool
    values: tuple[str, ...]

    @property
    def http(self) -> bool:
        """Whether only requests have it."""
        return self.name in _HTTP or self.name.startswith("request.headers")

    @property
    def proven(self) -> bool:
        """Whether a peer proves it by mutual TLS."""
        return self.name in _PROVEN

    @property
    def spelled(self) -> bool:
        """Whether whoever asks writes it, and may write it otherwise."""
        return self.name in _SPELLED or self.name.startswith("request.headers")


@dataclass(frozen=True, slots=True)
class Alternative:
    """One of several sources or operations, and the rule's conditions, which hold for each of them."""

    own: tuple[Said, ...]
    conditions: tuple[Said, ...]

    @property
    def fields(self) -> tuple[Said, ...]:
        """All that must hold."""
        return self.own + self.conditions

    def http(self) -> tuple[Said, ...]:
        """Return what is about requests only."""
        return tuple(each for each in self.fields if each.http)

    def ports(self) -> frozenset[str] | None:
        """Return the ports that it is about; None for every port."""
        named = [each.values for each in self.fields if each.name == "ports" and not each.negative]
        return frozenset(port for values in named for port in values) if named else None


@dataclass(frozen=True, slots=True)
class Reading:
    """One rule."""

    sources: tuple[Alternative, ...]
    operations: tuple[Alternative, ...]
    conditions: tuple[Said, ...]

    def every(self) -> Iterator[Said]:
        """Give all fields, in their order."""
        for alternative in (*self.sources, *self.operations):
            yield from alternative.own
        yield from self.conditions

    def from_alternatives(self) -> Sequence[Alternative]:
        """Return who asks: without sources, whom the conditions mean."""
        return self.sources or (Alternative((), self.conditions),)

    def to_alternatives(self) -> Sequence[Alternative]:
        """Return what is asked: without operations, what the conditions mean."""
        return self.operations or (Alternative((), self.conditions),)


def readings(rules: Sequence[Rule]) -> Iterator[Reading]:
    """Take each of a policy's rules apart."""
    for index, rule in enumerate(rules):
        path: Path = ("spec", "rules", index)
        conditions = tuple(
            said
            for at, each in enumerate(rule.when or ())
            for said in _condition((*path, "when", at), each)
        )
        sources = tuple(
            Alternative(_fields((*path, "from", at, "source"), each.source), conditions)
            for at, each in enumerate(rule.from_ or ())
        )
        operations = tuple(
            Alternative(_fields((*path, "to", at, "operation"), each.operation), conditions)
            for at, each in enumerate(rule.to or ())
        )
        yield Reading(sources, operations, conditions)


@lru_cache
def written_fields(kind: type[Source] | type[Operation]) -> tuple[tuple[str, str, str, bool], ...]:
    """Return each field's attribute, its name in files, the value that it is about, and whether it excludes."""
    return tuple(
        (each.name, each.encode_name, each.name.removeprefix("not_"), each.name.startswith("not_"))
        for each in msgspec.structs.fields(kind)
    )


def _fields(path: Path, said: Source | Operation) -> tuple[Said, ...]:
    return tuple(
        Said((*path, written), name, negative, values)
        for attribute, written, name, negative in written_fields(type(said))
        if (values := getattr(said, attribute)) is not None
    )


def _condition(path: Path, condition: Condition) -> Iterator[Said]:
    name = _SAME.get(condition.key, condition.key)
    if condition.values is not None:
        yield Said((*path, "values"), name, negative=False, values=condition.values)
    if condition.not_values is not None:
        yield Said((*path, "notValues"), name, negative=True, values=condition.not_values)
