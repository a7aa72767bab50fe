"""Counts of rate limits that all workers share, exact whichever of them is asked.

The rule that must not be broken: **nothing is read or written but under the lock**, which is a record lock: the kernel
releases it when whoever holds it dies. A worker that is killed while it writes leaves one count a little off, and all
others as they were.

The memory is a directory of partitions, one for each limit, and each of those is a table of slots of one size, which is
found in a few of them by what the key hashes to. What nobody has touched takes no memory.
"""

import fcntl
import math
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from tproxy.model.rate_limit import Counting, Key
from tproxy.policy.limit_policies import MOST_KEYS, MOST_LIMITS
from tproxy.resilience.concurrency import ConcurrencySpec
from tproxy.resilience.digest import blake2b
from tproxy.resilience.grant import Grant, Limit, RateSpec, State
from tproxy.resilience.keyed import Overflow
from tproxy.stores.limits import Taken, in_force
from tproxy.stores.policy_store import PolicyStore

WAYS = 8
"""Slots in which a key may be: with fewer, some keys find no room long before the others' is used up."""
PARTITIONS = 2 * MOST_LIMITS
"""A reload may replace all limits, and what requests of before still hold stays."""

_DIGEST = 16
_ENTRY = struct.Struct("=16sdQ")
"""Of the directory: whose partition it is, when it was used last, and whether it counts what is under way."""
_SLOT = struct.Struct("=16sddddd")
"""Whose it is, what its machine remembers, until when it is limited, and when it was seen last."""
_COUNT = struct.Struct("=I")
"""Of what is under way in one worker: as many of them follow a slot as there are workers."""
_NOBODY = bytes(_DIGEST)
_STRANGERS = "strangers"
"""Who share the last slot of a partition; no key is written so."""


class _Place(NamedTuple):
    """A key's slot."""

    at: int
    digest: bytes
    there: bool
    """Whether the key has it already."""


class SharedCounts:
    """The memory, and its lock. What changes: all of it, by every process that was forked after it was made."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.slot = _SLOT.size + -(-workers * _COUNT.size // 8) * 8
        self.partition = -(-(MOST_KEYS + 1) * self.slot // mmap.PAGESIZE) * mmap.PAGESIZE
        self.directory = -(-PARTITIONS * _ENTRY.size // mmap.PAGESIZE) * mmap.PAGESIZE
        size = self.directory + PARTITIONS * self.partition
        self.descriptor = os.memfd_create("tproxy-limits")
        os.ftruncate(self.descriptor, size)
        self.memory = mmap.mmap(self.descriptor, size)

    def close(self) -> None:
        """Give the memory back."""
        self.memory.close()
        os.close(self.descriptor)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep all others out for as long as the block lasts."""
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN)

    def base(self, index: int) -> int:
        """Say where a partition begins."""
        return self.directory + index * self.partition

    def slots(self, index: int) -> Iterator[tuple[int, bytes]]:
        """Give the slots of a partition that are somebody's; what was never touched stays so."""
        base = self.base(index)
        content = os.pread(self.descriptor, (MOST_KEYS + 1) * self.slot, base)
        for at in range(0, len(content), self.slot):
            if content[at : at + _DIGEST] != _NOBODY:
                yield base + at, content[at : at + self.slot]

    def forget(self, worker: int) -> None:
        """Take back what a worker had under way when it died."""
        with self.locked():
            for index in range(PARTITIONS):
                if _ENTRY.unpack_from(self.memory, index * _ENTRY.size)[2]:
                    for at, _ in self.slots(index):
                        self.put(at, worker, 0)

    def put(self, at: int, worker: int, count: int) -> None:
        """Say what a worker has under way; a slot of which nobody has anything is nobody's."""
        _COUNT.pack_into(self.memory, at + _SLOT.size + worker * _COUNT.size, count)
        if not any(self.under_way(at)):
            self.memory[at : at + self.slot] = bytes(self.slot)

    def under_way(self, at: int) -> tuple[int, ...]:
        """Say what each worker has under way."""
        counts: tuple[int, ...] = struct.unpack_from(
            f"={self.workers}I", self.memory, at + _SLOT.size
        )
        return counts


