"""The doctor in pods that are well, and in pods of which something was broken."""

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from fakes.mesh import QUIET, ROOT
from tproxy.lab import Lab, Pod, PodSpec, User, open_pod

pytestmark = pytest.mark.netns

PROXY = User.parse("1337")


@pytest.fixture
async def pod(tmp_path: Path) -> AsyncIterator[Pod]:
    """A captured pod of this test's own."""
    async with open_pod(PodSpec("patient"), Lab(tmp_path / "lab")) as pod:
        yield pod


async def examined(pod: Pod, *words: str) -> dict[str, Any]:
    """What the doctor says, by what it is about; the worst of each."""
    argv = [sys.executable, "-m", "tproxy", "doctor", "--json", *words]
    with trio.fail_after(30):
        done = await pod.run(argv, user=ROOT)
    checks = json.loads(done.stdout)
    order = ["ok", "?", "warn", "FAIL"]
    worst: dict[str, Any] = {}
    for check in sorted(checks, key=lambda each: order.index(each["verdict"])):
        worst[check["what"]] = (check["verdict"], check["found"])
    assert done.returncode == any(verdict == "FAIL" for verdict, _ in worst.values())
    return worst


async def test_a_pod_that_carries_is_well(pod: Pod) -> None:
    worst = await examined(pod)
    for what in ("kernel", "capture", "sidecar", "user"):
        assert worst[what][0] == "ok", worst[what]
    assert "complete, held by" in worst["capture"][1]


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


async def test_policies_and_certificates_that_cannot_be_used_are_seen(
    pod: Pod, tmp_path: Path
) -> None:
    (tmp_path / "bad.yaml").write_text("kind: Nonsense\n")
    worst = await examined(pod, f"--policies={tmp_path}", f"--certificates={tmp_path}")
    assert worst["policies"][0] == worst["identity"][0] == "FAIL"
    assert "bad.yaml" in worst["policies"][1]
    assert "holds no certificate" in worst["identity"][1]
