"""What every place has in common that endpoints come from."""

from enum import StrEnum
from typing import Protocol

from tproxy.model.cluster import Endpoint


class Result(StrEnum):
    """What a look for endpoints came to."""

    OK = "ok"
    ABSENT = "nxdomain"
    EMPTY = "empty"
    """The name is there, and has no address."""
    TIMEOUT = "timeout"
    FAILED = "failed"
    """Whoever was asked could not say."""


class NotFound(Exception):
    """Nothing was found out, so that what was found last holds."""

    def __init__(self, result: Result, said: str) -> None:
        super().__init__(said)
        self.result = result


class Source(Protocol):
    """A stream of endpoint sets. What changes: when the next one is due."""

    async def endpoints(self) -> tuple[Endpoint, ...]:
        """Wait for the next set; NotFound when there is none this time, and the one before holds."""
