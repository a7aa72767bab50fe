"""Where the measuring happens: a client's pod, and for each proxy a server's pod with the same origins."""

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from bench.loads import CALL
from bench.loads import client as program
from bench.measure import family
from bench.proxies import HERE, ROOT, Proxy, filled
from bench.talk import talking
from tproxy.lab import Lab, LabError, Pod, PodSpec, Process, Stdio, open_pod

QUIET = Stdio(subprocess.DEVNULL, subprocess.DEVNULL, subprocess.DEVNULL)
START_SECONDS = 20.0
INBOUND = 15006
SAID = 2000
"""Characters of a proxy's last words that are told."""
SETTINGS = {
    # Connections that are over leave their ports, and their place in the kernel's table, to the next run.
    "net/ipv4/tcp_tw_reuse": "1",
    "net/ipv4/ip_local_port_range": "10000 65535",
    "net/netfilter/nf_conntrack_tcp_timeout_time_wait": "1",
}
FILES = {"1k": bytes(1 << 10), "1m": bytes(1 << 20), CALL: b"\0\0\0\0\x40" + bytes(64)}
"""What the origins serve; a gRPC message is what is sent as well."""


def _pin(*cores: int) -> Sequence[str]:
    return ["taskset", "-c", ",".join(map(str, cores))] if len(os.sched_getaffinity(0)) > 1 else []


def proxy_core() -> Sequence[str]:
    """What is put before a proxy's command line: it has one core, and nothing else of ours is on it."""
    return _pin(max(os.sched_getaffinity(0)))


def other_cores() -> Sequence[str]:
    """What is put before the command line of a load generator or an origin."""
    return _pin(*sorted(os.sched_getaffinity(0))[:-1])


class Contender:
    """A proxy and the pod that it works for. What changes: its process, when it is started afresh."""

    def __init__(self, proxy: Proxy, pod: Pod, directory: Path) -> None:
        self.proxy = proxy
        self.pod = pod
        self.directory = directory
        self.process: Process | None = None

    @property
    def address(self) -> str:
        """Where the client finds the server."""
        return self.pod.addresses.v4

    @property
    def access_log(self) -> Path:
        """Where whoever logs requests does it."""
        return self.directory / "access.log"

    def pids(self) -> list[int]:
        """The proxy's processes; none without a proxy."""
        return family(self.process.pid) if self.process else []

    def forget_log(self) -> None:
        """Empty the access log, so that its size is never what is measured."""
        if self.access_log.exists():
            os.truncate(self.access_log, 0)

    async def start(self, client: Pod) -> float:
        """Start the proxy afresh; after how many seconds it answered the client's first request.

        LabError if it does not come so far.
        """
        await self.stop()
        words = program("first_answer", self.address)
        async with talking(client, [*other_cores(), *words]) as talk:
            await talk.hear()
            began = time.monotonic()
            self.process = await self._launch()
            try:
                with trio.fail_after(START_SECONDS):
                    await self.process.listens(INBOUND)
                    answered: float = await talk.hear()
            except (LabError, trio.TooSlowError):
                raise LabError(f"{self.proxy.name} does not answer: {self._last_words()}") from None
        return answered - began

    async def stop(self) -> None:
        """End the proxy, if it runs."""
        if self.process is not None:
            await self.process.stop()

    def _last_words(self) -> str:
        return (self.directory / "proxy.log").read_text()[-SAID:]

    async def _launch(self) -> Process:
        assert self.proxy.argv is not None, "there is a proxy"
        argv = [*proxy_core(), *self.proxy.argv(self.directory)]
        with (
            self.access_log.open("ab") as access,
            (self.directory / "proxy.log").open("ab") as log,
        ):
            stdio = Stdio(subprocess.DEVNULL, access.fileno(), log.fileno())
            return await self.pod.start(argv, user=self.proxy.user, stdio=stdio)


@dataclass(frozen=True, slots=True)
class Arena:
    """The client, and all contenders that could be started."""

    client: Pod
    contenders: Mapping[str, Contender]
    failures: Mapping[str, str]
    """Why a proxy is not among the contenders."""

    def contender(self, proxy: Proxy) -> Contender:
        """The one that stands for a proxy; LabError if that could not be started."""
        if proxy.name in self.failures:
            raise LabError(self.failures[proxy.name])
        return self.contenders[proxy.name]


@asynccontextmanager
async def open_arena(proxies: Iterable[Proxy], directory: Path) -> AsyncIterator[Arena]:
    """All pods, up, with their proxies and origins running, while the scope is open."""
    lab = Lab(directory / "lab")
    _lay_out(directory / "site")
    contenders: dict[str, Contender] = {}
    failures: dict[str, str] = {}
    async with AsyncExitStack() as scopes:
        client = await scopes.enter_async_context(open_pod(PodSpec("client", proxy=False), lab))
        await _settle(client)
        for proxy in proxies:
            contender = await scopes.enter_async_context(_contender(proxy, lab, directory))
            try:
                if proxy.argv is not None:
                    await contender.start(client)
            except (LabError, OSError) as error:
                failures[proxy.name] = str(error)
            else:
                contenders[proxy.name] = contender
        yield Arena(client, contenders, failures)


def _lay_out(site: Path) -> None:
    for name, content in FILES.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(content)


@asynccontextmanager
async def _contender(proxy: Proxy, lab: Lab, directory: Path) -> AsyncIterator[Contender]:
    """A server's pod, captured if there is a proxy, with its origins."""
    own = directory / proxy.name
    own.mkdir()
    (own / "access.log").touch()
    for path in (own, own / "access.log"):
        os.chown(path, proxy.user.identity.uid, proxy.user.identity.gid)
    spec = PodSpec(proxy.name.replace("_", "-"), proxy=False)
    async with open_pod(spec, lab) as pod:
        if proxy.argv is not None:
            await _capture(pod, own)
        await _settle(pod)
        for argv, port in _origins(own, directory / "site"):
            origin = await pod.start(argv, user=ROOT, stdio=QUIET)
            with trio.fail_after(START_SECONDS):
                await origin.listens(port)
        yield Contender(proxy, pod, own)


async def _capture(pod: Pod, directory: Path) -> None:
    env = {"XTABLES_LOCKFILE": str(directory / "xtables.lock")}
    done = await pod.run([sys.executable, "-m", "tproxy_init", "apply"], user=ROOT, env=env)
    if done.returncode:
        raise LabError(f"pod {pod.name} is not captured: {done.stderr}")


async def _settle(pod: Pod) -> None:
    lines = "; ".join(f"echo '{value}' > /proc/sys/{key}" for key, value in SETTINGS.items())
    done = await pod.run(["sh", "-c", lines], user=ROOT)
    if done.stderr:
        raise LabError(f"pod {pod.name}: {done.stderr}")


def _origins(directory: Path, site: Path) -> Sequence[tuple[Sequence[str], int]]:
    """The servers of each pod, and the ports that they serve."""
    nginx = filled(HERE / "origins" / "nginx.conf", directory, site=site)
    nghttpd = [*other_cores(), "nghttpd", "--no-tls", "-d", str(site)]
    python = [sys.executable, "-S"]
    return (
        ([*other_cores(), "nginx", "-c", str(nginx)], 8080),
        ([*nghttpd, "8081"], 8081),
        ([*nghttpd, "--trailer=grpc-status: 0", "8082"], 8082),
        ([*other_cores(), *python, str(HERE / "origins" / "echo.py"), "9000"], 9000),
        # Free, as the generator is that fills it.
        ([*python, str(HERE / "origins" / "sink.py"), "9001"], 9001),
    )
