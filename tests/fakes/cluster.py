"""A real Kubernetes of one node, in namespaces of its own, and what a reader of docs/deploy.md does there."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fakes.kubernetes import Tools
from fakes.manifests import VERSION
from fakes.podman import CannotRunContainersError, Podman, images
from fakes.podman import machine as machine_of_podman

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "build" / "kubernetes"
PROGRAMS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "pause",
)
REGISTRIES = ("docker.io/library", "registry.example")
"""As whose the images are known to the node: the examples name none, the documented commands name the other."""
PLENTY = 240
"""Seconds that no command here takes, on a slow machine neither."""


class CannotRunClusterError(Exception):
    """This machine lacks something that a cluster needs; the text says what."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Commands, as whoever has this cluster's kubeconfig types them in this repository."""

    node: int
    """A process on it."""
    place: Path
    """Its kubeconfig, and its logs."""
    tools: Path
    """Where kubectl and helm are."""

    def shell(self, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run commands of which each has to succeed."""
        ended = subprocess.run(
            self._within("bash", "-euo", "pipefail", "-c", script),
            cwd=ROOT,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=PLENTY,
            check=False,
        )
        assert not check or ended.returncode == 0, (script, ended.stdout, ended.stderr)
        return ended

    def kubectl(
        self, *words: str, stdin: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """One command of kubectl's."""
        ended = subprocess.run(
            self._within("kubectl", *words),
            env=self._environment(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PLENTY,
            check=False,
        )
        assert not check or ended.returncode == 0, (words, ended.stdout, ended.stderr)
        return ended

    @contextmanager
    def begun(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A command of kubectl's under way, for as long as the block lasts."""
        with subprocess.Popen(
            self._within("kubectl", *words),
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def emptied(self, namespace: str) -> Iterator[None]:
        """Nothing is left in a namespace after the block, however it ends."""
        try:
            yield
        finally:
            made = (
                "deployments,statefulsets,daemonsets,jobs,pods,services,configmaps,serviceaccounts"
            )
            for words in ((made, "--all"), ("secrets", "--field-selector=type=Opaque")):
                self.kubectl("delete", *words, f"--namespace={namespace}")

    def get(self, *words: str) -> Any:  # noqa: ANN401 - an object of Kubernetes'
        """What `kubectl get` finds."""
        return json.loads(self.kubectl("get", *words, "--output=json").stdout)

    def pod(self, app: str, *words: str) -> Any:  # noqa: ANN401 - a pod
        """The one pod with this label that is not about to end."""
        (pod,) = [
            each
            for each in self.get("pods", f"--selector=app={app}", *words)["items"]
            if "deletionTimestamp" not in each["metadata"]
        ]
        return pod

    def python(self, place: str, script: str, *argv: str) -> str:
        """What a script says that runs in a container, `pod/container`."""
        where, container = place.rsplit("/", 1)
        python = "/opt/tproxy/bin/python"
        return self.kubectl(
            "exec", where, f"--container={container}", "--", python, "-c", script, *argv
        ).stdout

    def access_log(self, target: str) -> list[dict[str, Any]]:
        """The exchanges that a sidecar has logged."""
        lines = self.kubectl("logs", target, "--container=tproxy").stdout.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def kill(self, container: str) -> None:
        """End a container's first process as the kernel does where memory is short."""
        bare = container.removeprefix("containerd://")
        command = ["ctr", "--namespace=k8s.io", "tasks", "kill", "--signal=SIGKILL", bare]
        enter = ["nsenter", f"--target={self.node}", "--net", "--mount", "--"]
        subprocess.run([*enter, *command], check=True, capture_output=True)

    def _within(self, *command: str) -> list[str]:
        return ["nsenter", f"--target={self.node}", "--net", "--", *command]

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "PATH": _path(self.tools),
            "KUBECONFIG": str(self.place / "kubeconfig"),
            # Where kubectl and helm keep what they remember.
            "HOME": str(self.place),
        }


def documented(heading: str) -> list[str]:
    """The commands under a heading of docs/deploy.md, block by block."""
    text = (ROOT / "docs" / "deploy.md").read_text()
    (section,) = re.findall(
        rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL
    )
    blocks: list[str] = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return blocks


def classic(commands: str) -> str:
    """The same commands, as they are for a cluster that knows no native sidecars."""
    return commands.replace("tproxy inject ", "tproxy inject --classic ")


@contextmanager
def cluster(place: Path) -> Iterator[Cluster]:
    """A cluster whose node has both images, for as long as the block lasts."""
    _built()
    _images(place / "images.tar")
    tools = _tools(place)
    command = [ROOT / "tests" / "cluster" / "machine", place]
    with subprocess.Popen(
        command,
        env=os.environ | {"PATH": _path(tools)},
        stdin=-1,
        stdout=-1,
        stderr=-1,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        said = process.stdout.readline().split()
        if said[:1] != ["ready"]:
            raise CannotRunClusterError(process.stderr.read())
        try:
            yield Cluster(int(said[1]), place, tools)
        finally:
            process.stdin.close()


def _path(tools: Path) -> str:
    ours = Path(sys.executable).parent
    return ":".join([str(tools), str(BUILT), str(ours), os.environ["PATH"]])


def _built() -> None:
    building = subprocess.run(
        [ROOT / ".ci" / "kubernetes", *PROGRAMS], stdout=subprocess.PIPE, check=False
    )
    if building.returncode:
        raise CannotRunClusterError("its programs could not be built")


def _images(into: Path) -> None:
    """Both images of this tree, in a file for containerd."""
    try:
        with machine_of_podman() as machine:
            images(machine)
            engine = Podman(machine)
            names = []
            for image in ("tproxy", "tproxy-init"):
                known = [f"{registry}/{image}:{VERSION}" for registry in REGISTRIES]
                engine.run("tag", f"localhost/{image}:{VERSION}", *known)
                names += known
            with into.open("wb") as file:
                save = engine.within("podman", "save", "--quiet", "--multi-image-archive", *names)
                subprocess.run(save, stdout=file, check=True)
    except CannotRunContainersError as error:
        raise CannotRunClusterError(str(error)) from error


def _tools(place: Path) -> Path:
    """A directory with kubectl and helm."""
    found = Tools(place / "unpacked")
    tools = place / "tools"
    tools.mkdir()
    for program in (found.kubectl, found.helm):
        (tools / program.name).symlink_to(program)
    return tools
