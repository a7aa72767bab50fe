"""What attackers do costs them more than anybody else: others are answered, and memory stays."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from fakes.footprint import Footprint, footprint, settled, sidecar_pids, slowest_answer
from fakes.mesh import APPS, ROOT, quiet_mesh, running_pod
from tproxy.lab import Lab, Pod

pytestmark = [pytest.mark.netns, pytest.mark.slow]

FLOOD_SECONDS = 1.5
MOST_SECONDS = 2.0
MOST_MEMORY = 64 << 20
HTTP1, HTTP2, BAD = 8080, 8081, 8090
HEAD_SECONDS = 3
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
FLOODS = [(name, HTTP2) for name in HTTP2_FLOODS] + [(name, HTTP1) for name in HTTP1_FLOODS]
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


@dataclass(frozen=True)
class Siege:
    """A captured server's pod and an uncaptured one, where attackers and everybody else are."""

    client: Pod
    server: Pod
    pids: list[int]

    def there(self, port: int) -> tuple[str, int]:
        return self.server.addresses.v4, port


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file and a large one."""
    site = tmp_path_factory.mktemp("site")
    for name, size in (("1", 1), ("1k", 1024), ("64m", 64 << 20)):
        with (site / name).open("wb") as file:
            file.truncate(size)
    (site / "nginx.conf").write_text(NGINX.format(site=site))
    return site


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The two pods, for all tests of this file."""
    directory = tmp_path_factory.mktemp("floods")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as scopes:
        patch.setenv("TPROXY_LAB_DIR", str(directory))
        patch.setenv("TPROXY_LIMITS", f"head-seconds={HEAD_SECONDS}")
        lab = Lab(directory)
        scopes.enter_context(running_pod("server", lab))
        scopes.enter_context(running_pod("client", lab, "--no-proxy"))
        yield lab


@pytest.fixture
async def siege(pods: Lab, site: Path) -> AsyncIterator[Siege]:
    """The two pods, with servers of both HTTP versions behind the sidecar."""
    async with quiet_mesh(pods) as mesh:
        await mesh.serve(["nginx", "-c", str(site / "nginx.conf")], HTTP1)
        await mesh.serve(["nghttpd", "--no-tls", "-d", str(site), str(HTTP2)], HTTP2)
        await mesh.serve([sys.executable, str(APPS / "bad_origin.py"), str(BAD)], BAD)
        yield Siege(mesh.client, mesh.server, sidecar_pids(mesh.server))


@dataclass(slots=True)
class Watch:
    """What was seen while something went on. What changes: all of it, five times a second."""

    before: Footprint
    slowest: float = 0.0
    most_memory: int = 0

    @property
    def growth(self) -> int:
        return self.most_memory - self.before.memory


@asynccontextmanager
async def watched(siege: Siege) -> AsyncIterator[Watch]:
    """Have somebody ask politely, and the sidecar's memory measured, for as long as the block lasts."""
    watch = Watch(await settled(siege.pids, within=20))
    over = trio.Event()

    async def ask() -> None:
        watch.slowest = await slowest_answer(siege.client, siege.there(HTTP1), over)

    async def measure() -> None:
        while not over.is_set():
            watch.most_memory = max(watch.most_memory, footprint(siege.pids).memory)
            with trio.move_on_after(0.2):
                await over.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(measure)
        yield watch
        over.set()


async def flooded(siege: Siege, name: str, port: int, seconds: float) -> None:
    """Have the attackers' program run to its end, which its own clock sets."""
    program = [sys.executable, str(APPS / "floods.py"), name, siege.server.addresses.v4, str(port)]
    with trio.fail_after(seconds + 20):
        done = await siege.client.run([*program, str(seconds)], user=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "port"), [pytest.param(name, port, id=name) for name, port in FLOODS]
)
async def test_others_are_answered_and_memory_stays(siege: Siege, name: str, port: int) -> None:
    async with watched(siege) as watch:
        await flooded(siege, name, port, FLOOD_SECONDS)
    assert watch.slowest < MOST_SECONDS
    assert watch.growth <= MOST_MEMORY
