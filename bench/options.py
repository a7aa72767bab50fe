"""What is asked of a benchmark run, from its command line and the environment that `make` passes on."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

QUICK_ROWS = {
    *("h1_c1", "h1_c32", "h1_c256", "h2_1x32", "tcp_bulk1", "tcp_bulk8", "tcp_conn"),
    *("mtls_h1_c32", "mtls_bulk", "mtls_handshakes"),
    *("start", "idle", "tcp_idle_conn", "h1_policies"),
}
"""What has a target."""
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure, how thoroughly, and where to write it."""

    quick: bool
    only: str
    """A part of the ids of rows; empty is all of them."""
    results: Path

    def takes(self, row: str) -> bool:
        """Whether a row is measured: all are, but when time is short and it was not asked for."""
        return bool(self.only) or not self.quick or row in QUICK_ROWS

    @property
    def whole(self) -> bool:
        """Whether the results are those that the documentation shows."""
        return not self.quick and not self.only and self.results == RESULTS

    @property
    def turns(self) -> int:
        """How often the proxies take turns in a row."""
        return 2 if self.quick else 5

    @property
    def seconds(self) -> float:
        """How long one load lasts."""
        return 1.0 if self.quick else 2.0


def read(argv: Sequence[str], environ: Mapping[str, str]) -> Options:
    """The options in `argv`, the environment filling in for what is absent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", default=bool(environ.get("QUICK")))
    parser.add_argument("--only", metavar="PART", default=environ.get("ONLY", ""))
    parser.add_argument("--results", type=Path, metavar="DIRECTORY", default=RESULTS)
    given = parser.parse_args(argv)
    return Options(given.quick, given.only, given.results.absolute())
