"""Write log lines in batches, so that neither a slow reader nor a full disk ever makes traffic wait."""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

BATCH_SECONDS = 0.05
"""How long lines gather before they are written: one write serves many requests."""
HELD_BYTES = 16777216
"""What may wait for a reader that does not read: a line of 1 KiB from each of 16,384 connections, which may all end
before the writer gets its turn. More is dropped, and counted."""


class LineWriter:
    """Lines on their way to a descriptor. What changes: those that wait; `run` takes them away."""

    def __init__(
        self, descriptor: int, dropped: Callable[[int], None], *, turn: int | None = None
    ) -> None:
        self._descriptor = descriptor
        self._dropped = dropped
        self._turn_of_all = turn
        """A descriptor to lock where other processes write there too: a pipe would mix large writes."""
        self._lines: list[bytes] = []
        self._held = 0
        self._some = trio.Event()
        self._turn = threading.Lock()
        """Held by the thread that writes: one that was left behind may still be at it."""

    def write(self, line: bytes) -> None:
        """Take a line, its newline included; it leaves with the next batch."""
        if self._held + len(line) > HELD_BYTES:
            self._dropped(1)
            return
        self._lines.append(line)
        self._held += len(line)
        self._some.set()

    async def run(self) -> None:
        """Write batches until cancelled; a batch that is on its way then still goes its way, which `finish` awaits."""
        while True:
            await self._some.wait()
            await trio.sleep(BATCH_SECONDS)
            await self._write_batch()

    async def finish(self) -> None:
        """Write what waits, behind what is on its way; the caller sets a deadline."""
        await self._write_batch()

    async def _write_batch(self) -> None:
        lines, self._lines, self._held, self._some = self._lines, [], 0, trio.Event()
        try:
            # A thread may block where the loop must not: terminals, pipes and disks all look alike here.
            await trio.to_thread.run_sync(self._write_all, b"".join(lines), abandon_on_cancel=True)
        except OSError:
            self._dropped(len(lines))

    def _write_all(self, data: bytes) -> None:
        left = memoryview(data)
        with self._turn, self._locked():
            while left:
                left = left[os.write(self._descriptor, left) :]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._turn_of_all is None:
            yield
            return
        fcntl.lockf(self._turn_of_all, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._turn_of_all, fcntl.LOCK_UN)
