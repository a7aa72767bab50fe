"""Make requests late or fail on purpose, to see what callers do.

Whether a request is affected is settled by its id: `fraction(id)` salted with the policy's name and the kind of fault
is below the percentage, or not. So a retry with the same id meets the same fault, a record of it can be checked, and
delay and abort are independent of each other and of the next hop's.
"""

from dataclasses import dataclass

import msgspec

from tproxy.resilience.fraction import fraction

ACTIVE_FAULTS = 1000
"""Faults under way at once: each delay holds a request and its connection for somebody who only waits."""


@dataclass(frozen=True, slots=True)
class Delay:
    """So many percent come so many seconds late; without a percentage none do."""

    seconds: float
    percent: float = 0.0


@dataclass(frozen=True, slots=True)
class Abort:
    """So many percent are answered at once, with an HTTP status or a gRPC status; without a percentage none are."""

    status: int = 0
    grpc_status: int | None = None
    percent: float = 0.0


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """One policy's faults."""

    name: str
    """Salts the choice, so that two policies do not affect the same requests."""
    delay: Delay | None = None
    abort: Abort | None = None
    max_active: int = ACTIVE_FAULTS


class Injection(msgspec.Struct, frozen=True):
    """What happens to one request: it waits, and then, if there is an abort, that is its answer."""

    delay: float = 0.0
    abort: Abort | None = None


class Faults:
    """One policy's at work. What changes: how many are under way, and how many there was no room for."""

    __slots__ = ("_spec", "active", "overflowed")

    def __init__(self, spec: FaultSpec) -> None:
        self._spec = spec
        self.active = 0
        self.overflowed = 0

    def begin(self, request_id: bytes) -> Injection | None:
        """Choose what happens to a request: `ended` is owed unless it is None."""
        injection = choose(self._spec, request_id)
        if injection is None:
            return None
        if self.active >= self._spec.max_active:
            self.overflowed += 1
            return None
        self.active += 1
        return injection

    def ended(self) -> None:
        """End a fault: its delay is over and its answer given."""
        assert self.active, "ended more often than begun"
        self.active -= 1


def choose(spec: FaultSpec, request_id: bytes) -> Injection | None:
    """Choose what happens to a request if there is room."""
    name = spec.name.encode()
    delay, abort = spec.delay, spec.abort
    delayed = delay is not None and _affects(delay.percent, request_id, b"delay " + name)
    aborted = abort is not None and _affects(abort.percent, request_id, b"abort " + name)
    if not (delayed or aborted):
        return None
    return Injection(delay.seconds if delay and delayed else 0.0, abort if aborted else None)


def _affects(percent: float, request_id: bytes, salt: bytes) -> bool:
    return fraction(request_id, salt) * 100 < percent
