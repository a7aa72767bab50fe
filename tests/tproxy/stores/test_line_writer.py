"""Lines leave in batches, in order, and traffic never waits for them."""

import os
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
