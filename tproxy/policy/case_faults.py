"""Hold the faults of a case against what it expects."""

from collections.abc import Iterator, Sequence

from tproxy.policy.case_routes import NONE, Compared, undetermined
from tproxy.policy.explain_faults import FaultTrace
from tproxy.policy.explain_route import DRAWN_FROM, Directing
from tproxy.policy.schema import CaseFault, Expectation
from tproxy.resilience.fault import UNHARMED, Injection


def harmed(
    expect: Expectation, came: Sequence[FaultTrace], way: Directing | None
) -> Iterator[Compared]:
    """Give what is expected of faults and what came; an entry that is not known may have some."""
    open_still = way.missing if way and way.route is None else ()
    if expect.faults is not None:
        found = (f"{each.name} (perhaps)" if each.missing else each.name for each in came)
        names = undetermined(open_still) if open_still else _listed(found)
        yield Compared("faults", _listed(expect.faults), names)
    if expect.injected is not None:
        missing = open_still or _unknown(came)
        injected = undetermined(missing) if missing else _injected(came)
        yield Compared("injected", _listed(expect.injected), injected)


def _unknown(came: Sequence[FaultTrace]) -> tuple[str, ...]:
    """Name what is not known, and decides what is injected."""
    missing = dict.fromkeys(fact for each in came for fact in each.missing)
    if came and not missing and came[0].injection is None:
        return (DRAWN_FROM,)
    return tuple(missing)


def _injected(came: Sequence[FaultTrace]) -> str:
    hit = next((each.injection for each in came), None) or UNHARMED
    return _listed(_kinds(hit))


def _kinds(hit: Injection) -> Iterator[CaseFault]:
    if hit.delay:
        yield CaseFault.DELAY
    if hit.reset:
        yield CaseFault.RESET
    elif hit.abort is not None:
        yield CaseFault.ABORT
    elif hit.bytes_per_second:
        yield CaseFault.THROTTLE


def _listed(names: Iterator[str] | Sequence[str]) -> str:
    return ", ".join(sorted(set(names))) or NONE
