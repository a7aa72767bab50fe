"""Changes are noticed, however they are made; and once, however many they are."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tproxy.stores.watch import Changes

pytestmark = pytest.mark.slow


def write(directory: Path) -> None:
    (directory / "a.yaml").write_text("new")


def replace(directory: Path) -> None:
    """As editors and `kubectl cp` do."""
    (directory / "a.new").write_text("new")
    (directory / "a.new").replace(directory / "a.yaml")


def remove(directory: Path) -> None:
    (directory / "a.yaml").unlink()


def turn_the_link(directory: Path) -> None:
    """As the kubelet does with a ConfigMap."""
    (directory / "..v2").mkdir()
    (directory / "..v2" / "a.yaml").write_text("new")
    (directory / "..data_tmp").symlink_to("..v2")
    (directory / "..data_tmp").replace(directory / "..data")


def permit(directory: Path) -> None:
    (directory / "a.yaml").chmod(0o600)


@pytest.mark.parametrize("change", [write, replace, remove, turn_the_link, permit])
async def test_a_change_is_noticed(tmp_path: Path, change: Callable[[Path], None]) -> None:
    (tmp_path / "a.yaml").write_text("old")
    changes = Changes(tmp_path)
    with changes.watched(), trio.fail_after(5):
        change(tmp_path)
        await changes.next()


async def test_changes_that_come_together_are_one(tmp_path: Path) -> None:
    changes = Changes(tmp_path)
    with changes.watched():
        for number in range(100):
            (tmp_path / f"{number}.yaml").write_text("new")
        with trio.fail_after(5):
            await changes.next()
        with trio.move_on_after(0.3) as scope:
            await changes.next()
        assert scope.cancelled_caught


async def test_a_directory_that_is_replaced_is_watched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tproxy.stores.watch.RETRY_SECONDS", 0.05)
    directory = tmp_path / "policies"
    directory.mkdir()
    changes = Changes(directory)
    with changes.watched(), trio.fail_after(5):
        shutil.rmtree(directory)
        await changes.next()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(changes.next)
            await trio.testing.wait_all_tasks_blocked()
            directory.mkdir()
        (directory / "a.yaml").write_text("new")
        await changes.next()


async def test_it_leaves_nothing_open(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with Changes(tmp_path).watched():
        pass
    assert os.listdir("/proc/self/fd") == before
