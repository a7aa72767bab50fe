"""Where the measuring happens: a client's pod, and for each proxy a server's pod with the same origins."""

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
from bench.proxies import HERE, ROOT, Proxy, filled
from bench.sidecar import Sidecar, identify, other_cores
from bench.talk import talking
from tproxy.lab import Lab, LabError, Pod, PodSpec, Stdio, open_pod
from tproxy.stores.authority_files import AuthorityFiles

QUIET = Stdio(subprocess.DEVNULL, subprocess.DEVNULL, subprocess.DEVNULL)
START_SECONDS = 20.0
INBOUND, OUTBOUND = 15006, 15001
SETTINGS = {
    # Connections that are over leave their ports, and their place in the kernel's table, to the next run.
    "net/ipv4/tcp_tw_reuse": "1",
    "net/ipv4/ip_local_port_range": "10000 65535",
    "net/netfilter/nf_conntrack_tcp_timeout_time_wait": "1",
}
FILES = {"1k": bytes(1 << 10), "1m": bytes(1 << 20), CALL: b"\0\0\0\0\x40" + bytes(64)}
"""What the origins serve; a gRPC message is what is sent as well."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A proxy, the pod that it works for, and whom that is asked by."""

    proxy: Proxy
    pod: Pod
    client: Pod
    sidecars: Sequence[Sidecar]
    """None without a proxy; two where the client's pod has one too."""

    @property
    def address(self) -> str:
        """Where the client finds the server."""
        return self.pod.addresses.v4

    def pids(self) -> list[int]:
        """The proxy's processes; none without a proxy."""
        return [pid for sidecar in self.sidecars for pid in sidecar.pids()]

    def forget_logs(self) -> None:
        """Empty the access logs."""
        for sidecar in self.sidecars:
            sidecar.forget_log()

    async def start(self) -> float:
        """Start the proxy afresh; after how many seconds it answered the client's first request.

        LabError if it does not come so far.
        """
        for sidecar in self.sidecars:
            await sidecar.stop()
        words = program("first_answer", self.address)
        async with talking(self.client, [*other_cores(), *words]) as talk:
            await talk.hear()
            began = time.monotonic()
            try:
                with trio.fail_after(START_SECONDS):
                    await self._launch()
                    answered: float = await talk.hear()
            except (LabError, trio.TooSlowError):
                words = [sidecar.last_words for sidecar in self.sidecars]
                raise LabError(f"{self.proxy.name} does not answer: {' '.join(words)}") from None
        return answered - began

    async def _launch(self) -> None:
        for sidecar in self.sidecars:
            await sidecar.start()
        for sidecar in self.sidecars:
            await sidecar.listens()


@dataclass(frozen=True, slots=True)
class Arena:
    """All contenders that could be started."""

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
    ground = Ground(Lab(directory / "lab"), directory)
    _lay_out(ground.site)
    contenders: dict[str, Contender] = {}
    failures: dict[str, str] = {}
    async with AsyncExitStack() as scopes:
        client = await scopes.enter_async_context(_open(ground, "client"))
        for proxy in proxies:
            contender = await scopes.enter_async_context(_contender(proxy, client, ground))
            try:
                if contender.sidecars:
                    await contender.start()
            except (LabError, OSError) as error:
                failures[proxy.name] = str(error)
            else:
                contenders[proxy.name] = contender
        yield Arena(contenders, failures)


@dataclass(frozen=True, slots=True)
class Ground:
    """What all pods of an arena stand on."""

    lab: Lab
    directory: Path

    @property
    def site(self) -> Path:
        """What the origins serve."""
        return self.directory / "site"

    @property
    def authority(self) -> AuthorityFiles:
        """Who signs for all who prove who they are."""
        return AuthorityFiles(self.directory / "authority")


def _lay_out(site: Path) -> None:
    for name, content in FILES.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(content)


@asynccontextmanager
async def _contender(proxy: Proxy, client: Pod, ground: Ground) -> AsyncIterator[Contender]:
    """A server's pod, captured if there is a proxy, with its origins; and a client's, if that has one of its own."""
    async with AsyncExitStack() as scopes:
        name = proxy.name.replace("_", "-")
        own = ground.directory / proxy.name
        own.mkdir()
        pod = await scopes.enter_async_context(_open(ground, name))
        sidecars = []
        if proxy.argv is not None:
            sidecars.append(Sidecar(pod, proxy.argv, proxy.user, own / "server", INBOUND))
        if proxy.at_client is not None:
            client = await scopes.enter_async_context(_open(ground, f"{name}-client"))
            into = own / "client"
            sidecars.append(Sidecar(client, proxy.at_client, proxy.user, into, OUTBOUND))
        for sidecar in sidecars:
            await sidecar.settle_in()
        if proxy.at_client is not None:
            for sidecar in sidecars:
                identify(sidecar.directory, sidecar.directory.name, ground.authority)
        await _serve(pod, own, ground.site)
        yield Contender(proxy, pod, client, sidecars)


@asynccontextmanager
async def _open(ground: Ground, name: str) -> AsyncIterator[Pod]:
    async with open_pod(PodSpec(name, proxy=False), ground.lab) as pod:
        lines = "; ".join(f"echo '{value}' > /proc/sys/{key}" for key, value in SETTINGS.items())
        done = await pod.run(["sh", "-c", lines], user=ROOT)
        if done.stderr:
            raise LabError(f"pod {pod.name}: {done.stderr}")
        yield pod


async def _serve(pod: Pod, directory: Path, site: Path) -> None:
    """Start the origins."""
    for argv, port in _origins(directory, site):
        origin = await pod.start(argv, user=ROOT, stdio=QUIET)
        with trio.fail_after(START_SECONDS):
            await origin.listens(port)


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
