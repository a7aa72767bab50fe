"""A pod that is up, as those see it who run things in it."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from types import MappingProxyType
from typing import IO

import trio

from tproxy.lab.namespaces import Command, Stdio, permitted, start_inside
from tproxy.lab.process import Process
from tproxy.lab.records import Addresses, Lab, Record, State
from tproxy.lab.spec import LabError, User

NOTHING: Mapping[str, str] = MappingProxyType({})
INHERITED = Stdio()


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that is up. Everything started in it ends with it."""

    record: Record
    directory: Path
    user: User
    """Who runs what is started, unless said otherwise."""
    started: list[Process]
    """All children so far: whoever opened the pod waits for them at its end."""
    sidecar: Process | None = None
    """None without capture, and for whoever did not open the pod."""

    @property
    def name(self) -> str:
        """What the other pods call it."""
        return self.record.name

    @property
    def addresses(self) -> Addresses:
        """Where the other pods find it."""
        return self.record.addresses

    @property
    def netns_path(self) -> Path:
        """Its network namespace."""
        return self.record.netns_path

    @property
    def sidecar_log_path(self) -> Path:
        """What the sidecar says about itself."""
        return self.directory / "sidecar.log"

    @property
    def access_log_path(self) -> Path:
        """What the sidecar says about traffic: one JSON object a line."""
        return self.directory / "access.log"

    @property
    def init_log_path(self) -> Path:
        """What the init step said."""
        return self.directory / "init.log"

    async def start(
        self,
        argv: Sequence[str],
        *,
        user: User | None = None,
        env: Mapping[str, str] = NOTHING,
        stdio: Stdio = INHERITED,
    ) -> Process:
        """Start a program in the pod, in `directory_of` its user; OSError if it cannot be run."""
        who = user or self.user
        around = {**os.environ, **who.environ(), **self.record.env, **env}
        command = Command(argv, who.identity, around, stdio, directory=await self.directory_of(who))
        return await self.execute(command)

    async def directory_of(self, user: User) -> Path:
        """Choose where a user's programs start: here, or in `/` where the user may not be here."""
        here = Path.cwd()
        may = await trio.to_thread.run_sync(permitted, user.identity, "-x", here)
        return here if may else Path("/")

    async def run(
        self,
        argv: Sequence[str],
        *,
        user: User | None = None,
        env: Mapping[str, str] = NOTHING,
        stdin: bytes = b"",
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end and hand back what it wrote; a cancelled one is killed."""
        with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
            given.write(stdin)
            given.seek(0)
            stdio = Stdio(given.fileno(), out.fileno(), err.fileno())
            process = await self.start(argv, user=user, env=env, stdio=stdio)
            code = await process.finish()
            return subprocess.CompletedProcess(list(argv), code, _text(out), _text(err))

    async def execute(self, command: Command) -> Process:
        """Start exactly `command` in the pod, adding nothing."""
        assert self.record.holder is not None, "a pod is only handed out once it is held"
        holder = self.record.holder.pid
        process = Process(await trio.to_thread.run_sync(start_inside, holder, command))
        self.started.append(process)
        return process


def attach(lab: Lab, name: str) -> Pod:
    """A pod that another process supervises, to run more in it."""
    record = lab.find(name)
    if record is None or record.state is State.DEAD:
        raise LabError(f"no pod named {name} is running (`tproxy pod ls` shows which are)")
    if record.holder is None:
        raise LabError(f"pod {name} is only starting; try again in a moment")
    return Pod(record, lab.directory(name), User.parse(record.user), started=[])


def _text(written: IO[bytes]) -> str:
    written.seek(0)
    return written.read().decode(errors="replace")
