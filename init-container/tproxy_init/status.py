"""Say what this kernel would take and what it holds; changes nothing."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tproxy_init import system
from tproxy_init.apply import family_choices
from tproxy_init.capture import Capture
from tproxy_init.engines import Engine, EngineError
from tproxy_init.plan import plan
from tproxy_init.rules import Plan


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """One engine."""

    name: str
    refusal: str | None
    """Why it would not serve; None where it would."""
    holds: bool
    """Whether chains of ours are in its tables."""
    differences: tuple[str, ...]
    """What of the plan is missing in them, or too much."""


def status_text(capture: Capture, candidates: Sequence[Engine]) -> str:
    """Write it as JSON, for people who read it too."""
    families = family_choices(capture)[0]
    wanted = plan(capture, families)
    engines = [_status(engine, wanted) for engine in candidates]
    found = {
        "host": system.host_signs(),
        "families": [int(family) for family in families],
        "engines": [asdict(each) for each in engines],
    }
    return json.dumps(found, indent=2) + "\n"


def _status(engine: Engine, wanted: Plan) -> EngineStatus:
    holds = engine.holds()
    differences: tuple[str, ...] = ()
    if holds:
        try:
            differences = tuple(map(str, engine.differences(wanted)))
        except EngineError as error:
            differences = (str(error),)
    return EngineStatus(engine.name, engine.refusal(wanted), holds, differences)
