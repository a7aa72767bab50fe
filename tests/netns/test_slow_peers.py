"""Hundreds of clients that are slow on purpose: each is cut off in time, and nobody else has to wait for them."""

import json
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import trio

from fakes.mesh import APPS, QUIET, ROOT
from fakes.sidecars import open_connections
from tproxy.lab import Lab, Pod, PodSpec, open_pod

pytestmark = [pytest.mark.netns, pytest.mark.timed]

EACH = 100
"""Connections of each kind of slow client."""
LIMITS = ("head-seconds=2", "stream-idle-seconds=2")
ATTACK = ("-c", str(EACH), "-r", str(EACH), "-l", "20", "-p", "3")
SLOW = (
    ("-H", "-i", "1", "-u", "/0"),
    ("-B", "-t", "PUT", "-i", "30", "-s", "100000", "-u", "/0"),
    ("-X", "-n", "30", "-w", "64", "-y", "128", "-z", "1", "-u", "/100000000"),
)
"""What slowhttptest is told: heads that trickle, bodies that stop, and responses that nobody reads."""
CUT_OFF = {
    (408, "request_header_timeout"): EACH,
    (408, "stream_idle_timeout"): EACH,
    (200, "stream_idle_timeout"): EACH,
}


@pytest.mark.slow
async def test_slow_clients_are_cut_off_and_hold_up_nobody_else(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab")
    limited = tuple(f"--limit={limit}" for limit in LIMITS)
    spec = PodSpec("app", run_args=limited)
    async with open_pod(spec, lab) as app, open_pod(PodSpec("client", proxy=False), lab) as client:
        web = [sys.executable, f"{APPS}/http_sink.py", "8080"]
        await (await app.start(web, user=ROOT, stdio=QUIET)).listens(8080)
        origin = f"http://{app.addresses.v4}:8080"
        async with trio.open_nursery() as nursery:
            for *words, target in SLOW:
                attack = ["slowhttptest", *ATTACK, *words, origin + target]
                nursery.start_soon(partial(client.run, attack, user=ROOT))
            waits = await asked_until_cut_off(client, app, origin)
            nursery.cancel_scope.cancel()
        assert max(waits) < 2
        with trio.fail_after(10):
            while await open_connections(app):  # noqa: ASYNC110 - another process's doing has no event
                await trio.sleep(0.1)


async def asked_until_cut_off(client: Pod, app: Pod, origin: str) -> list[float]:
    """Ask again and again until all slow clients are cut off; how long each answer took."""
    asked = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{time_total}", f"{origin}/1000"]
    waits: list[float] = []
    with trio.fail_after(30):
        while endings(app) != CUT_OFF:
            status, seconds = (await client.run(asked, user=ROOT)).stdout.split()
            assert status == "200"
            waits.append(float(seconds))
    return waits


def endings(app: Pod) -> Counter[tuple[int, str]]:
    """How many exchanges a time-out ended, by status and details."""
    whole = app.access_log_path.read_text().rpartition("\n")[0]
    lines = map(json.loads, whole.splitlines())
    ended = Counter((line["response_code"], line["response_code_details"]) for line in lines)
    return Counter({ending: count for ending, count in ended.items() if "timeout" in ending[1]})
