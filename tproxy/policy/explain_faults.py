"""Which faults a request would suffer: the data path's own choice, where enough is known for it.

The rule that must not be broken: what nobody knows is never taken for absent, and no draw is told that was not made.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tproxy.model.flow import Protocol
from tproxy.policy.explain_route import Directing, identified
from tproxy.policy.explain_tls import REQUEST
from tproxy.policy.facts import Facts
from tproxy.policy.faults import CompiledFault, FaultBook
from tproxy.policy.traffic import REQUEST_ID
from tproxy.resilience.fault import UNHARMED, FaultSpec, Injection, choose

_HTTP = (Protocol.HTTP1, Protocol.HTTP2)


@dataclass(frozen=True, slots=True)
class FaultTrace:
    """Faults that are about a request, or may be."""

    name: str
    """Whose: that of a FaultPolicy, or an entry of a VirtualService."""
    place: str
    spec: FaultSpec
    injection: Injection | None = None
    """What would be injected into this very request; None where its id is not known."""
    missing: tuple[str, ...] = ()
    """Facts that nobody knows, on which it depends whether they are about it."""


def faults(
    book: FaultBook | None, facts: Facts, way: Directing | None, *, refused: bool
) -> tuple[FaultTrace, ...]:
    """Say which faults are about a request, or may be; none are about what is refused before."""
    if refused or (facts.head is None and facts.flow.protocol not in _HTTP):
        return ()
    entry = way.chosen if way else None
    spec = entry.matches[0].plan.fault if entry else None
    if entry is not None and spec is not None:
        return (FaultTrace(entry.identity, entry.place, spec, _injected(spec, facts)),)
    unknown = way.missing if way and way.route is None else ()
    return () if book is None else tuple(_traces(book, facts, unknown))


def _traces(book: FaultBook, facts: Facts, unknown: tuple[str, ...]) -> Iterator[FaultTrace]:
    """Give rules until one surely is about it; an entry that is not known may have faults that win over them all."""
    missing = dict.fromkeys(unknown)
    if facts.head is None:
        missing[REQUEST] = None
    else:
        facts = Facts(facts.flow, book.normal(facts.head), facts.hidden, facts.headers)
    for rule in book.rules[facts.flow.direction]:
        if not _may_hold(rule, facts):
            continue
        wanted = dict.fromkeys(
            filter(None, (facts.missing(each.name) for each in rule.wanted.fields))
        )
        missing.update(wanted)
        hit = None if missing else _injected(rule.spec, facts)
        yield FaultTrace(rule.owner, rule.place, rule.spec, hit, tuple(missing))
        if not wanted and facts.head is not None:
            return


def _may_hold(rule: CompiledFault, facts: Facts) -> bool:
    """Whether all fields of which the value is known hold."""
    return facts.head is None or all(
        facts.missing(each.name) is not None or each.holds(facts.flow, facts.head)
        for each in rule.wanted.fields
    )


def _injected(spec: FaultSpec, facts: Facts) -> Injection | None:
    if facts.head is None or not identified(facts):
        return None
    return choose(spec, facts.head.headers.get(REQUEST_ID) or b"") or UNHARMED
