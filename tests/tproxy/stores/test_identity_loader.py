"""An identity comes into force as a whole, a bad one changes nothing, and one that nobody rotates is spoken of."""

import errno
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from fakes.ca import HOUR, MINUTE, WEB, FakeCa, Leaf, Papers
from tproxy.stores.identity_files import IdentityFiles
from tproxy.stores.identity_loader import CHECK_SECONDS, IdentityLoader
from tproxy.stores.identity_store import BadIdentity
from tproxy.tls.identity import Identity

START = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def ca() -> FakeCa:
    return FakeCa.new(now=START)


class Desk:
    """A directory and its loader."""

    def __init__(self, directory: Path, papers: Papers) -> None:
        self.directory = directory
        self.since = trio.current_time()
        self.put(papers)
        self.loader = IdentityLoader(IdentityFiles(directory), self.clock)

    def clock(self) -> datetime:
        return START + timedelta(seconds=trio.current_time() - self.since)

    def put(self, papers: Papers) -> None:
        """Write the files anew."""
        contents = {"tls.crt": papers.certificate, "tls.key": papers.key, "ca.crt": papers.bundle}
        for name, content in contents.items():
            (self.directory / name).touch(mode=0o600)
            (self.directory / name).write_bytes(content)


def told(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    """What was logged of one level."""
    return [record.getMessage() for record in caplog.records if record.levelno == level]


async def test_the_first_identity_is_taken_and_named(
    tmp_path: Path, ca: FakeCa, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    desk = Desk(tmp_path, ca.issue())
    identity = desk.loader.current
    assert desk.loader.store.issue == 1
    serial = f"{identity.certificates[0].serial_number:x}"
    assert told(caplog, logging.INFO) == [
        f"the identity {WEB} is in force, serial {serial}, until 2030-01-01T13:00:00+00:00"
    ]
    assert desk.loader.describe() == {
        "source": str(tmp_path),
        "spiffe_id": WEB,
        "serial": serial,
        "not_before": "2030-01-01T11:59:00+00:00",
        "not_after": "2030-01-01T13:00:00+00:00",
        "roots": {"cluster.local": 1},
        "last_attempt": {"at": desk.loader.last.at.isoformat(), "problem": ""},
    }


async def test_a_start_without_an_identity_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadIdentity):
        IdentityLoader(IdentityFiles(tmp_path))


class Withdrawn(IdentityFiles):
    """A directory that its user may enter no more."""

    def load(self, now: datetime) -> Identity:  # noqa: ARG002 - whenever it is
        raise PermissionError(errno.EACCES, "Permission denied", str(self.directory))


async def test_whatever_keeps_files_from_being_read_leaves_the_last_good_one(
    tmp_path: Path, ca: FakeCa
) -> None:
    desk = Desk(tmp_path, ca.issue())
    desk.loader._source = Withdrawn(tmp_path)
    assert not await desk.loader.reload()
    assert "Permission denied" in desk.loader.last.problem
    assert desk.loader.store.issue == 1


async def test_a_rotation_is_taken(tmp_path: Path, ca: FakeCa) -> None:
    desk = Desk(tmp_path, ca.issue())
    desk.put(ca.issue())
    assert await desk.loader.reload()
    assert desk.loader.current.own.spiffe_id == WEB
    assert desk.loader.store.issue == 2


async def test_another_bundle_is_a_rotation_too(tmp_path: Path, ca: FakeCa) -> None:
    desk = Desk(tmp_path, papers := ca.issue())
    following = FakeCa.new("next", now=START)
    desk.put(Papers(papers.certificate, papers.key, papers.bundle + following.bundle))
    assert await desk.loader.reload()
    assert desk.loader.store.issue == 2


async def test_files_that_did_not_change_change_nothing(tmp_path: Path, ca: FakeCa) -> None:
    desk = Desk(tmp_path, ca.issue())
    assert await desk.loader.reload()
    assert desk.loader.store.issue == 1


async def test_a_bad_rotation_changes_nothing_and_says_why_once(
    tmp_path: Path, ca: FakeCa, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path, ca.issue())
    (tmp_path / "tls.key").write_bytes(ca.issue().key)
    for _ in range(2):
        assert not await desk.loader.reload()
    assert desk.loader.store.issue == 1
    assert "tls.key: the key belongs to another certificate" in desk.loader.last.problem
    (said,) = told(caplog, logging.ERROR)
    assert "stays in force until 2030-01-01T13:00:00" in said


async def test_a_mended_directory_is_taken_again(tmp_path: Path, ca: FakeCa) -> None:
    desk = Desk(tmp_path, ca.issue())
    (tmp_path / "tls.key").write_bytes(b"")
    assert not await desk.loader.reload()
    desk.put(ca.issue())
    assert await desk.loader.reload()
    assert (desk.loader.store.issue, desk.loader.last.problem) == (2, "")


@pytest.mark.slow
async def test_a_change_of_the_files_is_told(tmp_path: Path, ca: FakeCa) -> None:
    desk = Desk(tmp_path, ca.issue())
    changed = trio.Event()

    async def reload() -> None:
        await desk.loader.reload()
        changed.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.loader.watch, reload)
        await trio.testing.wait_all_tasks_blocked()
        desk.put(ca.issue())
        with trio.fail_after(5):
            await changed.wait()
        nursery.cancel_scope.cancel()
    assert desk.loader.store.issue == 2


