"""The demonstration: real applications in captured pods, and what the sidecars themselves say of them.

Nothing here is told beforehand but what each step does and what it must lead to; everything else is
read from the sidecars' access logs and metrics.
"""

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio

from tproxy.lab.identity import issue_identity, utc_now
from tproxy.lab.lifecycle import open_pod
from tproxy.lab.namespaces import Stdio
from tproxy.lab.pod import Pod
from tproxy.lab.process import Process
from tproxy.lab.records import Lab
from tproxy.lab.spec import LabError, PodSpec

QUIET = Stdio(subprocess.DEVNULL, subprocess.DEVNULL, subprocess.DEVNULL)
START_TIMEOUT = 10.0
LOG_TIMEOUT = 3.0
LOG_INTERVAL = 0.02
STEP_TIMEOUT = 20.0
IN_FORCE = "are in force"
IDENTITY_TAKEN = "the identity spiffe:"
ROTATION_INTERVAL = 0.3
METRICS_URL = "http://127.0.0.1:15020/metrics"
LABELS = ("reporter", "request_protocol", "response_code", "response_flags", "direction", "result")
METRICS = ("istio_requests", "istio_tcp_connections_opened", "tproxy_detect")
PACKAGES = {
    "curl": "curl",
    "nghttpd": "nghttp2-server",
    "h2load": "nghttp2-client",
    "redis-server": "redis-server",
    "redis-cli": "redis-tools",
}

Line = Mapping[str, Any]
"""One line of an access log."""


@dataclass(frozen=True, slots=True)
class Server:
    """An application and the pod that it runs in."""

    pod: str
    argv: Sequence[str]
    port: int


@dataclass(frozen=True, slots=True)
class Step:
    """Something the client pod does, and what must come of it."""

    title: str
    argv: Sequence[str]
    server: str
    port: int
    answer: str
    """What the client's output must contain."""
    protocol: str
    """What both sidecars must detect."""
    count: int = 1
    """How many exchanges, or connections of plain TCP, both sidecars must log."""
    flag: str = "-"
    """Why the server's sidecar answered itself, if it must."""
    policy: str = ""
    """What is written into the servers' policy directory before it."""
    actor: str = "client"
    """Who does it."""
    rotations: int = 0
    """How often both sides get a new identity meanwhile."""


