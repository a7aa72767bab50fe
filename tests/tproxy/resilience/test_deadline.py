"""Timeouts are read and written without anybody getting more time than was said."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tproxy.resilience.deadline import (
    grpc_timeout,
    milliseconds,
    parse_grpc_timeout,
    parse_milliseconds,
)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param(b"1H", 3600.0, id="hours"),
        pytest.param(b"2M", 120.0, id="minutes"),
        pytest.param(b"3S", 3.0, id="seconds"),
        pytest.param(b"250m", 0.25, id="milliseconds"),
        pytest.param(b"500u", 0.0005, id="microseconds"),
        pytest.param(b"100n", 1e-7, id="nanoseconds"),
        pytest.param(b"0S", 0.0, id="no time left"),
        pytest.param(b"00000001S", 1.0, id="eight digits"),
        pytest.param(b"99999999H", 99_999_999 * 3600.0, id="the most"),
        pytest.param(b"123456789S", None, id="nine digits"),
        pytest.param(b"", None, id="nothing"),
        pytest.param(b"S", None, id="no value"),
        pytest.param(b"10", None, id="no unit"),
        pytest.param(b"1s", None, id="an unknown unit"),
        pytest.param(b"-1S", None, id="a sign"),
        pytest.param(b"1.5S", None, id="a fraction"),
        pytest.param(b" 1S", None, id="a space"),
        pytest.param(b"1S\n", None, id="a line end"),
        pytest.param("\u0661S".encode(), None, id="digits that are not ASCII"),
    ],
)
def test_a_grpc_timeout_is_read_strictly(value: bytes, seconds: float | None) -> None:
    assert parse_grpc_timeout(value) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("seconds", "value"),
    [
        pytest.param(0.0, b"0n", id="none left"),
        pytest.param(-5.0, b"0n", id="less than none"),
        pytest.param(0.05, b"50000000n", id="the finest that fits"),
        pytest.param(0.3, b"300000u", id="microseconds"),
        pytest.param(3.0, b"3000000u", id="still"),
        pytest.param(3600.0, b"3600000m", id="milliseconds"),
        pytest.param(1e6, b"1000000S", id="seconds"),
        pytest.param(99_999_999.0, b"99999999S", id="eight digits of seconds"),
        pytest.param(1.2e8, b"2000000M", id="minutes"),
        pytest.param(1e10, b"2777778H", id="hours, rounded up"),
        pytest.param(1e15, b"99999999H", id="more than can be said"),
        pytest.param(inf, b"99999999H", id="no bound"),
    ],
)
def test_a_grpc_timeout_is_written_in_the_finest_unit_that_fits(
    seconds: float, value: bytes
) -> None:
    assert grpc_timeout(seconds) == value


@given(st.integers(0, 99_999_999), st.sampled_from("numSMH"))
def test_what_is_read_is_written_back_as_the_same_time(value: int, unit: str) -> None:
    seconds = parse_grpc_timeout(f"{value}{unit}".encode())
    assert seconds is not None
    assert parse_grpc_timeout(grpc_timeout(seconds)) == pytest.approx(seconds, rel=1e-7)


@given(st.floats(0.0, 1e11))
def test_what_is_written_is_as_long_or_a_unit_longer(seconds: float) -> None:
    read = parse_grpc_timeout(grpc_timeout(seconds))
    assert read is not None
    assert seconds * (1 - 1e-11) <= read <= seconds * (1 + 1e-4) + 1e-9


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param(b"1500", 1.5, id="milliseconds"),
        pytest.param(b"0", None, id="0 is no bound"),
        pytest.param(b"9999999999", 9_999_999.999, id="ten digits"),
        pytest.param(b"10000000000", None, id="eleven"),
        pytest.param(b"", None, id="nothing"),
        pytest.param(b"-1", None, id="a sign"),
        pytest.param(b"1e3", None, id="an exponent"),
        pytest.param(b"1_000", None, id="an underscore"),
    ],
)
def test_milliseconds_are_read_strictly(value: bytes, seconds: float | None) -> None:
    assert parse_milliseconds(value) == seconds


@pytest.mark.parametrize(
    ("seconds", "value"),
    [
        pytest.param(1.5, b"1500", id="whole"),
        pytest.param(0.3, b"300", id="what floats cannot hold"),
        pytest.param(0.0101, b"11", id="rounded up"),
        pytest.param(0.0, b"1", id="0 would be no bound"),
    ],
)
def test_milliseconds_are_rounded_up(seconds: float, value: bytes) -> None:
    assert milliseconds(seconds) == value


@given(st.integers(1, 9_999_999_999))
def test_milliseconds_are_written_back_as_read(value: int) -> None:
    seconds = parse_milliseconds(b"%d" % value)
    assert seconds is not None
    assert milliseconds(seconds) == b"%d" % value
