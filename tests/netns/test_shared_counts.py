"""A process that dies with the lock of all counts in its hand does not keep it."""

import os
import signal
import time

import pytest

from tproxy.model.rate_limit import Applied, Counting, RateLimit
from tproxy.policy.snapshot import Snapshot
from tproxy.resilience.windows import FixedWindowSpec
from tproxy.stores.limits import ask
from tproxy.stores.policy_store import PolicyStore
from tproxy.stores.shared_limits import SharedCounts, SharedLedger

pytestmark = pytest.mark.netns

LIMIT = RateLimit(counting=Counting(name="a", spec=FixedWindowSpec(3000, 3600.0)))
EACH = 2000
POLICIES = PolicyStore(Snapshot(1))


def child(counts: SharedCounts, number: int, tell: int) -> None:
    """Be a worker that asks many times, and tell how often it was let through."""
    ledger = SharedLedger(counts, POLICIES, number)
    allowed = sum(ask(ledger, [Applied(LIMIT, ())]).allowed for _ in range(EACH))
    os.write(tell, b"%d " % allowed)


def test_processes_at_once_are_let_through_exactly_as_often_as_the_limit_says() -> None:
    counts, (hear, tell) = SharedCounts(3), os.pipe()
    pids = []
    for number in range(3):
        pid = os.fork()
        if not pid:
            child(counts, number, tell)
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    told = [int(each) for each in os.read(hear, 100).split()]
    assert (len(told), sum(told)) == (3, 3000)
    counts.close()
    os.close(hear)
    os.close(tell)


def test_the_lock_of_a_killed_process_is_free() -> None:
    counts, (hear, tell) = SharedCounts(2), os.pipe()
    pid = os.fork()
    if not pid:
        with counts.locked():
            os.write(tell, b"x")
            signal.pause()
    os.read(hear, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    began = time.monotonic()
    assert ask(SharedLedger(counts, POLICIES, 0), [Applied(LIMIT, ())]).allowed
    assert time.monotonic() - began < 1
    counts.close()
    os.close(hear)
    os.close(tell)
