"""Which way a request or a connection would go, and why: the data path's own choice, where enough is known for it.

The rule that must not be broken: what nobody knows is never taken for absent, and no draw is told that was not made.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tproxy.model.cluster import Cluster
from tproxy.model.flow import Direction, Protocol
from tproxy.model.identity import UNKNOWN
from tproxy.model.route import Route
from tproxy.policy.clusters import ClusterBook
from tproxy.policy.egress import BLACK_HOLE
from tproxy.policy.explain_tls import REQUEST
from tproxy.policy.facts import DESTINATION_IP, HEADER, HOST, Facts, header_fact
from tproxy.policy.faults import FaultBook
from tproxy.policy.route_match import QUERY, Asking, Condition, Match, asking_of
from tproxy.policy.routes import Entry, HostRoutes, Share
from tproxy.policy.secrecy import HIDDEN, secret
from tproxy.policy.traffic import REQUEST_ID, Chosen, Meant, Traffic, candidates, passthrough
from tproxy.resilience.fault import Injection
from tproxy.resilience.fault import choose as injected

PEER = "source.port"
"""What a connection's way is drawn from, beside the address."""

DRAWN_FROM = header_fact(REQUEST_ID.decode())
_SILENT = Traffic(ClusterBook(), None, UNKNOWN)
"""Where nothing is said of ways, every request means whom it asks for."""
_HTTP = (Protocol.HTTP1, Protocol.HTTP2)


@dataclass(frozen=True, slots=True)
class Unmet:
    """The first condition of a match that does not hold."""

    place: str
    field: str
    wanted: str
    seen: str | None
    """None when it is absent."""
    negative: bool = False
    missing: str | None = None
    """The fact that is not known, where that is what keeps it from holding."""


@dataclass(frozen=True, slots=True)
class Tried:
    """An entry held against a request."""

    entry: Entry
    holds: bool | None
    """None when it depends on what is not known."""
    unmet: tuple[Unmet, ...] = ()
    """One of each match."""


@dataclass(frozen=True, slots=True)
class Directing:
    """Which way it would go."""

    meant: Meant | None = None
    routes: HostRoutes | None = None
    """The VirtualService that was asked; None when none is about it."""
    tried: tuple[Tried, ...] = ()
    """Its entries, up to the one that was chosen."""
    chosen: Entry | None = None
    share: Share | None = None
    """The destination that was drawn."""
    route: Route | None = None
    """None when it depends on what is not known. Where only the draw does, its plan holds for each destination."""
    identified: bool = False
    """Whether the request's id is known."""
    fault: Injection | None = None
    """What would be injected into this very request; None for nothing, or where its id is not known."""
    unknown_fault: tuple[str, ...] = ()
    """Facts on which it depends whether a FaultPolicy is about it, and that nobody knows."""
    missing: tuple[str, ...] = ()
    """Facts on which it depends, and that nobody knows."""

    @property
    def cluster(self) -> Cluster | None:
        """Return the cluster of its route; None where it stays on its way, or is answered by us."""
        plan = self.route.plan if self.route else None
        return plan.destination if plan and plan.answer is None else None


def directing(
    traffic: Traffic | None, facts: Facts, faults: FaultBook | None = None
) -> Directing | None:
    """Say which way it would go; None for what comes in."""
    if facts.flow.direction is Direction.INBOUND:
        return None
    return _suffering(_way(traffic, facts), faults, facts)


def _way(traffic: Traffic | None, facts: Facts) -> Directing:
    if traffic is None:
        meant = _SILENT.meant(facts.flow, facts.head)
        return Directing(meant, route=passthrough(None))
    if facts.head is None and facts.flow.protocol in _HTTP:
        return Directing(missing=(REQUEST,))
    meant = traffic.meant(facts.flow, facts.head)
    if missing := _nameless(traffic, meant, facts):
        return Directing(missing=missing)
    return _directed(traffic, meant, facts)


def _suffering(way: Directing, faults: FaultBook | None, facts: Facts) -> Directing:
    """Add the faults that it would suffer on its way."""
    route, head = way.route, facts.head
    if route is None or head is None:
        return way
    fields = {
        field.name
        for rule in (faults.rules[facts.flow.direction] if faults else ())
        for field in rule.wanted.fields
    }
    unknown = tuple(dict.fromkeys(filter(None, map(facts.missing, sorted(fields)))))
    if faults is not None and not unknown:
        route = faults.way(route, facts.flow, head)
    spec = route.plan.fault if route.plan else None
    known = identified(facts)
    hit = injected(spec, head.headers.get(REQUEST_ID) or b"") if spec and known else None
    return replace(way, route=route, identified=known, fault=hit, unknown_fault=unknown)