SITE = Path("/usr/share/common-licenses")
HTTP_SERVER = (
    *("python3", "-m", "http.server", "80", "--bind", "::", "--protocol", "HTTP/1.1"),
    *("-d", str(SITE)),
)
SERVERS = (
    Server("web", HTTP_SERVER, 80),
    Server("next", HTTP_SERVER, 80),
    Server("api", ["nghttpd", "--no-tls", "-d", str(SITE), "8080"], 8080),
    Server(
        "cache",
        [
            "redis-server",
            "--port",
            "6379",
            "--bind",
            "*",
            "-::*",
            "--protected-mode",
            "no",
            "--save",
            "",
        ],
        6379,
    ),
)
FETCH = (
    "curl",
    "-sS",
    "-o",
    "/dev/null",
    "-w",
    "%{http_code} by HTTP/%{http_version} from %{remote_ip}\\n",
)
DENY = """apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: no-gpl-2
  namespace: default
spec:
  action: DENY
  rules:
  - to:
    - operation:
        ports: ["80"]
        paths: [/GPL-2]
"""
CLIENT, OUTSIDER = "client", "outsider"
STRICT = """apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: all
  namespace: default
spec:
  mtls:
    mode: STRICT
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: the-client-alone
  namespace: default
spec:
  rules:
  - from:
    - source:
        principals: [cluster.local/ns/default/sa/client]
"""
STEPS = (
    Step("HTTP/1.1 over IPv4", [*FETCH, "-4", "http://web/MPL-2.0"], "web", 80, "200 by HTTP/1.1 from 192.0.2.", "http1"),
    Step("HTTP/1.1 over IPv6", [*FETCH, "-6", "http://web/MPL-2.0"], "web", 80, "200 by HTTP/1.1 from 2001:db8:", "http1"),
    Step("HTTP/2 with prior knowledge", [*FETCH, "--http2-prior-knowledge", "http://api:8080/MPL-2.0"], "api", 8080, "200 by HTTP/2", "http2"),
    Step("200 HTTP/2 requests, ten at once on each of two connections", ["h2load", "-n200", "-c2", "-m10", "http://api:8080/MPL-2.0"], "api", 8080, "200 succeeded, 0 failed", "http2", count=200),
    Step("a Redis write, carried as plain TCP", ["redis-cli", "-h", "cache", "SET", "greeting", "hello"], "cache", 6379, "OK", "opaque"),
    Step("a Redis read, carried as plain TCP", ["redis-cli", "-h", "cache", "GET", "greeting"], "cache", 6379, "hello", "opaque"),
    Step("a path that a policy denies, from the moment that its file is written", [*FETCH, "--path-as-is", "http://web//./GPL-2"], "web", 80, "403 by HTTP/1.1", "http1", policy=DENY),
    Step("and another, which it does not", [*FETCH, "http://web/MPL-2.0"], "web", 80, "200 by HTTP/1.1", "http1"),
    Step("a port that nothing listens on", [*FETCH, "http://web:81/"], "web", 81, "503", "http1", flag="UF"),
    Step("a client without a sidecar, in plaintext, while policies let it", [*FETCH, "http://web/MPL-2.0"], "web", 80, "200 by HTTP/1.1", "http1", actor=OUTSIDER),
    Step("mutual TLS is demanded, and of whoever proves who he is, one allowed", [*FETCH, "http://web/MPL-2.0"], "web", 80, "200 by HTTP/1.1", "http1", policy=STRICT),
    Step("the client without a sidecar again, which can prove nothing", [*FETCH, "http://web/MPL-2.0"], "web", 80, "reset by peer", "http1", flag="NR", actor=OUTSIDER),
    Step("2,000 requests while both sides get new identities ten times", ["h2load", "-n2000", "-c4", "http://api:8080/MPL-2.0"], "api", 8080, "2000 succeeded, 0 failed", "http2", count=2000, rotations=10),
)  # fmt: skip


@dataclass(slots=True)
class Log:
    """A pod's access log, read as it grows. What changes: how far it was read, and all its lines."""

    path: Path
    lines: list[Line] = field(default_factory=list)
    _read: int = 0

    def more(self) -> list[Line]:
        """The whole lines that have come since the last call."""
        with self.path.open("rb") as log:
            log.seek(self._read)
            whole = log.read().rpartition(b"\n")[0]
        if not whole:
            return []
        self._read += len(whole) + 1
        fresh: list[Line] = [json.loads(line) for line in whole.splitlines()]
        self.lines += fresh
        return fresh


@dataclass(frozen=True, slots=True)
class Stage:
    """All pods of the demonstration, up, with their applications serving."""

    pods: Mapping[str, Pod]
    """The captured ones: the servers, then the client."""
    outsider: Pod
    """One that has neither capture nor sidecar."""
    logs: Mapping[str, Log]
    policies: Path
    """What steers the servers' sidecars."""
    steering: Path
    """What steers the client's."""
    applications: Mapping[str, Process]
    """What serves in each server's pod."""
    lab: Lab

    def actor(self, step: Step) -> Pod:
        """Who does a step."""
        return self.outsider if step.actor == OUTSIDER else self.pods[step.actor]


@dataclass(frozen=True, slots=True)
class Performance:
    """What came of a step."""

    step: Step
    output: str
    outbound: Sequence[Line]
    """What the client's sidecar logged."""
    inbound: Sequence[Line]
    """What the server's sidecar logged."""
    problems: Sequence[str]
    identities: Sequence[int] = ()
    """How many the sidecars of both sides took meanwhile."""


def check_tools() -> None:
    """Refuse to begin without the real programs that the demonstration runs."""
    missing = sorted(PACKAGES[tool] for tool in PACKAGES if shutil.which(tool) is None)
    if missing:
        raise LabError(f"the demo runs real programs: apt-get install {' '.join(missing)}")


