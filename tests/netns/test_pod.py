"""Pods for real: namespaces, processes, names, and nothing left on the host."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trio

from tproxy.lab import Lab, LabError, Pod, PodSpec, Publish, Stdio, User, open_pod, serve
from tproxy.stores.identity_files import IdentityFiles

pytestmark = pytest.mark.netns

QUIET = Stdio(subprocess.DEVNULL, subprocess.DEVNULL, subprocess.DEVNULL)
PYTHON = "/usr/bin/python3"
FILE_SERVER = [PYTHON, "-m", "http.server", "80", "--bind", "::", "--protocol", "HTTP/1.1"]
DEADLINE = 20

ANSWER_ONCE = """
import socket
listener = socket.create_server(("", 7000))
print("listening", flush=True)
caller, address = listener.accept()
asked = b"".join(iter(lambda: caller.recv(100), b""))
caller.sendall(asked.upper() + b" " + address[0].encode())
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab of this test's own, which the command line finds as well."""
    monkeypatch.setenv("TPROXY_LAB_DIR", str(tmp_path / "lab"))
    return Lab(tmp_path / "lab")


def plain(name: str) -> PodSpec:
    """A pod without capture."""
    return PodSpec(name, proxy=False)


def tproxy_pod(*words: str, here: Path = Path("/")) -> subprocess.CompletedProcess[str]:
    """Run `tproxy pod` to its end, somewhere that everybody may be."""
    argv = [sys.executable, "-m", "tproxy", "pod", *words]
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=DEADLINE, check=False, cwd=here
    )


@asynccontextmanager
async def running(*words: str) -> AsyncIterator[trio.Process]:
    """`tproxy pod` in the background, killed at the end of the scope."""
    argv = [sys.executable, "-m", "tproxy", "pod", *words]
    async with trio.open_nursery() as nursery:
        run = partial(
            trio.run_process,
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            cwd="/",
        )
        process = await nursery.start(run)
        yield process
        nursery.cancel_scope.cancel()


def fetches(names: Iterable[str]) -> list[str]:
    """What makes curl fetch the front page of every host in `names`, and drop it."""
    return [word for name in names for word in ("-o", "/dev/null", f"http://{name}/")]


async def line(process: trio.Process) -> str:
    """The next bytes that a background `tproxy pod` writes."""
    assert process.stdout is not None
    with trio.fail_after(DEADLINE):
        return (await process.stdout.receive_some()).decode().strip()


async def until(claim: Callable[[], object]) -> None:
    """Wait for something outside of us to come true."""
    with trio.fail_after(DEADLINE):
        while not claim():  # noqa: ASYNC110  (another process's doing has no event)
            await trio.sleep(0.02)


def lines_of(log: Path) -> list[dict[str, Any]]:
    """An access log's whole lines so far."""
    return [
        json.loads(text) for text in log.read_text().splitlines(keepends=True) if text[-1] == "\n"
    ]


def leftovers(lab: Lab) -> list[str]:
    """Everything of `lab` that the machine still has."""
    mark = lab.bridge_netns.name.removeprefix("tproxy-").removesuffix("lab")
    kept = [path.name for path in Path("/run/netns").iterdir() if mark in path.name]
    return kept + [path.name for path in (lab.root / "pods").iterdir()]


def host_network() -> str:
    """The machine's own rules, links, addresses and routes, without counters."""
    commands = ("ip link", "ip addr", "ip route show table all", "ip -6 route", "ip rule")
    rules = ("iptables-save", "ip6tables-save", "nft list ruleset")
    outputs = [
        subprocess.run(each.split(), capture_output=True, text=True, check=False).stdout
        for each in (*commands, *rules)
    ]
    return "".join(text for text in outputs if not text.startswith("# Generated"))


@pytest.mark.parametrize("family", ["-4", "-6"])
async def test_pods_reach_each_other_by_every_name(lab: Lab, family: str) -> None:
    async with open_pod(plain("web"), lab) as web, open_pod(plain("client"), lab) as client:
        server = await web.start(FILE_SERVER, stdio=QUIET)
        await server.listens(80)
        names = ("web", "web.default", "web.default.svc.cluster.local")
        report = ["-sS", family, "-w", "%{http_code} %{remote_ip}\n"]
        seen = await client.run(["curl", *report, *fetches(names)])
    address = web.addresses.v4 if family == "-4" else web.addresses.v6
    assert (seen.stdout, seen.stderr) == (f"200 {address}\n" * 3, "")


