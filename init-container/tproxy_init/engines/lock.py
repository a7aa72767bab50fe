"""The lock that everything writing legacy tables shares."""

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

LOCK_SECONDS = 15


def lock_path() -> str:
    """The usual lock file, or where /run cannot be written, the namespace's own file.

    The namespace exists in every pod and everything in the pod sees the same one.
    """
    path = os.environ.get("XTABLES_LOCKFILE", "/run/xtables.lock")
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT, 0o600))
    except OSError:
        return "/proc/self/ns/net"
    return path


@contextmanager
def xtables_lock() -> Iterator[None]:
    """Hold the lock; TimeoutError when others hold it too long. Uses SIGALRM: child processes only."""
    held = os.open(lock_path(), os.O_RDONLY)
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(LOCK_SECONDS)
    fcntl.flock(held, fcntl.LOCK_EX)
    signal.alarm(0)
    try:
        yield
    finally:
        os.close(held)


def _too_long(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"another program holds {lock_path()} for over {LOCK_SECONDS} s")