@asynccontextmanager
async def set_up(lab: Lab, given: Path | None, tell: Callable[[Pod], None]) -> AsyncIterator[Stage]:
    """The stage while the scope is open; `tell` hears of each pod as it comes up.

    The sidecars begin with the policies in the directory `given`, or with none.
    """
    async with AsyncExitStack() as scopes:
        policies = _policies(scopes.enter_context(TemporaryDirectory(prefix="tproxy-demo-")), given)
        pods, applications = {}, {}
        for server in SERVERS:
            pod = await scopes.enter_async_context(open_pod(_spec(server.pod, policies), lab))
            applications[server.pod] = await _serve(pod, server)
            pods[server.pod] = pod
            tell(pod)
        steering = _policies(scopes.enter_context(TemporaryDirectory(prefix="tproxy-demo-")), None)
        for spec in (_spec(CLIENT, steering), PodSpec(OUTSIDER, proxy=False)):
            pods[spec.name] = await scopes.enter_async_context(open_pod(spec, lab))
            tell(pods[spec.name])
        outsider = pods.pop(OUTSIDER)
        logs = {pod.name: Log(pod.access_log_path) for pod in pods.values()}
        yield Stage(pods, outsider, logs, policies, steering, applications, lab)


def _spec(name: str, policies: Path | None = None) -> PodSpec:
    return PodSpec(name, service_account=name, policies=policies)


def _policies(place: str, given: Path | None) -> Path:
    """Make a directory that the sidecar's user can read, with what the given one holds."""
    directory = Path(place)
    directory.chmod(0o755)
    for file in sorted(given.glob("*.yaml")) if given else ():
        shutil.copyfile(file, directory / file.name)
    return directory


async def decree(stage: Stage, pod: str, text: str) -> None:
    """Write policies for the servers or for the client, and wait until they are in force there."""
    log = stage.pods[pod].sidecar_log_path
    said = log.read_text().count(IN_FORCE)
    directory = stage.steering if pod == CLIENT else stage.policies
    (directory / "demo.yaml").write_text(text)
    with trio.move_on_after(START_TIMEOUT):
        while log.read_text().count(IN_FORCE) == said:  # noqa: ASYNC110 - another process's doing has no event
            await trio.sleep(LOG_INTERVAL)


async def _serve(pod: Pod, server: Server) -> Process:
    process = await pod.start(server.argv, stdio=QUIET)
    with trio.move_on_after(START_TIMEOUT):
        await process.listens(server.port)
        return process
    raise LabError(f"{server.argv[0]} does not serve port {server.port} of pod {pod.name}")


async def perform(stage: Stage, step: Step) -> Performance:
    """Do one step, and hold what the sidecars logged against what it must lead to."""
    if step.policy:
        await decree(stage, step.server, step.policy)
    sides = (step.server, *([step.actor] if step.actor in stage.pods else ()))
    before = [_identities(stage.pods[side]) for side in sides]
    with trio.move_on_after(STEP_TIMEOUT) as patience:
        done = await _done(stage, step)
    if patience.cancelled_caught:
        return Performance(step, "", (), (), [f"not done after {STEP_TIMEOUT:.0f} s"])
    lines = {side: await logged(stage.logs[side], step.count) for side in sides}
    output = (done.stdout + done.stderr).strip()
    taken = [_identities(stage.pods[side]) - had for side, had in zip(sides, before, strict=True)]
    return Performance(
        step,
        output,
        lines.get(step.actor, ()),
        lines[step.server],
        [*_problems(step, output, lines), *_unrotated(step, taken)],
        taken if step.rotations else (),
    )


async def _done(stage: Stage, step: Step) -> subprocess.CompletedProcess[str]:
    """Do what a step says, and meanwhile what is to happen meanwhile."""
    async with trio.open_nursery() as nursery:
        if step.rotations:
            nursery.start_soon(_rotate, stage, step)
        done = await stage.actor(step).run(step.argv)
        nursery.cancel_scope.cancel()
    return done


async def _rotate(stage: Stage, step: Step) -> None:
    """Give both sides new identities, one after the other."""
    for _ in range(step.rotations):
        for name in (step.actor, step.server):
            await trio.to_thread.run_sync(issue_identity, stage.lab, _spec(name), utc_now())
        await trio.sleep(ROTATION_INTERVAL)


def _identities(pod: Pod) -> int:
    """How many identities a sidecar has taken."""
    return pod.sidecar_log_path.read_text().count(IDENTITY_TAKEN)


