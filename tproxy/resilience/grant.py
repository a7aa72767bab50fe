"""What a rate limit answers, and the shape of every machine that answers so."""

from typing import Protocol

import msgspec


class Grant(msgspec.Struct, frozen=True):
    """Whether one was let through, and when the next one would be."""

    allowed: bool
    remaining: int
    """How many more would be let through now: `r` in draft-ietf-httpapi-ratelimit-headers."""
    after: float
    """Seconds until one more would be; 0 when it would be now. Retry-After is this, rounded up."""
    delay: float = 0.0
    """Seconds that the one let through has to wait for its turn."""


State = tuple[float, float, float]
"""All that a machine remembers, where it is kept by others than the machine itself."""


class Limit(Protocol):
    """A rate limit at work. What changes: what has been let through."""

    def take(self, now: float) -> Grant:
        """Ask for one, and use it up if it is let through."""

    def look(self, now: float) -> Grant:
        """Say what `take` would, without using anything up."""

    def saved(self) -> State:
        """Give what it remembers."""


class RateSpec(Protocol):
    """What a policy says of a rate: equal ones may share a machine."""

    def machine(self, now: float) -> Limit:
        """Make a machine that has let nothing through yet."""

    def restored(self, state: State) -> Limit:
        """Make one that goes on from what another has remembered."""