async def test_a_pod_hears_of_those_that_come_and_go(lab: Lab) -> None:
    async with open_pod(plain("first"), lab) as first:
        async with open_pod(plain("second"), lab):
            there = await first.run(["getent", "ahostsv4", "second"])
        gone = await first.run(["getent", "ahostsv4", "second"])
    assert there.stdout.startswith("192.0.2.3 ")
    assert gone.returncode == 2


async def test_applications_are_nobody_in_particular(lab: Lab) -> None:
    async with open_pod(plain("web"), lab) as web:
        status = await web.run(["grep", "-E", "^(Uid|CapEff)", "/proc/self/status"])
    assert status.stdout.split() == ["Uid:", *["65534"] * 4, "CapEff:", "0" * 16]


async def test_a_user_without_an_account_has_no_group_of_roots(lab: Lab) -> None:
    async with open_pod(plain("web"), lab) as web:
        groups = await web.run(["id", "-G"], user=User.parse("4242"))
    assert groups.stdout == "4242\n"


async def test_pods_opened_together_have_addresses_of_their_own(lab: Lab) -> None:
    seen: list[str] = []

    async def one(name: str) -> None:
        async with open_pod(plain(name), lab) as pod:
            seen.append(pod.addresses.v4)
            await until(lambda: len(seen) == 4)

    async with trio.open_nursery() as nursery:
        for name in ("a", "b", "c", "d"):
            nursery.start_soon(one, name)
    assert sorted(seen) == ["192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"]
    assert leftovers(lab) == []


async def test_the_host_is_the_same_before_during_and_after(lab: Lab) -> None:
    before = host_network()
    async with open_pod(PodSpec("web"), lab) as web:
        during = host_network()
        await web.run(["true"])
    assert (during, host_network()) == (before, before)
    assert leftovers(lab) == []


async def test_a_process_that_ignores_sigterm_ends_with_its_pod(lab: Lab) -> None:
    async with open_pod(plain("web"), lab) as web:
        stubborn = await web.start(["sh", "-c", "trap '' TERM; while :; do sleep 9; done"])
    assert stubborn.returncode == -signal.SIGKILL


async def test_a_second_pod_of_the_same_name_is_refused(lab: Lab) -> None:
    async with open_pod(plain("web"), lab):
        with pytest.raises(LabError, match="runs already"):
            async with open_pod(plain("web"), lab):
                pytest.fail("two pods of one name")


async def test_a_published_port_comes_in_from_outside_and_keeps_half_closes(lab: Lab) -> None:
    async with open_pod(plain("web"), lab) as web, trio.open_nursery() as nursery:
        port = await nursery.start(
            serve, Publish("127.0.0.1", 0, 7000), web.record, lab.bridge_netns
        )
        answerer = await web.start([PYTHON, "-c", ANSWER_ONCE], stdio=QUIET)
        await answerer.listens(7000)
        async with await trio.open_tcp_stream("127.0.0.1", port) as caller:
            await caller.send_all(b"hello")
            await caller.send_eof()
            answer = b"".join([part async for part in caller])
        nursery.cancel_scope.cancel()
    assert answer == b"HELLO 192.0.2.1"


@pytest.mark.parametrize(
    ("script", "status"),
    [
        pytest.param("echo out; echo err >&2; exit 7", 7, id="exit code"),
        pytest.param("echo out; echo err >&2; kill -9 $$", 137, id="signal"),
    ],
)
def test_a_commands_output_and_end_pass_through(lab: Lab, script: str, status: int) -> None:
    done = tproxy_pod("run", "web", "--no-proxy", "--", "sh", "-c", script)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", status)
    assert leftovers(lab) == []


def test_a_user_who_may_not_be_here_starts_in_the_root_and_is_told(lab: Lab) -> None:
    with TemporaryDirectory(dir="/tmp") as closed:
        done = tproxy_pod("run", "web", "--no-proxy", "--", "pwd", here=Path(closed))
        assert done.stdout == "/\n"
        assert f"nobody may not enter {closed}: the command starts in /" in done.stderr
    assert leftovers(lab) == []


def test_a_command_that_does_not_exist_is_127(lab: Lab) -> None:
    done = tproxy_pod("run", "web", "--no-proxy", "--", "no-such-command")
    assert (done.returncode, leftovers(lab)) == (127, [])
    assert "cannot run no-such-command" in done.stderr