class SharedLedger:
    """The shared counts, as one worker sees them. What changes: which partitions it has found."""

    def __init__(
        self,
        counts: SharedCounts,
        policies: PolicyStore,
        worker: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert 0 <= worker < counts.workers, "each worker has a place"
        self._counts = counts
        self._memory = counts.memory
        self._policies = policies
        self._worker = worker
        self._clock = clock
        """Of the system: trio's is another one in each process."""
        self._found: dict[Counting, tuple[int, bytes]] = {}
        counts.forget(worker)

    @contextmanager
    def turn(self) -> Iterator[float]:
        """Keep all other workers from counting for as long as the block lasts, and say what time it is there."""
        with self._counts.locked():
            yield self._clock()

    def look(self, counting: Counting, key: Key, now: float) -> Grant:
        """Say what `take` would."""
        place = self._place(counting, key, now)
        if isinstance(counting.spec, ConcurrencySpec):
            active = sum(self._counts.under_way(place.at)) if place.there else 0
            return counting.spec.grant(active, allowed=active < counting.spec.limit)
        return self._machine(counting.spec, place, now).look(now)

    def take(self, counting: Counting, key: Key, now: float) -> Taken:
        """Count one of the key's, if there is room."""
        place = self._place(counting, key, now)
        if isinstance(counting.spec, ConcurrencySpec):
            return self._begin(counting.spec, place, now)
        machine = self._machine(counting.spec, place, now)
        grant = machine.take(now)
        self._write(place, machine.saved(), now + grant.after if grant.after else 0.0, now)
        return Taken(grant)

    def keys(self) -> Mapping[str, int]:
        """Count the keys that are remembered, by the limit's name."""
        with self._counts.locked():
            found = {each.name: self._index_of(_digest(each)) for each in in_force(self._policies)}
            return {
                name: sum(1 for _ in self._counts.slots(index))
                for name, index in found.items()
                if index is not None
            }

    def _machine(self, spec: RateSpec, place: _Place, now: float) -> Limit:
        if not place.there:
            return spec.machine(now)
        _, first, second, third, _, _ = _SLOT.unpack_from(self._memory, place.at)
        return spec.restored((first, second, third))

    def _write(self, place: _Place, state: State, until: float, now: float) -> None:
        _SLOT.pack_into(self._memory, place.at, place.digest, *state, until, now)

    def _begin(self, spec: ConcurrencySpec, place: _Place, now: float) -> Taken:
        if not place.there:
            end = place.at + self._counts.slot
            self._memory[place.at : end] = bytes(self._counts.slot)
        counts = self._counts.under_way(place.at)
        active = sum(counts)
        if active >= spec.limit:
            return Taken(spec.grant(active, allowed=False))
        # Limited for as long as anything is under way: whoever was forgotten could not be taken back.
        self._write(place, (0.0, 0.0, 0.0), math.inf, now)
        self._counts.put(place.at, self._worker, counts[self._worker] + 1)
        return Taken(spec.grant(active + 1, allowed=True), partial(self._end, place))

    def _end(self, place: _Place) -> None:
        with self._counts.locked():
            if self._memory[place.at : place.at + _DIGEST] == place.digest:
                count = self._counts.under_way(place.at)[self._worker]
                self._counts.put(place.at, self._worker, max(count - 1, 0))

    def _place(self, counting: Counting, key: Key, now: float) -> _Place:
        """Find a key's slot, or one that it may have; the strangers' where there is none."""
        index, limit = self._partition(counting, now)
        base = self._counts.base(index)
        # With the limit's own, so that what ends late, in a partition that is another's by then, is not taken for it.
        digest = _hashed(repr(key), limit)
        ways = min(WAYS, counting.keys) if key else 1
        sets = max(counting.keys // ways, 1) if key else 1
        first = base + int.from_bytes(digest[:8], "big") % sets * ways * self._counts.slot
        slots = range(first, first + ways * self._counts.slot, self._counts.slot)
        free: list[tuple[float, int]] = []
        limited: list[tuple[float, int]] = []
        for at in slots:
            there, _, _, _, until, seen = _SLOT.unpack_from(self._memory, at)
            if there == digest:
                return _Place(at, digest, there=True)
            if there == _NOBODY:
                free.append((-math.inf, at))
            elif until <= now:
                free.append((seen, at))
            else:
                limited.append((until, at))
        if not free and counting.overflow is Overflow.SHARE:
            at = base + MOST_KEYS * self._counts.slot
            digest = _hashed(_STRANGERS, limit)
            return _Place(at, digest, self._memory[at : at + _DIGEST] == digest)
        return _Place(min(free or limited)[1], digest, there=False)

    def _partition(self, counting: Counting, now: float) -> tuple[int, bytes]:
        """Find a limit's partition, or take the one that has not been used for longest."""
        found = self._found.get(counting)
        if found is None or self._owner(found[0]) != found[1]:
            digest = _digest(counting)
            index = self._index_of(digest)
            if index is None:
                index = self._new_partition()
            if len(self._found) > PARTITIONS:
                self._found.clear()
            found = self._found[counting] = (index, digest)
        index, digest = found
        under_way = isinstance(counting.spec, ConcurrencySpec)
        _ENTRY.pack_into(self._memory, index * _ENTRY.size, digest, now, under_way)
        return found

    def _owner(self, index: int) -> bytes:
        return self._memory[index * _ENTRY.size : index * _ENTRY.size + _DIGEST]

    def _index_of(self, digest: bytes) -> int | None:
        return next((index for index in range(PARTITIONS) if self._owner(index) == digest), None)

    def _new_partition(self) -> int:
        entries = [
            _ENTRY.unpack_from(self._memory, index * _ENTRY.size) for index in range(PARTITIONS)
        ]
        index = min(
            range(PARTITIONS), key=lambda each: (entries[each][0] != _NOBODY, entries[each][1])
        )
        if entries[index][0] != _NOBODY:
            base = self._counts.base(index)
            self._memory[base : base + self._counts.partition] = bytes(self._counts.partition)
        return index


def _digest(counting: Counting) -> bytes:
    return _hashed(repr(counting))


def _hashed(text: str, limit: bytes = b"") -> bytes:
    octets = text.encode("utf-8", "surrogateescape")
    return blake2b(octets, digest_size=_DIGEST, key=limit).digest()
