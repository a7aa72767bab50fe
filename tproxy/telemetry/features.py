"""What is counted of the features that traffic policies ask for."""

from prometheus_client import CollectorRegistry, Counter


class FeatureMetrics:
    """Retries, faults and mirrors. What changes: the counts; label values are closed sets."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._retries = Counter(
            "tproxy_retries",
            "Attempts that could be made again: those that were, and why others were not.",
            ["result"],
            registry=registry,
        )
        self._faults = Counter(
            "tproxy_faults",
            "Faults injected, and those that were too many at once.",
            ["fault"],
            registry=registry,
        )
        self._mirrored = Counter(
            "tproxy_mirrored",
            "Copies of requests, by what became of them.",
            ["result"],
            registry=registry,
        )

    def retry(self, result: str) -> None:
        """Count an attempt that a policy covers: `done`, or why it was not made again."""
        self._retries.labels(result).inc()

    def fault(self, kind: str) -> None:
        """Count a fault: `delay`, `abort`, `reset`, `throttle`, or `overflow`, which was spared."""
        self._faults.labels(kind).inc()

    def mirrored(self, result: str) -> None:
        """Count a copy: `sent`, `failed`, `overflow`, `too_large`."""
        self._mirrored.labels(result).inc()
