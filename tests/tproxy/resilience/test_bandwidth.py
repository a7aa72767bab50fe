"""No more bytes pass than the rate and the burst say, and what waits is let on as soon as it is worth it."""

from hypothesis import given
from hypothesis import strategies as st

from tproxy.resilience.bandwidth import PIECES_PER_SECOND, BandwidthSpec


def test_a_burst_passes_at_once_and_then_the_rate() -> None:
    machine = BandwidthSpec(1000, 3000).machine(10.0)
    assert (machine.room(10.0), machine.until_room(10.0)) == (3000, 0.0)
    machine.used(3000)
    assert (machine.room(10.0), machine.until_room(10.0)) == (0, 1 / PIECES_PER_SECOND)
    assert machine.room(10.5) == 500
    assert machine.room(99.0) == 3000


def test_even_a_byte_in_a_second_passes() -> None:
    machine = BandwidthSpec(1, 1).machine(0.0)
    machine.used(1)
    assert machine.until_room(0.0) == 1.0
    assert (machine.room(0.5), machine.room(1.0)) == (0, 1)


@given(
    st.integers(1, 10**6),
    st.integers(1, 10**6),
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), max_size=30),
)
def test_never_more_than_the_burst_and_the_rate_passes(
    rate: int, burst: int, moves: list[tuple[float, float]]
) -> None:
    machine, now, passed = BandwidthSpec(rate, burst).machine(0.0), 0.0, 0
    for gap, share in moves:
        now += gap
        size = int(machine.room(now) * share)
        machine.used(size)
        passed += size
        assert passed <= burst + rate * now + 1
        later = now + machine.until_room(now)
        assert machine.room(later + 1e-6) >= 1
        now = later + 1e-6
