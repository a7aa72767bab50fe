"""Identities, roots and bundles are replaced under load: no request fails, no stream is dropped, and nothing bad is taken."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import pytest
import trio
from h2.settings import SettingCodes

from fakes.footprint import answer, dialled
from fakes.mesh import ROOT, Mesh, quiet_mesh, running_pods
from fakes.sidecars import ADMIN, METRICS, handshakes, said, server_info
from fakes.talk import Call, whole
from fakes.talk_h2 import Http2Talk
from fakes.two_ways import python
from tproxy.lab import Lab, Pod, Stdio, attach
from tproxy.lab.spec import PROXY
from tproxy.model.identity import Peer
from tproxy.stores.authority_files import AuthorityFiles, hand_out
from tproxy.tls.root import Svid

pytestmark = [pytest.mark.netns, pytest.mark.timed]

EVERY = 0.04
"""Seconds between two requests of a kind: some seventy a second in all."""
PARTNER = "partner.example"
ECHO = ["socat", "TCP-LISTEN:7000,fork,reuseaddr", "PIPE"]
IN_FORCE = re.compile(r"the identity \S+ is in force, serial (\w+)")
HOUR = timedelta(hours=1)
ROTATIONS, ROTATIONS_PER_SECOND = 20, 5
LONG = 1 << 20
SERVERS_WORKERS = 2
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: all}
spec: {mtls: {mode: STRICT}}
"""


@dataclass(frozen=True)
class Workload:
    """A pod's identity, seen from where it comes from."""

    pod: Pod
    lab: Lab
    own: Peer
    workers: int = 1

    @property
    def authority(self) -> AuthorityFiles:
        """What signs for it."""
        return AuthorityFiles(self.lab.authority(self.own.trust_domain))

    @property
    def directory(self) -> Path:
        """Where its sidecar looks."""
        return self.lab.identity(self.pod.name)

    def issue(self, at: datetime | None = None) -> tuple[Svid, bytes]:
        """Sign a certificate for it, as of now."""
        return self.authority.issue(self.own, ttl=HOUR, now=at or datetime.now(UTC))

    def take(self, svid: Svid, bundle: bytes) -> None:
        """Put files in the place of those that its sidecar reads."""
        hand_out(svid, bundle, self.directory, (PROXY.uid, PROXY.gid))

    async def rotate(self) -> None:
        """Give it another identity, and wait until all of its sidecar shows that."""
        svid, bundle = self.issue()
        await trio.to_thread.run_sync(self.take, svid, bundle)
        taken = f"is in force, serial {svid.serial},"
        await said(self.pod.sidecar_log_path, taken, times=self.workers)

    def taken(self) -> list[str]:
        """The serials of all that its sidecar has taken, once for each of its workers."""
        return IN_FORCE.findall(self.pod.sidecar_log_path.read_text())

    async def successful(self) -> list[str]:
        """Whether its sidecar's workers took what they read last."""
        page = await answer(self.pod, METRICS, b"GET /metrics HTTP/1.0\r\n\r\n")
        return re.findall(
            r"^tproxy_cert_last_reload_successful\S* (\S+)$", page.decode(), re.MULTILINE
        )


@dataclass
class Account:
    """What came of a load. What changes: all of it, when the load is over."""

    answered: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    @property
    def lines(self) -> int:
        """How many lines each access log has of it: one for each request, and one for the stream."""
        return self.answered["http1"] + self.answered["http2"] + 1


@dataclass(frozen=True)
class Scene:
    """The pods, and whose identities may be replaced."""

    mesh: Mesh
    client: Workload
    server: Workload
    partner: Workload

    @property
    def both(self) -> tuple[Workload, Workload]:
        """Those between whom the load goes."""
        return self.client, self.server

    async def handshakes(self) -> Counter[str]:
        """What both have counted."""
        return await handshakes(self.client.pod) + await handshakes(self.server.pod)

    @asynccontextmanager
    async def load(self) -> AsyncIterator[Account]:
        """Requests and bytes from the client to the server, for as long as the block lasts."""
        account = Account()
        with TemporaryFile() as out:
            program = python("steady_mix.py", "server", f"{EVERY}")
            stdio = Stdio(subprocess.DEVNULL, out.fileno(), out.fileno())
            process = await self.mesh.client.start(program, user=ROOT, stdio=stdio)
            await until(lambda: _read(out.fileno()).startswith("begun"))
            yield account
            await process.stop()
            told = _read(out.fileno())
        done = json.loads(told.splitlines()[-1])
        account.answered, account.failed = done["answered"], done["failed"]


def _read(descriptor: int) -> str:
    return os.pread(descriptor, 1 << 20, 0).decode()


async def until(claim: Callable[[], object]) -> None:
    """Wait for something that other processes do to come true."""
    with trio.fail_after(10):
        while not claim():  # noqa: ASYNC110
            await trio.sleep(0.02)


