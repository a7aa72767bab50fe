"""Moments that floats hold exactly, so that a machine and its model cannot disagree over rounding."""

from hypothesis import strategies

TICK = 1 / 64

ticks = strategies.integers(0, 200)
"""A gap between two arrivals."""

arrivals = strategies.lists(ticks, max_size=60).map(
    lambda gaps: [sum(gaps[: count + 1]) for count in range(len(gaps))]
)
"""When requests come, in ticks, in order."""
