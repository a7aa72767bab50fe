"""Load generators: how each is called, and what its output says."""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

FACTORS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h)?")
MEBIBYTE = 1 << 20
CALL = "bench.Echo/Call"
CLIENTS = Path(__file__).parent / "clients"


class LoadFailed(Exception):
    """Why a load is no measurement, said for whoever reads the results."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a generator counted."""

    units: float
    seconds: float
    latencies: Mapping[str, float] = field(default_factory=dict)
    """p50 and p99 in seconds, where the generator tells them."""


@dataclass(frozen=True, slots=True)
class Load:
    """One kind of work."""

    unit: str
    argv: Callable[[str, float], Sequence[str]]
    """The command line, for an address and a number of seconds."""
    read: Callable[[str], Outcome]
    """What the generator's output says; LoadFailed if anything went wrong."""
    kept_off: bool = True
    """Whether the generator is kept off the proxy's core: not where it takes more than the proxy does."""


def seconds_of(text: str) -> float:
    """A duration as wrk and h2load write it: `1.25ms`."""
    match = QUANTITY.fullmatch(text)
    if match is None:
        raise LoadFailed(f"{text!r} is no duration")
    return float(match[1]) * FACTORS[match[2] or "s"]


def read_wrk(output: str) -> Outcome:
    """What `wrk --latency` printed."""
    if trouble := re.search(r"Socket errors:.*|Non-2xx.*", output):
        raise LoadFailed(trouble[0])
    requests, seconds = _found(r"(\d+) requests in (\S+),", output)
    if not int(requests):
        raise LoadFailed("no request was answered")
    latencies = {
        f"p{share}": seconds_of(_found(rf"^ +{share}% +(\S+)", output)[0]) for share in (50, 99)
    }
    return Outcome(int(requests), seconds_of(seconds), latencies)


def read_wrk_mebibytes(output: str) -> Outcome:
    """What wrk printed, in MiB of bodies."""
    counted = read_wrk(output)
    size, suffix = _found(r"requests in \S+, ([\d.]+)([KMGT]?B) read", output)
    scale = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}[suffix]
    return Outcome(float(size) * scale / MEBIBYTE, counted.seconds, counted.latencies)


def read_h2load(output: str) -> Outcome:
    """What h2load printed, and its log of every request."""
    (seconds,) = _found(r"finished in (\S+),", output)
    done, *bad = map(
        int, _found(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    )
    if any(bad) or not done:
        raise LoadFailed(f"{done} succeeded; failed, errored, timed out: {bad}")
    taken = [int(each) / 1e6 for each in re.findall(r"^\d+\t\d+\t(\d+)$", output, re.MULTILINE)]
    return Outcome(done, seconds_of(seconds), percentiles(taken))


def percentiles(taken: Sequence[float]) -> Mapping[str, float]:
    """What half, and all but one of a hundred, did not take longer than."""
    ordered = sorted(taken)
    return {f"p{share}": ordered[len(ordered) * share // 100] for share in (50, 99) if ordered}


def read_own(output: str) -> Outcome:
    """What a client of `clients/` printed."""
    told = json.loads(output)
    if told.get("failed"):
        raise LoadFailed(f"{told['failed']} of {told['units']} failed")
    return Outcome(told["units"], told["seconds"], told.get("latencies", {}))


def _found(pattern: str, output: str) -> Sequence[str]:
    match = re.search(pattern, output, re.MULTILINE)
    if match is None:
        raise LoadFailed(f"no {pattern!r} in what the generator said:\n{output}")
    return match.groups()


def http1(connections: int, path: str = "/1k", *, headers: int = 0, host: str = "") -> Load:
    """HTTP/1.1 keep-alive, with so many bytes of further header fields; of a host by its name, if it is to have one."""
    named = ["-H", f"Host: {host}"] if host else []

    def argv(address: str, seconds: float) -> Sequence[str]:
        size = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
        return ["wrk", *size, *named, *_padding(headers), f"http://{address}:8080{path}"]

    return Load("request", argv, read_wrk)


def _padding(size: int) -> Sequence[str]:
    """Header fields of 64 bytes each, as wrk takes them."""
    fields = (f"x-padding-{number:02}: {'v' * 48}" for number in range(size // 64))
    return [word for each in fields for word in ("-H", each)]


def bodies(connections: int) -> Load:
    """Bodies of 1 MiB over HTTP/1.1."""
    return Load("MiB", http1(connections, "/1m").argv, read_wrk_mebibytes, kept_off=False)


def http2(connections: int, streams: int) -> Load:
    """HTTP/2 with prior knowledge."""

    def argv(address: str, seconds: float) -> Sequence[str]:
        return _h2load(connections, streams, seconds, f"http://{address}:8081/1k")

    return Load("request", argv, read_h2load)


def grpc(connections: int, streams: int, site: Path) -> Load:
    """Unary calls: the origin answers each with a message, and ends with grpc-status 0."""
    words = ["-d", str(site / CALL), "-H", "content-type: application/grpc", "-H", "te: trailers"]

    def argv(address: str, seconds: float) -> Sequence[str]:
        url = f"http://{address}:8082/{CALL}"
        return _h2load(connections, streams, seconds, *words, url)

    return Load("call", argv, read_h2load)


def _h2load(connections: int, streams: int, seconds: float, *words: str) -> Sequence[str]:
    size = [f"-c{connections}", f"-m{streams}", "-D", f"{round(seconds * 1000)}ms"]
    return ["h2load", *size, "--log-file=/dev/stderr", *words]


def bulk(connections: int) -> Load:
    """Bytes towards the server, on so many connections."""

    def argv(address: str, seconds: float) -> Sequence[str]:
        return client("bulk", address, "9001", str(seconds), str(connections))

    return Load("MiB", argv, read_own, kept_off=False)


def connections(at_once: int) -> Load:
    """Connections that are pinged once and closed."""

    def argv(address: str, seconds: float) -> Sequence[str]:
        return client("connections", address, "9000", str(seconds), str(at_once))

    return Load("connection", argv, read_own)


def pings() -> Load:
    """Pings on one connection, one at a time."""

    def argv(address: str, seconds: float) -> Sequence[str]:
        return client("ping", address, "9000", str(seconds))

    return Load("ping", argv, read_own)


def client(program: str, *words: str) -> Sequence[str]:
    """The command line of one of our own clients."""
    return [sys.executable, str(CLIENTS / f"{program}.py"), *words]
