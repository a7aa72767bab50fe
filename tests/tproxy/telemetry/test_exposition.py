"""Several workers' metrics read as those of one proxy."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from tproxy.model.address import Address
from tproxy.model.flow import Direction, Flow
from tproxy.model.identity import Workload
from tproxy.telemetry.exposition import labelled, merged
from tproxy.telemetry.metrics import Ending, Metrics

FLOW = Flow(
    Direction.INBOUND,
    Address("192.0.2.1", 40000),
    Address("192.0.2.2", 15006),
    Address("192.0.2.2", 80),
)


def counted(requests: int) -> Metrics:
    """The metrics of a worker that has carried so many requests."""
    metrics = Metrics(Workload("shop", "web"), "1")
    for _ in range(requests):
        metrics.request_series(FLOW, b"shop", Ending(200)).observe(0.1, 1, 2)
    return metrics


@pytest.mark.parametrize("newer", [pytest.param(False, id="plain"), pytest.param(True, id="open")])
def test_each_sample_says_whose_it_is_and_each_family_stands_together(newer: bool) -> None:
    texts = {
        number: counted(requests).exposition(openmetrics=newer)[0].decode()
        for number, requests in ((1, 3), (2, 5))
    }
    parse = openmetrics if newer else plain
    families = list(parse(merged(texts)))
    assert len({family.name for family in families}) == len(families)
    assert [family.name for family in families] == [family.name for family in parse(texts[1])]
    samples = [sample for family in families for sample in family.samples]
    assert {sample.labels["worker"] for sample in samples} == {"1", "2"}
    (requests,) = (family for family in families if family.name == "istio_requests")
    assert [(each.labels["worker"], each.value) for each in requests.samples] == [
        ("1", 3.0),
        ("2", 5.0),
    ]


def test_a_family_that_one_worker_alone_has_keeps_its_head() -> None:
    texts = {1: "# TYPE a counter\na 1\n", 2: '# TYPE b gauge\nb{x="y"} 2\n', 3: ""}
    assert merged(texts) == (
        '# TYPE a counter\na{worker="1"} 1\n# TYPE b gauge\nb{worker="2",x="y"} 2\n'
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("a 1", 'a{worker="7"} 1', id="without labels"),
        pytest.param("a{} 1", 'a{worker="7"} 1', id="with none"),
        pytest.param('a{b="{"} 1', 'a{worker="7",b="{"} 1', id="with a brace in one"),
        pytest.param("", "", id="an empty line"),
    ],
)
def test_a_sample_is_labelled(line: str, expected: str) -> None:
    assert labelled(f"{line}\n", 7) == f"{expected}\n"