async def test_signals_reach_the_command(lab: Lab) -> None:
    script = "trap 'echo heard; exit 3' TERM; echo up; while :; do sleep 0.05; done"
    async with running("run", "web", "--no-proxy", "--", "sh", "-c", script) as process:
        assert await line(process) == "up"
        process.terminate()
        assert await line(process) == "heard"
        assert await process.wait() == 3
    assert leftovers(lab) == []


async def test_a_killed_supervisor_takes_its_pod_along_and_rm_the_rest(lab: Lab) -> None:
    script = "sleep 300 & sleep 301 & echo up; wait"
    async with running("run", "web", "--no-proxy", "--", "sh", "-c", script) as process:
        assert await line(process) == "up"
        record = lab.find("web")
        assert record is not None
        assert len(record.pids()) == 4
        process.kill()
        await until(lambda: record.pids() == [])
        [listed] = json.loads(tproxy_pod("ls", "--json").stdout)
        assert listed["state"] == "dead"
        assert tproxy_pod("rm", "web").returncode == 0
    assert leftovers(lab) == []


async def test_the_next_pod_takes_away_what_a_killed_supervisor_left(lab: Lab) -> None:
    async with running("run", "web", "--no-proxy", "--", "sh", "-c", "echo up; sleep 300") as left:
        assert await line(left) == "up"
        left.kill()
        await left.wait()
    assert tproxy_pod("run", "web", "--no-proxy", "--", "true").returncode == 0
    assert leftovers(lab) == []


async def test_a_running_pod_can_be_listed_entered_and_removed(lab: Lab) -> None:
    script = "echo up; sleep 300"
    async with running("run", "web", "--no-proxy", "--env", "A=b", "--", "sh", "-c", script) as pod:
        assert await line(pod) == "up"
        assert "running" in tproxy_pod("ls").stdout
        inside = tproxy_pod("exec", "web", "--", "sh", "-c", "echo $A; id -u; hostname; exit 4")
        assert (inside.stdout, inside.returncode) == ("b\n65534\nweb\n", 4)
        assert "not captured" in tproxy_pod("exec", "web", "--user", "1337", "--", "id").stderr
        assert tproxy_pod("rm", "web").stdout == "web\n"
        assert await pod.wait() == 128 + signal.SIGTERM
    assert leftovers(lab) == []


def test_policies_that_the_sidecar_cannot_read_are_refused_by_the_part_that_blocks(
    lab: Lab,
) -> None:
    with TemporaryDirectory(dir="/tmp") as closed:  # made for root alone, in a place open to all
        done = tproxy_pod("run", "web", "--policies", closed, "--", "true")
    assert done.returncode == 125
    assert f"cannot enter {closed};" in done.stderr
    assert not lab.root.exists()


def test_pods_take_root_and_say_so(lab: Lab) -> None:
    code = "from tproxy.lab import require_root; import os; os.setuid(65534); require_root()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "use sudo" in done.stderr
    assert not lab.root.exists()


def test_a_failing_init_step_stops_the_pod_with_its_own_words(lab: Lab) -> None:
    done = tproxy_pod("run", "web", "--init-arg=--no-such-flag", "--", "true")
    assert done.returncode == 125
    assert "the init step failed" in done.stderr
    assert "no-such-flag" in done.stderr
    assert leftovers(lab) == []


async def test_a_captured_pod_is_carried_and_logged_on_both_sides(lab: Lab) -> None:
    async with open_pod(PodSpec("web"), lab) as web, open_pod(PodSpec("client"), lab) as client:
        server = await web.start(FILE_SERVER, stdio=QUIET)
        await server.listens(80)
        seen = await client.run(["curl", "-sS", "-w", "%{http_code}\n", *fetches(["web"])])
        assert (seen.stdout, seen.stderr) == ("200\n", "")
        for pod, direction in ((client, "outbound"), (web, "inbound")):
            log = pod.access_log_path
            await until(partial(lines_of, log))
            [told] = lines_of(log)
            assert (told["tproxy"]["direction"], told["response_code"]) == (direction, 200)
    assert leftovers(lab) == []


