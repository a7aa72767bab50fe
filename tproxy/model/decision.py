"""What a policy says of a connection or a request, and which one says it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decision:
    """Allowed or not, by whom."""

    allowed: bool
    by: str
    """The rule that decided, or `default-allow`."""
