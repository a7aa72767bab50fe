"""Counters and gauges that are fed by hand, and how they are written down.

`prometheus_client` would bring an HTTP server, an HTTP client and what reads e-mails, two megabytes in each pod, and
Python's OpenSSL, four more.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum

from tproxy.telemetry.labels import escaped
from tproxy.telemetry.series import head


class Kind(StrEnum):
    """What may become of a number: whether it only grows, or comes and goes."""

    COUNTER = "counter"
    GAUGE = "gauge"


class Value:
    """One number. What changes: the number."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0.0

    def inc(self, by: float = 1.0) -> None:
        """Add to it."""
        self.now += by

    def set(self, to: float) -> None:
        """Have it be another."""
        self.now = float(to)


class Family:
    """Numbers of one name, told apart by labels. What changes: which there are; label values are closed sets."""

    def __init__(self, kind: Kind, name: str, about: str, labels: Sequence[str] = ()) -> None:
        self._kind = kind
        self._name = name
        self._about = about
        self._labels = tuple(labels)
        self._values: dict[tuple[str, ...], Value] = {}

    def labels(self, *values: str) -> Value:
        """Find the number under these labels, which is zero at first; a family without labels has only one."""
        found = self._values.get(values)
        if found is None:
            assert len(values) == len(self._labels), f"{self._name} has labels {self._labels}"
            found = self._values[values] = Value()
        return found

    def clear(self) -> None:
        """Have no numbers."""
        self._values.clear()

    def write(self, *, openmetrics: bool) -> Iterator[str]:
        """Write its lines, if it has numbers; OpenMetrics heads a counter without `_total`, the older format with it."""
        if not self._values:
            return
        sample = f"{self._name}_total" if self._kind is Kind.COUNTER else self._name
        yield from head(self._name if openmetrics else sample, self._about, self._kind)
        for values, value in self._values.items():
            yield f"{sample}{self._labelled(values)} {value.now}\n"

    def _labelled(self, values: tuple[str, ...]) -> str:
        pairs = sorted(zip(self._labels, values, strict=True))
        inside = ",".join(f'{name}="{escaped(value)}"' for name, value in pairs)
        return f"{{{inside}}}" if inside else ""


class Registry:
    """The families of one process. What changes: it grows while the process is put together."""

    def __init__(self) -> None:
        self._families: list[Family] = []

    def counter(self, name: str, about: str, labels: Sequence[str] = ()) -> Family:
        """Begin numbers that only grow; `_total` is written behind their name."""
        return self._begun(Family(Kind.COUNTER, name, about, labels))

    def gauge(self, name: str, about: str, labels: Sequence[str] = ()) -> Family:
        """Begin numbers that come and go."""
        return self._begun(Family(Kind.GAUGE, name, about, labels))

    def write(self, *, openmetrics: bool = False) -> Iterator[str]:
        """Write the lines of every family."""
        for family in self._families:
            yield from family.write(openmetrics=openmetrics)

    def _begun(self, family: Family) -> Family:
        self._families.append(family)
        return family
