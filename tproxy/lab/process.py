"""A process of a pod, as trio waits for it."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import trio

from tproxy.lab.spec import LabError

GRACE = 5.0
"""How long a process may take to end after SIGTERM."""
LISTEN_INTERVAL = 0.02
TCP_LISTEN = "0A"
"""<net/tcp_states.h>, as /proc/net/tcp prints it."""


class Process:
    """One child of ours; whoever started it waits for it, and its pod's end is its end."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        self.pid = child.pid

    @property
    def returncode(self) -> int | None:
        """How the process ended, as `subprocess` says it (-n for signal n); None while it runs."""
        return self._child.poll()

    @property
    def status(self) -> int:
        """How the ended process counts for a shell: its exit code, or 128+n for signal n."""
        code = self._child.returncode
        return 128 - code if code < 0 else code

    async def wait(self) -> int:
        """Wait for the end; any number of tasks may."""
        if self._child.poll() is None:
            await ended(self.pid)
        return self._child.wait()

    def send_signal(self, number: int) -> None:
        """Signal the process, unless it has ended."""
        self._child.send_signal(number)

    async def listens(self, port: int) -> None:
        """Wait until a TCP port is served where this process is; LabError if it ends instead."""
        while not _served(self.pid, port):
            if self.returncode is not None:
                raise LabError(f"process {self.pid} ended before it served port {port}")
            await trio.sleep(LISTEN_INTERVAL)

    async def finish(self) -> int:
        """Wait for the end, and bring it about if the wait is cancelled."""
        try:
            return await self.wait()
        finally:
            with trio.CancelScope(shield=True):  # bounded: nothing outlives SIGKILL
                await self.kill()

    async def stop(self) -> None:
        """End the process: SIGTERM, and SIGKILL when it takes longer than GRACE."""
        self.send_signal(signal.SIGTERM)
        with trio.move_on_after(GRACE):
            await self.wait()
        await self.kill()

    async def kill(self) -> None:
        """End the process now, if it has not ended."""
        self.send_signal(signal.SIGKILL)
        await self.wait()


async def ended(pid: int) -> None:
    """Wait for the end of any process, ours or not."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)


def _served(pid: int, port: int) -> bool:
    rows: list[str] = []
    with suppress(FileNotFoundError):  # it has ended; its owner sees that by its return code
        for table in ("tcp", "tcp6"):
            rows += Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    return any(
        local.endswith(f":{port:04X}") and state == TCP_LISTEN
        for _, local, _, state, *_ in map(str.split, rows)
    )
