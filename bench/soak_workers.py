"""Kill the workers of a sidecar under load, then have it drain: what is lost of all that is asked meanwhile."""

import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from fakes.sidecars import workers
from fakes.siege import APPS, HTTP1
from tproxy.lab import Pod, Process, User

ROOT = User.parse("0")
CONNECTIONS = 16
KILLS = 5
BETWEEN_SECONDS = 5.0
REQUESTS = int(os.environ.get("REQUESTS", "100000"))


@asynccontextmanager
async def loaded(client: Pod, server: Pod, requests: int) -> AsyncIterator[dict[str, Any]]:
    """Ask without pause beside the block; after it, the account is complete."""
    account: dict[str, Any] = {}
    words = (server.addresses.v4, str(HTTP1), str(CONNECTIONS), str(requests))

    async def load() -> None:
        done = await client.run([sys.executable, f"{APPS}/steady.py", *words], user=ROOT)
        account.update(json.loads(done.stdout or json.dumps({"failed": done.stderr})))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(load)
        yield account


async def killed(client: Pod, server: Pod, sidecar: Process) -> tuple[dict[str, Any], float]:
    """Kill a worker now and then; how long the next one took to carry, at the most."""
    slowest = 0.0
    async with loaded(client, server, REQUESTS) as account:
        for turn in range(KILLS):
            await trio.sleep(BETWEEN_SECONDS)
            if account:
                break
            before = ready(server)
            began = trio.current_time()
            os.kill(workers(sidecar)[turn % 2], signal.SIGKILL)
            with trio.fail_after(10):
                while ready(server) == before:  # noqa: ASYNC110 - another process's doing has no event
                    await trio.sleep(0.01)
            slowest = max(slowest, trio.current_time() - began)
    return account, slowest


async def drained(client: Pod, server: Pod, sidecar: Process) -> dict[str, Any]:
    """Have the sidecar drain while it is loaded."""
    async with loaded(client, server, REQUESTS) as account:
        await trio.sleep(BETWEEN_SECONDS)
        sidecar.send_signal(signal.SIGTERM)
        with trio.fail_after(30):
            await sidecar.wait()
    return account


def ready(pod: Pod) -> int:
    """How many workers have begun to carry so far."""
    return pod.sidecar_log_path.read_text().count("ready:")
