"""The example pair as `tproxy inject` makes it: played as it is, without policies and identities."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fakes.manifests import PROGRAMS, pod_of
from fakes.podman import Podman, until

pytestmark = [pytest.mark.netns, pytest.mark.pods]
EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
ASK = (PROGRAMS / "ask.py").read_text()


def injected(text: str) -> list[dict[str, Any]]:
    """What `tproxy inject` makes of manifests."""
    command = [sys.executable, "-m", "tproxy", "inject", "--for=podman"]
    made = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    assert made.stderr == ""
    return list(yaml.safe_load_all(made.stdout))


@pytest.fixture(scope="module")
def pair(engine: Podman) -> Iterator[Podman]:
    """Both examples' pods."""
    documents: list[dict[str, Any]] = []
    for name in ("httpbin", "sleep"):
        documents += yaml.safe_load_all((EXAMPLES / f"{name}.yaml").read_text())
    played = [
        pod_of(each) if each["kind"] == "Deployment" else each
        for each in documents
        if each["kind"] in ("ConfigMap", "Deployment")
    ]
    engine.play(*injected(yaml.safe_dump_all(played)))
    engine.ready("httpbin", "sleep")
    yield engine
    engine.clean()


def ask(pair: Podman, url: str) -> str:
    """What sleep is answered."""
    return pair.run("exec", "sleep-sleep", "python3", "-c", ASK, url).stdout


def test_the_examples_speak_through_both_sidecars(pair: Podman) -> None:
    until(lambda: '"status": 200' in ask(pair, "http://httpbin:8000/headers"), expected=True)
    assert "x-envoy-attempt-count" in ask(pair, "http://httpbin:8000/headers")
    for pod in ("sleep", "httpbin"):
        assert pair.access_log(pod)[-1]["path"] == "/headers"


def test_the_sidecar_answers_probes_for_the_application(pair: Podman) -> None:
    until(lambda: '"status": 200' in ask(pair, "http://httpbin:8000/headers"), expected=True)
    health = "http://httpbin:15021/app-health/httpbin"
    assert '"status": 200' in ask(pair, f"{health}/readyz")
    assert '"status": 404' in ask(pair, f"{health}/livez")
