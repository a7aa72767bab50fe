"""How a kubelet learns from the sidecar whether the application is well."""

import json
import sys
import tempfile
from pathlib import Path

import pytest
import trio
import trustme

from fakes.mesh import APPS, QUIET, ROOT, Mesh
from tproxy.lab import Lab, Pod, PodSpec, User, open_pod

pytestmark = pytest.mark.netns

HEALTH = 16021
PORTS = {"outbound": 16001, "inbound": 16006, "admin": 16000, "metrics": 16020, "health": HEALTH}
PROXY = User.parse("1337")
FLAKY = """
import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
class Server(HTTPServer):
    address_family = socket.AF_INET6 if ":" in %(host)r else socket.AF_INET
class Answerer(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers
        status = {"/sick": 500, "/there": 302, "/away": 302, "/round": 302}.get(self.path, 200)
        self.send_response(status)
        place = {"/there": "/well", "/away": "http://192.0.2.99/", "/round": "/round"}.get(self.path)
        if place:
            self.send_header("Location", place)
        body = " ".join((self.client_address[0], asked["Host"], asked["User-Agent"], asked.get("X-Who", "-"))).encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
Server((%(host)r, 8080), Answerer).serve_forever()
"""


def http(path: str, **more: object) -> dict[str, object]:
    """A probe of the application on 8080."""
    return {"httpGet": {"port": 8080, "path": path, **more}, "timeoutSeconds": 1}


async def asked(mesh: Mesh, probe: dict[str, object]) -> tuple[int, str]:
    """What a kubelet hears of one probe, from a second sidecar of the pod."""
    argv = [sys.executable, "-m", "tproxy", "run"]
    argv += [f"--{name}-port={port}" for name, port in PORTS.items()]
    argv += ["--app-probes", json.dumps({"/app-health/app/readyz": probe})]
    sidecar = await mesh.server.start(argv, user=PROXY, stdio=QUIET)
    with trio.fail_after(10):
        await sidecar.listens(HEALTH)
    url = f"http://{mesh.server.addresses.v4}:{HEALTH}/app-health/app/readyz?verbose"
    done = await mesh.server.run(["curl", "-sS", "-m", "5", "-w", "\n%{http_code}", url], user=ROOT)
    content, _, status = done.stdout.rpartition("\n")
    return int(status), content


@pytest.fixture
async def served(mesh: Mesh) -> Mesh:
    """The pods, with an application that listens on the server's own address alone."""
    await mesh.serve([sys.executable, "-c", FLAKY % {"host": mesh.server.addresses.v4}], 8080)
    return mesh


@pytest.mark.parametrize(
    ("probe", "status"),
    [
        pytest.param(http("/well"), 200, id="well"),
        pytest.param(http("/sick"), 500, id="its own status"),
        pytest.param(http("/there"), 200, id="a redirect to itself is followed"),
        pytest.param(http("/away"), 200, id="a redirect elsewhere is success"),
        pytest.param(http("/round"), 503, id="redirects without an end"),
        pytest.param({"tcpSocket": {"port": 8080}}, 200, id="it listens"),
        pytest.param({"tcpSocket": {"port": 8081}}, 503, id="nobody listens"),
        pytest.param({"httpGet": {"port": 8081}}, 503, id="nobody answers"),
        pytest.param({"httpGet": {"port": 8080, "scheme": "HTTPS"}}, 503, id="no TLS there"),
        pytest.param({"grpc": {"port": 8080}}, 503, id="no gRPC there"),
    ],
)
async def test_the_sidecar_answers_for_the_application(
    served: Mesh, probe: dict[str, object], status: int
) -> None:
    assert (await asked(served, probe))[0] == status


async def test_the_application_hears_what_its_probe_says(served: Mesh) -> None:
    fields = [{"name": "X-Who", "value": "kubelet"}, {"name": "Host", "value": "probed.example"}]
    status, heard = await asked(served, http("well", httpHeaders=fields))
    assert (status, heard) == (200, "127.0.0.6 probed.example kube-probe/tproxy kubelet")


