"""Attackers' programs against a captured server's pod, and the site that it serves."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from fakes.mesh import APPS, ROOT
from tproxy.lab import Pod, Stdio

HTTP1, HTTP2 = 8080, 8081
STALL_SECONDS = 120
HTTP2_FLOODS = (
    "rapid-reset",
    "made-you-reset",
    "continuation",
    "empty-continuation",
    "hpack-bomb",
    "settings",
    "ping",
    "priority",
    "empty-data",
    "window-update",
    "tiny-windows",
    "slow-prefaces",
)
HTTP1_FLOODS = (
    "fields",
    "target",
    "pipelining",
    "deaf-pipelining",
    "tiny-chunks",
    "long-chunk-lines",
    "silence",
    "slow-heads",
    "slow-bodies",
    "vanishing",
)
HANDSHAKE_FLOODS = ("tls-slow-hellos", "tls-half-handshakes", "tls-garbage", "tls-handshakes")
FLOODS = [(name, HTTP2) for name in HTTP2_FLOODS] + [(name, HTTP1) for name in HTTP1_FLOODS]
TLS_FLOODS = [(name, HTTP1) for name in HANDSHAKE_FLOODS]
"""Whoever is no sidecar of the mesh can begin as one: a port that takes both is met by these too."""
STALLED = (
    ("stalled-http1", HTTP1),
    ("stalled-streams", HTTP2),
    ("stalled-wide-streams", HTTP2),
)
SIZES = {"1": 1, "1000": 1000, "1k": 1024, "64k": 64 << 10, "1m": 1 << 20, "64m": 64 << 20}
NGINX = """
user root; worker_processes 1; daemon off; pid {site}/pid; error_log /dev/null; worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {site}/b; proxy_temp_path {site}/p; fastcgi_temp_path {site}/f;
  uwsgi_temp_path {site}/u; scgi_temp_path {site}/s;
  server {{ listen 8080; root {site}; location = /1 {{ return 200 "1"; }} }}
}}
"""


def make_site(site: Path) -> None:
    """Write files of zeros, and how nginx serves them."""
    site.chmod(0o755)
    for name, size in SIZES.items():
        with (site / name).open("wb") as file:
            file.truncate(size)
    (site / "nginx.conf").write_text(NGINX.format(site=site))


def _program(name: str, server: Pod, port: int, amount: float) -> list[str]:
    host = server.addresses.v4
    return [sys.executable, str(APPS / "floods.py"), name, host, str(port), f"{amount:g}"]


async def flooded(
    client: Pod, name: str, server: Pod, port: int, amount: float, *, identity: Path | None = None
) -> str:
    """Have the attackers' program run to its end, which it sets itself, and return what it said."""
    with trio.fail_after(300):
        program = [*_program(name, server, port, amount), *([str(identity)] if identity else [])]
        done = await client.run(program, user=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@asynccontextmanager
async def stalled(client: Pod, name: str, server: Pod, port: int) -> AsyncIterator[None]:
    """A thousand readers that have asked and do not read, for as long as the block lasts."""
    asked, telling = os.pipe()
    try:
        readers = await client.start(
            _program(name, server, port, STALL_SECONDS),
            user=ROOT,
            stdio=Stdio(subprocess.DEVNULL, telling, subprocess.DEVNULL),
        )
    finally:
        os.close(telling)
    with os.fdopen(asked, "rb") as told, trio.fail_after(60):
        await trio.lowlevel.wait_readable(told)
        assert told.read(5) == b"asked"
    yield
    await readers.kill()
