"""What an upstream may send: little to begin with, more as it is taken, and never all of it for those who stand still."""

from tproxy.codec.h2_window import OPENING_WINDOW, Allowance, Window

MOST = 4 * OPENING_WINDOW


def grown(allowance: Allowance, number: int, window: Window, streams: set[int]) -> int:
    """Have a window filled and emptied, and return what it then is."""
    window.take(window.size)
    window.give(window.size)
    allowance.grow(number, window, MOST, streams)
    return window.size


def test_a_window_doubles_with_its_consumers_haste_up_to_the_most() -> None:
    allowance, window = Allowance(1 << 20), Window(OPENING_WINDOW)
    sizes = [grown(allowance, 1, window, {1}) for _ in range(3)]
    assert sizes == [2 * OPENING_WINDOW, MOST, MOST]


def test_all_windows_together_grow_only_so_far() -> None:
    allowance = Allowance(3 * OPENING_WINDOW + 100)
    windows = [Window(OPENING_WINDOW) for _ in range(3)]
    for _ in range(3):
        for number, window in enumerate(windows):
            grown(allowance, number, window, {0, 1, 2})
    assert sum(window.size for window in windows) == 6 * OPENING_WINDOW + 100


def test_what_a_stream_had_is_anothers_once_it_is_over_and_consumed() -> None:
    allowance = Allowance(OPENING_WINDOW)
    first, second = Window(OPENING_WINDOW), Window(OPENING_WINDOW)
    assert grown(allowance, 1, first, {1}) == 2 * OPENING_WINDOW
    first.take(100)
    assert grown(allowance, 3, second, {1, 3}) == OPENING_WINDOW
    assert grown(allowance, 3, second, {3}) == OPENING_WINDOW
    allowance.consumed(1, 100)
    allowance.consumed(5, 100)
    assert grown(allowance, 3, second, {3}) == 2 * OPENING_WINDOW
