"""`tproxy ca` founds, issues and rotates, and says in one line what it does not do."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fakes.ca import WEB, FakeCa
from tproxy.cli.ca import ca
from tproxy.stores.identity_files import IdentityFiles
from tproxy.tls.identity import Identity


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(ca, [str(each) for each in arguments])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "ca"
    assert invoke("init", directory, "--trust-domain", "cluster.local").exit_code == 0
    return directory


def read(place: Path) -> Identity:
    return IdentityFiles(place).load(datetime.now(UTC))


def test_an_identity_is_issued_by_its_id(directory: Path, tmp_path: Path) -> None:
    out = tmp_path / "identity"
    result = invoke("issue", directory, "spiffe://cluster.local/vm/db", "--out", out)
    assert result.exit_code == 0, result.output
    identity = read(out)
    assert identity.own.spiffe_id == "spiffe://cluster.local/vm/db"
    assert f"serial {identity.certificates[0].serial_number:x} until " in result.output


def test_an_identity_is_issued_for_a_service_account_and_renewed(
    directory: Path, tmp_path: Path
) -> None:
    out = tmp_path / "identity"
    who = ("--namespace", "shop", "--service-account", "till", "--ttl", "30m")
    serials = set()
    for _ in range(2):
        assert invoke("issue", directory, *who, "--out", out).exit_code == 0
        identity = read(out)
        serials.add(identity.certificates[0].serial_number)
    assert identity.own.principal == "cluster.local/ns/shop/sa/till"
    assert (identity.not_after - identity.not_before).total_seconds() == 31 * 60
    assert len(serials) == 2


def test_a_root_is_replaced_step_by_step(directory: Path) -> None:
    assert invoke("bundle", directory).output.count("BEGIN CERTIFICATE") == 1
    first = invoke("rotate", directory)
    assert "Step 1 of 3" in first.output
    assert invoke("bundle", directory).output.count("BEGIN CERTIFICATE") == 2
    assert "Step 1 of 3" in invoke("status", directory).output
    # Nothing was issued, so nobody has to be waited for.
    assert "Step 2 of 3" in invoke("rotate", directory).output
    assert "Step 3 of 3" in invoke("rotate", directory).output
    assert invoke("bundle", directory).output.count("BEGIN CERTIFICATE") == 1
    assert "Step" not in invoke("status", directory).output


def test_a_step_that_has_to_wait_says_until_when(directory: Path, tmp_path: Path) -> None:
    invoke("issue", directory, "spiffe://cluster.local/x", "--out", tmp_path / "identity")
    assert invoke("rotate", directory).exit_code == 0
    refused = invoke("rotate", directory)
    assert refused.exit_code == 1
    assert "this step has to wait until" in refused.output
    assert invoke("rotate", directory, "--early").exit_code == 0


def test_what_is_printed_holds_no_key(directory: Path, tmp_path: Path) -> None:
    out = tmp_path / "identity"
    printed = [
        invoke("issue", directory, "spiffe://cluster.local/x", "--out", out),
        *(invoke(verb, directory) for verb in ("bundle", "status", "rotate")),
    ]
    assert not any("PRIVATE" in result.output for result in printed)


def test_an_identity_from_anywhere_is_checked(tmp_path: Path) -> None:
    papers = FakeCa.new().below().issue()
    contents = {"tls.crt": papers.certificate, "tls.key": papers.key, "ca.crt": papers.bundle}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    told = invoke("check", tmp_path)
    assert (told.exit_code, told.output.split()[0]) == (0, WEB)
    assert "signed by CN=intermediate 1" in told.output
    assert "trusts for cluster.local: CN=root" in told.output
    (tmp_path / "tls.key").write_bytes(b"")
    told = invoke("check", tmp_path)
    assert told.exit_code == 1
    assert f"Error: {tmp_path}/tls.key: the key is no private key in PEM" in told.output


ISSUE = ("issue", "{ca}", "spiffe://cluster.local/x", "--out", "{out}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("init", "{ca}", "--trust-domain", "a"), "is not empty", id="twice"),
        pytest.param(("init", "{out}", "--trust-domain", "A"), "is no trust domain", id="a name"),
        pytest.param(("bundle", "{out}"), "tproxy ca init", id="no authority"),
        pytest.param(("issue", "{ca}", "--out", "{out}"), "say who it is for", id="nobody"),
        pytest.param((*ISSUE, "--namespace", "a"), "say who it is for", id="said twice"),
        pytest.param(
            ("issue", "{ca}", "--namespace", "a", "--out", "{out}"), "say who it is for", id="half"
        ),
        pytest.param(
            ("issue", "{ca}", "https://x/y", "--out", "{out}"), "is no SPIFFE id", id="no id"
        ),
        pytest.param(
            ("issue", "{ca}", "spiffe://b/y", "--out", "{out}"), "another trust domain", id="others"
        ),
        pytest.param((*ISSUE, "--ttl", "1w"), "'1w' is no duration", id="a duration"),
        pytest.param((*ISSUE, "--ttl", "91d"), "a minute to 90 days", id="too long"),
        pytest.param((*ISSUE, "--owner", "web"), "is not UID or UID:GID", id="an owner"),
        pytest.param(
            ("issue", "{ca}", "spiffe://cluster.local/x", "--out", "{taken}"),
            "is there already and not from here",
            id="somebody else's files",
        ),
        pytest.param(
            ("issue", "{ca}", "spiffe://cluster.local/x", "--out", "/proc/none"),
            "/proc/none: No such file or directory",
            id="a place that cannot be",
        ),
    ],
)
def test_what_cannot_be_done_is_said(
    directory: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "tls.key").write_text("mine")
    places = {"ca": directory, "out": tmp_path / "out", "taken": taken}
    result = invoke(*(each.format(**places) for each in arguments))
    assert result.exit_code in (1, 2)
    assert message in result.output
    assert (taken / "tls.key").read_text() == "mine"


def test_files_are_given_to_their_owner(directory: Path, tmp_path: Path) -> None:
    out = tmp_path / "identity"
    mine = f"{directory.stat().st_uid}:{directory.stat().st_gid}"
    issue = ("issue", directory, "spiffe://cluster.local/x", "--out", out)
    assert invoke(*issue, "--owner", mine).exit_code == 0
    assert (out / "tls.key").stat().st_mode & 0o777 == 0o600
