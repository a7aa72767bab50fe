"""Learn that the files of a directory have changed, however that was done, ConfigMaps and editors included."""

import ctypes
import errno
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import trio

LOG = logging.getLogger(__name__)

GATHER_SECONDS = 0.2
"""How long changes gather: writers change several files, and the kubelet several links, one after the other."""
RETRY_SECONDS = 2.0
"""How often to look whether a directory that went away is back."""

# <sys/inotify.h>
_ATTRIB, _CLOSE_WRITE, _MOVED, _CREATE, _DELETE = 0x4, 0x8, 0xC0, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF = 0x400, 0x800
_CHANGES = _ATTRIB | _CLOSE_WRITE | _MOVED | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
_EVENTS_BYTES = 65536


class Changes:
    """Notices changes in one directory. What changes: whether it is watched, since it may go away and come back."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor = -1
        self._there = False
        self._libc = ctypes.CDLL(None, use_errno=True)

    async def next(self) -> None:
        """Wait until something has changed, and for what changes along with it; missing nothing from call to call."""
        await self._wait()
        await trio.sleep(GATHER_SECONDS)
        self._drain()
        self._there = self._add()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch while the block lasts. OSError: this kernel has no more watches to give."""
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise _failure()
        try:
            self._there = self._add()
            yield
        finally:
            os.close(self._descriptor)

    def _add(self) -> bool:
        """Watch the directory that has the name now, if there is one."""
        path = os.fsencode(self._directory)
        if self._libc.inotify_add_watch(self._descriptor, path, _CHANGES) >= 0:
            return True
        failure = _failure()
        if failure.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            raise failure
        return False

    async def _wait(self) -> None:
        """Wait for an event; a directory in the place of one that went away is a change too."""
        while not self._there:
            await trio.sleep(RETRY_SECONDS)
            self._there = self._add()
            if self._there:
                return
        await trio.lowlevel.wait_readable(self._descriptor)

    def _drain(self) -> None:
        try:
            while os.read(self._descriptor, _EVENTS_BYTES):
                pass
        except BlockingIOError:
            return


async def watch(directory: Path, changed: Callable[[], Awaitable[object]]) -> None:
    """Call `changed` whenever something in a directory has, until cancelled or the kernel has no more watches."""
    changes = Changes(directory)
    with ExitStack() as watching:
        try:
            watching.enter_context(changes.watched())
        except OSError as error:
            _give_up(directory, error)
            return
        while True:
            try:
                await changes.next()
            except OSError as error:
                _give_up(directory, error)
                return
            await changed()


def _give_up(directory: Path, error: OSError) -> None:
    words = "cannot watch %s, send SIGHUP after a change: %s"
    LOG.error(words, directory, error.strerror)


def _failure() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
