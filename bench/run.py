"""Measure what a sidecar costs beside other proxies: `make bench`."""

import os
import resource
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from bench.arena import open_arena
from bench.options import Options, read
from bench.results import lines
from bench.rows import rows
from bench.turns import Row, take_turns


def main() -> None:
    """Measure what is asked for."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    options = read(sys.argv[1:], os.environ)
    trio.run(measure, rows(options), options)


async def measure(wanted: list[Row], options: Options) -> None:
    """Run all rows, and tell each as soon as it is done."""
    proxies = dict.fromkeys(entry.proxy for row in wanted for entry in row.entries)
    with TemporaryDirectory(dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        async with open_arena(proxies, directory) as arena:
            for row in wanted:
                taken = await take_turns(row, arena, options.turns)
                print(*lines(taken), sep="\n", flush=True)


if __name__ == "__main__":
    main()
