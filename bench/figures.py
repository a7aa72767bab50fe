"""What can be measured of a run, in which unit it is told, and which way is better."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One kind of number, kept in base units: seconds, bytes, units a second."""

    title: str
    unit: str
    """With {unit}, the row's own."""
    scale: float = 1.0
    """From the base unit to the one that is told."""
    more_is_better: bool = False
    compared: bool = True
    """Whether the ratio of two proxies is told."""
    absolute: bool = False
    """Whether our own is told as it is, because it hardly depends on the machine's speed."""
    needs_cpu: bool = False
    """Whether a proxy that did not get its core shows less than it can."""


FIGURES: Mapping[str, Figure] = {
    "rate": Figure("rate", "{unit}/s", more_is_better=True, needs_cpu=True),
    "cpu": Figure("CPU time", "us/{unit}", 1e6),
    "p50": Figure("half within", "ms", 1e3, needs_cpu=True),
    "p99": Figure("99 % within", "ms", 1e3, needs_cpu=True),
    "busy": Figure("busy", "cores", compared=False),
    "s": Figure("time", "s", absolute=True),
    "pss": Figure("memory", "MiB", 1 / (1 << 20), absolute=True),
    "kib": Figure("memory", "KiB/{unit}", absolute=True),
    "left": Figure("kept when closed", "MiB", 1 / (1 << 20), compared=False, absolute=True),
}


def told(name: str, value: float, unit: str) -> str:
    """A value with its unit: `51.3 us/request`."""
    figure = FIGURES[name]
    return f"{rounded(value * figure.scale)} {figure.unit.format(unit=unit)}"


def rounded(value: float) -> str:
    """Three digits that matter, no exponent: `51.3`, `0.052`, `20,000`."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
