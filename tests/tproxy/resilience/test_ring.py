"""Keys stay with their endpoint, and only as many move as must."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tproxy.resilience.fraction import POSITIONS, position
from tproxy.resilience.ring import MOST_PLACES, REPLICAS, Ring

KEYS = [position(b"user %d" % number) for number in range(10_000)]
TEN = {f"192.0.2.{number}:80": 1 for number in range(10)}
FIRST = next(iter(TEN))


def owners(ring: Ring[str]) -> list[str | None]:
    """Who owns each key."""
    return [ring.owner(key, ()) for key in KEYS]


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 5), min_size=1),
    st.integers(0, POSITIONS - 1),
)
def test_a_key_belongs_to_the_next_place_at_or_after_it(weights: dict[str, int], key: int) -> None:
    ring = Ring(weights, 32)
    places = list(zip(ring._places, ring._owners, strict=True))
    following = [owner for place, owner in places if place > key] + [owner for _, owner in places]
    assert ring.owner(key, ()) == following[0]
    for avoided in weights:
        expected = [owner for owner in following if owner != avoided]
        assert ring.owner(key, {avoided}) == (expected[0] if expected else None)
        assert ring.owner(key, (), {avoided}) == (expected or following)[0]


def test_who_leaves_gives_its_keys_to_many_and_no_other_key_moves() -> None:
    before = owners(Ring(TEN, 1024))
    rest = {each: weight for each, weight in TEN.items() if each != FIRST}
    moved = [
        (old, new) for old, new in zip(before, owners(Ring(rest, 1024)), strict=True) if old != new
    ]
    assert {old for old, _ in moved} == {FIRST}
    assert {new for _, new in moved} == set(rest)


def test_who_joins_takes_its_share_and_no_other_key_moves() -> None:
    before = owners(Ring(TEN, 1024))
    after = owners(Ring({"new": 1} | TEN, 1024))
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {"new"}
    assert 0.5 / 11 < len(moved) / len(KEYS) < 1.5 / 11


def test_who_is_avoided_gives_its_keys_to_whom_they_would_go_without_it() -> None:
    rest = {each: weight for each, weight in TEN.items() if each != FIRST}
    without, around = Ring(rest, 1024), Ring(TEN, 1024)
    assert [around.owner(key, {FIRST}) for key in KEYS] == owners(without)


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        pytest.param(TEN, dict.fromkeys(TEN, 0.1), id="equal"),
        pytest.param({"a": 1, "b": 3}, {"a": 0.25, "b": 0.75}, id="one to three"),
        pytest.param({"a": 100, "b": 300}, {"a": 0.25, "b": 0.75}, id="in hundreds"),
    ],
)
def test_keys_are_spread_by_weight_to_within_four_deviations(
    weights: dict[str, int], shares: dict[str, float]
) -> None:
    found = Counter(owners(Ring(weights, 1024)))
    for name, share in shares.items():
        assert abs(found[name] / len(KEYS) - share) < 4 * share / REPLICAS**0.5


@pytest.mark.parametrize(
    ("weights", "size"),
    [
        pytest.param({}, 0, id="nobody"),
        pytest.param({"a": 1}, 1024, id="one has the least size"),
        pytest.param({"a": 5, "b": 5, "c": 5}, 1026, id="three share it, rounded up"),
        pytest.param(TEN, 1280, id="ten have 128 each"),
        pytest.param({str(number): 1 for number in range(1000)}, 16_000, id="a thousand share the most"),
        pytest.param({str(number): 1 for number in range(40_000)}, 40_000, id="each has at least one"),
        pytest.param({"light": 1, "heavy": 10_000}, 1025, id="a light one has one"),
    ],
)  # fmt: skip
def test_a_ring_is_neither_coarse_nor_large(weights: dict[str, int], size: int) -> None:
    assert len(Ring(weights, 1024)) == size
    assert size <= max(MOST_PLACES, len(weights))


def test_nobody_owns_a_key_of_an_empty_ring() -> None:
    assert Ring[str]({}, 1024).owner(0, ()) is None
