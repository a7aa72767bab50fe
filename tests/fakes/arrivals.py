"""Moments that floats hold exactly, so that a machine and its model cannot disagree over rounding."""

from hypothesis import strategies

TICK = 1 / 64

ticks = strategies.sampled_from([0, 0, 0, 0, 1, 1, 2, 3, 5, 8, 16, 40, 64, 100, 200])
"""A gap between two arrivals: bursts, with pauses between."""

arrivals = strategies.lists(ticks, min_size=10, max_size=60).map(
    lambda gaps: [sum(gaps[: count + 1]) for count in range(len(gaps))]
)
"""When requests come, in ticks, in order."""
