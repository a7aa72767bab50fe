"""Lines leave in batches, in order, and traffic never waits for them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tproxy.stores.line_writer import HELD_BYTES, LineWriter


class Drops:
    """Counts what was lost."""

    def __init__(self) -> None:
        self.lines = 0

    def add(self, lines: int) -> None:
        self.lines += lines


@pytest.fixture
def drops() -> Drops:
    return Drops()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's reading and writing end."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


async def test_lines_are_written_in_order(drops: Drops, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    lines = LineWriter(writing, drops.add)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lines.run)
        for number in range(3):
            lines.write(b"%d\n" % number)
        await trio.lowlevel.wait_readable(reading)
        assert os.read(reading, 100) == b"0\n1\n2\n"
        nursery.cancel_scope.cancel()
    assert drops.lines == 0


async def test_what_waits_at_the_end_is_written(drops: Drops, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    lines = LineWriter(writing, drops.add)
    lines.write(b"last words\n")
    await lines.finish()
    assert os.read(reading, 100) == b"last words\n"


async def test_a_batch_that_is_on_its_way_is_waited_for(
    drops: Drops, pipe: tuple[int, int]
) -> None:
    reading, writing = pipe
    lines = LineWriter(writing, drops.add)
    long = b"x" * 300_000 + b"\n"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lines.run)
        lines.write(long)
        await trio.lowlevel.wait_readable(reading)
        nursery.cancel_scope.cancel()
    lines.write(b"last words\n")
    read = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lines.finish)
        while not read.endswith(b"last words\n"):
            await trio.lowlevel.wait_readable(reading)
            read += os.read(reading, 65536)
    assert read == long + b"last words\n"


async def test_lines_that_nobody_takes_are_dropped_and_counted(drops: Drops) -> None:
    lines = LineWriter(-1, drops.add)
    line = b"x" * 65536
    for _ in range(HELD_BYTES // len(line) + 3):
        lines.write(line)
    assert drops.lines == 3


async def test_a_full_disk_costs_the_lines_and_nothing_else(drops: Drops) -> None:
    full = os.open(Path("/dev/full"), os.O_WRONLY)
    lines = LineWriter(full, drops.add)
    for _ in range(2):
        lines.write(b"a\n")
        lines.write(b"b\n")
        await lines.finish()
    os.close(full)
    assert drops.lines == 4


SEVERAL = """
import os, trio
from tproxy.stores.line_writer import LineWriter

turn = os.memfd_create("turn")

async def write(word):
    lines = LineWriter(1, print, turn=turn)
    for _ in range(2000):
        lines.write(word * 200 + b"\\n")
    await lines.finish()

children = []
for word in (b"a", b"b", b"c"):
    child = os.fork()
    if not child:
        trio.run(write, word)
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
"""


@pytest.mark.slow
def test_processes_that_take_turns_never_mix_their_lines_in_a_pipe() -> None:
    done = subprocess.run([sys.executable, "-c", SEVERAL], capture_output=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 6000
    assert {(len(line), len(set(line))) for line in lines} == {(200, 1)}
