"""How long a request may still take, as callers say it: grpc-timeout and `x-envoy-expected-rq-timeout-ms`."""

import re
from math import ceil

_GRPC_TIMEOUT = re.compile(rb"(?P<value>[0-9]{1,8})(?P<unit>[HMSmun])")
"""gRPC over HTTP/2: at most eight digits, and a unit."""

_UNITS = {b"n": 1e9, b"u": 1e6, b"m": 1e3, b"S": 1.0, b"M": 1 / 60, b"H": 1 / 3600}
"""How many of each make a second, the finest first."""

_MOST = 99_999_999
"""What eight digits can say."""

_MILLISECONDS = re.compile(rb"[0-9]{1,10}")
"""Ten digits are 115 days: what is longer is no deadline but a mistake."""


def parse_grpc_timeout(value: bytes) -> float | None:
    """Read a grpc-timeout as seconds; None when it is malformed."""
    found = _GRPC_TIMEOUT.fullmatch(value)
    return None if found is None else int(found["value"]) / _UNITS[found["unit"]]


def grpc_timeout(seconds: float) -> bytes:
    """Write a grpc-timeout in the finest unit that fits, rounded up as gRPC's own libraries do."""
    for unit, in_second in _UNITS.items():
        if (value := max(seconds, 0.0) * in_second) <= _MOST:
            return b"%d%s" % (_up(value), unit)
    return b"%dH" % _MOST


def parse_milliseconds(value: bytes) -> float | None:
    """Read an `x-envoy-…-timeout-ms` as seconds; None when it is malformed or, as 0, says no bound."""
    found = _MILLISECONDS.fullmatch(value)
    return int(value) / 1000 or None if found else None


def milliseconds(seconds: float) -> bytes:
    """Write an `x-envoy-…-timeout-ms`, rounded up: 0 would mean no bound."""
    return b"%d" % max(_up(seconds * 1000), 1)


def _up(value: float) -> int:
    """Round up, except for what a division cannot say exactly."""
    return ceil(value - value * 1e-12)
