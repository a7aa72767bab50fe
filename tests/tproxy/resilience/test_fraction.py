"""Texts keep their numbers, and the numbers are spread evenly."""

import pytest

from tproxy.resilience.fraction import POSITIONS, fraction, position, positions


@pytest.mark.parametrize(
    ("text", "salt", "expected"),
    [
        pytest.param(b"", b"", 16476032584258269876, id="nothing"),
        pytest.param(b"reviews", b"", 12478353220394020914, id="a name"),
        pytest.param(b"reviews", b"delay", 10318718840675399576, id="salted"),
        pytest.param(
            b"reviews", b"delay default/reviews-fault", 4041433050386430037, id="salted with much"
        ),
    ],
)
def test_a_position_is_the_same_in_every_process(text: bytes, salt: bytes, expected: int) -> None:
    assert position(text, salt) == expected
    assert fraction(text, salt) == (expected >> 11) / 2**53


def test_fractions_are_spread_evenly_and_salts_unrelated() -> None:
    count = 5000
    texts = [b"%d" % number for number in range(count)]
    low = [fraction(text, b"one") < 0.1 for text in texts]
    also = [fraction(text, b"two") < 0.1 for text in texts]
    assert abs(sum(low) / count - 0.1) < 5 * (0.1 * 0.9 / count) ** 0.5
    both = sum(a and b for a, b in zip(low, also, strict=True)) / count
    assert abs(both - 0.01) < 5 * (0.01 * 0.99 / count) ** 0.5


def test_fewer_positions_are_the_first_of_more() -> None:
    many = positions(b"192.0.2.1:80", 100)
    assert len(set(many)) == 100
    assert all(0 <= each < POSITIONS for each in many)
    assert [positions(b"192.0.2.1:80", count) for count in (0, 1, 8, 9)] == [
        many[:count] for count in (0, 1, 8, 9)
    ]
