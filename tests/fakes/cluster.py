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

import yaml

from fakes.kubernetes import Tools
from fakes.manifests import PROGRAMS, VERSION, config_map
from fakes.podman import CannotRunContainersError, Outcome, Podman, images
from fakes.podman import machine as machine_of_podman
from tproxy.inject.findings import Manifest

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "build" / "kubernetes"
BINARIES = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "pause",
)
PYTHON = "/opt/tproxy/bin/python"
"""In our own image, which the applications have too."""
ASK = (ROOT / "tests" / "pods" / "programs" / "ask.py").read_text()
REGISTRIES = ("docker.io/library", "registry.example", "localhost")
"""As whose the images are known to the node: the examples name none, the documented commands and the tests name the others."""
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
        """Run commands, of which each has to succeed, where this repository seems to be."""
        ended = subprocess.run(
            self._within("bash", "-euo", "pipefail", "-c", script),
            cwd=self.place / "desk",
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
        """Nothing stays in a namespace after the block, however it ends; pods may end a moment later."""
        try:
            yield
        finally:
            made = "deployments,statefulsets,daemonsets,jobs,services,configmaps,serviceaccounts"
            for words in (
                (made, "--all"),
                ("secrets", "--field-selector=type=Opaque"),
                ("pods", "--all", "--grace-period=1"),
            ):
                self.kubectl("delete", *words, "--wait=false", f"--namespace={namespace}")

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

    def within(self, target: str, container: str, *command: str) -> str:
        """What a command says in a container."""
        return self.kubectl("exec", target, f"--container={container}", "--", *command).stdout

    def ask(self, url: str, where: str = "sleep/sleep") -> Outcome:
        """Make one request from a container, `app/container`."""
        app, container = where.split("/")
        said = self.within(self.pod(app)["metadata"]["name"], container, PYTHON, "-c", ASK, url)
        return Outcome.read(said.splitlines()[-1])

    def apply(self, *documents: Manifest) -> None:
        """`kubectl apply`."""
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))

    def injected(self, manifest: Manifest, *words: str) -> str:
        """What `tproxy inject --classic` writes."""
        command = [sys.executable, "-m", "tproxy", "inject", "--classic", *words]
        text = yaml.safe_dump(manifest)
        return subprocess.run(
            command, input=text, capture_output=True, text=True, check=True
        ).stdout

    def inject(self, manifest: Manifest, *words: str) -> None:
        """Have it run with a sidecar."""
        self.kubectl("apply", "-f", "-", stdin=self.injected(manifest, *words))

    def programs(self) -> Manifest:
        """The applications, as pods mount them."""
        files = [*PROGRAMS.glob("*.py"), *(ROOT / "tests" / "cluster" / "programs").glob("*.py")]
        return config_map("programs", {path.name: path.read_text() for path in files})

    def available(self, *deployments: str) -> None:
        """Wait for deployments: all of their pods are new, and ready."""
        for each in deployments:
            self.kubectl("rollout", "status", f"deployment/{each}", "--timeout=200s")

    def access_log(self, app: str) -> list[dict[str, Any]]:
        """The exchanges that an application's sidecar has logged."""
        pod = self.pod(app)["metadata"]["name"]
        lines = self.kubectl("logs", pod, "--container=tproxy").stdout.splitlines()
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


def containers(pod: Any) -> dict[str, Any]:  # noqa: ANN401 - a pod
    """How each of a pod's containers is."""
    status = pod["status"]
    found = (*status.get("initContainerStatuses", ()), *status["containerStatuses"])
    return {each["name"]: each for each in found}


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
    return re.sub(r"tproxy inject (?!--classic)", "tproxy inject --classic ", commands).replace(
        "overlays/native", "overlays/classic"
    )


@contextmanager
def cluster(place: Path) -> Iterator[Cluster]:
    """A cluster whose node has both images, for as long as the block lasts."""
    _built()
    _images(place / "images.tar")
    tools = _tools(place)
    _desk(place / "desk")
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
        [ROOT / ".ci" / "kubernetes", *BINARIES], stdout=subprocess.PIPE, check=False
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
                engine.run("tag", f"localhost/{image}:{VERSION}", *known[:-1])
                names += known
            with into.open("wb") as file:
                save = engine.within("podman", "save", "--quiet", "--multi-image-archive", *names)
                subprocess.run(save, stdout=file, check=True)
    except CannotRunContainersError as error:
        raise CannotRunClusterError(str(error)) from error


def _desk(desk: Path) -> None:
    """What the commands read of this repository, where what they write is in nobody's way."""
    desk.mkdir()
    for each in ("deploy", "policies"):
        (desk / each).symlink_to(ROOT / each)


def _tools(place: Path) -> Path:
    """A directory with kubectl and helm."""
    found = Tools(place / "unpacked")
    tools = place / "tools"
    tools.mkdir()
    for program in (found.kubectl, found.helm):
        (tools / program.name).symlink_to(program)
    return tools
