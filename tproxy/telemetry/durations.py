"""A histogram for prometheus_client's registry that is fed with every connection: its own takes ten calls and two locks."""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector


class Durations(Collector):
    """How often something took how long. What changes: the counts; all of it happens on one thread."""

    def __init__(
        self, name: str, about: str, bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._about = about
        self._bounds = (*bounds, math.inf)
        self._names = (*(str(float(each)) for each in bounds), "+Inf")
        self._counts = [0] * len(self._bounds)
        self._total = 0.0
        registry.register(self)

    def observe(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._total += seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Tell the registry, as a histogram of its own would."""
        buckets, running = [], 0
        for name, count in zip(self._names, self._counts, strict=True):
            running += count
            buckets.append((name, float(running)))
        yield HistogramMetricFamily(self._name, self._about, buckets, self._total)
