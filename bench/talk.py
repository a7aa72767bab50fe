"""A program in a pod that is told what to do and says what came of it, a line each: for what lasts beside other work."""

import json
import os
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from bench.loads import LoadFailed
from bench.proxies import ROOT
from tproxy.lab import Pod, Stdio


class Talk:
    """One such program, while it runs. What changes: what of its output is yet to be read."""

    def __init__(self, told: trio.lowlevel.FdStream, heard: trio.lowlevel.FdStream) -> None:
        self._told = told
        self._heard = heard
        self._unread = b""

    async def ask(self, word: str) -> Any:  # noqa: ANN401 - each program has answers of its own
        """Tell the program something, and wait for its answer."""
        await self._told.send_all(f"{word}\n".encode())
        return await self.hear()

    async def hear(self) -> Any:  # noqa: ANN401
        """Wait for the next thing that the program says; LoadFailed if it ends instead."""
        while b"\n" not in self._unread:
            part = await self._heard.receive_some()
            if not part:
                raise LoadFailed("a client ended before it was done")
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)


@asynccontextmanager
async def talking(pod: Pod, argv: Sequence[str]) -> AsyncIterator[Talk]:
    """Have the program run while the scope is open."""
    (given, told), (heard, said) = os.pipe(), os.pipe()
    async with trio.lowlevel.FdStream(told) as telling, trio.lowlevel.FdStream(heard) as hearing:
        try:
            process = await pod.start(argv, user=ROOT, stdio=Stdio(given, said, subprocess.DEVNULL))
        finally:
            os.close(given)
            os.close(said)
        try:
            yield Talk(telling, hearing)
        finally:
            with trio.CancelScope(shield=True):  # bounded: stop() kills what does not end
                await process.stop()
