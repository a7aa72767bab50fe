"""What a pod's sidecar says: in its log, by its admin page, and which workers are its own."""

import json
import re
from collections import Counter
from pathlib import Path

import trio

from fakes.footprint import answer
from tproxy.lab import Pod, Process

ADMIN, METRICS = ("127.0.0.1", 15000), ("127.0.0.1", 15020)
_HANDSHAKES = re.compile(r'^tproxy_tls_handshakes_total\{.*result="(\w+)".*\} (\S+)$', re.MULTILINE)


def workers(supervisor: Process) -> list[int]:
    """The pids of a sidecar's workers, as this process sees them."""
    path = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children")
    return sorted(int(pid) for pid in path.read_text().split())


async def said(log: Path, text: str, *, times: int = 1, seconds: float = 10) -> None:
    """Wait until a log says something."""
    with trio.fail_after(seconds):
        while log.read_text().count(text) < times:  # noqa: ASYNC110 - another process's doing has no event
            await trio.sleep(0.02)


async def server_info(pod: Pod) -> dict[str, object]:
    """What the sidecar says about itself."""
    heard = await answer(pod, ADMIN, b"GET /server_info HTTP/1.0\r\n\r\n")
    info: dict[str, object] = json.loads(heard.partition(b"\r\n\r\n")[2])
    return info


async def handshakes(pod: Pod) -> Counter[str]:
    """What the sidecar's handshakes came to, and how often."""
    page = await answer(pod, METRICS, b"GET /metrics HTTP/1.0\r\n\r\n")
    counted: Counter[str] = Counter()
    for result, count in _HANDSHAKES.findall(page.decode()):
        counted[result] += int(float(count))
    return counted


async def open_connections(pod: Pod) -> int:
    """How many captured connections the sidecar says are open."""
    return int(str((await server_info(pod))["open_connections"]))
