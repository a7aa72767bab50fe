"""Kustomize: the overlay of ordinary sidecars, applied as docs/deploy.md says it."""

import re
from collections.abc import Iterator

import pytest

from fakes.cluster import PYTHON, Cluster, classic, documented

pytestmark = [pytest.mark.netns, pytest.mark.cluster]
URL = "http://httpbin:8000"
POST = f"""
import urllib.request, urllib.error
try:
    urllib.request.urlopen("{URL}", data=b"x")
except urllib.error.HTTPError as refused:
    print(refused.code, refused.read().decode())
"""


@pytest.fixture(scope="module")
def pair(node: Cluster) -> Iterator[Cluster]:
    """The example pair, patched."""
    (command,) = documented("Kustomize")
    with node.emptied("default"):
        node.shell(classic(command))
        node.available("httpbin", "sleep")
        yield node


def test_who_reads_is_served_through_both_sidecars(pair: Cluster) -> None:
    assert pair.ask(f"{URL}/read").status == 200
    for app in ("httpbin", "sleep"):
        assert "/read" in {each["path"] for each in pair.access_log(app)}


def test_who_writes_is_denied_by_the_overlays_policy(pair: Cluster) -> None:
    pod = pair.pod("sleep")["metadata"]["name"]
    assert pair.within(pod, "sleep", PYTHON, "-c", POST) == "403 RBAC: access denied\n"


def test_the_documented_questions_are_answered_in_the_pod(pair: Cluster) -> None:
    *_, asked = documented("Troubleshooting")
    assert pair.ask(f"{URL}/why").status == 200
    (logged,) = [each for each in pair.access_log("httpbin") if each["path"] == "/why"]
    pod = pair.pod("httpbin")["metadata"]["name"]
    answered = pair.shell(
        asked.replace("POD", pod).replace("REQUEST-ID", logged["request_id"])
    ).stdout
    assert "ok: IPv4 inbound reaches the proxy" in answered
    assert f"request {logged['request_id']}: ALLOW" in answered
    looked = pair.kubectl("exec", pod, "--container=tproxy", "--", "tproxy", "doctor").stdout
    assert re.search(r"^ok +sidecar +ready$", looked, re.MULTILINE)
    assert "FAIL" not in looked
