"""A rolling count is that of the last ten parts of its window."""

from hypothesis import given

from fakes.arrivals import TICK, arrivals
from tproxy.resilience.rolling import SLOTS, Rolling

WIDTH = 8


@given(arrivals)
def test_a_rolling_count_is_what_a_list_of_timestamps_finds(ticks: list[int]) -> None:
    rolling = Rolling(SLOTS * WIDTH * TICK)
    for number, tick in enumerate(ticks):
        rolling.add(tick * TICK)
        recent = [each for each in ticks[: number + 1] if tick // WIDTH - each // WIDTH < SLOTS]
        assert rolling.total(tick * TICK) == len(recent)
        assert rolling.total(tick * TICK) >= sum(
            tick - each < (SLOTS - 1) * WIDTH for each in ticks[: number + 1]
        )


def test_nothing_is_left_after_a_window_however_late_somebody_looks() -> None:
    rolling = Rolling(10.0)
    rolling.add(1000.0)
    assert rolling.total(1008.9) == 1
    assert rolling.total(1010.0) == 0
    assert rolling.total(1e9) == 0


def test_a_moment_before_the_last_one_counts_as_the_last_one() -> None:
    rolling = Rolling(10.0)
    rolling.add(20.0)
    rolling.add(5.0)
    assert rolling.total(20.0) == 2
