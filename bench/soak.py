"""Load two sidecars for long, abuse them, and hold what they took against what they may: `make soak`.

MINUTES of steady mixed load at RATE requests a second, while the server's sidecar reloads now and then; afterwards
connects that are reset at once, stalled readers, every flood, and workers that are killed. One scenario is one
function that returns verdicts; `SCENARIOS` is the list, ONLY="steady crashes" plays these alone. SIDECARS=1 leaves the
client's pod without one.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import soak_workers
import trio

from fakes.footprint import Footprint, footprint, settled, sidecar_pids, watched
from fakes.sidecars import server_info
from fakes.siege import (
    APPS,
    FLOODS,
    HTTP1,
    HTTP2,
    STALLED,
    TLS_FLOODS,
    flooded,
    make_site,
    stalled,
)
from tproxy.lab import Lab, Pod, PodSpec, Stdio, User, open_pod

QUIET = Stdio(subprocess.DEVNULL, subprocess.DEVNULL, subprocess.DEVNULL)
ROOT = User.parse("0")
MEBIBYTE = 1 << 20
MINUTES = float(os.environ.get("MINUTES", "2"))
RATE = float(os.environ.get("RATE", "100"))
SIDECARS = int(os.environ.get("SIDECARS", "2"))
CONNECTS = int(os.environ.get("CONNECTS", "50000"))
FLOOD_SECONDS = 3.0
RELOAD_EVERY = 20
"""Samples between two reloads."""
COLOURS = ("#1f77b4", "#d62728")


@dataclass(frozen=True, slots=True)
class Verdict:
    """One figure, and what came of it."""

    figure: str
    measured: str
    held: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """One sidecar, once a second."""

    seconds: float
    pod: str
    memory: int
    descriptors: int
    cpu: float
    connections: int


@dataclass(slots=True)
class Stage:
    """The pods. What changes: the samples."""

    client: Pod
    server: Pod
    stranger: Pod
    """Without a sidecar: what attackers do shall reach the server's."""
    lab: Lab
    site: Path
    began: float = field(default_factory=trio.current_time)
    samples: list[Sample] = field(default_factory=list)

    @property
    def captured(self) -> list[Pod]:
        """Those that have a sidecar."""
        return [pod for pod in (self.client, self.server) if pod.sidecar]

    async def sample(self) -> None:
        """Look at every sidecar now."""
        for pod in self.captured:
            seen = footprint(sidecar_pids(pod))
            info = await server_info(pod)
            when = round(trio.current_time() - self.began, 1)
            self.samples.append(
                Sample(
                    when,
                    pod.name,
                    seen.memory,
                    seen.descriptors,
                    seen.cpu,
                    int(str(info["open_connections"])),
                )
            )


def growth(samples: Sequence[Sample]) -> int:
    """How much more memory the last fifth of a run took than its second: the first is for warming up."""
    fifth = max(1, len(samples) // 5)
    early, late = samples[fifth : 2 * fifth] or samples, samples[-fifth:]
    return int(
        statistics.median(each.memory for each in late)
        - statistics.median(each.memory for each in early)
    )


async def steady(stage: Stage) -> list[Verdict]:
    """Mixed load at a steady rate, with reloads."""
    program = [sys.executable, str(Path(__file__).parent / "soak_load.py"), "server"]
    before = {pod.name: await settled(sidecar_pids(pod), within=30) for pod in stage.captured}
    first = len(stage.samples)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sampling, stage)
        done = await stage.client.run([*program, str(RATE), str(MINUTES * 60)], user=ROOT)
        nursery.cancel_scope.cancel()
    if done.returncode:
        sys.exit(f"the load failed:\n{done.stderr}")
    told = json.loads(done.stdout.splitlines()[-1])
    samples = stage.samples[first:]
    return [
        loss(told),
        *[grown(pod, samples) for pod in stage.captured],
        *[await restored(pod, before[pod.name], "the load") for pod in stage.captured],
    ]


async def sampling(stage: Stage) -> None:
    """Look once a second, and have the server's sidecar reload now and then."""
    count = 0
    while True:
        await stage.sample()
        count += 1
        if count % RELOAD_EVERY == 0 and stage.server.sidecar:
            stage.server.sidecar.send_signal(signal.SIGHUP)
        await trio.sleep(1)


def loss(told: dict[str, Any]) -> Verdict:
    """Whether every answer came and was right."""
    done = sum(told["done"].values())
    why = f": {told['why'][:3]}" if told["lost"] else ""
    return Verdict(
        f"{MINUTES:g} minutes at {RATE:g} requests/s lose none",
        f"{told['lost']} of {done + told['lost']} lost, {told['late']} not begun{why}",
        not told["lost"] and told["late"] < done / 10,
    )


