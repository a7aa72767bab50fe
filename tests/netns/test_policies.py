"""Policies in a captured pod: what they deny never reaches the application, and edits take effect on live traffic."""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from fakes.mesh import APPS, QUIET, ROOT
from fakes.sidecars import said
from tproxy.lab import Lab, Pod, PodSpec, Process, Stdio, open_pod
from tproxy.stores.data_link import publish

pytestmark = pytest.mark.netns


def policy(spec: str, *, name: str = "p", kind: str = "AuthorizationPolicy") -> str:
    """One policy of the pod's namespace."""
    return (
        f"apiVersion: security.istio.io/v1\nkind: {kind}\n"
        f"metadata: {{name: {name}, namespace: default}}\nspec: {spec}\n"
    )


DENY_ADMIN = policy(
    "{action: DENY, rules: [{to: [{operation: {ports: ['8080'], paths: ['/admin*']}}]}]}"
)
LABELS = {"app": "httpbin"}
ALLOW_ALL = policy("{rules: [{}]}")
ALLOW_NOTHING = policy("{}")


@dataclass(frozen=True)
class Scene:
    """A captured pod with an application, and a client's pod without a sidecar."""

    app: Pod
    client: Pod
    policies: Path

    @property
    def sidecar(self) -> Process:
        """The sidecar's process."""
        assert self.app.sidecar is not None
        return self.app.sidecar

    async def ask(self, *targets: str, port: int = 8080) -> list[str]:
        """Ask for raw targets: status and body of each."""
        words = (self.app.addresses.v4, str(port), *targets)
        with trio.fail_after(30):
            done = await self.client.run(
                [sys.executable, f"{APPS}/raw_targets.py", *words], user=ROOT
            )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    async def said(self, text: str) -> None:
        """Wait until the sidecar's own log says something."""
        await said(self.app.sidecar_log_path, text)

    async def page(self, address: str, *words: str) -> str:
        """What the sidecar answers."""
        command = ["curl", "-sS", *words, f"http://127.0.0.1:{address}"]
        return (await self.app.run(command, user=ROOT)).stdout


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the sidecar's user can enter."""
    with tempfile.TemporaryDirectory(dir="/run", prefix="tproxy-policies-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@asynccontextmanager
async def scene(place: Path, text: str, *options: str) -> AsyncIterator[Scene]:
    """The scene under the policies of one file."""
    policies = place / "policies"
    policies.mkdir()
    (policies / "authz.yaml").write_text(text)
    lab = Lab(place / "lab")
    async with (
        # First, so that the sidecar knows all pods from the start: its policies then have one generation.
        open_pod(PodSpec("client", proxy=False), lab) as client,
        open_pod(PodSpec("app", labels=LABELS, policies=policies, run_args=options), lab) as app,
    ):
        origin = [sys.executable, f"{APPS}/echo_target.py", "8080"]
        await (await app.start(origin, user=ROOT, stdio=QUIET)).listens(8080)
        echo = ["socat", "TCP6-LISTEN:7000,fork,reuseaddr,ipv6only=0", "PIPE"]
        await (await app.start(echo, user=ROOT, stdio=QUIET)).listens(7000)
        yield Scene(app, client, policies)


DENIED = (
    "/admin",
    "//admin",
    "/./admin",
    "/x/../admin",
    "/%61dmin",
    "/x/%2e%2e/admin",
    "/admin/",
    "/admin;x=y",
    "/admin%20",
    "/admin.",
    "/admin?x",
    "http://shop/admin",
    "http://shop//x/../admin",
)
REFUSED = (
    "/admin#x",
    "/x\\\\..\\\\admin",
    "/admin%00",
    "/admin\\x00",
    "/admin\\tx",
    "/\\xc0\\xafadmin",
    "\\\\admin",
)
OTHERS = ("/ADMIN", "/..%2fadmin", "/%2fadmin", "/%5cadmin", "/%252e%252e/admin", "/shop")


async def test_no_spelling_of_a_denied_path_reaches_the_application(place: Path) -> None:
    async with scene(place, DENY_ADMIN) as at:
        assert await at.ask(*DENIED) == ["403 RBAC: access denied"] * len(DENIED)
        assert {line.split(" ")[0] for line in await at.ask(*REFUSED)} == {"400"}
        assert await at.ask(*OTHERS) == [f"200 {target}" for target in OTHERS]
        assert await at.ask("/a/../shop//x?q=/../y") == ["200 /shop/x?q=/../y"]


async def test_a_label_that_the_pod_is_given_brings_a_policy_into_force(place: Path) -> None:
    publish(place / "podinfo", {"labels": b'role="open"\n'}, (1337, 1337))
    labels_file = f"--labels-file={place}/podinfo/labels"
    only_closed = policy("{selector: {matchLabels: {role: closed}}, action: DENY, rules: [{}]}")
    async with scene(place, only_closed, labels_file) as at:
        assert await at.ask("/") == ["200 /"]
        publish(place / "podinfo", {"labels": b'role="closed"\n'}, (1337, 1337))
        await at.said("policies of generation 2 are in force")
        assert await at.ask("/") == ["403 RBAC: access denied"]
        publish(place / "podinfo", {"labels": b"role=open\n"}, (1337, 1337))
        await at.said("line 1: 'role=open'")
        assert await at.ask("/") == ["403 RBAC: access denied"]


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_an_edit_takes_effect_and_a_bad_one_none(place: Path, workers: str) -> None:
    async with scene(place, ALLOW_ALL, "--workers", workers) as at:
        assert await at.ask("/admin") == ["200 /admin"]
        (at.policies / "authz.yaml").write_text(DENY_ADMIN)
        await at.said("policies of generation 2 are in force")
        await until(at, "/admin", "403 RBAC: access denied")
        (at.policies / "more.yaml").write_text(policy("{actoin: DENY}"))
        await at.said("unknown field 'actoin', did you mean 'action'?")
        assert await at.ask("/admin", "/shop") == ["403 RBAC: access denied", "200 /shop"]
        assert "tproxy_policy_last_reload_successful" in await at.page("15020/metrics")
        (at.policies / "more.yaml").unlink()
        (at.policies / "authz.yaml").write_text(ALLOW_ALL)
        await until(at, "/admin", "200 /admin")


async def until(at: Scene, target: str, answer: str) -> None:
    """Wait until a target is answered so, whichever worker answers."""
    with trio.fail_after(10):
        while await at.ask(*[target] * 6) != [answer] * 6:  # noqa: ASYNC110
            await trio.sleep(0.05)


async def test_a_config_map_is_taken_as_a_whole(place: Path) -> None:
    async with scene(place, ALLOW_ALL) as at:
        (at.policies / "authz.yaml").unlink()
        for version, text in (("..v1", ALLOW_ALL), ("..v2", DENY_ADMIN)):
            (at.policies / version).mkdir()
            (at.policies / version / "authz.yaml").write_text(text)
        (at.policies / "..data").symlink_to("..v1")
        (at.policies / "authz.yaml").symlink_to("..data/authz.yaml")
        await until(at, "/admin", "200 /admin")
        (at.policies / "..data_tmp").symlink_to("..v2")
        (at.policies / "..data_tmp").replace(at.policies / "..data")
        await until(at, "/admin", "403 RBAC: access denied")


async def test_policies_are_read_again_and_candidates_looked_at_on_a_post(place: Path) -> None:
    async with scene(place, ALLOW_ALL) as at:
        dump = json.loads(await at.page("15000/policy/reload", "-X", "POST"))
        assert (dump["generation"], dump["rules"][0]["action"]) == (1, "ALLOW")
        candidate = at.policies.parent / "candidate.yaml"
        candidate.write_text(policy("{action: CUSTOM}"))
        words = ("--data-binary", f"@{candidate}", "-w", "%{http_code}")
        answer = await at.page("15000/policy/check", *words)
        assert answer.endswith("422")
        assert "TPX01" in answer
        assert await at.ask("/admin") == ["200 /admin"]


HOLD = """
import socket, sys
stream = socket.create_connection((sys.argv[1], 7000))
stream.sendall(b"\\0one")
assert stream.recv(10) == b"\\0one"
print("open", flush=True)
try:
    end = stream.recv(10)
except ConnectionResetError:
    end = b"reset"
print(end.decode(), flush=True)
"""


async def test_a_connection_ends_when_what_allowed_it_is_taken_away(place: Path) -> None:
    async with scene(place, policy("{rules: [{to: [{operation: {ports: ['7000']}}]}]}")) as at:
        assert await at.ask("/shop") == ["403 RBAC: access denied"]
        with (place / "held").open("wb") as out:
            held = await at.client.start(
                [sys.executable, "-c", HOLD, at.app.addresses.v4],
                user=ROOT,
                stdio=Stdio(subprocess.DEVNULL, out.fileno(), subprocess.DEVNULL),
            )
        with trio.fail_after(10):
            while "open" not in (place / "held").read_text():  # noqa: ASYNC110
                await trio.sleep(0.02)
        (at.policies / "authz.yaml").write_text(
            policy("{rules: [{to: [{operation: {ports: ['8080']}}]}]}")
        )
        with trio.fail_after(10):
            await held.wait()
        assert (place / "held").read_text() == "open\nreset\n"
        assert await at.ask("/shop") == ["200 /shop"]
        with trio.fail_after(5):
            while ":7000" not in at.app.access_log_path.read_text():  # noqa: ASYNC110
                await trio.sleep(0.02)
        lines = [json.loads(line) for line in at.app.access_log_path.read_text().splitlines()]
        (line,) = [each for each in lines if each["tproxy"]["original_dst"].endswith(":7000")]
        assert line["response_code_details"] == "rbac_access_denied_matched_policy[none]"


DENY = "action: DENY"
ROWS: tuple[tuple[str, list[str], list[str], str], ...] = (
    ("no rule allows nothing", ["{}"], [], "403"),
    ("an empty rule allows all", ["{rules: [{}]}"], [], "200"),
    ("deny wins", ["{rules: [{}]}", f"{{{DENY}, rules: [{{}}]}}"], [], "403"),
    ("only a deny, of another path", [f"{{{DENY}, rules: [{{to: [{{operation: {{paths: [/y]}}}}]}}]}}"], [], "200"),
    ("a query is no part of the path", [f"{{{DENY}, rules: [{{to: [{{operation: {{paths: [/x]}}}}]}}]}}"], ["/x?q=1"], "403"),
    ("two rules are alternatives", ["{rules: [{to: [{operation: {paths: [/foo]}}]}, {from: [{source: {ipBlocks: [192.0.2.0/24]}}]}]}"], ["/any"], "200"),
    ("a prefix is not about segments", ["{rules: [{to: [{operation: {paths: ['/info*']}}]}]}"], ["/information"], "200"),
    ("a template is", ["{rules: [{to: [{operation: {paths: ['/status/{*}']}}]}]}"], ["/status/1/2"], "403"),
    ("plaintext has no principal", ["{rules: [{from: [{source: {principals: ['*']}}]}]}"], [], "403"),
    ("a header that is absent is not bar", ["{rules: [{when: [{key: 'request.headers[x-foo]', notValues: [bar]}]}]}"], [], "200"),
    ("header names without case", ["{rules: [{when: [{key: 'request.headers[X-Foo]', values: [foo]}]}]}"], ["/", "-H", "x-FOO: foo"], "200"),
    ("hosts without case and port", [f"{{{DENY}, rules: [{{to: [{{operation: {{hosts: [deny.example]}}}}]}}]}}"], ["/", "-H", "Host: DENY.Example:8080"], "403"),
    ("a method in lower case is none", ["{rules: [{}]}"], ["/", "-X", "get"], "400"),
    ("the workload's port, not a service's", ["{rules: [{to: [{operation: {ports: ['80']}}]}]}"], [], "403"),
    ("an audit decides nothing", ["{action: AUDIT, rules: [{}]}"], [], "200"),
    ("a selector that means others", [f"{{selector: {{matchLabels: {{app: other}}}}, {DENY}, rules: [{{}}]}}"], [], "200"),
    ("addresses that are not to ask", ["{rules: [{from: [{source: {notIpBlocks: [192.0.2.0/24]}}]}]}"], [], "403"),
)  # fmt: skip
TCP_ROWS = (
    ("an allowed port", "{rules: [{to: [{operation: {ports: ['7000']}}]}]}", "one"),
    ("a port that nobody allows", "{rules: [{to: [{operation: {ports: ['9000']}}]}]}", "reset"),
    ("deny of methods denies bytes", f"{{{DENY}, rules: [{{to: [{{operation: {{methods: [GET], ports: ['7000']}}}}]}}]}}", "reset"),
    ("on its port only", f"{{{DENY}, rules: [{{to: [{{operation: {{methods: [GET], ports: ['7001']}}}}]}}]}}", "one"),
    ("allow of methods allows no bytes", "{rules: [{to: [{operation: {methods: [GET], ports: ['7000']}}]}]}", "reset"),
)  # fmt: skip
ECHOED = """
import socket, sys
stream = socket.create_connection((sys.argv[1], 7000))
try:
    stream.sendall(b"\\0one")
    print(stream.recv(10)[1:].decode())
except ConnectionResetError:
    print("reset")
"""


async def test_requests_fare_as_istio_documents_it(place: Path) -> None:
    async with scene(place, ALLOW_NOTHING) as at:
        fared = {}
        for generation, (what, specs, words, _) in enumerate(ROWS, start=2):
            await decreed(at, [*specs], generation)
            target, *options = words or ["/x"]
            url = f"http://{at.app.addresses.v4}:8080{target}"
            command = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", *options, url]
            fared[what] = (await at.client.run(command, user=ROOT)).stdout
        assert fared == {what: expected for what, _, _, expected in ROWS}
        await decreed(at, ["{rules: [{to: [{operation: {methods: [GET]}}]}]}"], len(ROWS) + 2)
        grpc = ["curl", "-sS", "-i", "--http2-prior-knowledge", "-X", "POST"]
        grpc += ["-H", "content-type: application/grpc", f"http://{at.app.addresses.v4}:8080/p.S/M"]
        answer = (await at.client.run(grpc, user=ROOT)).stdout
        assert answer.startswith("HTTP/2 200")
        assert "grpc-status: 7" in answer


async def test_connections_fare_as_istio_documents_it(place: Path) -> None:
    async with scene(place, ALLOW_NOTHING) as at:
        fared = {}
        for generation, (what, spec, _) in enumerate(TCP_ROWS, start=2):
            await decreed(at, [spec], generation)
            command = [sys.executable, "-c", ECHOED, at.app.addresses.v4]
            fared[what] = (await at.client.run(command, user=ROOT)).stdout.strip()
        assert fared == {what: expected for what, _, expected in TCP_ROWS}


async def decreed(at: Scene, specs: list[str], generation: int) -> None:
    """Put policies in force."""
    documents = [policy(spec, name=f"p{number}") for number, spec in enumerate(specs)]
    marked = f"# {generation}\n" + "---\n".join(documents)
    (at.policies / "authz.yaml").write_text(marked)
    await at.said(f"policies of generation {generation} are in force")


async def test_plaintext_on_a_strict_port_is_reset_and_said(place: Path) -> None:
    strict = policy("{mtls: {mode: STRICT}}", kind="PeerAuthentication")
    async with scene(place, strict) as at:
        done = await at.client.run(
            ["curl", "-sS", f"http://{at.app.addresses.v4}:8080/shop"], user=ROOT
        )
        assert done.returncode == 56, done.stderr
        with trio.fail_after(5):
            while not at.app.access_log_path.read_text():  # noqa: ASYNC110
                await trio.sleep(0.02)
        line = json.loads(at.app.access_log_path.read_text())
        assert (line["response_flags"], line["response_code_details"]) == (
            "NR",
            "filter_chain_not_found",
        )
        assert line["connection_termination_details"] == "plaintext_on_strict_port"


@pytest.mark.slow
async def test_reloads_under_load_lose_no_request_and_mistake_none(place: Path) -> None:
    async with scene(place, ALLOW_ALL) as at:
        sink = [sys.executable, f"{APPS}/http_sink.py", "8081"]
        await (await at.app.start(sink, user=ROOT, stdio=QUIET)).listens(8081)
        account: dict[str, Any] = {}

        async def load() -> None:
            words = (at.app.addresses.v4, "8081", "8", "3000")
            done = await at.client.run([sys.executable, f"{APPS}/steady.py", *words], user=ROOT)
            account.update(json.loads(done.stdout))
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(load)
            for turn in range(1000):
                other = policy(
                    f"{{action: DENY, rules: [{{to: [{{operation: {{paths: ['/{turn}x']}}}}]}}]}}",
                    name="q",
                )
                (at.policies / "authz.yaml").write_text(ALLOW_ALL + "---\n" + other)
                at.sidecar.send_signal(signal.SIGHUP)
                await trio.sleep(0.1)
        assert (account["answered"], account["lost"], account["refused"]) == (3000, [], 0)
        assert json.loads(await at.page("15000/config_dump"))["generation"] > 5
