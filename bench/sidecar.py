"""One proxy in one pod: its process, what it writes, and who it can prove to be."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure import family
from bench.proxies import IDENTITY, ROOT, Argv
from tproxy.lab import LabError, Pod, Process, Stdio, User
from tproxy.lab.identity import utc_now
from tproxy.model.identity import Peer
from tproxy.stores.authority_files import AuthorityFiles, hand_out
from tproxy.tls.root import MOST_TTL, ROOT_LIFETIME

TRUST_DOMAIN = "cluster.local"
SAID = 2000
"""Characters of a proxy's last words that are told."""


def _pin(*cores: int) -> Sequence[str]:
    return ["taskset", "-c", ",".join(map(str, cores))] if len(os.sched_getaffinity(0)) > 1 else []


def proxy_core() -> Sequence[str]:
    """What is put before a proxy's command line: it has one core, and nothing else of ours is on it."""
    return _pin(max(os.sched_getaffinity(0)))


def other_cores() -> Sequence[str]:
    """What is put before the command line of a load generator or an origin."""
    return _pin(*sorted(os.sched_getaffinity(0))[:-1])


@dataclass(slots=True)
class Sidecar:
    """One proxy in one pod. What changes: its process, when it is started afresh."""

    pod: Pod
    argv: Argv
    user: User
    directory: Path
    """What it may write to."""
    port: int
    """Where it takes connections."""
    process: Process | None = field(default=None, init=False)

    @property
    def access_log(self) -> Path:
        """Where whoever logs requests does it."""
        return self.directory / "access.log"

    @property
    def last_words(self) -> str:
        """The end of what it has said about itself."""
        return (self.directory / "proxy.log").read_text()[-SAID:]

    def pids(self) -> list[int]:
        """Its processes, while it runs."""
        return family(self.process.pid) if self.process else []

    async def settle_in(self) -> None:
        """Give it a directory of its own, and have the pod's connections sent to it."""
        self.directory.mkdir()
        self.access_log.touch()
        for path in (self.directory, self.access_log):
            os.chown(path, self.user.identity.uid, self.user.identity.gid)
        env = {"XTABLES_LOCKFILE": str(self.directory / "xtables.lock")}
        done = await self.pod.run(
            [sys.executable, "-m", "tproxy_init", "apply"], user=ROOT, env=env
        )
        if done.returncode:
            raise LabError(f"pod {self.pod.name} is not captured: {done.stderr}")

    def forget_log(self) -> None:
        """Empty the access log, so that its size is never what is measured."""
        os.truncate(self.access_log, 0)

    async def start(self) -> None:
        """Begin a process of it."""
        argv = [*proxy_core(), *self.argv(self.directory)]
        with (
            self.access_log.open("ab") as access,
            (self.directory / "proxy.log").open("ab") as log,
        ):
            stdio = Stdio(subprocess.DEVNULL, access.fileno(), log.fileno())
            self.process = await self.pod.start(argv, user=self.user, stdio=stdio)

    async def listens(self) -> None:
        """Wait until it takes connections; LabError if it ends instead."""
        assert self.process is not None, "it was started"
        await self.process.listens(self.port)

    async def stop(self) -> None:
        """End it, if it runs."""
        if self.process is not None:
            await self.process.stop()


def identify(directory: Path, service_account: str, authority: AuthorityFiles) -> None:
    """Issue an identity into a sidecar's directory, from an authority that is founded for the first one."""
    now = utc_now()
    if not authority.exists():
        authority.create(TRUST_DOMAIN, lifetime=ROOT_LIFETIME, now=now)
    own = Peer(TRUST_DOMAIN, "default", service_account)
    svid, bundle = authority.issue(own, ttl=MOST_TTL, now=now)
    hand_out(svid, bundle, directory / IDENTITY, (1337, 1337))
