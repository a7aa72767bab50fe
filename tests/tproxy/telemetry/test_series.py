"""What is counted quickly reads as what prometheus_client counts itself."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as Theirs
from prometheus_client.parser import text_string_to_metric_families

from tproxy.telemetry.series import Histogram, histogram_family

BOUNDS = (0.0005, 0.01, 1, 10)
TAKEN = (0.0, 0.0005, 0.00051, 0.5, 1, 9.75, 10.5)


def samples(text: str) -> list[tuple[str, dict[str, str], float]]:
    """What a scraper reads, but for when it was made."""
    families = text_string_to_metric_families(text)
    told = [sample[:3] for family in families for sample in family.samples]
    return sorted((each for each in told if "_created" not in each[0]), key=str)


@pytest.mark.parametrize(
    "taken", [pytest.param((), id="nothing"), pytest.param(TAKEN, id="at and around the bounds")]
)
@pytest.mark.parametrize("labels", [pytest.param({}, id="bare"), pytest.param({"a": "b"}, id="labelled")])  # fmt: skip
def test_a_histogram_reads_as_the_librarys_own(
    taken: tuple[float, ...], labels: dict[str, str]
) -> None:
    registry = CollectorRegistry()
    slow = Theirs("took", "How long.", list(labels), buckets=BOUNDS, registry=registry)
    quick = Histogram(BOUNDS)
    for each in taken:
        quick.observe(each)
        (slow.labels(**labels) if labels else slow).observe(each)
    if labels:
        slow.labels(**labels)
    written = ",".join(f'{name}="{value}"' for name, value in labels.items())
    ours = "".join(histogram_family("took", "How long.", [(written, quick)]))
    assert samples(ours) == samples(generate_latest(registry).decode())
