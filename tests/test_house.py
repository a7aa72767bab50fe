"""What linters cannot see: texts that must agree, and rules about the house itself."""

import ast
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from tproxy.model.limits import Limits
from tproxy.model.ports import PROXY_UID, Ports
from tproxy.policy.compile import compiled
from tproxy.policy.snapshot import Snapshot
from tproxy.settings import VERSION
from tproxy.stores.policy_files import read_directory
from tproxy_init.capture import parse

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "tproxy").rglob("*.py")) + sorted(
    (ROOT / "init-container" / "tproxy_init").rglob("*.py")
)


def relative(path: Path) -> str:
    """A module's path as its test's id."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("module", MODULES, ids=relative)
def test_a_module_opens_with_one_sentence_of_what_it_is_for(module: Path) -> None:
    docstring = ast.get_docstring(ast.parse(module.read_text())) or ""
    first = docstring.partition("\n\n")[0]
    assert first.rstrip().endswith((".", ":")), "the first paragraph is a sentence"


def test_both_sides_of_the_capture_agree_on_ports_and_user() -> None:
    capture, ports = parse({}), Ports()
    assert (capture.outbound_port, capture.inbound_port) == (ports.outbound, ports.inbound)
    assert [span.first for span in capture.proxy_uid] == [PROXY_UID]
    assert {ports.admin, ports.metrics, ports.health} <= {
        span.first for span in capture.proxy_ports
    }


def test_the_sidecar_knows_its_own_version() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert pyproject["project"]["version"] == VERSION


def test_the_policies_that_operators_copy_compile() -> None:
    reading = read_directory(ROOT / "policies")
    assert reading.findings == ()
    assert isinstance(compiled(reading.files, 1), Snapshot)


def test_the_map_names_every_package() -> None:
    house = ast.get_docstring(ast.parse((ROOT / "tproxy" / "__init__.py").read_text())) or ""
    packages = {path.parent.name for path in (ROOT / "tproxy").glob("*/__init__.py")}
    assert packages <= set(re.findall(r"\w+", house))


@pytest.mark.parametrize("name", [each.name for each in fields(Limits)])
def test_every_limit_is_documented_with_its_true_default(name: str) -> None:
    page = (ROOT / "docs" / "limits.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    (row,) = [row for row in rows if row[0] == f"| `{name.replace('_', '-')}`"]
    assert float(row[1]) == getattr(Limits(), name)


LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))],
    ids=relative,
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target