@pytest.fixture(scope="module")
def pods() -> Iterator[Lab]:
    """Two pods of one trust domain, one of which has several workers, and one of another."""
    with TemporaryDirectory(dir="/run", prefix="tproxy-rotation-") as name:
        (place := Path(name)).chmod(0o755)
        (place / "policies").mkdir()
        (place / "policies" / "strict.yaml").write_text(STRICT)
        lab = Lab(place / "lab")
        options = ("--policies", f"{place}/policies", "--service-account", "till")
        workers = f"--run-arg=--workers={SERVERS_WORKERS}"
        pods = {
            "server": (*options, workers),
            "client": (),
            "partner": ("--trust-domain", PARTNER),
        }
        with running_pods(lab, pods):
            yield lab


@pytest.fixture
async def scene(pods: Lab, tmp_path: Path) -> AsyncIterator[Scene]:
    """The pods with what serves in the server's, each with an identity that nothing has been done to."""
    (tmp_path / "long").write_bytes(bytes(LONG))
    (tmp_path / "short").write_bytes(b"short")
    async with quiet_mesh(pods) as mesh:
        await mesh.serve(python("echo_target.py", "8080"), 8080)
        await mesh.serve(["nghttpd", "--no-tls", "-d", str(tmp_path), "8081"], 8081)
        await mesh.serve(ECHO, 7000)
        client, server, partner = (
            Workload(attach(pods, name), pods, Peer(domain, "default", account), workers)
            for name, domain, account, workers in (
                ("client", "cluster.local", "default", 1),
                ("server", "cluster.local", "till", SERVERS_WORKERS),
                ("partner", PARTNER, "default", 1),
            )
        )
        for each in (client, server, partner):
            await each.rotate()
        yield Scene(mesh, client, server, partner)


async def test_leaves_that_change_five_times_a_second_disturb_nobody(scene: Scene) -> None:
    before = [len(each.taken()) for each in scene.both]
    shaken = await scene.handshakes()
    async with scene.load() as account:
        for _ in range(ROTATIONS):
            await trio.sleep(1 / ROTATIONS_PER_SECOND)
            for each in scene.both:
                await trio.to_thread.run_sync(each.take, *each.issue())
        for each in scene.both:
            await each.rotate()
    assert account.failed == []
    assert all(account.answered[kind] > 50 for kind in ("http1", "http2", "bytes"))
    for each, count in zip(scene.both, before, strict=True):
        assert len(each.taken()) - count >= ROTATIONS // 2 * each.workers
    assert set(await scene.handshakes() - shaken) == {"ok"}
    lines = await scene.mesh.lines(scene.mesh.client, account.lines)
    for protocol in ("http1", "http2"):
        # Each identity of the client's has connections of its own.
        assert len(connections(lines, protocol)) >= ROTATIONS // 2
    assert {line["response_flags"] for line in lines} == {"-"}
    [stream] = [line for line in lines if line["protocol"] is None]
    assert stream["bytes_sent"] == 12 * account.answered["bytes"]


def connections(lines: list[dict[str, Any]], protocol: str) -> set[str]:
    """The connections to upstreams by which requests in a protocol went."""
    return {
        line["upstream_local_address"]
        for line in lines
        if line["tproxy"]["detected_protocol"] == protocol
    }


async def test_a_server_that_rotates_keeps_its_connections(scene: Scene) -> None:
    async with scene.load() as account:
        for _ in range(3):
            await scene.server.rotate()
    assert account.failed == []
    lines = await scene.mesh.lines(scene.mesh.client, account.lines)
    for protocol in ("http1", "http2", "opaque"):
        assert len(connections(lines, protocol)) == 1


async def test_what_is_open_goes_on_under_the_old_identity_and_the_next_request_under_the_new(
    scene: Scene,
) -> None:
    narrow = {SettingCodes.INITIAL_WINDOW_SIZE: 1000}
    async with await dialled(scene.mesh.client, (scene.mesh.host("-4"), 8081)) as stream:
        talk = Http2Talk(stream, client=True, settings=narrow)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk.run)
            old = await asked(talk, b"/long")
            assert (await old.head()).start == 200
            assert await clusters(scene.client) == {"8081": 1}
            await scene.client.rotate()
            for _ in range(2):
                assert (await whole(await asked(talk, b"/short"))).body == b"short"
                assert await clusters(scene.client) == {"8081": 2}
            assert len((await whole(old)).body) == LONG
            # Nobody uses it any more, and nobody may.
            assert await clusters(scene.client) == {"8081": 1}
            nursery.cancel_scope.cancel()
    long, *short = sorted(await scene.mesh.lines(scene.mesh.client, 3), key=by_path)
    assert {line["downstream_remote_address"] for line in (long, *short)} == {
        long["downstream_remote_address"]
    }
    first, second = (line["upstream_local_address"] for line in short)
    assert first == second != long["upstream_local_address"]


async def asked(talk: Http2Talk, path: bytes) -> Call:
    """Begin a request."""
    call = await talk.call()
    await call.say((b"GET", path), ())
    await call.end()
    return call


