"""Load generators: how each is called, and what its output says."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

FACTORS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h)?")
MEBIBYTE = 1 << 20


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
    """What h2load printed."""
    (seconds,) = _found(r"finished in (\S+),", output)
    done, failed, errored, timeout = map(
        int, _found(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    )
    if failed or errored or timeout or not done:
        raise LoadFailed(f"{done} succeeded, {failed} failed, {errored} errored, {timeout} timeout")
    return Outcome(done, seconds_of(seconds))


def read_iperf(output: str) -> Outcome:
    """What `iperf3 -J` printed, in MiB that arrived."""
    told = json.loads(output)
    if "error" in told:
        raise LoadFailed(told["error"])
    arrived = told["end"]["sum_received"]
    return Outcome(arrived["bytes"] / MEBIBYTE, arrived["seconds"])


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


def http1(connections: int, path: str = "/1k", *, headers: int = 0) -> Load:
    """HTTP/1.1 keep-alive, with so many bytes of further header fields."""

    def argv(address: str, seconds: float) -> Sequence[str]:
        size = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
        return ["wrk", *size, *_padding(headers), f"http://{address}:8080{path}"]

    return Load("request", argv, read_wrk)


def _padding(size: int) -> Sequence[str]:
    """Header fields of 64 bytes each, as wrk takes them."""
    fields = (f"x-padding-{number:02}: {'v' * 48}" for number in range(size // 64))
    return [word for each in fields for word in ("-H", each)]
