"""A pod's identity is renewed when that is due, and is tried again soon where it fails."""

from datetime import UTC, datetime, timedelta

import pytest
import trio

from tproxy.lab.identity import CHECK_SECONDS, renew_identity
from tproxy.lab.spec import LabError, PodSpec

START = datetime(2030, 1, 1, tzinfo=UTC)
HALF = timedelta(minutes=30)
A_THREADS_TURN = 0.005
"""Seconds: a task that waits for a thread counts as blocked."""


class Issuer:
    """An authority that may refuse. What changes: when it was asked, and whether it refuses."""

    def __init__(self) -> None:
        self.asked: list[datetime] = []
        self.answered = trio.Event()
        self.refuses = False
        self._began = trio.current_time()

    def clock(self) -> datetime:
        return START + timedelta(seconds=trio.current_time() - self._began)

    def issue(self, now: datetime) -> datetime:
        self.asked.append(now)
        trio.from_thread.run_sync(self.answered.set)
        if self.refuses:
            raise LabError("no disk is left")
        return now + HALF

    async def next(self, clock: trio.testing.MockClock) -> datetime:
        """Let time pass until it is asked."""
        self.answered = trio.Event()
        while not self.answered.is_set():
            await trio.testing.wait_all_tasks_blocked(A_THREADS_TURN)
            clock.jump(CHECK_SECONDS)
        return self.asked[-1]


async def test_it_is_renewed_when_it_is_due(mock_clock: trio.testing.MockClock) -> None:
    issuer = Issuer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(renew_identity, issuer.issue, START + HALF, issuer.clock)
        assert await issuer.next(mock_clock) == START + HALF
        nursery.cancel_scope.cancel()
    assert len(issuer.asked) == 1


async def test_what_fails_is_tried_again_at_the_next_look(
    mock_clock: trio.testing.MockClock,
) -> None:
    issuer = Issuer()
    issuer.refuses = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(renew_identity, issuer.issue, START + HALF, issuer.clock)
        first = await issuer.next(mock_clock)
        assert first < await issuer.next(mock_clock) < first + HALF
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", ["", "..", "a/b", "Cluster.local", "a..b", "a" * 256])
def test_a_trust_domain_is_a_name(name: str) -> None:
    with pytest.raises(LabError, match="trust domain"):
        PodSpec("web", trust_domain=name)