def grown(pod: Pod, samples: Sequence[Sample]) -> Verdict:
    """Whether a sidecar's memory stayed."""
    more = growth([each for each in samples if each.pod == pod.name])
    return Verdict(
        f"the sidecar of {pod.name} grows by at most 10 MiB",
        f"{more / MEBIBYTE:.1f} MiB",
        more <= 10 * MEBIBYTE,
    )


async def restored(pod: Pod, before: Footprint, after: str) -> Verdict:
    """Whether a sidecar's descriptors came back to what they were: pooled connections rest for some seconds."""
    now = footprint(sidecar_pids(pod))
    with trio.move_on_after(15):
        while now.descriptors > before.descriptors:
            await trio.sleep(0.5)
            now = footprint(sidecar_pids(pod))
    return Verdict(
        f"descriptors of {pod.name} after {after}",
        f"{before.descriptors} before, {now.descriptors} after",
        now.descriptors <= before.descriptors,
    )


async def connects(stage: Stage) -> list[Verdict]:
    """Connects that are reset at once, some after a word."""
    before = await settled(sidecar_pids(stage.server), within=30)
    made = await flooded(stage.stranger, "connects", stage.server, HTTP1, CONNECTS)
    now = await settled(sidecar_pids(stage.server), within=60)
    await stage.sample()
    more = now.memory - before.memory
    return [
        Verdict(f"{CONNECTS} connects with resets", f"{made.strip()} made", int(made) == CONNECTS),
        Verdict(
            "… grow memory by at most 64 MiB", f"{more / MEBIBYTE:.1f} MiB", more <= 64 * MEBIBYTE
        ),
        await restored(stage.server, before, "the connects"),
    ]


async def readers(stage: Stage) -> list[Verdict]:
    """A thousand readers that do not read."""
    verdicts = []
    for name, port in STALLED:
        before = await settled(sidecar_pids(stage.server), within=30)
        async with stalled(stage.stranger, name, stage.server, port):
            now = await settled(sidecar_pids(stage.server), within=60, quiet=2)
            await stage.sample()
        more = now.memory - before.memory
        verdicts.append(
            Verdict(
                f"1,000 readers, {name}: at most 64 MiB",
                f"{more / MEBIBYTE:.1f} MiB",
                more <= 64 * MEBIBYTE,
            )
        )
    return verdicts


async def floods(stage: Stage) -> list[Verdict]:
    """Every flood, while somebody polite asks."""
    verdicts = []
    for name, port in (*FLOODS, *TLS_FLOODS):
        await settled(sidecar_pids(stage.server), within=30)
        async with watched(
            stage.stranger, stage.server, (stage.server.addresses.v4, HTTP1)
        ) as watch:
            await flooded(stage.stranger, name, stage.server, port, FLOOD_SECONDS)
        await stage.sample()
        verdicts.append(
            Verdict(
                f"{name}: others answered in 2 s, at most 64 MiB",
                f"{watch.slowest:.2f} s, {watch.growth / MEBIBYTE:.1f} MiB",
                watch.slowest < 2 and watch.growth <= 64 * MEBIBYTE,
            )
        )
    return verdicts


async def crashes(stage: Stage) -> list[Verdict]:
    """Workers that are killed, and a sidecar that drains, under load."""
    spec = PodSpec("workers", run_args=("--workers", "2"))
    async with open_pod(spec, stage.lab) as pod:
        assert pod.sidecar is not None
        nginx = ["nginx", "-c", str(stage.site / "nginx.conf")]
        await (await pod.start(nginx, user=ROOT, stdio=QUIET)).listens(HTTP1)
        account, slowest = await soak_workers.killed(stage.stranger, pod, pod.sidecar)
        lost, most = len(account["lost"]), soak_workers.KILLS * soak_workers.CONNECTIONS
        left = await soak_workers.drained(stage.stranger, pod, pod.sidecar)
    return [
        Verdict(
            f"{soak_workers.KILLS} workers killed: their own requests lost, at most {most}, and no other",
            f"{lost} of {account['answered'] + lost}; {account['refused']} connections refused",
            lost <= most and not account["refused"],
        ),
        Verdict("the next worker carries in 1 s", f"{slowest:.2f} s", slowest < 1),
        Verdict(
            "a drain loses nothing",
            f"{len(left['lost'])} of {left['answered']}",
            not left["lost"] and left["answered"] > 0,
        ),
    ]


