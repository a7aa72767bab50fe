"""The units and settings of deploy/systemd say what the programs understand, and agree with each other."""

import re
import shlex
from collections.abc import Mapping
from configparser import ConfigParser
from pathlib import Path

import pytest

from tproxy.cli.run import run
from tproxy.model.limits import Limits
from tproxy.model.ports import PROXY_UID
from tproxy_init.capture import OPTIONS, Option
from tproxy_init.options import CONTROLS, Verb, read

PLACE = Path(__file__).parent.parent / "deploy" / "systemd"


def unit(name: str) -> ConfigParser:
    """A unit file; keys may stand there several times, the last one is read."""
    parser = ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    parser.read_string((PLACE / name).read_text())
    return parser


def settings(name: str) -> Mapping[str, str]:
    """Every variable of an environment file, those that are commented out too."""
    lines = re.findall(r"^#?(TPROXY_\w+)=(.*)$", (PLACE / name).read_text(), re.MULTILINE)
    return dict(lines)


def of_the_init_step() -> set[str]:
    options: list[Option] = [*OPTIONS, *CONTROLS[Verb.APPLY]]
    return {option.environment for option in options}


def of_the_sidecar() -> set[str]:
    names = {f"TPROXY_{param.name}".upper() for param in run.params}
    return names | {str(param.envvar) for param in run.params if getattr(param, "envvar", None)}


def test_every_setting_is_an_option() -> None:
    assert set(settings("init.env")) <= of_the_init_step()
    assert set(settings("tproxy.env")) <= of_the_sidecar()


def test_ssh_is_never_captured_and_what_is_commented_out_can_be_meant() -> None:
    capture = read(["apply"], settings("init.env")).capture
    assert [(span.first, span.last) for span in capture.exclude_inbound_ports] == [(22, 22)]
    assert any(0 in span for span in capture.exclude_uids)


@pytest.mark.parametrize(
    "key",
    [pytest.param("ExecStart", id="capture"), pytest.param("ExecReload", id="capture anew")],
)
def test_the_init_step_understands_its_command(key: str) -> None:
    program, *argv = shlex.split(unit("tproxy-init.service")["Service"][key])
    assert program == "/opt/tproxy/bin/tproxy-init"
    assert read(argv, {}).verb is Verb.APPLY


def test_the_sidecar_is_the_user_whom_the_capture_leaves_alone() -> None:
    assert unit("tproxy.service")["Service"]["User"] == "tproxy"
    assert f"u tproxy {PROXY_UID}:{PROXY_UID} " in (PLACE / "sysusers.conf").read_text()


def test_the_sidecar_may_drain_and_hold_the_connections_that_its_limits_allow() -> None:
    service = unit("tproxy.service")["Service"]
    assert int(service["TimeoutStopSec"]) > Limits().drain_seconds
    assert int(service["LimitNOFILE"]) >= 2 * Limits().connections


def test_capture_comes_first_and_goes_only_when_nobody_wants_it() -> None:
    capture, sidecar = unit("tproxy-init.service")["Unit"], unit("tproxy.service")["Unit"]
    assert "tproxy.service" in capture["Before"].split()
    assert capture["StopWhenUnneeded"] == "yes"
    assert sidecar["Requires"] == sidecar["After"] == "tproxy-init.service"
    assert not unit("tproxy-init.service").has_section("Install"), "then it were always wanted"


def test_whatever_programs_a_firewall_has_the_capture_made_anew() -> None:
    installed = re.search(r'^firewalls="(.*)"$', (PLACE / "install").read_text(), re.MULTILINE)
    assert installed
    firewalls = {f"{each}.service" for each in installed[1].split()}
    capture = unit("tproxy-init.service")["Unit"]
    assert firewalls == set(capture["ReloadPropagatedFrom"].split())
    assert firewalls <= set(capture["After"].split())
    # By the unit's own reload, and without a word where it does not run.
    words = unit("firewall.conf")["Service"]["ExecStartPost"].removeprefix("-+").split()
    assert words == ["systemctl", "--no-block", "try-reload-or-restart", "tproxy-init.service"]


def test_a_sidecar_that_ends_as_it_starts_is_not_waited_for() -> None:
    words = shlex.split(unit("tproxy.service")["Service"]["ExecStartPost"])
    assert words[1:] == ["wait", "--timeout", "30", "--pid", "$MAINPID"]
