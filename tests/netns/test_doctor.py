"""The doctor in pods that are well, and in pods of which something was broken."""

import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from fakes.ca import HOUR, MINUTE, FakeCa, Leaf
from fakes.mesh import QUIET, ROOT
from tproxy.lab import Lab, Pod, PodSpec, User, open_pod

pytestmark = pytest.mark.netns

PROXY = User.parse("1337")


IDENTITY = "--certificates=/run/tproxy/identity"
MACHINE = {"clock", "descriptors", "memory", "installation"}
"""What is not the pod's."""
SYSTEMD = Path(__file__).parents[2] / "deploy" / "systemd"
POLICIES = "{apiVersion: tproxy.io/v1alpha1, kind: ProxyConfig, spec: {}}\n"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the sidecar's user can enter."""
    with tempfile.TemporaryDirectory(dir="/run", prefix="tproxy-doctor-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
async def pod(place: Path) -> AsyncIterator[Pod]:
    """A captured pod of this test's own."""
    async with open_pod(PodSpec("patient"), Lab(place / "lab")) as pod:
        yield pod


async def examined(pod: Pod, *words: str, user: User = ROOT) -> dict[str, Any]:
    """What the doctor says, by what it is about; the worst of each."""
    argv = [sys.executable, "-m", "tproxy", "doctor", "--json", *words]
    with trio.fail_after(30):
        done = await pod.run(argv, user=user)
    checks = json.loads(done.stdout)
    order = ["ok", "?", "warn", "FAIL"]
    worst: dict[str, Any] = {}
    for check in sorted(checks, key=lambda each: order.index(each["verdict"])):
        worst[check["what"]] = (check["verdict"], check["found"])
    assert done.returncode == any(verdict == "FAIL" for verdict, _ in worst.values())
    return worst


async def test_a_pod_that_carries_is_well(pod: Pod, place: Path) -> None:
    (policies := place / "policies").mkdir()
    (policies / "proxy.yaml").write_text(POLICIES)
    worst = await examined(pod, f"--policies={policies}", IDENTITY)
    assert {what for what in worst if worst[what][0] != "ok"} <= MACHINE, worst
    assert worst.keys() >= {"kernel", "ipv6", "sidecar", "capabilities", "user", "policies"}
    assert "complete, held by" in worst["capture"][1]
    assert worst["identity"][1].startswith("spiffe://cluster.local/ns/default/sa/default until ")


async def test_a_sidecar_without_rights_learns_all_but_the_rules(pod: Pod) -> None:
    worst = await examined(pod, IDENTITY, user=PROXY)
    assert worst["capture"][0] == "?"
    for what in ("sidecar", "user", "identity"):
        assert worst[what][0] == "ok", worst[what]


async def test_a_port_that_somebody_else_has_is_seen(place: Path) -> None:
    async with open_pod(PodSpec("patient", proxy=False), Lab(place / "lab")) as pod:
        argv = ["socat", f"TCP4-LISTEN:15006,bind={pod.addresses.v4},fork", "PIPE"]
        await (await pod.start(argv, user=ROOT, stdio=QUIET)).listens(15006)
        assert (await examined(pod))["sidecar"] == ("FAIL", "not running, and others have 15006")


async def test_the_settings_of_units_are_taken(pod: Pod, place: Path) -> None:
    (place / "init.env").write_text("# a firewall\nTPROXY_EXCLUDE_INBOUND_PORTS='22'\n")
    (place / "tproxy.env").write_text(f"TPROXY_CERTIFICATES={place}\nTPROXY_LABELS=a=b c=d\n")
    settings = (f"--settings={place}/{name}.env" for name in ("init", "tproxy"))
    worst = await examined(pod, *settings)
    assert "rules are not the plan" in worst["capture"][1]
    assert f"{place} holds no certificate" in worst["identity"][1]


async def test_rules_that_somebody_took_away_are_missed(pod: Pod) -> None:
    await pod.run(["iptables-legacy", "-t", "nat", "-F", "TPX_OUT"], user=ROOT)
    await pod.run(["nft", "flush", "table", "inet", "tpx"], user=ROOT)
    verdict, found = (await examined(pod))["capture"]
    assert verdict == "FAIL"
    assert "rules are not the plan" in found


async def test_a_capture_without_a_sidecar_is_seen(pod: Pod) -> None:
    assert pod.sidecar is not None
    with trio.fail_after(20):
        await pod.sidecar.stop()
    verdict, found = (await examined(pod))["sidecar"]
    assert (verdict, found) == ("FAIL", "not running, though the kernel captures")


async def test_a_process_that_goes_past_the_sidecar_is_seen(pod: Pod) -> None:
    await pod.start(["sleep", "30"], user=PROXY, stdio=QUIET)
    worst = await examined(pod)
    assert worst["user"][0] == "FAIL"
    assert "runs as uid 1337 and is no sidecar: sleep 30" in worst["user"][1]


async def test_a_machine_that_is_captured_as_its_unit_says_is_well(place: Path) -> None:
    options = ("--exclude-inbound-ports=22", "--exclude-uids=0")
    async with open_pod(PodSpec("patient", init_args=options), Lab(place / "lab")) as pod:
        worst = await examined(pod, f"--settings={SYSTEMD}/init.env")
        assert "complete, held by" in worst["capture"][1]


async def test_policies_that_cannot_be_used_are_seen(pod: Pod, place: Path) -> None:
    (place / "bad.yaml").write_text("kind: Nonsense\n")
    verdict, found = (await examined(pod, f"--policies={place}"))["policies"]
    assert verdict == "FAIL"
    assert "bad.yaml" in found


async def test_labels_that_cannot_be_read_are_seen(pod: Pod, place: Path) -> None:
    (place / "labels").write_text("app=web\n")
    verdict, found = (await examined(pod, f"--labels-file={place}/labels"))["policies"]
    assert verdict == "FAIL"
    assert "line 1: 'app=web'" in found


@pytest.mark.parametrize(
    ("leaf", "mode", "owner", "what", "said"),
    [
        pytest.param(Leaf(ends=-MINUTE / 2), 0o600, 1337, "identity", "expired", id="expired"),
        pytest.param(
            Leaf(begins=HOUR, ends=2 * HOUR),
            0o600,
            1337,
            "identity",
            "not valid yet",
            id="not begun",
        ),
        pytest.param(Leaf(), 0o644, 1337, "identity", "is open to its group", id="an open key"),
        pytest.param(Leaf(), 0o600, 0, "files", "user 1337 may not read", id="another's key"),
    ],
)
async def test_a_certificate_that_cannot_be_used_is_seen(
    pod: Pod, place: Path, leaf: Leaf, mode: int, owner: int, *, what: str, said: str
) -> None:
    (directory := place / "identity").mkdir(mode=0o755)
    papers = FakeCa.new().issue(leaf)
    for name, content in (
        ("tls.crt", papers.certificate),
        ("tls.key", papers.key),
        ("ca.crt", papers.bundle),
    ):
        (directory / name).write_bytes(content)
    os.chown(directory / "tls.key", owner, owner)
    (directory / "tls.key").chmod(mode)
    verdict, found = (await examined(pod, f"--certificates={directory}"))[what]
    assert verdict != "ok"
    assert said in found
