"""Bring a capture into the kernel, and take it out again.

Either the whole plan stands when apply() returns, read back and compared, or nothing of ours
does and it raises.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from tproxy_init import system
from tproxy_init.capture import Capture, InboundMode, Ipv6
from tproxy_init.detect import Backend, Refused, engines, holders, ordered, usable
from tproxy_init.engines import Engine, EngineError
from tproxy_init.errors import CleanupFailed, Ipv6Uncaptured, NothingCaptures, UnsafeNamespace
from tproxy_init.plan import plan
from tproxy_init.rules import Family, Plan

BOTH = (Family.V4, Family.V6)
V4_ONLY = (Family.V4,)


@dataclass(frozen=True, slots=True)
class Applied:
    """A plan that stands."""

    engine: str
    plan: Plan
    refused: tuple[Refused, ...]
    """The engines that were asked before and could not serve."""


def apply(capture: Capture, *, candidates: Sequence[Engine], force: bool) -> Applied:
    """Make the kernel capture what `capture` says, by the first candidate that can.

    Applying twice is applying once.
    """
    if not force:
        refuse_host_namespace()
    refused: list[Refused] = []
    candidates = ordered(candidates)
    for families in family_choices(capture):
        applied = _first_that_works(capture, plan(capture, families), candidates, refused)
        if applied is not None:
            return applied
    with suppress(EngineError):
        # Where routes cannot be removed, none could be added.
        _undo_system()
    raise _failure(capture, candidates, refused)


def refuse_host_namespace() -> None:
    """UnsafeNamespace when this looks like a node's own namespace."""
    if signs := system.host_signs():
        raise UnsafeNamespace(
            f"this network namespace has {' and '.join(signs)}: it looks like a host's own, "
            "and capturing here would cut the host off. Run in the pod's namespace, or add --force"
        )


def family_choices(capture: Capture) -> list[tuple[Family, ...]]:
    """The families to capture, the best choice first; leaving one open is the last resort."""
    match capture.ipv6:
        case Ipv6.BLOCK:
            return [V4_ONLY]
        case Ipv6.CAPTURE:
            return [BOTH]
        case Ipv6.AUTO if not system.ipv6_present():
            return [V4_ONLY]
        case Ipv6.AUTO if system.has_global_ipv6(system.pod_addresses()):
            return [BOTH]
        case Ipv6.AUTO:
            return [BOTH, V4_ONLY]


def _first_that_works(
    capture: Capture, wanted: Plan, candidates: Sequence[Engine], refused: list[Refused]
) -> Applied | None:
    for engine in usable(candidates, wanted, refused):
        try:
            _commit(capture, wanted, engine)
        except EngineError as error:
            refused.append(Refused(engine.name, str(error)))
            # What cannot be removed was not there: commits are atomic, table by table.
            with suppress(EngineError):
                engine.remove()
        else:
            _remove_others(engine)
            return Applied(engine.name, wanted, tuple(dict.fromkeys(refused)))
    return None


def _commit(capture: Capture, wanted: Plan, engine: Engine) -> None:
    """Routes before the rules that need them, and both before the ways they replace go."""
    if capture.ipv6 is Ipv6.BLOCK:
        system.block_ipv6()
    if Family.V6 in wanted.families:
        system.add_delivery_address()
    kept = None
    if capture.inbound_mode is InboundMode.TPROXY:
        kept = (capture.tproxy_mark, capture.tproxy_table)
        for family in wanted.families:
            system.add_tproxy_route(family, mark=kept[0], table=kept[1])
    engine.apply(wanted)
    system.remove_tproxy_routes(besides=kept)
    if capture.ipv6 is not Ipv6.BLOCK:
        system.unblock_ipv6()


def _remove_others(chosen: Engine) -> None:
    """Chains that another engine loaded in an earlier run, once ours stand."""
    for engine in holders(engines(Backend.AUTO)):
        if engine.home != chosen.home and (failed := _failed_removal(engine)):
            raise CleanupFailed(f"{chosen.name} holds the rules, but so does still {failed}")


def _failed_removal(engine: Engine) -> Refused | None:
    try:
        engine.remove()
    except EngineError as error:
        return Refused(engine.name, str(error))
    return None


def _failure(
    capture: Capture, candidates: Sequence[Engine], refused: Sequence[Refused]
) -> NothingCaptures | Ipv6Uncaptured:
    reasons = "".join(f"\n  {reason}" for reason in dict.fromkeys(map(str, refused)))
    v4_alone = plan(capture, V4_ONLY)
    if capture.ipv6 is not Ipv6.BLOCK and any(usable(candidates, v4_alone, [])):
        return Ipv6Uncaptured(
            "IPv6 cannot be captured here, and would pass every policy by. "
            f"Use --ipv6 block to shut it off, or load what is missing:{reasons}"
        )
    return NothingCaptures(f"no engine can load the rules; nothing was left behind:{reasons}")


def cleanup() -> list[str]:
    """Remove everything of ours; the engines that held something."""
    failures: list[Refused] = []
    cleaned: list[str] = []
    for engine in engines(Backend.AUTO):
        # Asked one by one: two engines may share a home, and the first has emptied it.
        if not engine.holds():
            continue
        if failed := _failed_removal(engine):
            failures.append(failed)
        else:
            cleaned.append(engine.name)
    try:
        _undo_system()
    except EngineError as error:
        failures.append(Refused("routes and addresses", str(error)))
    if failures:
        reasons = "".join(f"\n  {failure}" for failure in failures)
        raise CleanupFailed(f"not everything of ours could be removed:{reasons}")
    return cleaned


def _undo_system() -> None:
    system.remove_tproxy_routes()
    system.remove_delivery_address()
    system.unblock_ipv6()
