"""Readers refuse what cannot be meant, and say which word and why."""

from enum import StrEnum
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tproxy_init import values
from tproxy_init.values import Span


class Colour(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("80", (Span(80, 80),), id="one"),
        pytest.param("443, 80", (Span(80, 80), Span(443, 443)), id="sorted, spaces allowed"),
        pytest.param("8000:8010", (Span(8000, 8010),), id="range with a colon"),
        pytest.param("8000-8010", (Span(8000, 8010),), id="range with a dash"),
        pytest.param("80,80", (Span(80, 80),), id="a duplicate counts once"),
        pytest.param("80,70-90,85-95", (Span(70, 95),), id="overlaps are joined"),
        pytest.param("80-80", (Span(80, 80),), id="a range of one"),
        pytest.param("1,65535", (Span(1, 1), Span(65535, 65535)), id="the ends"),
        pytest.param("", (), id="empty"),
        pytest.param("none", (), id="none"),
    ],
)
def test_ports_are_read(text: str, expected: tuple[Span, ...]) -> None:
    assert values.ports(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("0", "'0' is outside 1 to 65535", id="port 0"),
        pytest.param("65536", "'65536' is outside 1 to 65535", id="port 65536"),
        pytest.param("80:70", "'80:70' ends before it begins", id="backwards"),
        pytest.param("80,,90", "empty entry", id="empty entry"),
        pytest.param("80,", "empty entry", id="trailing comma"),
        pytest.param("http", "neither a number nor a range", id="service name"),
        pytest.param("80;flush ruleset", "neither a number nor a range", id="injection"),
        pytest.param("80\n-A OUTPUT", "neither a number nor a range", id="line break"),
        pytest.param("-80", "neither a number nor a range", id="negative"),
        pytest.param("80-90-100", "neither a number nor a range", id="two dashes"),
        pytest.param("٨٠", "neither a number nor a range", id="digits of another script"),
        pytest.param("0x50", "neither a number nor a range", id="hexadecimal"),
        pytest.param("*", "neither a number nor a range", id="star where a list belongs"),
    ],
)
def test_ports_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        values.ports(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("nobody", "is not numeric", id="user name"),
        pytest.param("1000-nobody", "neither a number", id="half a name"),
        pytest.param("4294967295", "outside 0 to 4294967294", id="the kernel's nobody-at-all"),
        pytest.param('0" accept', "neither a number", id="injection"),
    ],
)
def test_ids_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        values.ids(text)


def test_ids_may_be_root_and_ranges() -> None:
    assert values.ids("0,1000-1999") == (Span(0, 0), Span(1000, 1999))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("192.0.2.1/24", "has host bits set; write the network's own", id="host bits"),
        pytest.param("2001:db8::1/32", "has host bits set", id="host bits, IPv6"),
        pytest.param("192.0.2.0/33", "does not appear to be", id="prefix too long"),
        pytest.param("example.com", "does not appear to be", id="name"),
        pytest.param("192.0.2.0/24 accept", "does not appear to be", id="injection"),
    ],
)
def test_cidrs_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        values.cidrs(text)


def test_cidrs_keep_their_order_and_count_once() -> None:
    found = values.cidrs("198.51.100.0/24,192.0.2.7,2001:db8::/32,192.0.2.7/32")
    assert [str(net) for net in found] == ["198.51.100.0/24", "192.0.2.7/32", "2001:db8::/32"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param('eth0" accept', id="quote"),
        pytest.param("a-name-too-long-x", id="too long"),
        pytest.param("eth 0", id="space"),
        pytest.param("+", id="nothing but any ending"),
        pytest.param("et+h", id="plus in the middle"),
        pytest.param("../eth0", id="slash"),
    ],
)
def test_interfaces_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not an interface's name"):
        values.interfaces(name)


def test_interfaces_may_end_in_anything() -> None:
    assert values.interfaces("eth0,veth+,eth0") == ("eth0", "veth+")


def test_addresses_are_single() -> None:
    assert [str(found) for found in values.addresses("192.0.2.1,::1,::1")] == ["192.0.2.1", "::1"]
    with pytest.raises(ValueError, match="not an IP address"):
        values.addresses("192.0.2.0/24")


def test_numbers_are_no_ranges() -> None:
    read = values.number(highest=65535)
    assert read(" 80 ") == 80
    with pytest.raises(ValueError, match="is a range"):
        read("80-81")


def test_choices_ignore_case_and_name_the_alternatives() -> None:
    assert values.choice(Colour)(" RED") is Colour.RED
    with pytest.raises(ValueError, match="'blue' is not one of red"):
        values.choice(Colour)("blue")


def test_star_is_everything() -> None:
    assert values.every_or(values.ports)("*") is None
    assert values.every_or(values.ports)("80") == (Span(80, 80),)


def test_an_empty_inclusion_is_refused_where_nothing_would_be_left() -> None:
    with pytest.raises(ValueError, match="nothing at all would be captured"):
        values.at_least_one(values.ids)("")
    assert values.at_least_one(values.ids)("7") == (Span(7, 7),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("true", True), ("1", True), ("Yes", True), ("off", False), ("0", False), ("", False)],
)
def test_flags_are_read(text: str, expected: bool) -> None:
    assert values.flag(text) is expected


def test_flags_are_refused() -> None:
    with pytest.raises(ValueError, match="neither true nor false"):
        values.flag("maybe")


@given(st.lists(st.tuples(st.integers(1, 65535), st.integers(1, 65535)), max_size=20))
def test_joining_keeps_exactly_the_ports_given(pairs: list[tuple[int, int]]) -> None:
    spans = [Span(min(pair), max(pair)) for pair in pairs]
    read = values.ports(",".join(span.text(":") for span in spans))
    edges = {
        edge + step for span in spans for edge in (span.first, span.last) for step in (-1, 0, 1)
    }
    for port in edges:
        assert any(port in span for span in read) == any(port in span for span in spans)
    assert all(one.last < other.first for one, other in pairwise(read))
