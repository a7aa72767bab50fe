"""Keep several workers running: fork them, pass signals on, and fork again whoever crashes.

The rule that must not be broken: **the supervisor holds every worker's listening sockets open until it drains**. What
has been dialled and not accepted yet waits in a socket's queue; so a worker's crash ends the connections it had
accepted, and no others: its successor takes the queue over.

It is no trio program, on purpose: a fork of one would inherit its epoll and its tasks.
"""

import ctypes
import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

LOG = logging.getLogger(__name__)

FOLLOW = signal.SIGUSR1
"""What a worker sends that has put new policies in force: those that start later must have them too."""

SIGNALS = frozenset((signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, FOLLOW))
STEADY_SECONDS = 10.0
"""Whoever ran for this long before it crashed is started again at once."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Between the crashes of one that never runs for long: its pause doubles, so that it does not eat the machine."""

PR_SET_PDEATHSIG = 1


class Closable(Protocol):
    """A socket, for all that the supervisor does with it."""

    def close(self) -> None: ...


@dataclass(slots=True)
class Slot:
    """A worker's place. What changes: who sits there, since when, and how often somebody had to be seated again."""

    number: int
    sockets: Sequence[Closable]
    pid: int = 0
    """0 while nobody does."""
    began: float = 0.0
    restarts: int = 0
    pause: float = 0.0
    due: float = 0.0
    """When to start the next one; clock of `time.monotonic`."""


Work = Callable[[Slot], int]
"""Be the worker of a slot until it has drained, and return the process's exit code."""


class Supervisor:
    """The parent of all workers. What changes: who lives, and whether all are to leave."""

    def __init__(self, slots: Sequence[Slot], work: Work, follow: Callable[[], None]) -> None:
        self._slots = slots
        self._work = work
        self._follow = follow
        self._leaving = False
        self._code = 0

    def run(self) -> int:
        """Keep the workers running until a signal says to stop and all have drained; return the exit code."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        gc.freeze()  # what is loaded now stays shared with the children
        for slot in self._slots:
            self._start(slot)
        while any(slot.pid for slot in self._slots) or not self._leaving:
            told = signal.sigtimedwait(SIGNALS, self._patience())
            self._obey(told.si_signo if told else signal.SIGCHLD)
            self._start_due()
        return self._code

    def _patience(self) -> float:
        dues = [slot.due for slot in self._slots if not slot.pid]
        return max(0.0, min(dues) - time.monotonic()) if dues and not self._leaving else 3600.0

    def _obey(self, number: int) -> None:
        match number:
            case signal.SIGCHLD:
                self._reap()
            case signal.SIGHUP:
                self._pass_on(signal.SIGHUP)
            case signal.SIGUSR1:  # FOLLOW
                self._follow()
            case _:
                self._leave()
                self._pass_on(number)

    def _leave(self) -> None:
        """Let go of the sockets, so that they close with their workers' last call."""
        self._leaving = True
        for slot in self._slots:
            for each in slot.sockets:
                each.close()

    def _pass_on(self, number: int) -> None:
        for slot in self._slots:
            if slot.pid:
                os.kill(slot.pid, number)

    def _reap(self) -> None:
        while any(slot.pid for slot in self._slots):
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            for slot in self._slots:
                if slot.pid == pid:
                    self._ended(slot, os.waitstatus_to_exitcode(status))

    def _ended(self, slot: Slot, code: int) -> None:
        slot.pid = 0
        if self._leaving:
            self._code = self._code or abs(code)
            return
        now = time.monotonic()
        slot.pause = pause_after(now - slot.began, slot.pause)
        slot.due = now + slot.pause
        slot.restarts += 1
        LOG.error("worker %d %s; the next starts in %g s", slot.number, _end(code), slot.pause)

    def _start_due(self) -> None:
        for slot in self._slots:
            if not (slot.pid or self._leaving) and slot.due <= time.monotonic():
                self._start(slot)

    def _start(self, slot: Slot) -> None:
        slot.began = time.monotonic()
        parent = os.getpid()
        slot.pid = os.fork()
        if slot.pid == 0:
            os._exit(self._be(slot, parent))

    def _be(self, slot: Slot, parent: int) -> int:
        """Become the worker, in the child; nothing of the supervisor's may run there after it."""
        try:
            _end_with(parent)
            for other in self._slots:
                for each in other.sockets if other is not slot else ():
                    each.close()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            return self._work(slot)
        except BaseException:
            LOG.exception("worker %d ended by a mistake of the proxy's", slot.number)
            return 1


def pause_after(lived: float, pause: float) -> float:
    """Say how long to wait before the next start of one that lived so many seconds, after a `pause` before it."""
    if lived >= STEADY_SECONDS:
        return 0.0
    return min(pause * 2, LONGEST_PAUSE) if pause else FIRST_PAUSE


def _end(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _end_with(parent: int) -> None:
    """Have the kernel end this process when its supervisor dies: nobody would tell it to."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)