async def test_a_certificate_that_nobody_vouches_for_is_well_enough(
    mesh: Mesh, tmp_path: Path
) -> None:
    pem = tmp_path / "own.pem"
    trustme.CA().issue_cert("app.example").private_key_and_cert_chain_pem.write_to_path(pem)
    await mesh.serve([sys.executable, str(APPS / "https_server.py"), "8443", str(pem)], 8443)
    probe = {"httpGet": {"port": 8443, "scheme": "HTTPS", "path": "/safe"}, "timeoutSeconds": 2}
    assert await asked(mesh, probe) == (200, "/safe")


@pytest.mark.parametrize(
    ("service", "status"),
    [
        pytest.param(None, 200, id="the server"),
        pytest.param("", 200, id="the server, named"),
        pytest.param("nobody.knows", 503, id="a service it does not have"),
    ],
)
async def test_a_grpc_server_is_asked_by_its_health_service(
    mesh: Mesh, service: str | None, status: int
) -> None:
    await mesh.serve([sys.executable, str(APPS / "health_grpc.py"), "serve", "50051"], 50051)
    probe = {"grpc": {"port": 50051, "service": service}, "timeoutSeconds": 2}
    assert (await asked(mesh, probe))[0] == status


async def test_an_application_that_says_nothing_is_unwell_after_its_time(mesh: Mesh) -> None:
    await mesh.serve(["socat", "TCP6-LISTEN:8080,fork,reuseaddr,ipv6only=0", "EXEC:sleep 60"], 8080)
    assert await asked(mesh, http("/")) == (503, "no answer within 1 s\n")


STRICT = (
    "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
    "metadata: {name: strict, namespace: default}\nspec: {mtls: {mode: STRICT}}\n"
)
ASKED_IN_THE_POD = {
    "/app-health/app/livez": {"tcpSocket": {"port": 8080}},
    "/app-health/app/readyz": {"httpGet": {"port": 8080, "path": "/well"}},
}


@pytest.mark.parametrize("family", ["v4", "v6"])
async def test_who_is_no_member_of_a_strict_mesh_learns_how_the_application_is(family: str) -> None:
    with tempfile.TemporaryDirectory(dir="/run", prefix="tproxy-probes-") as name:
        (place := Path(name)).chmod(0o755)
        (place / "strict.yaml").write_text(STRICT)
        probes = f"--app-probes={json.dumps(ASKED_IN_THE_POD)}"
        lab = Lab(place / "lab")
        async with (
            open_pod(PodSpec("app", policies=place, run_args=(probes,)), lab) as app,
            open_pod(PodSpec("kubelet", proxy=False), lab) as kubelet,
        ):
            host = getattr(app.addresses, family)
            server = await app.start(
                [sys.executable, "-c", FLAKY % {"host": host}], user=ROOT, stdio=QUIET
            )
            await server.listens(8080)
            base = f"http://{f'[{host}]' if ':' in host else host}"
            assert await status(kubelet, f"{base}:8080/well") == "000"
            pages = [f"{base}:15021{path}" for path in (*ASKED_IN_THE_POD, "/app-health/b/livez")]
            assert [await status(kubelet, page) for page in pages] == ["200", "200", "404"]
            await server.kill()
            assert [await status(kubelet, page) for page in pages] == ["503", "503", "404"]
            assert not any(
                "kube-probe" in line for line in app.access_log_path.read_text().splitlines()
            )


async def status(pod: Pod, url: str) -> str:
    """What a pod is answered with; 000 where it is not."""
    with trio.fail_after(10):
        argv = ["curl", "-s", "-g", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", url]
        return (await pod.run(argv, user=ROOT)).stdout


async def test_probes_that_cannot_be_meant_are_refused_at_the_start(mesh: Mesh) -> None:
    argv = [sys.executable, "-m", "tproxy", "run", "--app-probes"]
    done = await mesh.server.run([*argv, '{"/app-health/a/livez": {}}'], user=PROXY)
    assert done.returncode == 2
    assert "/app-health/a/livez: write one of httpGet, tcpSocket and grpc" in done.stderr
