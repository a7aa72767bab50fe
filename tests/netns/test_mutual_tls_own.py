"""TLS that is the applications' own: it stays theirs, inside mutual TLS and without it, and proves nothing to sidecars."""

from pathlib import Path

import pytest
import trustme

from fakes.mutual import Mutual, mode
from fakes.two_ways import python

pytestmark = pytest.mark.netns


@pytest.fixture
async def secret(mutual: Mutual, tmp_path: Path) -> Path:
    """An HTTPS server in the server's pod; the root that its clients trust."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "root.pem")
    issued = authority.issue_cert("own.example", "server")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    await mutual.mesh.serve(python("https_server.py", "8443", str(tmp_path / "own.pem")), 8443)
    return tmp_path / "root.pem"


@pytest.mark.parametrize("required", ["PERMISSIVE", "DISABLE"])
async def test_an_applications_own_tls_stays_its_own(
    mutual: Mutual, secret: Path, required: str
) -> None:
    await mutual.decree(mutual.server, mode(required))
    to = f"own.example:8443:{mutual.server.addresses.v4}"
    words = ["curl", "-sS", "--cacert", str(secret), "--resolve", to]
    done = await mutual.outside(*words, "https://own.example:8443/seen")
    assert (done.stdout, done.stderr) == ("/seen", "")
    (line,) = await mutual.mesh.lines(mutual.server)
    assert (line["requested_server_name"], line["tproxy"]["detection"]) == ("own.example", "tls")
    assert (line["tproxy"]["tls"], line["tproxy"]["source_principal"]) == (None, None)


@pytest.mark.parametrize("required", ["PERMISSIVE", "STRICT"])
async def test_it_goes_inside_ours_between_two_sidecars(
    mutual: Mutual, secret: Path, required: str
) -> None:
    await mutual.decree(mutual.server, mode(required))
    done = await mutual.mesh.run("curl", "-sS", "--cacert", str(secret), "https://server:8443/seen")
    assert (done.stdout, done.stderr) == ("/seen", "")
    for line in await mutual.proven():
        assert (line["requested_server_name"], line["tproxy"]["detected_protocol"]) == (
            "server",
            "tls",
        )


async def test_it_is_no_proof_where_one_is_demanded(mutual: Mutual, secret: Path) -> None:
    await mutual.decree(mutual.server, mode("STRICT"))
    done = await mutual.outside("curl", "-sSk", "--cacert", str(secret), "https://server:8443/seen")
    assert (done.stdout, done.returncode != 0) == ("", True)
    (line,) = await mutual.mesh.lines(mutual.server)
    assert line["connection_termination_details"].startswith("no_certificate")


async def test_who_claims_to_be_a_sidecar_has_to_prove_it_everywhere(
    mutual: Mutual, secret: Path
) -> None:
    await mutual.decree(mutual.server, mode("PERMISSIVE"))
    command = "openssl s_client -connect server:8443 -alpn istio -quiet"
    done = await mutual.outside("sh", "-c", f"(echo; sleep 0.3) | {command} -CAfile {secret}")
    assert "certificate required" in done.stderr, done
    (line,) = await mutual.mesh.lines(mutual.server)
    assert line["connection_termination_details"].startswith("no_certificate")
