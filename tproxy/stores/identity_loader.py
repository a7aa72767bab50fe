"""Bring a workload's identity into force, at start and at each rotation; a bad one changes nothing and is said."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Protocol

import trio

from tproxy.model.identity import LEFT_TO_WARN
from tproxy.stores.identity_store import BadIdentity, IdentityStore
from tproxy.tls.credentials import Credentials
from tproxy.tls.identity import Identity

LOG = logging.getLogger(__name__)

CHECK_SECONDS = 10.0
"""How often to look at the clock, which may jump: no timer would know."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The last time that the files were read."""

    at: datetime
    problem: str = ""
    """Why nothing changed; empty when what they hold is in force."""


class Age(IntEnum):
    """How old an identity is."""

    FRESH = 0
    LATE = logging.WARNING
    """A rotation should have come."""
    EXPIRED = logging.ERROR


def age(identity: Identity, now: datetime) -> Age:
    """Say how old an identity is at a time."""
    left = identity.not_after - now
    if left.total_seconds() < 0:
        return Age.EXPIRED
    return (
        Age.LATE if left < (identity.not_after - identity.not_before) / LEFT_TO_WARN else Age.FRESH
    )


def _utc_now() -> datetime:
    return datetime.now(UTC)


class IdentitySource(Protocol):
    """Where a workload's identity comes from, again and again."""

    def __str__(self) -> str:
        """Name it to people."""

    def load(self, now: datetime) -> Identity:
        """Give the identity of this time; BadIdentity when there is none. It may wait: call it in a thread."""

    async def watch(self, changed: Callable[[], Awaitable[object]]) -> None:
        """Call `changed` whenever there may be another one, until cancelled."""


class IdentityLoader:
    """Takes identities from a source into one store. What changes: how the last attempt went."""

    def __init__(self, source: IdentitySource, clock: Callable[[], datetime] = _utc_now) -> None:
        """Take the first one; BadIdentity when there is none."""
        self._source = source
        self._clock = clock
        self._reloading = trio.Lock()
        """One at a time: a signal, a file and a request may ask for it together."""
        self.last = Attempt(clock())
        self.store = IdentityStore(Credentials(self._loaded(self.last.at)))
        self._tell()

    @property
    def current(self) -> Identity:
        """The identity in force."""
        return self.store.current.identity

    async def reload(self) -> bool:
        """Put the files in force, or say in the log why they can not be and change nothing."""
        async with self._reloading:
            now = self._clock()
            try:
                fresh = await trio.to_thread.run_sync(self._fresh, now)
            except BadIdentity as bad:
                self._keep(Attempt(now, str(bad)))
                return False
            self.last = Attempt(now)
            if fresh is None:
                LOG.debug("the identity is as before")
            else:
                self.store.swap(fresh)
                self._tell()
            return True

    async def watch(self, reloaded: Callable[[], Awaitable[object]]) -> None:
        """Call `reloaded` whenever the files have changed, until cancelled."""
        await self._source.watch(reloaded)

    async def warn_before_expiry(self) -> None:
        """Say, once each, that an identity is late to be rotated and that it has expired; until cancelled.

        What is late is looked for first, as a change of the files may have gone unnoticed.
        """
        told = (self.current, Age.FRESH)
        while True:
            if age(self.current, self._clock()):
                await self.reload()
            identity, reached = self.current, age(self.current, self._clock())
            if reached > (told[1] if told[0] is identity else Age.FRESH):
                self._warn(identity, reached)
                told = (identity, reached)
            await trio.sleep(CHECK_SECONDS)

    def describe(self) -> dict[str, object]:
        """Show the identity in force, whom it knows, and the last attempt to replace it; nothing of its key."""
        identity = self.current
        return {
            "source": str(self._source),
            "spiffe_id": identity.own.spiffe_id,
            "serial": _serial(identity),
            "not_before": identity.not_before.isoformat(),
            "not_after": identity.not_after.isoformat(),
            "roots": {name: len(roots) for name, roots in identity.bundles.items()},
            "last_attempt": {"at": self.last.at.isoformat(), "problem": self.last.problem},
        }

    def _fresh(self, now: datetime) -> Credentials | None:
        """Make credentials of the identity of this time, in a thread: bundles can be large; None for the one in force."""
        identity = self._loaded(now)
        return None if _same(identity, self.current) else Credentials(identity)

    def _loaded(self, now: datetime) -> Identity:
        """Read the identity of this time; whatever keeps it from being read must not end who has one."""
        try:
            return self._source.load(now)
        except OSError as error:
            raise BadIdentity(f"{self._source} cannot be read: {error}") from error

    def _tell(self) -> None:
        identity = self.current
        LOG.info(
            "the identity %s is in force, serial %s, until %s",
            identity.own.spiffe_id,
            _serial(identity),
            identity.not_after.isoformat(),
        )

    def _keep(self, attempt: Attempt) -> None:
        """Say each problem once: a writer of several files is noticed at each of them."""
        if attempt.problem != self.last.problem:
            LOG.error(
                "%s; the identity of serial %s stays in force until %s",
                attempt.problem,
                _serial(self.current),
                self.current.not_after.isoformat(),
            )
        self.last = attempt

    def _warn(self, identity: Identity, reached: Age) -> None:
        words = "expires" if reached is Age.LATE else "has expired"
        LOG.log(
            reached,
            "the identity %s, serial %s, %s at %s and nothing in %s replaces it: look at what renews it",
            identity.own.spiffe_id,
            _serial(identity),
            words,
            identity.not_after.isoformat(),
            self._source,
        )


def _same(one: Identity, other: Identity) -> bool:
    return one.certificates == other.certificates and one.bundles == other.bundles


def _serial(identity: Identity) -> str:
    return f"{identity.certificates[0].serial_number:x}"
