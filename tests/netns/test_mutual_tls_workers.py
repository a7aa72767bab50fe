"""Several workers have one identity, and take another one together, whatever is on its way."""

import json
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from fakes.footprint import answer
from fakes.mesh import APPS, QUIET, ROOT
from fakes.mutual import SLEEP, WEB, mode
from fakes.sidecars import ADMIN
from tproxy.lab import Lab, Pod, PodSpec, open_pod
from tproxy.lab.identity import issue_identity, utc_now

pytestmark = [pytest.mark.netns, pytest.mark.timed]

WORKERS = ("--workers=2",)
TURNS = 3


@asynccontextmanager
async def pair(policies: Path) -> AsyncIterator[tuple[Lab, dict[str, Pod], list[PodSpec]]]:
    """A STRICT server's pod and a client's, each with two workers, and what they were asked for as."""
    (policies / "strict.yaml").write_text(mode("STRICT"))
    specs = [
        PodSpec("server", service_account="web", run_args=WORKERS, policies=policies),
        PodSpec("client", service_account="sleep", run_args=WORKERS),
    ]
    lab = Lab(policies / "lab")
    async with open_pod(specs[0], lab) as server, open_pod(specs[1], lab) as client:
        nghttpd = ["nghttpd", "--no-tls", "-d", str(APPS), "8081"]
        await (await server.start(nghttpd, user=ROOT, stdio=QUIET)).listens(8081)
        yield lab, {"server": server, "client": client}, specs


async def chains(pod: Pod) -> list[dict[str, Any]]:
    """Return what each worker shows of its own certificate, and of it alone."""
    page = await answer(pod, ADMIN, b"GET /certs HTTP/1.0\r\n\r\n")
    found = []
    for worker in json.loads(page.partition(b"\r\n\r\n")[2])["workers"].values():
        (shown,) = worker["certificates"]
        assert len(shown["ca_cert"]) == 1
        found += shown["cert_chain"]
    assert len(found) == 2
    return found


async def test_workers_take_new_identities_together_under_load() -> None:
    with tempfile.TemporaryDirectory(dir="/run", prefix="tproxy-workers-") as name:
        Path(name).chmod(0o755)
        async with pair(Path(name)) as (lab, pods, specs):
            before = [await chains(pod) for pod in pods.values()]
            for (one, other), principal in zip(before, (WEB, SLEEP), strict=True):
                assert one == other
                assert one["subject_alt_names"] == [{"uri": f"spiffe://{principal}"}]
            printed = await under_load(lab, pods, specs)
            assert "1500 succeeded, 0 failed, 0 errored" in printed, printed
            for pod in pods.values():
                await logged(pod)


async def under_load(lab: Lab, pods: dict[str, Pod], specs: list[PodSpec]) -> str:
    """Ask 1500 times while both sides get new identities, and SIGHUP; return what the client says of it."""
    printed: list[str] = []

    async def load() -> None:
        command = ["h2load", "-n1500", "-c6", "-m4", "http://server:8081/grpc_echo.py"]
        with trio.fail_after(30):
            printed.append((await pods["client"].run(command, user=ROOT)).stdout)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(load)
        for _ in range(TURNS):
            for spec in specs:
                issue_identity(lab, spec, utc_now())
                sidecar = pods[spec.name].sidecar
                assert sidecar is not None
                sidecar.send_signal(signal.SIGHUP)
                await renewed(pods[spec.name])
    return printed[0]


async def renewed(pod: Pod) -> None:
    """Wait until a sidecar shows the certificate that was issued last."""
    command = "openssl x509 -noout -serial -in /run/tproxy/identity/tls.crt"
    issued = (await pod.run(command.split(), user=ROOT)).stdout.strip().partition("=")[2]
    with trio.fail_after(10):
        while {int(each["serial_number"], 16) for each in await chains(pod)} != {int(issued, 16)}:  # noqa: ASYNC110
            await trio.sleep(0.02)


async def logged(pod: Pod) -> None:
    """All of it was mutual TLS, and of the right ones."""
    with trio.fail_after(10):
        while len(lines := pod.access_log_path.read_text().splitlines()) < 1500:  # noqa: ASYNC110
            await trio.sleep(0.05)
    told = [json.loads(line)["tproxy"] for line in lines]
    who = {(each["source_principal"], each["destination_principal"]) for each in told}
    assert who == ({(None, WEB)} if pod.name == "client" else {(SLEEP, None)})
