"""Measure what a sidecar costs beside other proxies: `make bench`."""

import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from bench.arena import open_arena
from bench.machine import described
from bench.options import Options, read
from bench.report import Account, write
from bench.rows import rows
from bench.summary import summarised
from bench.tables import failed, lines
from bench.targets import judged
from bench.turns import Taken, take_turns


def main() -> None:
    """Measure what is asked for."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    options = read(sys.argv[1:], os.environ)
    with TemporaryDirectory(dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        about = described()
        everything = trio.run(measure, options, directory)
    conclude(options, about, everything)


async def measure(options: Options, directory: Path) -> list[Taken]:
    """Run all rows, and tell each as soon as it is done."""
    wanted = rows(options, directory / "site")
    proxies = dict.fromkeys(entry.proxy for row in wanted for entry in row.entries)
    everything = []
    async with open_arena(proxies, directory) as arena:
        for row in wanted:
            everything.append(await take_turns(row, arena, options.turns))
            print(*lines(everything[-1]), sep="\n", flush=True)
    return everything


def conclude(options: Options, about: Mapping[str, object], everything: list[Taken]) -> None:
    """Hold what was measured against the targets, and write it all."""
    summary = summarised(everything)
    judgements = [each for each in judged(summary) if each.measured or not options.only]
    failures = [line for taken in everything for line in failed(taken)]
    print("", *judgements, *failures, sep="\n")
    write(Account(options, about, everything, summary, judgements))


if __name__ == "__main__":
    main()
