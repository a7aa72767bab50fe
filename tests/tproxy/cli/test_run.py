"""`tproxy run` refuses what it cannot mean, and says what it would take."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import tproxy.cli.run  # noqa: F401  (the package's attribute of that name is the command)
from tproxy.app import Sources
from tproxy.cli.run import run
from tproxy.settings import Settings

run_module = sys.modules["tproxy.cli.run"]


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
        pytest.param(["--http", "nginx"], "httptools", id="unknown parser"),
        pytest.param(["--inbound-mode", "ebpf"], "redirect", id="unknown mode"),
        pytest.param(["--max-connections", "0"], "--max-connections", id="no connections"),
        pytest.param(["--drain-seconds", "-1"], "--drain-seconds", id="negative drain"),
        pytest.param(["--log-level", "loud"], "debug", id="unknown level"),
        pytest.param(["--user", "1337:"], "UID or UID:GID", id="half a user"),
        pytest.param(["--drain-seconds", "nan"], "--drain-seconds", id="no number of seconds"),
        pytest.param(["--limit", "head-second=5"], "'head-seconds'?", id="unknown limit"),
        pytest.param(
            ["--admin-port", "15020"],
            "--admin-port and --metrics-port are both 15020",
            id="a port for two",
        ),
        pytest.param(["--nonsense"], "--nonsense", id="unknown option"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(options: list[str], said: str) -> None:
    result = CliRunner().invoke(run, options)
    assert result.exit_code == 2
    assert said in result.output


def test_a_file_of_labels_that_is_none_is_refused_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text('app="web"\nrole=front\n')
    for file, said in (("labels", "labels: line 2: 'role=front'"), ("missing", "missing: ")):
        result = CliRunner().invoke(run, ["--labels-file", str(tmp_path / file)])
        assert result.exit_code == 2
        assert said in result.output


def test_the_environment_is_checked_alike() -> None:
    result = CliRunner().invoke(run, [], env={"TPROXY_USER": "root"}, auto_envvar_prefix="TPROXY")
    assert result.exit_code == 2
    assert "'root' is not UID or UID:GID" in result.output


def test_a_parser_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tproxy.codec.h1_llhttp", raising=False)
    monkeypatch.setitem(sys.modules, "httptools", None)
    result = CliRunner().invoke(run, ["--http", "httptools"])
    assert result.exit_code == 2
    assert "pip install 'tproxy[fast]'" in result.output


@pytest.mark.parametrize(
    ("options", "env", "name"),
    [
        pytest.param([], {}, "httptools", id="default"),
        pytest.param(["--http", "h11"], {}, "h11", id="option"),
        pytest.param([], {"TPROXY_HTTP": "h11"}, "h11", id="variable"),
    ],
)
def test_the_parser_comes_by_option_and_environment(
    options: list[str], env: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Settings] = []
    monkeypatch.setattr(run_module, "launch", lambda settings, _: seen.append(settings))
    result = CliRunner().invoke(run, options, env=env)
    assert result.exit_code == 0, result.output
    assert seen[0].parser.name == name


def test_policies_that_cannot_be_kept_are_all_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: Nonsense\n")
    result = CliRunner().invoke(run, ["--policies", str(tmp_path)])
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("options", "env", "connections", "drain"),
    [
        pytest.param([], {}, 16384, 30.0, id="defaults"),
        pytest.param(["--limit", "connections=5"], {}, 5, 30.0, id="the general form"),
        pytest.param([], {"TPROXY_LIMITS": "connections=5 drain-seconds=1"}, 5, 1.0, id="variable"),
        pytest.param(
            ["--limit", "connections=5", "--max-connections", "7"],
            {},
            7,
            30.0,
            id="the option's own",
        ),
    ],
)
def test_limits_come_by_option_and_environment(
    options: list[str],
    env: dict[str, str],
    connections: int,
    drain: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Settings] = []
    monkeypatch.setattr(run_module, "launch", lambda settings, _: seen.append(settings))
    result = CliRunner().invoke(run, options, env=env)
    assert result.exit_code == 0, result.output
    assert (seen[0].limits.connections, seen[0].limits.drain_seconds) == (connections, drain)


ENTRY = (
    "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a, namespace: web}\n"
    "spec: {hosts: [a.example], addresses: [192.0.2.10]}\n"
)


@pytest.mark.parametrize("by_option", [True, False], ids=["option", "variable"])
def test_endpoints_come_by_option_and_environment(
    by_option: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.yaml").write_text(ENTRY)
    seen: list[tuple[Settings, Sources]] = []
    monkeypatch.setattr(run_module, "launch", lambda *given: seen.append(given))
    words = ["--endpoints", str(tmp_path)] if by_option else []
    env = {} if by_option else {"TPROXY_ENDPOINTS": str(tmp_path)}
    result = CliRunner().invoke(run, words, env=env, auto_envvar_prefix="TPROXY")
    assert result.exit_code == 0, result.output
    ((settings, sources),) = seen
    assert settings.endpoints == tmp_path
    assert sources.policies.store.current.destinations is not None