def _nameless(traffic: Traffic, meant: Meant, facts: Facts) -> tuple[str, ...]:
    """Return what is not known of whom is meant, where it matters."""
    if HOST in facts.hidden and facts.head is not None:
        return (HOST,)
    settled = meant.named is not None
    return (DESTINATION_IP,) if not settled and _by_address(traffic, meant, facts) else ()


def _by_address(traffic: Traffic, meant: Meant, facts: Facts) -> bool:
    """Whether it depends on an address, that is not known, who is meant."""
    known = traffic.destinations is not None and bool(traffic.destinations.entries.by_network)
    return known and meant.service is None and DESTINATION_IP in facts.hidden


def _directed(traffic: Traffic, meant: Meant, facts: Facts) -> Directing:
    asked = candidates(meant, facts.flow, facts.head)
    routes = meant.named or meant.addressed if asked else None
    tried = tuple(
        _until(asked, asking_of(facts.flow, facts.head, meant.port, traffic.routes.form), facts)
    )
    missing = tuple(_missing(tried))
    if missing:
        return Directing(meant, routes, tried, missing=missing)
    route = traffic.route(facts.flow, facts.head, None)
    chosen = traffic.choose(meant, facts.flow, facts.head)
    if (chosen is None or route.cluster == BLACK_HOLE) and _by_address(traffic, meant, facts):
        return Directing(meant, routes, tried, missing=(DESTINATION_IP,))
    if chosen is None:
        return Directing(meant, routes, tried, route=route)
    return _drawn(
        traffic, Directing(meant, routes, tried, chosen.entry, route=route), chosen, facts
    )


def _drawn(traffic: Traffic, told: Directing, chosen: Chosen, facts: Facts) -> Directing:
    """Tell what was drawn, or that nobody knows."""
    share = traffic.share(chosen, facts.flow, facts.head)
    undrawn = _undrawn(chosen.entry, facts)
    return Directing(
        told.meant,
        told.routes,
        told.tried,
        told.chosen,
        None if undrawn else share,
        told.route,
        missing=(undrawn,) if undrawn else (),
    )


def _undrawn(entry: Entry, facts: Facts) -> str | None:
    """Return what a draw between several destinations depends on, and is not known."""
    if sum(each.weight > 0 for each in entry.shares) < 2:
        return None
    if facts.head is None:
        return PEER
    return None if identified(facts) else DRAWN_FROM


def identified(facts: Facts) -> bool:
    """Whether the id of a request is known, from which its way and its faults are drawn."""
    head = facts.head
    return head is not None and not facts.missing(DRAWN_FROM) and REQUEST_ID in head.headers


def _missing(tried: tuple[Tried, ...]) -> Iterator[str]:
    if tried and tried[-1].holds is None:
        facts = (each.missing for each in tried[-1].unmet)
        yield from dict.fromkeys(fact for fact in facts if fact is not None)


def _until(entries: tuple[Entry, ...], asking: Asking, facts: Facts) -> Iterator[Tried]:
    """Try entries until one holds, or nobody knows whether it does."""
    for entry in entries:
        tried = _tried(entry, asking, facts)
        yield tried
        if tried.holds is not False:
            return


def _tried(entry: Entry, asking: Asking, facts: Facts) -> Tried:
    unmet = []
    for match in entry.matches:
        found = _unmet(match, asking, facts)
        if found is None:
            return Tried(entry, True)  # noqa: FBT003
        unmet.append(found)
    open_still = any(each.missing for each in unmet)
    return Tried(entry, None if open_still else False, tuple(unmet))


def _unmet(match: Match, asking: Asking, facts: Facts) -> Unmet | None:
    """Return what surely fails, else what is not known; None when the match holds."""
    if match.left_out:
        return Unmet(match.place, "sourceLabels", match.left_out, None)
    unknown = None
    for condition in match.conditions:
        fact = facts.missing(condition.fact)
        if fact is not None:
            unknown = unknown or Unmet(
                match.place, condition.field, condition.wanted, None, missing=fact
            )
        elif not condition.holds(asking):
            return _failed(match, condition, asking)
    return unknown


def _failed(match: Match, condition: Condition, asking: Asking) -> Unmet:
    value = condition.read(asking)
    seen = None if value is None else value.decode("utf-8", "backslashreplace")
    wanted = condition.wanted
    # The query may hold secrets under any name.
    if condition.fact == QUERY or (condition.fact.startswith(HEADER) and secret(condition.field)):
        wanted, seen = HIDDEN, None if seen is None else HIDDEN
    return Unmet(match.place, condition.field, wanted, seen, condition.negative)
