"""The page about identities: its commands do what it says, and its figures are the code's."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tproxy.cli.ca import ca
from tproxy.lab.records import IDENTITY
from tproxy.stores.identity_files import LAYOUTS
from tproxy.tls.documents import LEAST_RSA_BITS, MAX_BYTES, MAX_INTERMEDIATES, MAX_ROOTS
from tproxy.tls.root import MOST_TTL

PAGE = (Path(__file__).parents[3] / "docs" / "identity.md").read_text()
SCRIPTS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_commands_of_the_page_make_identities(tmp_path: Path) -> None:
    around = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", "\n".join(SCRIPTS)],
        cwd=tmp_path,
        env=around,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    checked = [line for line in done.stdout.splitlines() if line.startswith("spiffe://")]
    # What was issued says so, then both checks.
    assert {line.split()[0] for line in checked} == {"spiffe://cluster.local/ns/default/sa/web"}
    assert len(checked) == 3
    assert "WARNING" not in done.stderr


@pytest.mark.parametrize(
    "claim",
    [
        f"more than {MAX_INTERMEDIATES} intermediates",
        f"more than {MAX_ROOTS} certificates",
        f"larger than {MAX_BYTES // 1024} KiB",
        f"under {LEAST_RSA_BITS} bits",
        f"{MOST_TTL.days} days at most",
        str(IDENTITY),
        *(" | ".join(f"`{name}`" for name in layout) for layout in LAYOUTS),
        *(f"tproxy ca {verb}" for verb in ca.commands),
    ],
)
def test_the_page_says_what_is_so(claim: str) -> None:
    assert claim in PAGE
