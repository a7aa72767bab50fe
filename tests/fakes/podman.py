"""podman on a machine of its own: what tests start there changes nothing of this one's network, containers and rules."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import yaml

from fakes.manifests import PROXY_IMAGE

ROOT = Path(__file__).parents[2]
NETWORK = "mesh"
PLENTY = 120
"""Seconds that no command here takes, on a slow machine neither."""
SUBNETS = ("--subnet", "198.51.100.0/24", "--ipv6", "--subnet", "2001:db8:77::/64")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a client in a pod printed of its request."""

    status: int | None
    body: str
    failed: str

    @property
    def told(self) -> dict[str, Any]:
        """The body, which is JSON."""
        told: dict[str, Any] = json.loads(self.body)
        return told

    @classmethod
    def read(cls, line: str) -> "Outcome":
        """Understand a line of programs/ask.py."""
        said = json.loads(line)
        return cls(said.get("status"), said.get("body", ""), said.get("failed", ""))


@dataclass(frozen=True, slots=True)
class Podman:
    """The commands of podman, and of this machine's network."""

    machine: int
    """A process that lives in it."""

    def within(self, *argv: str) -> list[str]:
        """The same command on the machine of containers."""
        return ["nsenter", f"--target={self.machine}", "--net", "--mount", "--", *argv]

    def run(
        self, *argv: str, check: bool = True, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a podman command to its end."""
        command = self.within("podman", *argv)
        ended = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=PLENTY, check=False
        )
        assert not check or ended.returncode == 0, (argv, ended.stdout, ended.stderr)
        return ended

    @contextmanager
    def begun(self, *argv: str) -> Iterator[subprocess.Popen[str]]:
        """A podman command under way, for as long as the block lasts."""
        command = self.within("podman", *argv)
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def play(
        self, *documents: Mapping[str, Any], check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """`podman kube play`, from standard input."""
        text = yaml.safe_dump_all(documents)
        return self.run("kube", "play", "--network", NETWORK, "-", stdin=text, check=check)

    def ask(self, pod: str, url: str) -> Outcome:
        """Make one request from a pod's application, when its sidecar is ready."""
        said = self.run("exec", f"{pod}-app", "python3", "/app/ask.py", url).stdout
        return Outcome.read(said.splitlines()[-1])

    def ready(self, *pods: str) -> None:
        """Wait for sidecars."""
        for pod in pods:
            self.run("exec", f"{pod}-tproxy", "tproxy", "wait", "--timeout", "20")

    def inspect(self, container: str) -> dict[str, Any]:
        """All that podman knows of a container."""
        known: list[dict[str, Any]] = json.loads(self.run("inspect", container).stdout)
        return known[0]

    def address(self, pod: str) -> str:
        """A pod's IPv4 address."""
        infra = json.loads(self.run("pod", "inspect", pod).stdout)["InfraContainerID"]
        return str(self.inspect(infra)["NetworkSettings"]["Networks"][NETWORK]["IPAddress"])

    def volume(self, name: str) -> Path:
        """Where the files of a ConfigMap are, as this machine sees them."""
        seen = json.loads(self.run("volume", "inspect", name).stdout)[0]["Mountpoint"]
        return Path(f"/proc/{self.machine}/root{seen}")

    def access_log(self, pod: str) -> list[dict[str, Any]]:
        """The exchanges that a pod's sidecar has logged."""
        lines = self.run("logs", f"{pod}-tproxy").stdout.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    @contextmanager
    def cleaned(self) -> Iterator[None]:
        """No pods and no volumes are left after the block, however it ends."""
        try:
            yield
        finally:
            self.clean()

    def clean(self) -> None:
        """Remove all pods and volumes, also those of a run that was cut off."""
        for pod in self.run("pod", "ps", "--format={{.Name}}").stdout.split():
            self.run("pod", "rm", "--force", "--time=0", pod, check=False)
        self.run("volume", "prune", "--force", check=False)


def until(asked: Callable[[], object], expected: object, seconds: float = 20) -> None:
    """Ask until that is the answer; each time takes a process, so this is no busy loop."""
    deadline = monotonic() + seconds
    while (answer := asked()) != expected:
        assert monotonic() < deadline, f"{answer}, and not {expected} within {seconds} s"


class CannotRunContainersError(Exception):
    """This machine lacks something that containers need; the text says what was tried."""


BUILD_SECONDS = 1800
"""Two minutes, where no processor is emulated."""


def images(machine: int) -> None:
    """Build both images on that machine, but with this one's network, whence the wheels come."""
    build = [
        "nsenter",
        f"--target={machine}",
        "--mount",
        f"--wd={ROOT}",
        "--",
        str(ROOT / "deploy/images/build"),
        "--offline",
    ]
    environment = os.environ | {"ENGINE": "podman"}
    built = subprocess.run(
        build, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    if built.returncode:
        raise CannotRunContainersError(f"the images could not be built: {built.stderr}")


@contextmanager
def machine() -> Iterator[int]:
    """A process in namespaces of its own for podman, for as long as the block lasts."""
    storage = ROOT / "build" / "pods"
    storage.mkdir(parents=True, exist_ok=True)
    begin = [ROOT / "tests" / "pods" / "machine", storage]
    with subprocess.Popen(
        begin, stdin=-1, stdout=-1, stderr=-1, text=True, start_new_session=True
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        if process.stdout.readline() != "ready\n":
            raise CannotRunContainersError(f"no namespaces of its own: {process.stderr.read()}")
        try:
            yield process.pid
        finally:
            process.stdin.close()


@contextmanager
def podman() -> Iterator[Podman]:
    """Podman with both images and a network, and seen to run containers."""
    with machine() as process:
        images(process)
        engine = Podman(process)
        engine.clean()
        engine.run("network", "create", *SUBNETS, NETWORK)
        tried = engine.run("run", "--rm", "--network=none", PROXY_IMAGE, "--version", check=False)
        if tried.returncode:
            raise CannotRunContainersError(f"podman run: {tried.stderr}")
        yield engine
