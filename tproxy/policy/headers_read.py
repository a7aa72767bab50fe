"""Which headers policies read: what has to be known of a request to say later what they made of it."""

from collections.abc import Iterator, Mapping

from tproxy.model.flow import Direction
from tproxy.policy.facts import header_of
from tproxy.policy.snapshot import Snapshot


def headers_read(snapshot: Snapshot) -> Mapping[Direction, frozenset[str]]:
    """Name, in lower case, the headers that decide on requests of either direction, or on their way."""
    read: dict[Direction, set[str]] = {each: set() for each in Direction}
    for direction, field in _fields(snapshot):
        if (header := header_of(field)) is not None:
            read[direction].add(header)
    return {direction: frozenset(names) for direction, names in read.items()}


def _fields(snapshot: Snapshot) -> Iterator[tuple[Direction, str]]:
    yield from ((Direction.INBOUND, each) for each in _judged_by(snapshot))
    yield from ((Direction.OUTBOUND, each) for each in _led_by(snapshot))
    for direction in Direction:
        for fault in snapshot.faults.rules[direction] if snapshot.faults else ():
            yield from ((direction, each.name) for each in fault.wanted.fields)
    for direction, _, limit in snapshot.rate_limits.every() if snapshot.rate_limits else ():
        yield from ((direction, each.name) for each in limit.scoped.wanted.fields)


def _judged_by(snapshot: Snapshot) -> Iterator[str]:
    for policy in snapshot.policies:
        if not policy.left_out:
            for rule in policy.rules:
                for part in rule.parts:
                    for alternative in part:
                        yield from (each.name for each in alternative.fields)


def _led_by(snapshot: Snapshot) -> Iterator[str]:
    for routes in snapshot.traffic.routes.every() if snapshot.traffic else ():
        for entry in routes.http:
            for match in entry.matches:
                yield from (each.fact for each in match.conditions)
