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
class Throttle:
    """So many percent are answered at so many bytes a second; without a percentage none are."""

    bytes_per_second: int
    percent: float = 0.0

    def __post_init__(self) -> None:
        assert self.bytes_per_second > 0, "something passes"


class FaultSpec(msgspec.Struct, frozen=True, cache_hash=True):
    """One policy's faults."""

    name: str
    """Salts the choice, so that two policies do not affect the same requests."""
    delay: Delay | None = None
    abort: Abort | None = None
    max_active: int = ACTIVE_FAULTS
    reset: float = 0.0
    """So many percent get no answer: their connection, or their stream of HTTP/2, is reset."""
    throttle: Throttle | None = None


class Injection(msgspec.Struct, frozen=True):
    """What happens to one request: it waits, then it is reset, or aborted, or its answer is slow."""

    delay: float = 0.0
    abort: Abort | None = None
    reset: bool = False
    bytes_per_second: int = 0
    """0: as fast as it comes."""


UNHARMED = Injection()


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
        """End a fault: its delay is over, its answer given."""
        assert self.active, "ended more often than begun"
        self.active -= 1


def choose(spec: FaultSpec, request_id: bytes) -> Injection | None:
    """Choose what happens to a request if there is room."""
    delay, abort, throttle = spec.delay, spec.abort, spec.throttle

    def affects(kind: bytes, percent: float) -> bool:
        return percent > 0 and fraction(request_id, kind + spec.name.encode()) * 100 < percent

    injection = Injection(
        delay.seconds if delay and affects(b"delay ", delay.percent) else 0.0,
        abort if abort and affects(b"abort ", abort.percent) else None,
        affects(b"reset ", spec.reset),
        throttle.bytes_per_second if throttle and affects(b"throttle ", throttle.percent) else 0,
    )
    return None if injection == UNHARMED else injection
