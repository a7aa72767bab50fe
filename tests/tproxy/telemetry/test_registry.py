"""What is fed by hand is written as Prometheus' own parsers read it, in both formats."""

from collections.abc import Callable, Iterable

from prometheus_client import Metric
from prometheus_client.openmetrics import parser
from prometheus_client.parser import text_string_to_metric_families as plain

from tproxy.telemetry.registry import Registry

openmetrics: Callable[[str], Iterable[Metric]] = parser.text_string_to_metric_families


def test_each_number_is_written_under_its_sorted_labels() -> None:
    registry = Registry()
    counter = registry.counter("cats_fed", "Cats fed.", ["name", "colour"])
    counter.labels("Tom", "grey").inc()
    counter.labels("Tom", "grey").inc(2)
    registry.gauge("cats", "Cats there are.").labels().set(7)

    assert "".join(registry.write()).splitlines() == [
        "# HELP cats_fed_total Cats fed.",
        "# TYPE cats_fed_total counter",
        'cats_fed_total{colour="grey",name="Tom"} 3.0',
        "# HELP cats Cats there are.",
        "# TYPE cats gauge",
        "cats 7.0",
    ]


def test_both_formats_are_what_their_parsers_read() -> None:
    registry = Registry()
    registry.counter("cats_fed", "Cats fed.", ["name"]).labels('a"b\\c\nd').inc()
    registry.gauge("fed_at", "When.").labels().set(1700000000.25)
    old = plain("".join(registry.write()))
    new = openmetrics("".join((*registry.write(openmetrics=True), "# EOF\n")))
    for families in (old, new):
        assert [(each.name, each.type, each.samples[0][:3]) for each in families] == [
            ("cats_fed", "counter", ("cats_fed_total", {"name": 'a"b\\c\nd'}, 1.0)),
            ("fed_at", "gauge", ("fed_at", {}, 1700000000.25)),
        ]


def test_a_family_without_numbers_is_not_written() -> None:
    registry = Registry()
    gauge = registry.gauge("cats", "Cats there are.", ["name"])
    assert list(registry.write()) == []
    gauge.labels("Tom").set(1)
    gauge.clear()
    assert list(registry.write()) == []
