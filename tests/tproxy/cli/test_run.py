"""`tproxy run` refuses what it cannot mean, and says what it would take."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from tproxy.cli.run import run


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(["--inbound-port", "0"], "--inbound-port", id="port 0"),
        pytest.param(["--admin-port", "65536"], "--admin-port", id="port too high"),
        pytest.param(["--outbound-port", "http"], "--outbound-port", id="port in words"),
        pytest.param(["--user", "nobody"], "UID or UID:GID", id="user by name"),
        pytest.param(["--user", "-1"], "UID or UID:GID", id="negative user"),
        pytest.param(["--label", "app"], "KEY=VALUE", id="label without a value"),
        pytest.param(["--label", "=v"], "KEY=VALUE", id="label without a key"),
        pytest.param(["--inbound-mode", "ebpf"], "redirect", id="unknown mode"),
        pytest.param(["--max-connections", "0"], "--max-connections", id="no connections"),
        pytest.param(["--drain-seconds", "-1"], "--drain-seconds", id="negative drain"),
        pytest.param(["--log-level", "loud"], "debug", id="unknown level"),
        pytest.param(["--nonsense"], "--nonsense", id="unknown option"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(options: list[str], said: str) -> None:
    result = CliRunner().invoke(run, options)
    assert result.exit_code == 2
    assert said in result.output


def test_the_environment_is_checked_alike() -> None:
    result = CliRunner().invoke(run, [], env={"TPROXY_USER": "root"}, auto_envvar_prefix="TPROXY")
    assert result.exit_code == 2
    assert "'root' is not UID or UID:GID" in result.output


def test_policies_that_cannot_be_kept_are_all_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: Nonsense\n")
    result = CliRunner().invoke(run, ["--policies", str(tmp_path)])
    assert result.exit_code == 2
