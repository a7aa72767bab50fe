"""The lock is the one that everybody else takes, or else the namespace's own."""

import os
import signal
from pathlib import Path

import pytest

from tproxy_init.child import ChildFailed, in_child
from tproxy_init.engines.lock import lock_path, xtables_lock


def test_the_lock_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = str(tmp_path / "lock")
    monkeypatch.setenv("XTABLES_LOCKFILE", wanted)
    assert lock_path() == wanted


def test_where_it_cannot_be_written_the_namespace_itself_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "absent" / "lock"))
    assert lock_path() == "/proc/self/ns/net"
    assert in_child(_locked) == "locked"


def _locked() -> str:
    with xtables_lock():
        return "locked"


def test_a_child_tells_what_it_did_and_how_it_failed() -> None:
    def fail() -> str:
        raise ValueError("so it is")

    assert in_child(lambda: "x" * 200_000) == "x" * 200_000
    with pytest.raises(ChildFailed, match="ValueError: so it is"):
        in_child(fail)


def test_a_child_that_dies_is_an_error_that_names_the_signal() -> None:
    def die() -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return "unreachable"

    with pytest.raises(ChildFailed, match="ended by signal 9"):
        in_child(die)
