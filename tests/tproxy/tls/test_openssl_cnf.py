"""OpenSSL reads settings once, as it is loaded: so each of these has a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tproxy.tls

OURS = Path(tproxy.tls.__file__).with_name("openssl.cnf")
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
    [pytest.param(OURS, False, id="ours"), pytest.param("/dev/null", True, id="none")],
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
