"""How pods begin and end: in order, only when captured, and without losing what is under way."""

import os
import signal

import pytest

from fakes.manifests import application, config_map, meshed, programs, started_by
from fakes.podman import Outcome, Podman, until
from pods.conftest import SERVICES, SERVING, URL, Authority

pytestmark = [pytest.mark.netns, pytest.mark.pods]


def exit_code(mesh: Podman, container: str) -> int:
    """How a container has ended."""
    return int(mesh.inspect(container)["State"]["ExitCode"])


def test_without_capture_the_application_never_starts(mesh: Podman, authority: Authority) -> None:
    alone = started_by(
        meshed(
            application("alone", SERVING, restart="Never"), certificates=authority.issue("alone")
        ),
        ["apply", "--inbound-port=0"],
        "NET_ADMIN",
    )
    refused = mesh.play(programs(), config_map("alone-policies", {}), alone, check=False)
    assert refused.returncode
    assert exit_code(mesh, "alone-tproxy-init") == 2
    assert "--inbound-port" in mesh.run("logs", "alone-tproxy-init").stderr
    for container in ("alone-tproxy", "alone-app"):
        assert mesh.inspect(container)["State"]["Status"] == "created"


def test_a_pod_without_its_policies_does_not_start(mesh: Podman, authority: Authority) -> None:
    lost = meshed(application("lost", SERVING), certificates=authority.issue("lost"))
    refused = mesh.play(programs(), lost, check=False)
    assert refused.returncode
    assert "lost-policies" in refused.stderr


def test_a_job_ends_with_its_sidecar(mesh: Podman, authority: Authority) -> None:
    job = meshed(
        application("job", f"tproxy wait && exec python3 /app/job.py {URL}/job", restart="Never"),
        certificates=authority.issue("job"),
    )
    mesh.play(programs(), config_map("job-policies", {"services.yaml": SERVICES}), job)
    assert mesh.run("wait", "job-app", "job-tproxy").stdout.split() == ["0", "0"]
    assert mesh.run("logs", "job-app").stdout == "403\n"
    assert mesh.access_log("job")[-1]["tproxy"]["tls"] == "mutual"


def test_containers_that_are_stopped_answer_what_they_have_begun(mesh: Podman) -> None:
    origin = mesh.inspect("httpbin-app")["State"]["Pid"]
    asking = ("exec", "sleep-app", "python3", "/app/ask.py", f"{URL}/held")
    # Not the pod: podman would take its network away before its containers have ended.
    stopping = ("stop", "--time=30", "httpbin-app", "httpbin-tproxy")
    with mesh.begun(*asking) as asked:
        assert asked.stdout
        assert asked.stdout.readline() == "begun\n"
        with mesh.begun(*stopping) as stopped:
            until(lambda: "draining" in mesh.run("logs", "httpbin-tproxy").stderr, expected=True)
            assert asked.poll() is None
            os.kill(origin, signal.SIGUSR1)
            outcome = Outcome.read(asked.communicate(timeout=30)[0].splitlines()[-1])
            assert stopped.wait(30) == 0
    assert outcome.status == 200
    assert outcome.told["uid"] == 1000
    assert exit_code(mesh, "httpbin-tproxy") == exit_code(mesh, "httpbin-app") == 0