def _problems(step: Step, output: str, lines: Mapping[str, Sequence[Line]]) -> Iterator[str]:
    if step.answer not in output:
        yield f"the client did not see {step.answer!r}"
    if step.actor in lines:
        yield from _faults(step.actor, "outbound", step, lines[step.actor])
    yield from _faults(step.server, "inbound", step, lines[step.server])
    if step.flag not in {line["response_flags"] for line in lines[step.server]}:
        yield f"no response flag {step.flag} from the sidecar of {step.server}"
    if step.actor in lines and not all(map(_proven, lines[step.server])):
        yield f"the sidecar of {step.server} does not know who asked"


def _proven(line: Line) -> bool:
    own = line["tproxy"]
    return own["tls"] == "mutual" and bool(own["source_principal"])


def _unrotated(step: Step, taken: Sequence[int]) -> Iterator[str]:
    if step.rotations and not all(taken):
        yield "no new identity was taken meanwhile"


async def logged(log: Log, count: int) -> list[Line]:
    """Wait for so many lines that were not read before, for a while."""
    lines = log.more()
    with trio.move_on_after(LOG_TIMEOUT):
        while len(lines) < count:
            await trio.sleep(LOG_INTERVAL)
            lines += log.more()
    return lines


def _faults(pod: str, direction: str, step: Step, lines: Sequence[Line]) -> list[str]:
    """What is wrong with what one sidecar logged of a step."""
    wanted = (direction, step.protocol, str(step.port))
    right = sum(wanted == facts(line) for line in lines)
    if right == len(lines) == step.count:
        return []
    return [
        f"not all was captured: the sidecar of {pod} logged {right} of {step.count} "
        f"as {direction} {step.protocol} to port {step.port}, and {len(lines) - right} others"
    ]


def facts(line: Line) -> tuple[str, str, str]:
    """A line's direction, detected protocol, and the port that the connection was going to."""
    own = line["tproxy"]
    port = str(own["original_dst"]).rpartition(":")[2]
    return own["direction"], own["detected_protocol"], port


@dataclass(frozen=True, slots=True)
class Passage:
    """One way that traffic took through one sidecar."""

    pod: str
    direction: str
    protocol: str
    original_dst: str
    upstream: str
    outcome: str


@dataclass(slots=True)
class Sum:
    """How much took one way. What changes: everything, line by line."""

    count: int = 0
    received: int = 0
    sent: int = 0


def account(logs: Mapping[str, Log]) -> dict[Passage, Sum]:
    """Everything that the sidecars logged, summed by the way it took."""
    sums: dict[Passage, Sum] = {}
    for pod, log in logs.items():
        for line in log.lines:
            total = sums.setdefault(_passage(pod, line), Sum())
            total.count += 1
            total.received += line["bytes_received"]
            total.sent += line["bytes_sent"]
    return sums


def _passage(pod: str, line: Line) -> Passage:
    own, flag = line["tproxy"], line["response_flags"]
    code = str(line["response_code"] or "closed")
    return Passage(
        pod=pod,
        direction=own["direction"],
        protocol=own["detected_protocol"],
        original_dst=own["original_dst"],
        upstream=line["upstream_host"] or "-",
        outcome=code if flag == "-" else f"{code} {flag}",
    )


async def metrics(pod: Pod) -> list[str]:
    """Some of what the pod's sidecar counts, as `name{label} value`, most telling labels only."""
    scraped = await pod.run(["curl", "-sS", "--fail", METRICS_URL])
    if scraped.returncode != 0:
        raise LabError(f"pod {pod.name}: no metrics at {METRICS_URL}: {scraped.stderr.strip()}")
    return [f"{name} {value}" for name, value in _telling(scraped.stdout).items()]


_COUNTED = re.compile(r"^(\w+)_total\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def _telling(text: str) -> Counter[str]:
    sums: Counter[str] = Counter()
    for name, labels, value in _COUNTED.findall(text):
        if name in METRICS and float(value):
            said = dict(_LABEL.findall(labels))
            telling = [f"{key}={said[key]}" for key in LABELS if key in said]
            sums[f"{name}_total{{{', '.join(telling)}}}"] += int(float(value))
    return sums
