"""The two programs that make a pod captured, as the lab starts them: the init step and the sidecar."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import trio

from tproxy.lab.namespaces import permitted, socket_in
from tproxy.lab.process import Process
from tproxy.lab.records import ENDPOINTS, IDENTITY
from tproxy.lab.spec import PROXY, LabError, PodSpec

READY_PORT = 15021
READY_PATH = "/healthz/ready"
READY_INTERVAL = 0.05
PROBE_TIMEOUT = 1.0
TAIL_LINES = 15


def init_command(spec: PodSpec) -> list[str]:
    """The init step's command line."""
    return [sys.executable, "-m", "tproxy_init", "apply", *spec.init_args]


def sidecar_command(spec: PodSpec) -> list[str]:
    """The sidecar's command line; it starts as root, reads its code, then gives root up."""
    labels = [word for key, value in spec.labels.items() for word in ("--label", f"{key}={value}")]
    policies = [] if spec.policies is None else ["--policies", str(spec.policies.absolute())]
    return [
        *(sys.executable, "-m", "tproxy", "run"),
        *("--user", f"{PROXY.uid}:{PROXY.gid}"),
        *("--workload", spec.name, "--namespace", spec.namespace),
        *("--service-account", spec.service_account),
        *("--certificates", str(IDENTITY)),
        *("--endpoints", str(ENDPOINTS)),
        *labels,
        *policies,
        *spec.run_args,
    ]


async def wait_ready(netns: Path, sidecar: Process) -> None:
    """Wait until the sidecar says it is ready; LabError if it ends instead."""
    while not await _ready(netns):
        if sidecar.returncode is not None:
            raise LabError(f"the sidecar ended before it was ready ({describe_end(sidecar)})")
        await trio.sleep(READY_INTERVAL)


async def _ready(netns: Path) -> bool:
    request = f"GET {READY_PATH} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode()
    inside = trio.socket.from_stdlib_socket(socket_in(netns, socket.AF_INET))
    answer = b""
    with inside, trio.move_on_after(PROBE_TIMEOUT):
        try:
            await inside.connect(("127.0.0.1", READY_PORT))
            await inside.send(request)
            while b"\r\n" not in answer and (part := await inside.recv(256)):
                answer += part
        except OSError:
            return False
    return answer.split(b" ")[1:2] == [b"200"]


def describe_end(process: Process) -> str:
    """An ended process's end, in words."""
    code = process.returncode
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def tail(log: Path) -> str:
    """The last lines of a log, indented, to stand below an error."""
    lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
    return "".join(f"\n  {line}" for line in lines) or f"\n  ({log.name} is empty)"


def check_readable(policies: Path) -> None:
    """Refuse a policy directory that the sidecar's user cannot read; says what stands in the way."""
    for flag, path in _needs(policies.absolute()):
        if not permitted(PROXY, flag, path):
            verb = "enter" if flag == "-x" else "read"
            raise LabError(
                f"--policies {policies}: the sidecar (uid {PROXY.uid}) cannot {verb} {path}; "
                "open it with chmod, or copy the policies to where all may read them"
            )


def _needs(policies: Path) -> Iterator[tuple[str, Path]]:
    """What must be permitted, outermost first."""
    for ancestor in reversed(policies.parents):
        yield "-x", ancestor
    yield "-x", policies
    yield "-r", policies
    for file in sorted(policies.glob("*.yaml")):
        yield "-r", file
