"""`PYTHONPATH=tests python -m fuzz.run --seconds 20 --seed 1`: damage the corpus, and keep what breaks a claim."""

import argparse
import hashlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from random import Random

from fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
PIECES = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b";", b"0", b"5", b"\x7f", b"\xff", b"\r\n\r\n", b"0\r\n\r\n",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n",
    b"\0\0\0\0\1\0\0\0\1", b"\0\0\0\4\1\0\0\0\0", b"\0\0\4\3\0\0\0\0\1\0\0\0\10", b"\0\0\4\10\0\0\0\0\1\0\0\0\0",
)  # fmt: skip


def corpus() -> Mapping[str, list[bytes]]:
    """Every kept input, by target."""
    return {
        target: [path.read_bytes() for path in sorted(CORPUS.glob(f"{target}-*.bin"))]
        for target in TARGETS
    }


def damaged(seeds: Sequence[bytes], random: Random) -> bytes:
    """One seed, or two joined, with a few bytes changed, cut out or put in."""
    data = bytearray(random.choice(seeds))
    if random.random() < 0.3:
        data = data[: random.randrange(len(data) + 1)] + random.choice(seeds)
    for _ in range(random.randrange(5)):
        at = random.randrange(len(data) + 1)
        match random.randrange(4):
            case 0:
                data[at : at + random.randrange(1, 9)] = b""
            case 1:
                data[at:at] = random.choice(PIECES)
            case 2:
                data[at : at + 1] = random.randbytes(1)
            case _:
                data[at:at] = data[at : at + random.randrange(1, 65)]
    return bytes(data)


def inputs(seed: int) -> Iterator[tuple[str, bytes, list[int]]]:
    """Endlessly many, and the same ones for the same seed: a target, its bytes, and where to cut them."""
    random = Random(seed)
    seeds = corpus()
    while True:
        for target in TARGETS:
            cuts = [random.randrange(4096) for _ in range(random.randrange(6))]
            yield target, damaged(seeds[target], random), cuts


def check(target: str, data: bytes, cuts: Sequence[int]) -> None:
    """Assert what must hold, and name the input otherwise."""
    try:
        TARGETS[target](data, cuts)
    except Exception as error:
        error.add_note(f"{target}: {data!r} cut at {cuts}")
        raise


def check_some(count: int, seed: int) -> None:
    """Check so many inputs."""
    for target, data, cuts in islice(inputs(seed), count):
        check(target, data, cuts)


def main() -> int:
    """Check inputs until time is over or one breaks a claim; that one becomes part of the corpus."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    count = 0
    for target, data, cuts in inputs(options.seed):
        if time.monotonic() >= until:
            break
        try:
            check(target, data, cuts)
        except Exception:
            path = CORPUS / f"{target}-crash-{hashlib.sha256(data).hexdigest()[:12]}.bin"
            path.write_bytes(data)
            sys.stderr.write(f"kept as {path}\n")
            raise
        count += 1
    sys.stdout.write(f"{count} inputs held, seed {options.seed}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
