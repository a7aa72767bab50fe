"""The demonstration's second half: a service of two versions, and what traffic policies make of requests to it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import trio

from tproxy.lab.demo import CLIENT, FETCH, STEP_TIMEOUT, Line, Stage, decree, logged

OLD, NEW = "web", "next"
"""The pods of the versions v1 and v2."""
VIP = "198.51.100.10"
"""The service's own address: no machine has it."""
URL = f"http://{VIP}/MPL-2.0"


@dataclass(frozen=True, slots=True)
class Scene:
    """Something the client does under policies of its sidecar's, and what must come of it."""

    title: str
    routes: str
    """What is written into the client's policy directory before it, beside the service."""
    argv: Sequence[str]
    answer: str
    """What the client's output must contain."""
    count: int
    """How many requests that is."""
    shares: Mapping[str, range]
    """How many of them each pod must answer."""
    ends: str = ""
    """The pod whose application is ended before."""


SERVICE = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: shop
spec:
  hosts: [shop.example]
  addresses: [198.51.100.10]
  ports:
  - {number: 80, name: http}
  location: MESH_INTERNAL
  resolution: STATIC
  endpoints:
  - {address: OLD, serviceAccount: web, labels: {version: v1, security.istio.io/tlsMode: istio}}
  - {address: NEW, serviceAccount: next, labels: {version: v2, security.istio.io/tlsMode: istio}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: shop
spec:
  host: shop.example
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 3, maxEjectionPercent: 50}
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
"""
CANARY = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: shop
spec:
  hosts: [shop.example]
  http:
  - match:
    - headers: {x-canary: {exact: "1"}}
    route:
    - destination: {host: shop.example, subset: v2}
  - route:
    - {destination: {host: shop.example, subset: v1}, weight: 90}
    - {destination: {host: shop.example, subset: v2}, weight: 10}
"""
AVAILABLE = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: shop
spec:
  hosts: [shop.example]
  http:
  - route:
    - destination: {host: shop.example}
    retries: {attempts: 2, retryOn: "connect-failure,503"}
"""
MANY = 500
LOAD = ("h2load", "--h1", f"-n{MANY}", "-c4", URL)
SCENES = (
    Scene("a canary: a tenth of 500 requests goes to the new version", CANARY, LOAD, "500 succeeded, 0 failed", MANY, {OLD: range(416, 484), NEW: range(17, 84)}),
    Scene("and whoever asks for it", "", [*FETCH, "-H", "x-canary: 1", URL], "200 by HTTP/1.1", 1, {OLD: range(1), NEW: range(1, 2)}),
    Scene("the new version's application has died, and no client notices", AVAILABLE, LOAD, "500 succeeded, 0 failed", MANY, {OLD: range(MANY, MANY + 1)}, ends=NEW),
)  # fmt: skip
"""Shares are within five standard deviations of what the weights say."""


@dataclass(frozen=True, slots=True)
class Play:
    """What came of a scene."""

    scene: Scene
    output: str
    lines: Sequence[Line]
    """What the client's sidecar logged."""
    shares: Mapping[str, int]
    """How many requests each pod answered well, as the client's sidecar tells it."""
    problems: Sequence[str]

    @property
    def repeated(self) -> int:
        """How many requests were sent more than once."""
        return sum(line["tproxy"]["attempts"] > 1 for line in self.lines)


async def play(stage: Stage, scene: Scene) -> Play:
    """Do one scene, and hold what the client's sidecar logged against what it must lead to."""
    if scene.routes:
        await decree(stage, CLIENT, f"{_service(stage)}---\n{scene.routes}")
    if scene.ends:
        await stage.applications[scene.ends].kill()
    client = stage.pods[CLIENT]
    with trio.move_on_after(STEP_TIMEOUT) as patience:
        done = await client.run(scene.argv)
    if patience.cancelled_caught:
        return Play(scene, "", (), {}, [f"not done after {STEP_TIMEOUT:.0f} s"])
    lines = await logged(stage.logs[CLIENT], scene.count)
    output = (done.stdout + done.stderr).strip()
    shares = _shares(stage, lines)
    return Play(scene, output, lines, shares, list(_problems(scene, output, shares)))


def _service(stage: Stage) -> str:
    text = SERVICE
    for word, pod in (("OLD", OLD), ("NEW", NEW)):
        text = text.replace(word, stage.pods[pod].addresses.v4)
    return text


def _shares(stage: Stage, lines: Sequence[Line]) -> Counter[str]:
    pods = {f"{stage.pods[pod].addresses.v4}:80": pod for pod in (OLD, NEW)}
    return Counter(pods[line["upstream_host"]] for line in lines if line["response_code"] == 200)


def _problems(scene: Scene, output: str, shares: Mapping[str, int]) -> Iterator[str]:
    if scene.answer not in output:
        yield f"the client did not see {scene.answer!r}"
    for pod, wanted in scene.shares.items():
        if shares.get(pod, 0) not in wanted:
            yield f"{pod} answered {shares.get(pod, 0)} requests, not {wanted.start} to {wanted.stop - 1}"
