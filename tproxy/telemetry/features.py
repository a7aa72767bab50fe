"""What is counted of the features that traffic policies ask for."""

from tproxy.telemetry.registry import Registry


class FeatureMetrics:
    """Retries, faults and mirrors. What changes: the counts; label values are closed sets."""

    def __init__(self, registry: Registry) -> None:
        self._retries = registry.counter(
            "tproxy_retries",
            "Attempts that could be made again: those that were, and why others were not.",
            ["result"],
        )
        self._faults = registry.counter(
            "tproxy_faults",
            "Faults injected, and those that were too many at once.",
            ["fault"],
        )
        self._mirrored = registry.counter(
            "tproxy_mirrored",
            "Copies of requests, by what became of them.",
            ["result"],
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
