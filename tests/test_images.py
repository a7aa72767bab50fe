"""The images' files agree with the project's: every library is pinned, and the init step's alone are in its image."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = ROOT / "deploy" / "images"
PIN = re.compile(r"^([\w.-]+)==([^\s;\\]+)", re.MULTILINE)


def project(path: str) -> dict[str, Any]:
    """What a pyproject.toml says of its project."""
    said: dict[str, Any] = tomllib.loads((ROOT / path).read_text())["project"]
    return said


def pins(lock: str) -> dict[str, str]:
    """The versions in a lock file."""
    text = (LOCKS / f"{lock}.lock").read_text()
    return {canonicalize_name(name): version for name, version in PIN.findall(text)}


SIDECAR, INIT = project("pyproject.toml"), project("init-container/pyproject.toml")
FAST = SIDECAR["optional-dependencies"]["fast"]


@pytest.mark.parametrize(
    ("wanted", "pinned"),
    [
        pytest.param([*SIDECAR["dependencies"], *FAST], pins("proxy"), id="the sidecar"),
        pytest.param(INIT["dependencies"], pins("init") | pins("iptables"), id="the init step"),
    ],
)
def test_every_library_is_pinned_to_a_version_that_the_project_takes(
    wanted: list[str], pinned: dict[str, str]
) -> None:
    for requirement in map(Requirement, wanted):
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier


@pytest.mark.parametrize("lock", ["proxy", "init", "iptables", "build"])
def test_every_pin_has_hashes(lock: str) -> None:
    entries = re.split(r"\n(?=[\w])", (LOCKS / f"{lock}.lock").read_text())
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)


def test_the_init_step_alone_is_the_one_that_comes_with_the_sidecar() -> None:
    assert INIT["version"] == SIDECAR["version"]
    assert set(INIT["dependencies"]) <= {
        *SIDECAR["dependencies"],
        *SIDECAR["optional-dependencies"]["init"],
    }
    assert INIT["scripts"].items() <= SIDECAR["scripts"].items()


def test_an_image_without_arguments_is_of_this_version() -> None:
    said = re.findall(r"^ARG VERSION=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert set(said) == {SIDECAR["version"]}
