"""Mutual TLS: the commands of docs/deploy.md for a cluster without native sidecars, and what a renewed Secret does."""

import re
from collections.abc import Iterator

import pytest

from fakes.cluster import Cluster, documented
from fakes.podman import until

pytestmark = [pytest.mark.netns, pytest.mark.cluster]
URL = "http://httpbin:8000"
ACCOUNTS = "cluster.local/ns/default/sa/"


@pytest.fixture(scope="module")
def pair(node: Cluster) -> Iterator[Cluster]:
    """The example pair in mutual TLS, and one who has no sidecar."""
    identities, _, ordinary = documented("Mutual TLS")
    with node.emptied("default"):
        node.shell(identities + ordinary)
        stranger = ("run", "stranger", "--image=tproxy:0.1.0", "--labels=app=stranger")
        node.kubectl(*stranger, "--command", "--", "sleep", "infinity")
        node.available("httpbin", "sleep")
        node.kubectl("wait", "--for=condition=Ready", "pod/stranger", "--timeout=60s")
        yield node


def shown(pair: Cluster) -> str:
    """The hash of the certificate that sleep is known by."""
    known = pair.ask(URL).told["headers"]["x-forwarded-client-cert"]
    assert f"URI=spiffe://{ACCOUNTS}sleep" in known
    (found,) = re.findall(r"Hash=(\w+)", known)
    return str(found)


def test_both_sides_log_whom_they_have_proven(pair: Cluster) -> None:
    assert pair.ask(f"{URL}/proven").status == 200
    for app, direction, other in [
        ("sleep", "outbound", "httpbin"),
        ("httpbin", "inbound", "sleep"),
    ]:
        (logged,) = [each for each in pair.access_log(app) if each["path"] == "/proven"]
        assert logged["tproxy"]["direction"] == direction
        assert logged["tproxy"]["tls"] == "mutual"
        named = {logged["tproxy"][f"{end}_principal"] for end in ("source", "destination")}
        assert ACCOUNTS + other in named


def test_who_has_no_identity_is_not_heard(pair: Cluster) -> None:
    assert "ConnectionResetError" in pair.ask(URL, "stranger/stranger").failed


def test_the_kubelet_which_has_none_finds_the_application_ready(pair: Cluster) -> None:
    pod = pair.pod("httpbin")
    (app,) = [each for each in pod["spec"]["containers"] if each["name"] == "httpbin"]
    assert app["readinessProbe"]["httpGet"]["port"] == 15021
    assert {each["status"] for each in pod["status"]["conditions"]} == {"True"}


def test_a_renewed_secret_is_taken_without_a_restart(pair: Cluster) -> None:
    before = shown(pair)
    identities, *_ = documented("Mutual TLS")
    pair.shell(identities[identities.index("for account") :])
    until(lambda: shown(pair) != before, expected=True, seconds=90)
    restarts = [each["restartCount"] for each in pair.pod("sleep")["status"]["containerStatuses"]]
    assert restarts == [0, 0]