async def test_captured_pods_have_identities_that_only_their_sidecars_may_read(lab: Lab) -> None:
    shop = PodSpec("web", namespace="shop", service_account="till")
    seen = ["cat", "/run/tproxy/identity/tls.key"]
    async with open_pod(shop, lab) as web, open_pod(PodSpec("client"), lab) as client:
        identities = [
            IdentityFiles(pod.directory / "identity").load(datetime.now(UTC))
            for pod in (web, client)
        ]
        assert [each.own.principal for each in identities] == [
            "cluster.local/ns/shop/sa/till",
            "cluster.local/ns/default/sa/default",
        ]
        assert identities[0].bundles == identities[1].bundles
        assert "Permission denied" in (await web.run(seen)).stderr
        assert "PRIVATE KEY" in (await web.run(seen, user=User.of_ids(1337))).stdout
    assert not (lab.root / "ca").exists()
    assert leftovers(lab) == []


async def test_a_pod_without_a_sidecar_has_no_identity(lab: Lab) -> None:
    async with open_pod(plain("web"), lab) as web:
        assert not (web.directory / "identity").exists()
        assert not (lab.root / "ca").exists()


async def test_a_pods_identity_is_renewed_at_half_of_its_life(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = [timedelta()]
    monkeypatch.setattr("tproxy.lab.lifecycle.utc_now", lambda: datetime.now(UTC) + ahead[0])
    monkeypatch.setattr("tproxy.lab.identity.CHECK_SECONDS", 0.05)
    async with open_pod(PodSpec("web"), lab) as web:
        seen = ["openssl", "x509", "-noout", "-serial", "-in", "/run/tproxy/identity/tls.crt"]
        sidecar = User.of_ids(1337)
        first = (await web.run(seen, user=sidecar)).stdout
        ahead[0] = timedelta(minutes=31)
        with trio.fail_after(DEADLINE):
            while (second := (await web.run(seen, user=sidecar)).stdout) == first:  # noqa: ASYNC110
                await trio.sleep(0.05)
    assert second.startswith("serial=")
    assert leftovers(lab) == []


async def test_a_trust_domain_that_is_none_is_refused(lab: Lab) -> None:
    done = tproxy_pod("run", "web", "--trust-domain", "../other", "--", "true")
    assert (done.returncode, lab.root.exists()) == (125, False)
    assert "trust domain '../other'" in done.stderr


async def test_a_command_whose_sidecar_ends_is_ended_too(lab: Lab) -> None:
    script = "echo up; sleep 300"
    async with running("run", "web", "--", "sh", "-c", script) as process:
        assert await line(process) == "up"
        assert "ready" in tproxy_pod("logs", "web", "--sidecar").stdout
        inside = tproxy_pod("exec", "web", "--user", "0", "--", "pkill", "-KILL", "-u", "1337")
        assert inside.returncode == 0
        assert "the sidecar of web ended (signal 9)" in await line(process)
        assert await process.wait() == 125
    assert leftovers(lab) == []


async def test_a_log_is_followed_to_its_pods_end(lab: Lab) -> None:
    async with open_pod(plain("web"), lab) as web:
        log = web.init_log_path
        log.write_text("first\n")
        async with running("logs", "-f", "web", "--init") as follower:
            assert await line(follower) == "first"
            log.write_text("first\nlast\n")
            assert await line(follower) == "last"
            assert tproxy_pod("rm", "web").returncode == 0
            assert await follower.wait() == 0


def test_the_demonstration_passes(lab: Lab) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tproxy", "demo"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert leftovers(lab.inner("demo")) == []


@pytest.fixture(scope="module", autouse=True)
def _root() -> None:
    assert os.geteuid() == 0, "pods take root: run the tests with sudo, or -m 'not netns'"


async def test_a_sidecar_learns_of_pods_that_come_and_go(lab: Lab) -> None:
    dump = ["curl", "-sS", "http://127.0.0.1:15000/config_dump"]

    async def known(pod: Pod, count: int) -> list[str]:
        """The pods that a sidecar knows, once there are so many."""
        with trio.fail_after(DEADLINE):
            while True:
                shown = json.loads((await pod.run(dump, user=User.parse("root"))).stdout)
                entries = [each["entry"] for each in shown["destinations"]["entries"]]
                if len(entries) == count:
                    return entries
                await trio.sleep(0.05)

    async with open_pod(PodSpec("web", namespace="shop"), lab) as web:
        assert await known(web, 1) == ["shop/web"]
        async with open_pod(plain("db"), lab):
            assert await known(web, 2) == ["shop/web", "default/db"]
        assert await known(web, 1) == ["shop/web"]
