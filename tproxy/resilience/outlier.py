"""Take endpoints that fail out of a cluster for a while, as Istio's outlierDetection and Envoy do.

Errors eject at once; endpoints return when their time is over, and not at the next sweep as in Envoy.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class OutlierSpec:
    """A DestinationRule's outlierDetection, with Istio's defaults; a count of 0 is never reached."""

    consecutive_5xx_errors: int = 5
    consecutive_gateway_errors: int = 0
    """Of 502, 503 and 504 alone."""
    split_external_local_origin_errors: bool = False
    """Whether what never reached the endpoint is counted by itself, and not as 503 and 504."""
    consecutive_local_origin_failures: int = 5
    interval: float = 10.0
    """How long an endpoint has to be back for one of its ejections to be forgotten."""
    base_ejection_time: float = 30.0
    """For the first ejection; the next takes twice as long, the one after three times."""
    max_ejection_time: float = 300.0
    max_ejection_percent: float = 10.0
    always_eject_one: bool = False
    """Whether one may be ejected although it is more than that percentage, as in a cluster of two."""
    min_health_percent: float = 0.0
    """With fewer healthy ones than this, ejections are ignored."""

    def __post_init__(self) -> None:
        assert min(self.interval, self.base_ejection_time) > 0, "times are not 0"


@dataclass(slots=True, eq=False)
class _Monitor:
    """One endpoint's record. What changes: its errors in a row, its ejections, and when it was back."""

    errors: int = 0
    gateway_errors: int = 0
    local_failures: int = 0
    ejections: int = 0
    returned: float = 0.0

    def reset(self) -> None:
        """Begin the rows anew."""
        self.errors = self.gateway_errors = self.local_failures = 0


class OutlierDetection(Generic[E]):
    """One cluster's. What changes: the members, the records of those that have failed, and who is ejected until when.

    Whoever is no member has no record, so there are never more records than members.
    """

    __slots__ = ("_avoided", "_ejected", "_ends", "_members", "_monitors", "_order", "_spec")

    def __init__(self, spec: OutlierSpec, members: Iterable[E] = ()) -> None:
        self._spec = spec
        self._members = frozenset(members)
        self._monitors: dict[E, _Monitor] = {}
        self._ejected: dict[E, float] = {}
        self._ends: list[tuple[float, int, E]] = []
        """When each of the ejected returns: a heap."""
        self._order = 0
        """Makes entries comparable, which endpoints need not be."""
        self._avoided: frozenset[E] = frozenset()

    def update(self, members: Iterable[E]) -> None:
        """Take the cluster's present members, and forget all others."""
        self._members = frozenset(members)
        for gone in [each for each in self._monitors if each not in self._members]:
            del self._monitors[gone]
            self._ejected.pop(gone, None)
        self._ends = [entry for entry in self._ends if entry[2] in self._ejected]
        heapify(self._ends)
        self._look_whom_to_avoid()

    def ejected(self, now: float) -> frozenset[E]:
        """Name those that are ejected."""
        self._bring_back(now)
        return frozenset(self._ejected)

    def avoided(self, now: float) -> frozenset[E]:
        """Name those that get no requests: the ejected, unless too few are healthy. The same object while nothing changes."""
        self._bring_back(now)
        return self._avoided

    def answered(self, endpoint: E, status: int, now: float) -> bool:
        """Take an HTTP status that an endpoint sent, and say whether it is ejected for it."""
        if status < 500:
            self.connected(endpoint)
            return False
        monitor = self._record(endpoint, now)
        if monitor is None:
            return False
        monitor.local_failures = 0
        return self._failed(endpoint, monitor, now, gateway=502 <= status <= 504)

    def connected(self, endpoint: E) -> None:
        """Take it that an endpoint did what was asked: a TCP connection, or a request."""
        monitor = self._monitors.get(endpoint)
        if monitor is not None:
            monitor.reset()

    def unreachable(self, endpoint: E, now: float) -> bool:
        """Take it that an endpoint could not be asked, or gave no answer in time; say whether it is ejected for it."""
        monitor = self._record(endpoint, now)
        if monitor is None:
            return False
        if not self._spec.split_external_local_origin_errors:
            return self._failed(endpoint, monitor, now, gateway=True)
        monitor.local_failures += 1
        if monitor.local_failures != self._spec.consecutive_local_origin_failures:
            return False
        monitor.local_failures = 0
        return self._eject(endpoint, monitor, now)

    def _record(self, endpoint: E, now: float) -> _Monitor | None:
        """Find or begin a record; none for strangers and for those that are ejected already."""
        self._bring_back(now)
        if endpoint not in self._members or endpoint in self._ejected:
            return None
        return self._monitors.setdefault(endpoint, _Monitor())

    def _failed(self, endpoint: E, monitor: _Monitor, now: float, *, gateway: bool) -> bool:
        monitor.errors += 1
        monitor.gateway_errors = monitor.gateway_errors + 1 if gateway else 0
        spec, reached = self._spec, False
        # Counting begins anew though the percentage forbids to eject: Envoy, too, waits for another row.
        if monitor.gateway_errors == spec.consecutive_gateway_errors and gateway:
            monitor.gateway_errors, reached = 0, True
        if monitor.errors == spec.consecutive_5xx_errors:
            monitor.errors, reached = 0, True
        return reached and self._eject(endpoint, monitor, now)

    def _eject(self, endpoint: E, monitor: _Monitor, now: float) -> bool:
        spec = self._spec
        percent = 100 * (len(self._ejected) + 1) / len(self._members)
        one = spec.always_eject_one and not self._ejected
        if percent > spec.max_ejection_percent and not one:
            return False
        longest = max(spec.max_ejection_time, spec.base_ejection_time)
        forgiven = int((now - monitor.returned) / spec.interval)
        monitor.ejections = max(monitor.ejections - forgiven, 0)
        if monitor.ejections * spec.base_ejection_time < longest + spec.base_ejection_time:
            monitor.ejections += 1
        until = now + min(monitor.ejections * spec.base_ejection_time, longest)
        self._ejected[endpoint] = until
        self._order += 1
        heappush(self._ends, (until, self._order, endpoint))
        self._look_whom_to_avoid()
        return True

    def _bring_back(self, now: float) -> None:
        if not self._ends or self._ends[0][0] > now:
            return
        while self._ends and self._ends[0][0] <= now:
            until, _, endpoint = heappop(self._ends)
            del self._ejected[endpoint]
            monitor = self._monitors[endpoint]
            monitor.reset()
            monitor.returned = until
        self._look_whom_to_avoid()

    def _look_whom_to_avoid(self) -> None:
        healthy = len(self._members) - len(self._ejected)
        panics = 100 * healthy < self._spec.min_health_percent * len(self._members)
        self._avoided = frozenset() if panics else frozenset(self._ejected)
