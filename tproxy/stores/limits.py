"""What rate limits have counted, and how they are asked.

The rule that must not be broken: **between the look at all limits and what is taken from them nobody else is asked**. So
what one of them refuses has used nothing up of the others.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Protocol

import msgspec
import trio

from tproxy.model.rate_limit import Applied, Counting, Key, Result
from tproxy.policy.limits import CompiledLimit
from tproxy.resilience.concurrency import ConcurrencySpec, KeyedConcurrency
from tproxy.resilience.grant import Grant
from tproxy.resilience.keyed import KeyedLimits, KeyedSpec
from tproxy.stores.policy_store import PolicyStore

Release = Callable[[], None]
"""Give back what was taken for as long as something is under way."""


class Taken(msgspec.Struct, frozen=True):
    """What came of taking."""

    grant: Grant
    release: Release | None = None
    """Owed at the end of what was let through; None where nothing is."""


class Ledger(Protocol):
    """Where counts are kept."""

    def turn(self) -> AbstractContextManager[float]:
        """Keep everybody else from counting for as long as the block lasts, and say what time it is there."""

    def look(self, counting: Counting, key: Key, now: float) -> Grant:
        """Say what `take` would."""

    def take(self, counting: Counting, key: Key, now: float) -> Taken:
        """Count one of the key's, if there is room."""

    def keys(self) -> Mapping[str, int]:
        """Count the keys that are remembered, by the limit's name."""


class Verdict(msgspec.Struct, frozen=True):
    """What all limits together say."""

    allowed: bool
    after: float = 0.0
    """Seconds until one more may be let through."""
    delay: float = 0.0
    """Seconds to wait for its turn."""
    releases: tuple[Release, ...] = ()

    def release(self, _: object = None) -> None:
        """Give back all that is owed."""
        for each in self.releases:
            each()


def ask(ledger: Ledger, limits: Sequence[Applied]) -> Verdict:
    """Ask all limits that are about one request; each remembers what it said.

    Those that are only tried are asked about what the others let through, each by itself.
    """
    with ledger.turn() as now:
        after = _refused(ledger, limits, now)
        if after is not None:
            return Verdict(allowed=False, after=after)
        return _taken(ledger, limits, now)


def _refused(ledger: Ledger, limits: Sequence[Applied], now: float) -> float | None:
    """Look at those that are enforced: say when the last one that refuses would not; None when none does."""
    after = None
    for each in limits:
        limit = each.limit
        if limit.shadow:
            continue
        each.grant = limit.judged(ledger.look(limit.counting, each.key, now))
        if not each.grant.allowed:
            each.result = Result.LIMITED
            after = max(after or 0.0, each.grant.after)
    return after


def _taken(ledger: Ledger, limits: Sequence[Applied], now: float) -> Verdict:
    delay, releases = 0.0, []
    for each in limits:
        limit = each.limit
        if limit.shadow:
            grant = limit.judged(ledger.look(limit.counting, each.key, now))
            if not grant.allowed:
                each.result, each.grant = Result.SHADOW, grant
                continue
        taken = ledger.take(limit.counting, each.key, now)
        each.result, each.grant = Result.OK, taken.grant
        if taken.release is not None:
            releases.append(taken.release)
        if not limit.shadow:
            delay = max(delay, taken.grant.delay)
    return Verdict(allowed=True, delay=delay, releases=tuple(releases))


class OwnLedger:
    """The counts of a worker that is alone. What changes: all of them, and which there are."""

    def __init__(self, policies: PolicyStore) -> None:
        self._policies = policies
        self._asked = policies.current
        """The policies that were in force when it was asked last."""
        self._rates: dict[Counting, KeyedLimits] = {}
        self._under_way: dict[Counting, KeyedConcurrency] = {}

    def turn(self) -> AbstractContextManager[float]:
        """Say what time it is: nothing waits meanwhile, so nobody else counts."""
        if self._asked is not self._policies.current:
            self._asked = self._policies.current
            self._forget_those_of_the_past()
        return nullcontext(trio.current_time())

    def look(self, counting: Counting, key: Key, now: float) -> Grant:
        """Say what `take` would."""
        if isinstance(counting.spec, ConcurrencySpec):
            return self._concurrency(counting, counting.spec).look(key)
        return self._rate(counting).look(key, now)

    def take(self, counting: Counting, key: Key, now: float) -> Taken:
        """Count one of the key's, if there is room."""
        if isinstance(counting.spec, ConcurrencySpec):
            concurrency = self._concurrency(counting, counting.spec)
            grant = concurrency.take(key)
            return Taken(grant, partial(concurrency.release, key) if grant.allowed else None)
        return Taken(self._rate(counting).take(key, now))

    def keys(self) -> Mapping[str, int]:
        """Count the keys that are remembered, by the limit's name."""
        rates = {counting.name: len(table) for counting, table in self._rates.items()}
        return rates | {counting.name: len(table) for counting, table in self._under_way.items()}

    def _rate(self, counting: Counting) -> KeyedLimits:
        found = self._rates.get(counting)
        if found is None:
            assert not isinstance(counting.spec, ConcurrencySpec), "the caller told them apart"
            spec = KeyedSpec(counting.spec, counting.keys, counting.overflow)
            found = self._rates[counting] = KeyedLimits(spec)
        return found

    def _concurrency(self, counting: Counting, spec: ConcurrencySpec) -> KeyedConcurrency:
        found = self._under_way.get(counting)
        if found is None:
            found = self._under_way[counting] = KeyedConcurrency(spec)
        return found

    def _forget_those_of_the_past(self) -> None:
        """Drop the counts that no policy asks for any more, but of what is still under way."""
        wanted = set(in_force(self._policies))
        self._rates = {each: table for each, table in self._rates.items() if each in wanted}
        self._under_way = {
            each: table for each, table in self._under_way.items() if each in wanted or len(table)
        }


def in_force(policies: PolicyStore) -> Iterable[Counting]:
    """Give what the policies in force count."""
    book = policies.current.rate_limits
    for _, _, each in book.every() if book else ():
        if isinstance(each, CompiledLimit):
            yield each.limit.counting


def described(policies: PolicyStore, ledger: Ledger) -> list[dict[str, object]]:
    """Show the limits in force, and how many keys each remembers."""
    keys = ledger.keys()
    book = policies.current.rate_limits
    return [
        {
            "name": each.limit.name,
            "place": each.scoped.place,
            "direction": direction,
            "per": per,
            **_numbers(each.limit.counting if isinstance(each, CompiledLimit) else each.limit),
            **(
                {
                    "mode": "SHADOW" if each.limit.shadow else "ENFORCE",
                    "keys_remembered": keys.get(each.limit.name, 0),
                }
                if isinstance(each, CompiledLimit)
                else {}
            ),
        }
        for direction, per, each in (book.every() if book else ())
    ]


def _numbers(said: msgspec.Struct) -> dict[str, object]:
    """Show what a limit says, its algorithm by the name of its spec."""
    told = {name: getattr(said, name) for name in said.__struct_fields__ if name != "name"}
    return {"algorithm": type(told["spec"]).__name__.removesuffix("Spec"), **told}
