"""Limits given to a real sidecar bind real connections."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from tproxy.lab import Lab, Pod, PodSpec, Stdio, User, open_pod

pytestmark = [pytest.mark.netns, pytest.mark.timed]

APPS = Path(__file__).parent / "apps"
QUIET = Stdio(subprocess.DEVNULL, subprocess.DEVNULL, subprocess.DEVNULL)
ROOT = User.parse("0")
QUICK = ("head-seconds=1", "tcp-idle-seconds=1")

TALK = """
import socket, sys, time
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
peer.sendall(sys.argv[3].encode())
began = time.monotonic()
try:
    said = b"".join(iter(lambda: peer.recv(65536), b""))
except ConnectionResetError:
    said = b"reset"
print(f"{time.monotonic() - began:.1f}", said.split(b"\\r\\n")[0].decode())
"""


async def talk(pod: Pod, address: str, port: int, said: str) -> tuple[float, str]:
    """Say something and nothing more: how long that was suffered, and what was answered."""
    with trio.fail_after(20):
        done = await pod.run([sys.executable, "-c", TALK, address, str(port), said], user=ROOT)
    seconds, _, answer = done.stdout.strip().partition(" ")
    return float(seconds), answer


def logged(pod: Pod, flag: str) -> list[dict[str, Any]]:
    """The lines of the access log with a flag."""
    lines = map(json.loads, pod.access_log_path.read_text().splitlines())
    return [line for line in lines if line["response_flags"] == flag]


@pytest.mark.parametrize("by", ["environment", "options"])
async def test_limits_end_what_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    options: tuple[str, ...] = ()
    if by == "environment":
        monkeypatch.setenv("TPROXY_LIMITS", " ".join(QUICK))
    else:
        options = tuple(f"--limit={limit}" for limit in QUICK)
    lab = Lab(tmp_path / "lab")
    spec = PodSpec("app", run_args=options)
    async with open_pod(spec, lab) as app, open_pod(PodSpec("client", proxy=False), lab) as client:
        web = [sys.executable, str(APPS / "http_sink.py"), "8080"]
        await (await app.start(web, user=ROOT, stdio=QUIET)).listens(8080)
        services = [sys.executable, str(APPS / "tcp_services.py"), "digest:7000"]
        await (await app.start(services, user=ROOT, stdio=QUIET)).listens(7000)
        seconds, answer = await talk(
            client, app.addresses.v4, 8080, "GET / HTTP/1.1\r\nHost: a\r\n"
        )
        assert answer == "HTTP/1.1 408 Request Timeout"
        assert seconds < 4
        seconds, answer = await talk(client, app.addresses.v4, 7000, "\1\2 bytes")
        assert (answer, seconds < 4) == ("reset", True)
        with trio.fail_after(10):
            while not logged(app, "SI"):  # noqa: ASYNC110 - another process's doing has no event
                await trio.sleep(0.05)
        (line,) = logged(app, "SI")
        assert line["response_code_details"] == "tcp_session_idle_timeout"
        (slow,) = [each for each in logged(app, "-") if each["response_code"] == 408]
        assert slow["response_code_details"] == "request_header_timeout"