Scenario = Callable[[Stage], Awaitable[list[Verdict]]]
SCENARIOS: tuple[Scenario, ...] = (steady, connects, readers, floods, crashes)


def chosen(names: str) -> list[Scenario]:
    """The scenarios that are named, or all."""
    wanted = names.split()
    known = {scenario.__name__: scenario for scenario in SCENARIOS}
    if unknown := set(wanted) - known.keys():
        sys.exit(
            f"ONLY={names!r}: no such scenario as {', '.join(unknown)}; there are {', '.join(known)}"
        )
    return [known[name] for name in wanted] or list(SCENARIOS)


@asynccontextmanager
async def staged(site: Path) -> AsyncIterator[Stage]:
    """The pods with everything that serves in them."""
    lab = Lab(site / "lab")
    async with (
        open_pod(PodSpec("server"), lab) as server,
        open_pod(PodSpec("client", proxy=SIDECARS > 1), lab) as client,
        open_pod(PodSpec("stranger", proxy=False), lab) as stranger,
    ):
        for argv, *ports in (
            (["nginx", "-c", str(site / "nginx.conf")], HTTP1),
            (["nghttpd", "--no-tls", "-d", str(site), str(HTTP2)], HTTP2),
            ([sys.executable, str(Path(__file__).parent / "soak_origin.py")], 7000, 8082),
            ([sys.executable, str(APPS / "bad_origin.py"), "8090"], 8090),
        ):
            process = await server.start(argv, user=ROOT, stdio=QUIET)
            for port in ports:
                await process.listens(port)
        yield Stage(client, server, stranger, lab, site)


def line(
    samples: Sequence[tuple[float, float]], colour: str, top: float, most: tuple[float, float]
) -> str:
    """One curve in a panel of 800 by 180 that begins at `top`."""
    points = " ".join(
        f"{60 + 800 * x / most[0]:.1f},{top + 180 - 180 * y / most[1]:.1f}" for x, y in samples
    )
    return f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{points}"/>'


def plot(samples: Sequence[Sample]) -> str:
    """Memory, descriptors and connections over time, one panel each, one curve for each sidecar."""
    pods = sorted({each.pod for each in samples})
    end = max(each.seconds for each in samples) or 1.0
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="900" height="700" font-family="sans-serif" font-size="12">'
    ]
    for panel, (title, value) in enumerate(
        (
            ("memory (PSS), MiB", lambda each: each.memory / MEBIBYTE),
            ("descriptors", lambda each: each.descriptors),
            ("open connections", lambda each: each.connections),
        )
    ):
        top = 30 + 220 * panel
        most = max(map(value, samples)) or 1
        parts.append(f'<rect x="60" y="{top}" width="800" height="180" fill="none" stroke="#ccc"/>')
        parts.append(f'<text x="60" y="{top - 6}">{title}</text>')
        parts.append(f'<text x="54" y="{top + 10}" text-anchor="end">{most:.0f}</text>')
        parts.append(f'<text x="54" y="{top + 180}" text-anchor="end">0</text>')
        for colour, pod in zip(COLOURS, pods, strict=False):
            of_pod = [(each.seconds, value(each)) for each in samples if each.pod == pod]
            parts.append(line(of_pod, colour, top, (end, most)))
    for number, (colour, pod) in enumerate(zip(COLOURS, pods, strict=False)):
        parts.append(f'<text x="{60 + 100 * number}" y="690" fill="{colour}">{pod}</text>')
    parts.append(f'<text x="860" y="690" text-anchor="end">{end:.0f} s</text></svg>')
    return "\n".join(parts) + "\n"


async def main(out: str = "soak") -> None:
    """Run every scenario, print verdicts, and write `OUT.json` and `OUT.svg`; exit with 1 if a figure was missed."""
    verdicts: list[Verdict] = []
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        site = Path(name)
        make_site(site)
        async with staged(site) as stage:
            await stage.sample()
            for scenario in chosen(os.environ.get("ONLY", "")):
                for verdict in await scenario(stage):
                    verdicts.append(verdict)
                    print(
                        f"{'held  ' if verdict.held else 'MISSED'} {verdict.figure}: {verdict.measured}",
                        flush=True,
                    )
        samples = stage.samples
    told = {
        "verdicts": [asdict(each) for each in verdicts],
        "samples": [asdict(each) for each in samples],
    }
    Path(f"{out}.json").write_text(json.dumps(told, indent=1) + "\n")
    Path(f"{out}.svg").write_text(plot(samples))
    sys.exit(0 if all(each.held for each in verdicts) else 1)


trio.run(main, *sys.argv[1:])
