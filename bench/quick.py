"""Measure what a pair of sidecars costs, against the same pods without them: `make bench`.

Rates drift with whatever else the machine does; CPU time per unit of work drifts less. Runs with and without sidecars
take turns, and the median of each is told.
"""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import trio

from tproxy.lab import Lab, Pod, PodSpec, Stdio, User, open_pod

QUIET = Stdio(subprocess.DEVNULL, subprocess.DEVNULL, subprocess.DEVNULL)
ROOT = User.parse("0")
ROUNDS = 5
TICKS = os.sysconf("SC_CLK_TCK")
NGINX = """
worker_processes 1; daemon off; pid {directory}/pid; error_log {directory}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {directory}/b; proxy_temp_path {directory}/p; fastcgi_temp_path {directory}/f;
  uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  server {{ listen 8080; listen [::]:8080; root {directory}; }}
}}
"""


@dataclass(frozen=True, slots=True)
class Load:
    """One kind of work: its generator, and how much it does."""

    name: str
    argv: Sequence[str]
    units: int
    unit: str


LOADS = (
    Load("HTTP/1.1, 1 connection", ["h2load", "--h1", "-n2000", "-c1", "http://server:8080/1k"], 2000, "request"),
    Load("HTTP/1.1, 32 connections", ["h2load", "--h1", "-n6000", "-c32", "http://server:8080/1k"], 6000, "request"),
    Load("HTTP/2, 1x32 streams", ["h2load", "-n3000", "-c1", "-m32", "http://server:8081/1k"], 3000, "request"),
    Load("HTTP/2, 8x32 streams", ["h2load", "-n6000", "-c8", "-m32", "http://server:8081/1k"], 6000, "request"),
    Load("HTTP/1.1, one 256 MiB body", ["curl", "-so", "/dev/null", "http://server:8080/256m"], 256, "MiB"),
    Load("TCP, 256 MiB", ["iperf3", "-c", "server", "-n", "256M", "-J"], 256, "MiB"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one load: seconds of wall clock, and of each sidecar's CPU."""

    seconds: float
    outbound_cpu: float
    inbound_cpu: float


@asynccontextmanager
async def pair(lab: Lab, site: Path, *, proxy: bool) -> AsyncIterator[tuple[Pod, Pod]]:
    """A client's and a server's pod with the servers running."""
    async with (
        open_pod(PodSpec("server", proxy=proxy), lab) as server,
        open_pod(PodSpec("client", proxy=proxy), lab) as client,
    ):
        nginx = await server.start(
            ["nginx", "-c", str(site / "nginx.conf")], user=ROOT, stdio=QUIET
        )
        nghttpd = await server.start(
            ["nghttpd", "--no-tls", "-d", str(site), "8081"], user=ROOT, stdio=QUIET
        )
        iperf = await server.start(["iperf3", "-s"], user=ROOT, stdio=QUIET)
        for process, port in ((nginx, 8080), (nghttpd, 8081), (iperf, 5201)):
            await process.listens(port)
        yield client, server


def cpu_seconds(pod: Pod) -> float:
    """User and system time that the pod's sidecar has taken; 0 without one."""
    if pod.sidecar is None:
        return 0.0
    fields = Path(f"/proc/{pod.sidecar.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def measured(load: Load, client: Pod, server: Pod) -> Run:
    """Run a load once; it must succeed whole."""
    before = cpu_seconds(client), cpu_seconds(server)
    began = trio.current_time()
    with trio.fail_after(60):
        done = await client.run(load.argv, user=ROOT)
    seconds = trio.current_time() - began
    failed = re.search(r" (?!0 )\d+ failed| (?!0 )\d+ errored", done.stdout)
    if done.returncode or failed:
        sys.exit(f"{load.name} failed:\n{done.stdout}{done.stderr}")
    return Run(seconds, cpu_seconds(client) - before[0], cpu_seconds(server) - before[1])


def row(load: Load, plain: list[Run], proxied: list[Run]) -> dict[str, object]:
    """Sum up the rounds of one load."""
    rate = statistics.median(load.units / run.seconds for run in proxied)
    bare = statistics.median(load.units / run.seconds for run in plain)
    outbound = statistics.median(run.outbound_cpu for run in proxied) / load.units
    inbound = statistics.median(run.inbound_cpu for run in proxied) / load.units
    return {
        "load": load.name,
        "unit": load.unit,
        "rate": round(rate),
        "rate_against_no_proxy": round(rate / bare, 3),
        "outbound_cpu_us": round(outbound * 1e6, 1),
        "inbound_cpu_us": round(inbound * 1e6, 1),
        "runs": [asdict(run) for run in proxied],
    }


async def main() -> None:
    """Measure every load and print a table; the numbers also go to the file that is named as argument."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        site = Path(name)
        site.chmod(0o755)
        (site / "1k").write_bytes(os.urandom(1024))
        (site / "256m").write_bytes(bytes(256 << 20))
        (site / "nginx.conf").write_text(NGINX.format(directory=site))
        async with (
            pair(Lab(site / "plain"), site, proxy=False) as plain,
            pair(Lab(site / "proxied"), site, proxy=True) as proxied,
        ):
            rows = [await compared(load, plain, proxied) for load in LOADS]
    if sys.argv[1:]:
        machine = {
            "python": platform.python_version(),
            "kernel": platform.release(),
            "cores": os.cpu_count(),
        }
        Path(sys.argv[1]).write_text(
            json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n"
        )


async def compared(
    load: Load, plain: tuple[Pod, Pod], proxied: tuple[Pod, Pod]
) -> dict[str, object]:
    """Take turns without and with sidecars, and print what it came to."""
    runs: tuple[list[Run], list[Run]] = ([], [])
    for _ in range(ROUNDS):
        for pods, into in zip((plain, proxied), runs, strict=True):
            into.append(await measured(load, *pods))
    told = row(load, *runs)
    print(
        f"{load.name:28} {told['rate']:>7} {load.unit}/s, {told['rate_against_no_proxy']:.0%} of no proxy; CPU per"
        f" {load.unit}: outbound sidecar {told['outbound_cpu_us']} us, inbound {told['inbound_cpu_us']} us",
        flush=True,
    )
    return told


trio.run(main)