async def passed(clock: trio.testing.MockClock, desk: Desk, minutes: float) -> None:
    """Let time pass, and whoever waits for it run; a task that waits for a thread counts as blocked."""
    clock.jump(minutes * 60 + CHECK_SECONDS)
    await trio.testing.wait_all_tasks_blocked()
    async with desk.loader._reloading:
        pass
    await trio.testing.wait_all_tasks_blocked()


async def test_an_identity_that_nothing_replaces_is_spoken_of_twice(
    tmp_path: Path,
    ca: FakeCa,
    caplog: pytest.LogCaptureFixture,
    mock_clock: trio.testing.MockClock,
) -> None:
    desk = Desk(tmp_path, ca.issue(Leaf(begins=-30 * MINUTE, ends=30 * MINUTE)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.loader.warn_before_expiry)
        await passed(mock_clock, desk, 9)
        assert not told(caplog, logging.WARNING)
        await passed(mock_clock, desk, 1)
        (late,) = told(caplog, logging.WARNING)
        await passed(mock_clock, desk, 10)
        assert not told(caplog, logging.ERROR)
        for _ in range(3):
            await passed(mock_clock, desk, 10)
        unusable, expired = told(caplog, logging.ERROR)
        nursery.cancel_scope.cancel()
    assert told(caplog, logging.WARNING) == [late]
    assert "expires at 2030-01-01T12:30:00+00:00 and nothing in" in late
    assert "tls.crt: the certificate has expired at 2030-01-01T12:30:00Z: renew it" in unusable
    assert "has expired at 2030-01-01T12:30:00+00:00 and nothing in" in expired


async def test_a_rotation_in_time_is_not_spoken_of(
    tmp_path: Path,
    ca: FakeCa,
    caplog: pytest.LogCaptureFixture,
    mock_clock: trio.testing.MockClock,
) -> None:
    desk = Desk(tmp_path, ca.issue())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.loader.warn_before_expiry)
        await passed(mock_clock, desk, 30)
        desk.put(ca.issue(Leaf(begins=29 * MINUTE, ends=2 * HOUR)))
        await desk.loader.reload()
        await passed(mock_clock, desk, 45)
        nursery.cancel_scope.cancel()
    assert not caplog.records


async def test_a_second_identity_that_is_late_is_spoken_of_as_the_first(
    tmp_path: Path,
    ca: FakeCa,
    caplog: pytest.LogCaptureFixture,
    mock_clock: trio.testing.MockClock,
) -> None:
    desk = Desk(tmp_path, ca.issue())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.loader.warn_before_expiry)
        await passed(mock_clock, desk, 50)
        desk.put(ca.issue(Leaf(begins=49 * MINUTE, ends=2 * HOUR)))
        await desk.loader.reload()
        await passed(mock_clock, desk, 60)
        nursery.cancel_scope.cancel()
    assert len(told(caplog, logging.WARNING)) == 2


async def test_a_rotation_that_went_unnoticed_is_found_when_it_is_late(
    tmp_path: Path,
    ca: FakeCa,
    caplog: pytest.LogCaptureFixture,
    mock_clock: trio.testing.MockClock,
) -> None:
    desk = Desk(tmp_path, ca.issue())
    desk.put(ca.issue(Leaf(begins=-MINUTE, ends=2 * HOUR)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.loader.warn_before_expiry)
        await passed(mock_clock, desk, 30)
        assert desk.loader.store.issue == 1
        await passed(mock_clock, desk, 20)
        nursery.cancel_scope.cancel()
    assert desk.loader.store.issue == 2
    assert not caplog.records
