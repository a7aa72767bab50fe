"""What is counted quickly reads as what prometheus_client counts itself."""

import pytest
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import choose_encoder

from tproxy.telemetry.durations import Durations

BOUNDS = (0.0005, 0.01, 1, 10)
TAKEN = (0.0, 0.0005, 0.00051, 0.5, 1, 9.75, 10.5)


def told(registry: CollectorRegistry) -> list[str]:
    """Write it in both formats, without when it was made."""
    lines = []
    for accepted in ("text/plain", "application/openmetrics-text"):
        encode, _ = choose_encoder(accepted)
        lines += encode(registry).decode().splitlines()
    return [line for line in lines if "_created " not in line]


@pytest.mark.parametrize(
    "taken", [pytest.param((), id="nothing"), pytest.param(TAKEN, id="at and around the bounds")]
)
def test_it_reads_as_the_librarys_own(taken: tuple[float, ...]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    quick = Durations("took_seconds", "How long it took.", BOUNDS, ours)
    slow = Histogram("took_seconds", "How long it took.", buckets=BOUNDS, registry=theirs)
    for each in taken:
        quick.observe(each)
        slow.observe(each)
    assert told(ours) == told(theirs)
