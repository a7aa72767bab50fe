"""How the lab calls the init step and the sidecar, and what it says when they fail."""

import sys
from pathlib import Path

from tproxy.lab.sidecar import init_command, sidecar_command, tail
from tproxy.lab.spec import PodSpec


def test_the_init_step_gets_its_arguments_as_they_are() -> None:
    spec = PodSpec("web", init_args=("--exclude-outbound-ports", "22"))
    expected = ["-m", "tproxy_init", "apply", "--exclude-outbound-ports", "22"]
    assert init_command(spec) == [sys.executable, *expected]


def test_the_sidecar_is_told_who_it_stands_beside() -> None:
    spec = PodSpec("web", namespace="shop", service_account="till", labels={"app": "web", "v": "2"})
    words = " ".join(sidecar_command(spec)[1:])
    assert words == (
        "-m tproxy run --user 1337:1337 --workload web --namespace shop --service-account till "
        "--certificates /run/tproxy/identity --endpoints /run/tproxy/endpoints "
        "--label app=web --label v=2"
    )


def test_the_sidecar_gets_policies_by_absolute_path() -> None:
    command = sidecar_command(PodSpec("web", policies=Path("policies")))
    assert command[-2:] == ["--policies", str(Path.cwd() / "policies")]


def test_the_sidecar_gets_further_options_as_they_are() -> None:
    command = sidecar_command(PodSpec("web", run_args=("--limit", "head-seconds=5")))
    assert command[-2:] == ["--limit", "head-seconds=5"]


def test_an_error_carries_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "sidecar.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    assert tail(log).startswith("\n  line 85\n")
    assert tail(log).endswith("\n  line 99")


def test_an_error_says_when_its_log_is_empty(tmp_path: Path) -> None:
    log = tmp_path / "sidecar.log"
    log.touch()
    assert tail(log) == "\n  (sidecar.log is empty)"
