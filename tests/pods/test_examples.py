"""The example pair as `tproxy inject` makes it: played as it is, without policies and identities."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.manifests import PROGRAMS
from fakes.podman import NETWORK, Outcome, Podman, until

pytestmark = [pytest.mark.netns, pytest.mark.pods]
EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
ASK = (PROGRAMS / "ask.py").read_text()
INJECT = (sys.executable, "-m", "tproxy", "inject", "--for=podman", "--classic")


def ask(pair: Podman) -> Outcome:
    """What sleep is answered by IPv4, which is all that the example's server listens to."""
    url = f"http://{pair.address('httpbin')}:8000/example"
    said = pair.run("exec", "sleep-app", "python3", "-c", ASK, url).stdout
    return Outcome.read(said.splitlines()[-1])


@pytest.fixture(scope="module")
def pair(engine: Podman) -> Iterator[Podman]:
    """Both pods of the example."""
    manifest = EXAMPLES / "podman.yaml"
    made = subprocess.run([*INJECT, manifest], capture_output=True, text=True, check=True)
    assert made.stderr == ""
    with engine.cleaned():
        engine.run("kube", "play", "--network", NETWORK, "-", stdin=made.stdout)
        engine.ready("httpbin", "sleep")
        until(lambda: ask(engine).status, 200)
        yield engine


def test_the_examples_speak_through_both_sidecars(pair: Podman) -> None:
    assert "x-request-id" in ask(pair).told["headers"]
    for pod in ("sleep", "httpbin"):
        assert pair.access_log(pod)[-1]["path"] == "/example"
