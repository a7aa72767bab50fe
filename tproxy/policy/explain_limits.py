"""Which rate limits a request would be counted by, and as whose: the data path's own choice, where enough is known for it."""

from collections.abc import Iterator
from dataclasses import dataclass

from tproxy.model.flow import Protocol
from tproxy.policy.facts import PATH, Facts
from tproxy.policy.limits import READ_BY_PATH, CompiledBandwidth, CompiledLimit, LimitBook

REQUEST = "request"
UNSHOWN = "(hidden)"
"""Stands for a header's value, which may let somebody in."""
_HTTP = (Protocol.HTTP1, Protocol.HTTP2)


@dataclass(frozen=True, slots=True)
class LimitTrace:
    """One limit that counts a request, or may."""

    name: str
    place: str
    per: str
    """`REQUEST` or `CONNECTION`."""
    shadow: bool = False
    key: tuple[tuple[str, str | None], ...] = ()
    """What tells callers apart, and what this one has; None where it has none."""
    missing: tuple[str, ...] = ()
    """Facts that nobody knows, on which it depends whether it counts."""


def limits(book: LimitBook | None, facts: Facts, *, refused: bool) -> tuple[LimitTrace, ...]:
    """Say which limits count a request, or may; one that is refused anyhow, and a probe, only count as connections."""
    if book is None:
        return ()
    if facts.head is not None and facts.flow.direction in book.reads_paths:
        facts = Facts(facts.flow, book.normal(facts.head), facts.hidden, facts.headers)
    refused = refused or (facts.head is not None and book.is_probe(facts.flow, facts.head))
    return tuple(_traces(book, facts, refused=refused))


def _traces(book: LimitBook, facts: Facts, *, refused: bool) -> Iterator[LimitTrace]:
    http = facts.flow.protocol in _HTTP
    unknown = facts.head is None and http
    for direction, per, limit in book.every():
        about = http and not refused if per == "REQUEST" else True
        if isinstance(limit, CompiledBandwidth):
            about = not http
        if direction is not facts.flow.direction or not about:
            continue
        if per == "REQUEST" and unknown:
            yield _trace(per, limit, facts, (REQUEST,))
        elif _may_hold(limit, facts):
            yield _trace(per, limit, facts, tuple(dict.fromkeys(_unknown(limit, facts))))


def _unknown(limit: CompiledLimit | CompiledBandwidth, facts: Facts) -> Iterator[str]:
    for each in limit.scoped.wanted.fields:
        if (missing := facts.missing(each.name)) is not None:
            yield missing


def _may_hold(limit: CompiledLimit | CompiledBandwidth, facts: Facts) -> bool:
    """Whether all fields of which the value is known hold."""
    return all(
        facts.missing(each.name) is not None or each.holds(facts.flow, facts.head)
        for each in limit.scoped.wanted.fields
    )


def _trace(
    per: str, limit: CompiledLimit | CompiledBandwidth, facts: Facts, missing: tuple[str, ...]
) -> LimitTrace:
    name, place = limit.limit.name, limit.scoped.place
    if isinstance(limit, CompiledBandwidth):
        return LimitTrace(name, place, per, missing=missing)
    shown = () if missing else _key(limit, facts)
    return LimitTrace(name, place, per, limit.limit.shadow, shown, missing)


def _key(limit: CompiledLimit, facts: Facts) -> tuple[tuple[str, str | None], ...]:
    values = limit.key_of(facts.flow, facts.head)
    names = [each.name for each in limit.key]
    return tuple(
        (name, _shown(name, value, facts)) for name, value in zip(names, values, strict=True)
    )


def _shown(name: str, value: str | None, facts: Facts) -> str | None:
    fact = PATH if name.startswith(READ_BY_PATH) else name
    if facts.missing(fact) is not None:
        return "(not known)"
    return UNSHOWN if value is not None and name.startswith("request.headers") else value
