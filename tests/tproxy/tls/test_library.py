"""OpenSSL reads settings once, as it is loaded: so each of these has a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tproxy.tls.library import SETTINGS

TESTS = Path(__file__).parents[2]

READ_BEHIND_A_HANDSHAKE = """
from contextlib import suppress
from fakes.handshakes import connected
from fakes.secure import MUTUAL, OPAQUE_OFFER, Mesh
mesh = Mesh.new()
with connected() as (near, far):
    client, server = mesh.client.connect(near, MUTUAL, OPAQUE_OFFER), mesh.server.accept(far)
    while [client.handshake(), server.handshake()] != [None, None]:
        pass
    with suppress(BlockingIOError):
        print(len(near.recv(65536)))
"""


@pytest.mark.parametrize(
    ("settings", "sent"),
    [pytest.param(SETTINGS, False, id="ours"), pytest.param("/dev/null", True, id="none")],
)
def test_nobody_is_sent_tickets(settings: Path | str, sent: bool) -> None:
    environment = {**os.environ, "OPENSSL_CONF": str(settings), "PYTHONPATH": str(TESTS)}
    done = subprocess.run(
        [sys.executable, "-c", READ_BEHIND_A_HANDSHAKE],
        env=environment,
        check=True,
        capture_output=True,
    )
    assert bool(done.stdout) is sent


@pytest.mark.parametrize(
    ("tag", "before", "settled"),
    [
        pytest.param("cp311-abi3-manylinux_2_34_x86_64", "", str(SETTINGS), id="a wheel for glibc"),
        pytest.param("cp311-abi3-musllinux_1_2_aarch64", "", str(SETTINGS), id="one for musl"),
        pytest.param("cp311-cp311-linux_x86_64", "", "", id="the system's"),
        pytest.param("", "", "", id="who knows"),
        pytest.param(
            "cp311-abi3-manylinux_2_34_x86_64", "/own.cnf", "/own.cnf", id="an operator's"
        ),
    ],
)
def test_only_an_openssl_that_came_in_a_wheel_reads_our_settings(
    tag: str, before: str, settled: str, tmp_path: Path
) -> None:
    package = tmp_path / "cryptography"
    package.mkdir()
    (package / "__init__.py").touch()
    if tag:
        described = tmp_path / "cryptography-50.0.2.dist-info"
        described.mkdir()
        (described / "WHEEL").write_text(f"Wheel-Version: 1.0\nTag: {tag}\n")
    script = (
        "import os; from tproxy.tls.library import settle_openssl;"
        " settle_openssl(); print(os.environ.get('OPENSSL_CONF', ''))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    environment.pop("OPENSSL_CONF", None)
    if before:
        environment["OPENSSL_CONF"] = before
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == settled
