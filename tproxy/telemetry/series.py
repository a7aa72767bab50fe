"""Counters and histograms that are fed on every request, and how they are written down.

`prometheus_client` finds a histogram's bucket by trying each bound and renders each line's labels anew: with Istio's 25
labels, 50 series block the event loop for a fifth of a second at each scrape. These keep their rendered labels, and
everything here runs on one thread without a lock.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Generic, TypeVar

BUCKETS: tuple[float, ...] = (
    *(0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000),
    *(60000, 300000, 600000, 1800000, 3600000),
)
"""Envoy's default bounds, for milliseconds and bytes alike: existing alert rules name them."""

MAX_SERIES = 500
"""Series per family: peers choose status codes and names, and each request series is 67 lines of a scrape."""


class Histogram:
    """How often values fell into each bucket, and their sum."""

    __slots__ = ("buckets", "counts", "total")

    def __init__(self, buckets: tuple[float, ...] = BUCKETS) -> None:
        self.buckets = buckets
        self.counts = [0] * (len(buckets) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.buckets, value)] += 1
        self.total += value

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """Write the buckets, cumulative, then sum and count."""
        running = 0
        first, all_of_them = (f"{labels},", f"{{{labels}}}") if labels else ("", "")
        for bound, count in zip((*self.buckets, float("inf")), self.counts, strict=True):
            running += count
            yield f'{name}_bucket{{{first}le="{_bound(bound)}"}} {running}\n'
        yield f"{name}_sum{all_of_them} {self.total}\n"
        yield f"{name}_count{all_of_them} {running}\n"


class RequestSeries:
    """The requests that share all labels."""

    __slots__ = (
        "duration",
        "labels",
        "request_bytes",
        "request_messages",
        "requests",
        "response_bytes",
        "response_messages",
    )

    def __init__(self, labels: str) -> None:
        self.labels = labels
        self.requests = 0
        self.duration = Histogram()
        self.request_bytes = Histogram()
        self.response_bytes = Histogram()
        self.request_messages = 0
        self.response_messages = 0

    def observe(self, seconds: float, request_bytes: int, response_bytes: int) -> None:
        """Count one exchange that has ended."""
        self.requests += 1
        self.duration.observe(seconds * 1000)
        self.request_bytes.observe(request_bytes)
        self.response_bytes.observe(response_bytes)

    def count_messages(self, request: int, response: int) -> None:
        """Count the gRPC messages of an exchange that has ended."""
        self.request_messages += request
        self.response_messages += response


class ConnectionSeries:
    """The TCP connections that share all labels; whoever carries one adds to the counts."""

    __slots__ = ("closed", "labels", "opened", "received", "sent")

    def __init__(self, labels: str) -> None:
        self.labels = labels
        self.opened = 0
        self.closed = 0
        self.received = 0
        """Bytes from the downstream."""
        self.sent = 0
        """Bytes to the downstream."""


S = TypeVar("S", RequestSeries, ConnectionSeries)


class SeriesTable(Generic[S]):
    """The series of some families: at most `MAX_SERIES`, found by a key that is cheaper than their labels.

    Keys must come from closed sets, since they are kept. A key that would make one series too many is given the
    `overflow` series, and `dropped` is told.
    """

    def __init__(
        self, make: Callable[[str], S], dropped: Callable[[], None], *, limit: int
    ) -> None:
        self._make: Callable[[str], S] = make
        self._dropped = dropped
        self._limit = limit
        self._by_key: dict[tuple[object, ...], S] = {}
        self._by_labels: dict[str, S] = {}

    def get(self, key: tuple[object, ...]) -> S | None:
        """Look up a series that `add` gave before."""
        return self._by_key.get(key)

    def add(self, key: tuple[object, ...], labels: str, overflow: str) -> S:
        """Make the series `labels`, or give the one named `overflow` when there are enough."""
        known = labels in self._by_labels
        if not known and len(self._by_labels) >= self._limit:
            self._dropped()
            return self._series(overflow)
        self._by_key[key] = self._series(labels)
        return self._by_key[key]

    def forget_keys(self) -> None:
        """Start over with keys: their labels have changed. Series stay, since counters must not go back."""
        self._by_key.clear()

    def _series(self, labels: str) -> S:
        if labels not in self._by_labels:
            self._by_labels[labels] = self._make(labels)
        return self._by_labels[labels]

    def __iter__(self) -> Iterator[S]:
        """Give every series."""
        return iter(self._by_labels.values())


def counter_family(
    name: str, about: str, values: Iterable[tuple[str, int]], *, openmetrics: bool
) -> Iterator[str]:
    """Write one counter with its head; OpenMetrics names the family without `_total`, the older format with it."""
    yield from head(name if openmetrics else f"{name}_total", about, "counter")
    for labels, value in values:
        yield f"{name}_total{{{labels}}} {value}\n"


def histogram_family(
    name: str, about: str, values: Iterable[tuple[str, Histogram]]
) -> Iterator[str]:
    """Write one histogram with its head; both formats write it alike."""
    yield from head(name, about, "histogram")
    for labels, histogram in values:
        yield from histogram.lines(name, labels)


def head(family: str, about: str, kind: str) -> Iterator[str]:
    """Write what stands before the samples of a family."""
    yield f"# HELP {family} {about}\n"
    yield f"# TYPE {family} {kind}\n"


@cache
def _bound(bound: float) -> str:
    return "+Inf" if bound == float("inf") else str(float(bound))