def by_path(line: dict[str, Any]) -> str:
    """What sorts log lines by their paths."""
    return str(line["path"])


async def clusters(workload: Workload) -> dict[str, int]:
    """How many connections the sidecar's pool has to each port of the server."""
    page = await answer(workload.pod, ADMIN, b"GET /clusters HTTP/1.0\r\n\r\n")
    lines = page.partition(b"\r\n\r\n")[2].decode().splitlines()
    told = (line.split(" connections ") for line in lines)
    return {address.rpartition(":")[2]: int(count) for address, count in told}


async def test_a_root_is_replaced_in_three_steps_without_a_loss(scene: Scene) -> None:
    of_before, shaken = scene.client.issue(), await scene.handshakes()
    rotate = [sys.executable, "-m", "tproxy", "ca", "rotate", str(scene.client.authority.directory)]
    async with scene.load() as account:
        for roots, order in ((2, scene.both), (2, scene.both[::-1]), (1, scene.both)):
            await trio.run_process([*rotate, "--early"], capture_stdout=True)
            assert len(scene.client.authority.read().roots) == roots
            for each in order:
                await each.rotate()
                await trio.sleep(10 * EVERY)
    assert account.failed == []
    assert set(await scene.handshakes() - shaken) == {"ok"}
    assert await echoed(scene.client)

    scene.client.take(*of_before)
    await said(scene.client.pod.sidecar_log_path, of_before[0].serial)
    refused = await handshakes(scene.client.pod)
    assert not await echoed(scene.client)
    assert await handshakes(scene.client.pod) - refused == {"untrusted": 1}


async def echoed(workload: Workload) -> bool:
    """Whether a new connection to the server carries bytes."""
    with trio.fail_after(10):
        done = await workload.pod.run(
            ["socat", "-t5", "-", "TCP:server:7000"], user=ROOT, stdin=b"?"
        )
    return done.stdout == "?"


async def test_a_trust_domain_is_let_in_with_its_bundle_and_kept_out_without(scene: Scene) -> None:
    theirs, ours = (each.authority.read().bundle for each in (scene.partner, scene.server))
    at_server = scene.server.directory / f"ca.{PARTNER}.crt"
    at_partner = scene.partner.directory / "ca.cluster.local.crt"
    host = (scene.mesh.host("-4"), 7000)
    assert not await echoed(scene.partner)
    await changed(scene.partner, partial(at_partner.write_bytes, ours))
    assert not await echoed(scene.partner)
    await changed(scene.server, partial(at_server.write_bytes, theirs))
    assert await echoed(scene.partner)
    async with await dialled(scene.partner.pod, host) as stream:
        await stream.send_all(b"before")
        assert await stream.receive_some(100) == b"before"
        await changed(scene.server, at_server.unlink)
        refused = await handshakes(scene.server.pod)
        assert not await echoed(scene.partner)
        assert await handshakes(scene.server.pod) - refused == {"untrusted": 1}
        await stream.send_all(b"after")
        assert await stream.receive_some(100) == b"after"
    assert await echoed(scene.client)


async def changed(workload: Workload, change: Callable[[], object]) -> None:
    """Change something in a workload's directory, and wait until its sidecar has taken that."""
    count = len(workload.taken())
    change()
    await until(lambda: len(workload.taken()) >= count + workload.workers)


BAD: Mapping[str, tuple[Callable[[Workload], Svid], str]] = {
    "expired": (
        lambda it: it.issue(datetime.now(UTC) - 2 * HOUR)[0],
        "the certificate has expired",
    ),
    "another's key": (
        lambda it: replace(it.issue()[0], key=it.issue()[0].key),
        "the key belongs to another certificate",
    ),
    "half of a certificate": (lambda it: halved(it.issue()[0]), "the certificate"),
}


def halved(svid: Svid) -> Svid:
    """A certificate of which only half is written."""
    return replace(svid, certificate=svid.certificate[: len(svid.certificate) // 2])


async def test_nothing_bad_is_taken_and_both_the_log_and_a_metric_say_so(scene: Scene) -> None:
    async with scene.load() as account:
        for each in scene.both:
            last = each.taken()[-1]
            for make, why in BAD.values():
                each.take(make(each), each.authority.read().bundle)
                stays = f"{why}[^;]*; the identity of serial {last} stays in force"
                await until(partial(tells, each, stays))
                assert await each.successful() == ["0.0"] * each.workers
                assert await shown(each) == {last}
            await each.rotate()
            assert await each.successful() == ["1.0"] * each.workers
    assert account.failed == []


def tells(workload: Workload, pattern: str) -> bool:
    """Whether a sidecar's log has something of each of its workers."""
    found = re.findall(pattern, workload.pod.sidecar_log_path.read_text())
    return len(found) >= workload.workers


async def shown(workload: Workload) -> set[str]:
    """The serials of what a sidecar's workers show."""
    info = await server_info(workload.pod)
    return set(re.findall(r"'serial': '(\w+)'", str(info)))
