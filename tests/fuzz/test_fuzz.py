"""The fuzzer's claims hold of its whole corpus, and of as much damage to it as the gate has time for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.run import CORPUS, check, check_some, corpus
from fuzz.targets import TARGETS

KEPT = [
    pytest.param(target, data, id=f"{target} {number}")
    for target, kept in corpus().items()
    for number, data in enumerate(kept)
]


@pytest.mark.parametrize(("target", "data"), KEPT)
def test_claims_hold_of_what_was_kept(target: str, data: bytes) -> None:
    check(target, data, ())
    check(target, data, range(len(data)))


def test_every_kept_input_has_a_target() -> None:
    assert len(KEPT) == len(list(CORPUS.iterdir()))
    assert all(corpus().values())


@pytest.mark.slow
def test_claims_hold_of_damaged_input() -> None:
    check_some(1500, seed=1)


@given(
    target=st.sampled_from(sorted(TARGETS)),
    data=st.binary(max_size=200),
    cuts=st.lists(st.integers(0, 200), max_size=5),
)
def test_claims_hold_of_noise(target: str, data: bytes, cuts: list[int]) -> None:
    check(target, data, cuts)
