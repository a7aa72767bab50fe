"""The page about the policy tools: its files and commands do what it says."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from tproxy.cli import main
from tproxy.stores.decisions import KEPT

PAGE = (Path(__file__).parents[3] / "docs" / "policy-tools.md").read_text()
BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    found["text"].removeprefix("$ ").partition("\n")
    for found in BLOCK.finditer(PAGE)
    if found["kind"] == "console"
]


@pytest.mark.parametrize(
    ("command", "expected"),
    [pytest.param(command, output, id=command) for command, _, output in EXAMPLES],
)
def test_a_command_prints_what_the_page_shows(
    command: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for found in BLOCK.finditer(PAGE):
        first, _, rest = found["text"].partition("\n")
        if found["kind"] in ("yaml", "json"):
            file = Path(first.removeprefix("# "))
            file.parent.mkdir(parents=True, exist_ok=True)
            # What is shown counts its lines without the one that names the file.
            file.write_text(rest, encoding="utf-8")
    program, *words = shlex.split(command)
    assert program == "tproxy"
    assert CliRunner().invoke(main, words).output == expected


def test_every_verb_has_an_example() -> None:
    shown = {shlex.split(command)[2] for command, _, _ in EXAMPLES}
    policy = main.get_command(None, "policy")  # type: ignore[arg-type]
    assert shown == set(policy.commands)  # type: ignore[union-attr]


def test_the_page_says_how_much_is_remembered() -> None:
    assert f"the last {KEPT} decisions" in PAGE
